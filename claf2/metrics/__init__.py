"""Metrics: the benchmarks' official definitions, computed from predictions alone, offline."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from claf2.registry import Component, Registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats: TypeAlias = NDArray[np.float64]

__all__ = ["Metric", "Prediction", "Resampler", "Scores", "additive", "f1", "metrics", "register_metric", "share"]

Scores: TypeAlias = dict[str, float | None]
"""Scores on the scale 0–100 by key; ``None`` where a score is undefined (a correlation with a constant)."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model said of one example: one line of a run's ``predictions/`` file.

    ``gold`` and ``prediction`` are plain JSON values of the task's kind: a label name (classify), a number
    (regress), a list of tags, one a token (tag), a text against a list of accepted texts (span; an empty list or
    an empty text: no answer). ``score`` says how sure the model was; ``details`` holds what a metric may need
    besides (e.g. the tokens).
    """

    id: str
    gold: Any
    prediction: Any
    score: float | None = None
    details: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Resampler:
    """A metric's deciding score of any multiset of the same examples, thousands of them at a time."""

    scores: Callable[[Floats], Floats]
    """How often each example counts, [multisets, examples] → scores on 0–100, [multisets]; NaN where undefined."""
    size: int
    """The number of examples."""
    right: NDArray[np.bool_] | None = None
    """Which examples are right, [examples], where the score is the share of those that are; else `None`."""

    def value(self) -> float | None:
        """Return the score of every example once; `None` where it is undefined."""
        import numpy as np

        value = float(self.scores(np.ones((1, self.size)))[0])
        return None if value != value else value


def additive(parts: ArrayLike, score: Callable[[Floats], Floats]) -> Resampler:
    """Return the resampler of a score that depends on sums over examples only.

    Args:
        parts: what each example adds to the sums, [examples, sums].
        score: sums, [multisets, sums] → scores on 0–100, [multisets]; NaN where undefined.
    """
    import numpy as np

    table = np.asarray(parts, dtype=np.float64)
    return Resampler(lambda counts: score(counts @ table), len(table))


def share(values: ArrayLike) -> Resampler:
    """Return the resampler of a mean, ×100, of one value an example, each 0 to 1."""
    import numpy as np

    table = np.asarray(values, dtype=np.float64)
    whole = additive(np.stack([table, np.ones_like(table)], axis=1), lambda sums: 100.0 * sums[:, 0] / sums[:, 1])
    return Resampler(whole.scores, whole.size, table == 1.0 if np.isin(table, (0.0, 1.0)).all() else None)


def f1(right: ArrayLike, claimed: ArrayLike, *, occurring: bool = False) -> Resampler:
    """Return the resampler of the mean F1, ×100, of one or more classes.

    Args:
        right: how often an example has a class in gold and prediction alike, [examples, classes].
        claimed: how often in gold plus how often in the prediction, [examples, classes].
        occurring: take the mean over the classes claimed at all, 0 where there are none; else over all classes, and one
            that is never claimed counts 0.
    """
    import numpy as np

    parts = np.concatenate([np.asarray(right, dtype=np.float64), np.asarray(claimed, dtype=np.float64)], axis=1)
    classes = parts.shape[1] // 2

    def score(sums: Floats) -> Floats:
        met, said = sums[:, :classes], sums[:, classes:]
        each: Floats = 200.0 * met / np.maximum(said, 1.0)
        over = (said > 0).sum(axis=1) if occurring else classes
        total: Floats = each.sum(axis=1) / np.maximum(over, 1)
        return total

    return additive(parts, score)


class Metric(Component, ABC):
    """One official metric; ``compute`` turns predictions into one or more named scores."""

    selects: ClassVar[str]
    """The key of the score that selects the best checkpoint where this is a task's first metric."""
    lower_is_better: ClassVar[frozenset[str]] = frozenset()
    """The keys of scores where less is better; all others are better when higher."""

    @abstractmethod
    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        """Return scores on 0–100 by key, ``selects`` among them.

        Args:
            predictions: one for each example, at least one.
            labels: the task's label names in the task's order; empty where it has none.
        """

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        """Return the score ``selects`` of multisets of these predictions; what ``compute`` says of each, but faster.

        This one, for metrics which have none of their own, computes each multiset. A score of sums over examples is
        best made with ``additive``, ``share`` or ``f1``. Arguments are those of ``compute``.
        """
        import numpy as np

        def scores(counts: Floats) -> Floats:
            found = []
            for each in counts:
                pairs = zip(predictions, each.tolist(), strict=True)
                value = self.compute([one for one, count in pairs for _ in range(int(count))], labels)[self.selects]
                found.append(np.nan if value is None else value)
            return np.array(found, dtype=np.float64)

        return Resampler(scores, len(predictions))

    def for_language(self, language: str) -> Metric:
        """Return this metric as it is defined for another language; most do not depend on it."""
        return self


metrics: Registry[type[Metric]] = Registry("metric", home="claf2.metrics")
register_metric = metrics.register
