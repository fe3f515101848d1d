"""Metrics of dependency trees: the macro F1 scores of KLUE DP, and attachment scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from claf2.metrics import Metric, Prediction, Resampler, Scores, f1, register_metric

OTHERS = 15
"""The class of all relations from this index of the label list on, which KLUE-baseline does not tell apart."""

WRONG_HEAD = OTHERS + 1
"""The predicted class of a word with a wrong head."""

MISSING = -1
"""The predicted head of a word that did not fit into the input."""


@register_metric("klue_dp")
class KlueDp(Metric):
    """Macro F1 of heads and relations as in KLUE-baseline, and the attachment scores ``uas`` and ``las``.

    ``uas`` and ``las`` are the percentages of words with the right head, and with the right head and relation. Under
    these names, KLUE-baseline computes two other scores over the words of all sentences:

    - ``uas_macro_f1`` is the macro F1 of head *numbers* as classes. An error at a rare position costs more than one at
      a common position.
    - ``las_macro_f1`` is the macro F1 of relations, of which those from the sixteenth on are one class. If the head is
      wrong, the predicted class is one that no gold word has. This class is part of the mean, with an F1 of 0.

    As in KLUE-baseline, words that did not fit into the input are not counted in the macro F1 scores. In ``uas`` and
    ``las``, they count as wrong.
    """

    selects: ClassVar[str] = "las_macro_f1"
    keys: ClassVar[frozenset[str]] = frozenset({"las_macro_f1", "uas_macro_f1", "uas", "las"})

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        from sklearn.metrics import f1_score

        gold = [arc for prediction in predictions for arc in _arcs(prediction.gold)]
        predicted = [arc for prediction in predictions for arc in _arcs(prediction.prediction)]
        pairs = list(zip(gold, predicted, strict=True))
        read = [(g[0], p[0]) for g, p in pairs if p[0] != MISSING]
        heads = f1_score(*zip(*read, strict=True), average="macro", zero_division=0.0) if read else 0.0
        return {
            "las_macro_f1": self.resampler(predictions, labels).value(),
            "uas_macro_f1": 100.0 * float(heads),
            "uas": 100.0 * sum(g[0] == p[0] for g, p in pairs) / len(pairs),
            "las": 100.0 * sum(g == p for g, p in pairs) / len(pairs),
        }

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        import numpy as np

        classes = {label: min(index, OTHERS) for index, label in enumerate(labels)}
        right, claimed = np.zeros((2, len(predictions), WRONG_HEAD + 1))
        for row, prediction in enumerate(predictions):
            arcs = zip(_arcs(prediction.gold), _arcs(prediction.prediction), strict=True)
            for (gold_head, gold_relation), (predicted_head, predicted_relation) in arcs:
                if predicted_head == MISSING:
                    continue
                gold = classes[gold_relation]
                predicted = classes[predicted_relation] if predicted_head == gold_head else WRONG_HEAD
                right[row, gold] += gold == predicted
                claimed[row, gold] += 1
                claimed[row, predicted] += 1
        # scikit-learn's macro F1 without `labels`, which KLUE-baseline calls, averages over the classes that occur.
        return f1(right, claimed, occurring=True)


def _arcs(tree: Mapping[str, Sequence[Any]]) -> Iterator[tuple[int, str]]:
    """Yield head and relation of each word."""
    return zip(tree["heads"], tree["relations"], strict=True)
