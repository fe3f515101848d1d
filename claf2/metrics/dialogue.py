"""Scores of dialogue states: joint goal accuracy and slot F1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from claf2.metrics import Metric, Prediction, Resampler, Scores, register_metric, share


@register_metric("wos")
class Wos(Metric):
    """WoS's scores of states, each a set of "domain-slot-value".

    ``jga`` is the share of turns whose state is right as a whole. ``slot_micro_f1`` is what KLUE-baseline calls so, and
    is the *mean of the turns' F1*, 1 where neither gold nor prediction has a slot; ``slot_f1_fixed`` counts over all
    turns together, as micro F1 is defined.
    """

    selects: ClassVar[str] = "jga"

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        states = [(set(each.gold), set(each.prediction)) for each in predictions]
        right = sum(len(gold & told) for gold, told in states)
        claimed = sum(len(gold) + len(told) for gold, told in states)
        return {
            "jga": self.resampler(predictions, labels).value(),
            "slot_micro_f1": 100.0 * sum(_f1(gold, told) for gold, told in states) / len(states),
            "slot_f1_fixed": 200.0 * right / claimed if claimed else 100.0,
        }

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        return share([set(each.gold) == set(each.prediction) for each in predictions])


def _f1(gold: set[str], told: set[str]) -> float:
    if not gold and not told:
        return 1.0
    return 2 * len(gold & told) / (len(gold) + len(told))
