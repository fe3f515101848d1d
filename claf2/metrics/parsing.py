"""Scores of dependency trees: KLUE DP's macro F1, and attachment scores as parsing defines them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from claf2.metrics import Metric, Prediction, Resampler, Scores, f1, register_metric

OTHERS = 15
"""From this place in the list of relations on, KLUE-baseline takes them all for one."""
WRONG_HEAD = OTHERS + 1
"""The class of a word whose head is wrong."""


@register_metric("klue_dp")
class KlueDp(Metric):
    """KLUE DP's scores as KLUE-baseline computes them, and (keys ``uas`` and ``las``) the shares of words with the
    right head, and with the right head and relation.

    What KLUE-baseline calls UAS is the macro F1 of head *numbers* taken as classes, over all that occur in gold or
    prediction: a mistake at a rare position costs more than one at a common one. Its LAS is the macro F1 of relations,
    those from the sixteenth of the list on taken for one class; where the head is wrong the prediction is set to a
    class of its own, which no gold word has and which therefore adds an F1 of 0 to the mean. Both are selected by the
    sentences' words strung together.
    """

    selects: ClassVar[str] = "las_macro_f1"

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        from sklearn.metrics import f1_score

        gold = [pair for each in predictions for pair in zip(each.gold["heads"], each.gold["relations"], strict=True)]
        told = [
            pair
            for each in predictions
            for pair in zip(each.prediction["heads"], each.prediction["relations"], strict=True)
        ]
        pairs = list(zip(gold, told, strict=True))
        heads = f1_score([g[0] for g in gold], [p[0] for p in told], average="macro", zero_division=0.0)
        return {
            "las_macro_f1": self.resampler(predictions, labels).value(),
            "uas_macro_f1": 100.0 * float(heads),
            "uas": 100.0 * sum(g[0] == p[0] for g, p in pairs) / len(pairs),
            "las": 100.0 * sum(g == p for g, p in pairs) / len(pairs),
        }

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        import numpy as np

        places = {label: min(index, OTHERS) for index, label in enumerate(labels)}
        right, claimed = np.zeros((2, len(predictions), OTHERS + 2))
        for row, each in enumerate(predictions):
            sides = (zip(side["heads"], side["relations"], strict=True) for side in (each.gold, each.prediction))
            for (head, relation), (said_head, said_relation) in zip(*sides, strict=True):
                gold = places[relation]
                told = places[said_relation] if head == said_head else WRONG_HEAD
                right[row, gold] += gold == told
                claimed[row, gold] += 1
                claimed[row, told] += 1
        return f1(right, claimed, occurring=True)
