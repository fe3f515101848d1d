"""Scores of numbers: Pearson and Spearman correlation, GLUE's mean of both, KLUE STS's pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from claf2.metrics import Metric, Prediction, Scores, register_metric


def _correlations(predictions: Sequence[Prediction]) -> tuple[float | None, float | None]:
    """Return Pearson's and Spearman's correlation ×100, ``None`` where one side is constant or has one value."""
    import numpy as np
    from scipy.stats import pearsonr, spearmanr

    gold = np.array([each.gold for each in predictions], dtype=np.float64)
    predicted = np.array([each.prediction for each in predictions], dtype=np.float64)
    if len(set(gold.tolist())) < 2 or len(set(predicted.tolist())) < 2:
        return None, None
    rank = float(spearmanr(gold, predicted).statistic)
    # Values that differ in their last digits only are constant to Pearson's formula.
    spread = min(np.ptp(each) / max(1.0, float(np.abs(each).max())) for each in (gold, predicted))
    linear = float(pearsonr(gold, predicted).statistic) if spread > 1e-12 else float("nan")
    return (None if linear != linear else 100.0 * linear), 100.0 * rank


@register_metric("pearson")
class Pearson(Metric):
    """Pearson correlation; undefined where one side is constant."""

    selects: ClassVar[str] = "pearson"

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        return {"pearson": _correlations(predictions)[0]}


@register_metric("spearman")
class Spearman(Metric):
    """Spearman rank correlation, ties at their mean rank; undefined where one side is constant."""

    selects: ClassVar[str] = "spearman"

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        return {"spearman": _correlations(predictions)[1]}


@register_metric("pearson_spearman")
class PearsonSpearman(Metric):
    """GLUE's score of STS-B: the mean of both correlations, undefined where one of them is."""

    selects: ClassVar[str] = "pearson_spearman"

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        linear, rank = _correlations(predictions)
        mean = None if linear is None or rank is None else (linear + rank) / 2
        return {"pearson_spearman": mean, "pearson": linear, "spearman": rank}


@register_metric("klue_sts")
class KlueSts(Metric):
    """KLUE STS: Pearson, and the F1 of "similar" with gold and prediction both cut at ``threshold``.

    As KLUE-baseline computes them: the gold side is cut from `real-label`, not taken from `binary-label`.
    """

    selects: ClassVar[str] = "pearson"

    threshold: float = 3.0
    """A score from here on means similar."""

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        pairs = [(each.gold >= self.threshold, each.prediction >= self.threshold) for each in predictions]
        right = sum(gold and predicted for gold, predicted in pairs)
        claimed = sum(gold + predicted for gold, predicted in pairs)
        return {"pearson": _correlations(predictions)[0], "f1": 200.0 * right / claimed if claimed else 0.0}
