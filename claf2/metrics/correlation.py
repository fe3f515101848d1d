"""Metrics of numbers: Pearson and Spearman correlation, their mean in GLUE, the scores of KLUE STS, and the average
precision of pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from claf2.metrics import Metric, Prediction, Resampler, Scores, additive, register_metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MIN_SPREAD = 1e-12
"""A smaller range of values, relative to the largest, is taken for rounding error: the values are constant."""


def _numbers(predictions: Sequence[Prediction]) -> list[NDArray[np.float64]]:
    """Return gold and predicted numbers of N examples, two arrays (N,)."""
    import numpy as np

    return [
        np.array([prediction.gold for prediction in predictions], dtype=np.float64),
        np.array([prediction.prediction for prediction in predictions], dtype=np.float64),
    ]


def _relative_range(values: NDArray[np.float64]) -> float:
    """Return maximum minus minimum, relative to the largest magnitude if that is above 1."""
    import numpy as np

    return float(np.ptp(values)) / max(1.0, float(np.abs(values).max()))


def _correlations(predictions: Sequence[Prediction]) -> tuple[float | None, float | None]:
    """Return Pearson's and Spearman's correlation, ×100; ``None`` if one side is constant, or there is one example."""
    from scipy.stats import pearsonr, spearmanr

    gold, predicted = _numbers(predictions)
    if len(set(gold.tolist())) < 2 or len(set(predicted.tolist())) < 2:
        return None, None
    rank = float(spearmanr(gold, predicted).statistic)
    # Values that differ by rounding only have ranks, but what Pearson's formula returns for them is noise.
    varies = min(_relative_range(gold), _relative_range(predicted)) > MIN_SPREAD
    linear = float(pearsonr(gold, predicted).statistic) if varies else math.nan
    return (None if math.isnan(linear) else 100.0 * linear), 100.0 * rank


def _pearson(predictions: Sequence[Prediction]) -> Resampler:
    """Return the resampler of Pearson's correlation, as a function of six sums: n, Σx, Σy, Σx², Σy² and Σxy.

    Such formulas lose digits if the values are large compared to their variance. Therefore both sides are centred on
    the mean of all examples, and scaled to at most 1, which leaves the correlation unchanged. What remains: if the
    values of a resample are closer together than a millionth of their distance to that mean, its score is undefined.
    """
    import numpy as np

    columns = []
    for values in _numbers(predictions):
        centred = values - values.mean() if _relative_range(values) > MIN_SPREAD else np.zeros_like(values)
        columns.append(centred / (np.abs(centred).max() or 1.0))
    x, y = columns

    def score(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        n, sum_x, sum_y, sum_xx, sum_yy, sum_xy = sums.T
        variances = [
            # n Σx² and (Σx)² agree in all but their last digits if x is constant in the resample.
            np.where(variance > MIN_SPREAD * n * squares, variance, np.nan)
            for variance, squares in ((n * sum_xx - sum_x**2, sum_xx), (n * sum_yy - sum_y**2, sum_yy))
        ]
        correlation = (n * sum_xy - sum_x * sum_y) / np.sqrt(variances[0]) / np.sqrt(variances[1])
        value: NDArray[np.float64] = np.clip(correlation, -1, 1)  # rounding may exceed 1
        return 100.0 * value

    return additive(np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1), score)


def _spearman(predictions: Sequence[Prediction]) -> Resampler:
    """Return the resampler of Spearman's correlation: Pearson's of the ranks, where ties share their mean rank.

    Ranks depend on the resample, so the score is not a function of fixed sums. But the order of the distinct values is
    always the same, and a repeated example is a tie, so the ranks in all resamples follow from cumulative sums.
    """
    import numpy as np

    sides = _numbers(predictions)
    is_finite = all(np.isfinite(values).all() for values in sides)
    # The number of each example's value among the sorted distinct values, (N,).
    value_numbers = [np.unique(values, return_inverse=True)[1] for values in sides]

    def centred_ranks(counts: NDArray[np.float64], numbers: NDArray[np.intp]) -> NDArray[np.float64]:
        order = np.argsort(numbers, kind="stable")
        starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
        # How often each distinct value occurs in each resample, (R, values).
        ties = np.add.reduceat(counts[:, order], starts, axis=1)
        # The mean rank of t ties that end at rank c is c - (t - 1) / 2, and the mean of n ranks is (n + 1) / 2.
        centred: NDArray[np.float64] = np.cumsum(ties, axis=1) - (ties + counts.sum(axis=1, keepdims=True)) / 2
        return centred[:, numbers]

    def scores(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = (centred_ranks(counts, numbers) for numbers in value_numbers)
        variances = (counts * x * x).sum(axis=1) * (counts * y * y).sum(axis=1)
        value: NDArray[np.float64] = (counts * x * y).sum(axis=1) / np.sqrt(np.where(variances > 0, variances, np.nan))
        return 100.0 * value if is_finite else value * np.nan

    return Resampler(scores, len(predictions))


@register_metric("pearson")
class Pearson(Metric):
    """Pearson correlation; undefined if one side is constant."""

    selects: ClassVar[str] = "pearson"
    bounds: ClassVar[tuple[float, float]] = (-100.0, 100.0)
    keys: ClassVar[frozenset[str]] = frozenset({"pearson"})

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        return {"pearson": _correlations(predictions)[0]}

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        return _pearson(predictions)


@register_metric("spearman")
class Spearman(Metric):
    """Spearman rank correlation with mean ranks for ties; undefined if one side is constant."""

    selects: ClassVar[str] = "spearman"
    bounds: ClassVar[tuple[float, float]] = (-100.0, 100.0)
    keys: ClassVar[frozenset[str]] = frozenset({"spearman"})

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        return {"spearman": _correlations(predictions)[1]}

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        return _spearman(predictions)


@register_metric("pearson_spearman")
class PearsonSpearman(Metric):
    """GLUE's score of STS-B: the mean of Pearson and Spearman correlation (Wang et al., 2019); undefined if one of them
    is."""

    selects: ClassVar[str] = "pearson_spearman"
    bounds: ClassVar[tuple[float, float]] = (-100.0, 100.0)
    keys: ClassVar[frozenset[str]] = frozenset({"pearson_spearman", "pearson", "spearman"})

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        linear, rank = _correlations(predictions)
        mean = None if linear is None or rank is None else (linear + rank) / 2
        return {"pearson_spearman": mean, "pearson": linear, "spearman": rank}

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        linear, rank = _pearson(predictions), _spearman(predictions)
        return Resampler(lambda counts: (linear.scores(counts) + rank.scores(counts)) / 2, len(predictions))


@register_metric("klue_sts")
class KlueSts(Metric):
    """KLUE STS: Pearson correlation, and F1 of "similar" after applying ``threshold`` to both sides.

    As in KLUE-baseline, gold comes from the threshold on `real-label`, not from `binary-label`.
    """

    selects: ClassVar[str] = "pearson"
    bounds: ClassVar[tuple[float, float]] = (-100.0, 100.0)
    keys: ClassVar[frozenset[str]] = frozenset({"pearson", "f1"})

    threshold: float = 3.0
    """The lowest number that means "similar"."""

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        pairs = [(p.gold >= self.threshold, p.prediction >= self.threshold) for p in predictions]
        right = sum(gold and predicted for gold, predicted in pairs)
        claimed = sum(gold + predicted for gold, predicted in pairs)
        return {"pearson": _correlations(predictions)[0], "f1": 200.0 * right / claimed if claimed else 0.0}

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        return _pearson(predictions)


@register_metric("average_precision")
class AveragePrecision(Metric):
    """How well a number tells pairs that belong together from others, at all thresholds: the mean of the precision at
    each positive example, in descending order of the number, as `sklearn.metrics.average_precision_score`. MTEB scores
    classifications of pairs by it (Muennighoff et al., 2023). Undefined without a positive example."""

    selects: ClassVar[str] = "average_precision"
    keys: ClassVar[frozenset[str]] = frozenset({"average_precision"})

    positive: float = 1.0
    """The gold number of pairs that belong together."""

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        import numpy as np
        from sklearn.metrics import average_precision_score

        gold, predicted = _numbers(predictions)
        is_positive = gold == self.positive
        if not is_positive.any() or not np.isfinite(predicted).all():
            return {"average_precision": None}
        return {"average_precision": 100.0 * float(average_precision_score(is_positive, predicted))}

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        import numpy as np

        gold, predicted = _numbers(predictions)
        order = np.argsort(-predicted, kind="stable")
        starts = np.flatnonzero(np.diff(predicted[order], prepend=np.inf))
        is_positive = (gold == self.positive)[order]
        is_finite = bool(np.isfinite(predicted).all())

        def scores(counts: NDArray[np.float64]) -> NDArray[np.float64]:
            ordered = counts[:, order]
            # Examples with equal numbers are above the same thresholds.
            claimed = np.cumsum(np.add.reduceat(ordered, starts, axis=1), axis=1)
            right = np.cumsum(np.add.reduceat(ordered * is_positive, starts, axis=1), axis=1)
            gained = np.diff(right, axis=1, prepend=0.0)
            summed: NDArray[np.float64] = (gained * right / np.maximum(claimed, 1.0)).sum(axis=1)
            total = np.where(right[:, -1] > 0, right[:, -1], np.nan)
            return 100.0 * summed / total if is_finite else summed * np.nan

        return Resampler(scores, len(predictions))
