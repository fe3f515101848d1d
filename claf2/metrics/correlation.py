"""Scores of numbers: Pearson and Spearman correlation, GLUE's mean of both, KLUE STS's pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from claf2.metrics import Metric, Prediction, Resampler, Scores, additive, register_metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAME = 1e-12
"""Values that lie this close together, as a share of the largest, are constant to Pearson's formula."""


def _sides(predictions: Sequence[Prediction]) -> list[NDArray[np.float64]]:
    """Return gold and predicted numbers, two arrays [examples]."""
    import numpy as np

    return [
        np.array([each.gold for each in predictions], dtype=np.float64),
        np.array([each.prediction for each in predictions], dtype=np.float64),
    ]


def _spread(values: NDArray[np.float64]) -> float:
    import numpy as np

    return float(np.ptp(values)) / max(1.0, float(np.abs(values).max()))


def _correlations(predictions: Sequence[Prediction]) -> tuple[float | None, float | None]:
    """Return Pearson's and Spearman's correlation ×100, ``None`` where one side is constant or has one value."""
    from scipy.stats import pearsonr, spearmanr

    gold, predicted = _sides(predictions)
    if len(set(gold.tolist())) < 2 or len(set(predicted.tolist())) < 2:
        return None, None
    rank = float(spearmanr(gold, predicted).statistic)
    varied = min(_spread(gold), _spread(predicted)) > SAME
    linear = float(pearsonr(gold, predicted).statistic) if varied else float("nan")
    return (None if linear != linear else 100.0 * linear), 100.0 * rank


def _pearson(predictions: Sequence[Prediction]) -> Resampler:
    """Return Pearson's correlation of multisets, from moments about the mean of all examples.

    Subtracting moments cannot tell values from constant ones that lie closer together than a millionth of their
    distance to that mean: such a multiset is undefined here.
    """
    import numpy as np

    columns = []
    for side in _sides(predictions):
        centred = side - side.mean() if _spread(side) > SAME else np.zeros_like(side)
        columns.append(centred / (np.abs(centred).max() or 1.0))
    x, y = columns

    def score(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        total, x1, y1, x2, y2, xy = sums.T
        spreads = [
            np.where(each > SAME * total * square, each, np.nan)
            for each, square in ((total * x2 - x1**2, x2), (total * y2 - y1**2, y2))
        ]
        value: NDArray[np.float64] = np.clip((total * xy - x1 * y1) / np.sqrt(spreads[0]) / np.sqrt(spreads[1]), -1, 1)
        return 100.0 * value

    return additive(np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1), score)


def _spearman(predictions: Sequence[Prediction]) -> Resampler:
    """Return Spearman's correlation of multisets: Pearson's of the ranks within each, ties at their mean rank."""
    import numpy as np

    sides = _sides(predictions)
    finite = all(np.isfinite(each).all() for each in sides)
    orders = [np.unique(each, return_inverse=True)[1] for each in sides]

    def ranks(counts: NDArray[np.float64], place: NDArray[np.intp]) -> NDArray[np.float64]:
        order = np.argsort(place, kind="stable")
        starts = np.flatnonzero(np.diff(place[order], prepend=-1))
        alike = np.add.reduceat(counts[:, order], starts, axis=1)
        centred: NDArray[np.float64] = np.cumsum(alike, axis=1) - (alike + counts.sum(axis=1, keepdims=True)) / 2
        return centred[:, place]

    def scores(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = (ranks(counts, place) for place in orders)
        spreads = (counts * x * x).sum(axis=1) * (counts * y * y).sum(axis=1)
        value: NDArray[np.float64] = (counts * x * y).sum(axis=1) / np.sqrt(np.where(spreads > 0, spreads, np.nan))
        return 100.0 * value if finite else value * np.nan

    return Resampler(scores, len(predictions))


@register_metric("pearson")
class Pearson(Metric):
    """Pearson correlation; undefined where one side is constant."""

    selects: ClassVar[str] = "pearson"

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        return {"pearson": _correlations(predictions)[0]}

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        return _pearson(predictions)


@register_metric("spearman")
class Spearman(Metric):
    """Spearman rank correlation, ties at their mean rank; undefined where one side is constant."""

    selects: ClassVar[str] = "spearman"

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        return {"spearman": _correlations(predictions)[1]}

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        return _spearman(predictions)


@register_metric("pearson_spearman")
class PearsonSpearman(Metric):
    """GLUE's score of STS-B: the mean of both correlations, undefined where one of them is."""

    selects: ClassVar[str] = "pearson_spearman"

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        linear, rank = _correlations(predictions)
        mean = None if linear is None or rank is None else (linear + rank) / 2
        return {"pearson_spearman": mean, "pearson": linear, "spearman": rank}

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        linear, rank = _pearson(predictions), _spearman(predictions)
        return Resampler(lambda counts: (linear.scores(counts) + rank.scores(counts)) / 2, len(predictions))


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

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        return _pearson(predictions)
