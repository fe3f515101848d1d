"""Metrics of dialogue states: joint goal accuracy and slot F1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from claf2.metrics import Metric, Prediction, Resampler, Scores, register_metric, share


@register_metric("wos")
class Wos(Metric):
    """Joint goal accuracy and slot F1 of dialogue states, which are sets of "domain-slot-value".

    ``jga`` is the percentage of turns with exactly the right state. ``slot_micro_f1`` is what KLUE-baseline calls by
    that name: the *mean of the turns' F1*, with 1 for turns without a slot in gold and prediction. ``slot_f1_fixed`` is
    micro F1 by its definition, over the slots of all turns.
    """

    selects: ClassVar[str] = "jga"
    keys: ClassVar[frozenset[str]] = frozenset({"jga", "slot_micro_f1", "slot_f1_fixed"})

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        states = [(set(prediction.gold), set(prediction.prediction)) for prediction in predictions]
        right = sum(len(gold & predicted) for gold, predicted in states)
        claimed = sum(len(gold) + len(predicted) for gold, predicted in states)
        return {
            "jga": self.resampler(predictions, labels).value(),
            "slot_micro_f1": 100.0 * sum(_f1(gold, predicted) for gold, predicted in states) / len(states),
            "slot_f1_fixed": 200.0 * right / claimed if claimed else 100.0,
        }

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        return share(list(map(self.is_right, predictions)))

    def is_right(self, prediction: Prediction) -> bool:
        return set(prediction.gold) == set(prediction.prediction)


def _f1(gold: set[str], predicted: set[str]) -> float:
    if not gold and not predicted:
        return 1.0
    return 2 * len(gold & predicted) / (len(gold) + len(predicted))
