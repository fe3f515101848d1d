"""Metrics: the official definitions of the benchmarks, computed from predictions alone, without a network.

Scores are on the scale 0–100. If an official script has a quirk that published scores contain, the metric has it too,
and a score whose key ends in ``_fixed`` is computed without it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from claf2.registry import Component, Registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats: TypeAlias = NDArray[np.float64]

__all__ = [
    "Metric",
    "Prediction",
    "Resampler",
    "Scores",
    "additive",
    "f1",
    "metrics",
    "register_metric",
    "share",
    "undefined",
]

Scores: TypeAlias = dict[str, float | None]
"""Key → score, 0–100; ``None`` if the score is undefined, such as a correlation with a constant."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The prediction of a model for one example: one line of a file in a run's ``predictions/``.

    ``gold`` and ``prediction`` are JSON values that depend on the head:

    - classify, choice: a label name;
    - regress: a number;
    - tag: a list of tags, one per token;
    - span: a list of accepted answers and one answer; an empty list, or the empty string, means "no answer";
    - parse: an object with ``heads`` and ``relations``, two lists with one item per word;
    - dialogue: a list of ``domain-slot-value`` strings.

    ``prediction`` is ``None`` if it is undefined, because the outputs of the model are NaN or infinite. Metrics are not
    computed from such predictions: their scores are undefined.
    """

    id: str
    """The id of the example."""
    gold: Any
    """What the data set says; ``None`` if the example is unlabelled."""
    prediction: Any
    score: float | None = None
    """The model's confidence, on a scale of its head."""
    details: Mapping[str, Any] | None = None
    """What metrics need besides, such as ``tokens``, or ``probabilities`` by label name."""


def undefined(prediction: Prediction) -> Prediction:
    """Return the prediction for an example whose outputs are not finite."""
    return replace(prediction, prediction=None, score=None, details=None)


@dataclass(frozen=True, slots=True)
class Resampler:
    """Computes the score ``selects`` of a metric for many resamples of the same N examples at once.

    A resample is given by how often it contains each example, so a bootstrap needs one call instead of thousands of
    calls of ``Metric.compute``.
    """

    scores: Callable[[Floats], Floats]
    """Counts of the examples, (R, N) → scores, 0–100, (R,); NaN where a score is undefined."""
    size: int
    """The number of examples, N."""
    right: NDArray[np.bool_] | None = None
    """Whether each example is right, (N,), if the score is the percentage of right examples; else ``None``. It allows
    exact tests such as McNemar's."""

    def value(self) -> float | None:
        """Return the score of the examples themselves, each counted once; ``None`` if it is undefined."""
        import numpy as np

        value = float(self.scores(np.ones((1, self.size)))[0])
        return None if math.isnan(value) else value


def additive(addends: ArrayLike, score: Callable[[Floats], Floats]) -> Resampler:
    """Return the resampler of a score that is a function of sums over examples.

    The sums of R resamples are one matrix product, (R, N) @ (N, S).

    Args:
        addends: what each example adds to the S sums, (N, S).
        score: sums, (R, S) → scores, 0–100, (R,); NaN where a score is undefined.
    """
    import numpy as np

    table = np.asarray(addends, dtype=np.float64)
    return Resampler(lambda counts: score(counts @ table), len(table))


def share(values: ArrayLike) -> Resampler:
    """Return the resampler of a mean over examples, as a percentage.

    Args:
        values: one value per example, 0 to 1, (N,).
    """
    import numpy as np

    column = np.asarray(values, dtype=np.float64)
    # The second sum counts the examples: resamples may differ in size.
    mean = additive(np.stack([column, np.ones_like(column)], axis=1), lambda sums: 100.0 * sums[:, 0] / sums[:, 1])
    is_binary = bool(np.isin(column, (0.0, 1.0)).all())
    return Resampler(mean.scores, mean.size, column == 1.0 if is_binary else None)


def f1(right: ArrayLike, claimed: ArrayLike, *, occurring: bool = False) -> Resampler:
    """Return the resampler of F1, averaged over C classes without weights.

    F1 is 2 · ``right`` / ``claimed``: the true positives, and the positives of gold plus those of the prediction.

    Args:
        right: how often each example has a class in gold and prediction alike, (N, C).
        claimed: how often it has the class in gold, plus how often in the prediction, (N, C).
        occurring: average over the classes that are claimed in a resample, and return 0 if there are none. Otherwise
            average over all classes, of which those that are never claimed count 0.
    """
    import numpy as np

    addends = np.concatenate([np.asarray(right, dtype=np.float64), np.asarray(claimed, dtype=np.float64)], axis=1)
    classes = addends.shape[1] // 2

    def score(sums: Floats) -> Floats:
        right_sums, claimed_sums = sums[:, :classes], sums[:, classes:]
        # A class that nobody claims has no true positives either, so that 1 as denominator makes its F1 0.
        by_class: Floats = 200.0 * right_sums / np.maximum(claimed_sums, 1.0)
        averaged = (claimed_sums > 0).sum(axis=1) if occurring else classes
        mean: Floats = by_class.sum(axis=1) / np.maximum(averaged, 1)
        return mean

    return additive(addends, score)


class Metric(Component, ABC):
    """An official metric, which computes one or more scores from predictions."""

    selects: ClassVar[str]
    """The key of the score that selects the best checkpoint if this is the first metric of a task."""
    keys: ClassVar[frozenset[str]] = frozenset()
    """The keys of all scores that ``compute`` can return, so that an unknown ``metric_key`` is refused before training;
    empty: they are known only after the first evaluation."""
    lower_is_better: ClassVar[frozenset[str]] = frozenset()
    """The keys of scores for which lower is better."""
    bounds: ClassVar[tuple[float, float]] = (0.0, 100.0)
    """The lowest and the highest value that the score ``selects`` can have. Intervals end there."""

    @abstractmethod
    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        """Return the scores, the one named ``selects`` among them.

        Args:
            predictions: the predictions of N ≥ 1 examples.
            labels: the task's label names in their published order; empty if the task has none.

        Raises:
            Claf2Error: if the metric is not defined for these labels or for its language.
        """

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        """Return the resampler of the score ``selects``. It returns what ``compute`` returns for each resample.

        This default calls ``compute`` for each resample. If the score is a function of sums over examples, override it
        with ``additive``, ``share`` or ``f1``, which are about a thousand times faster.

        Args:
            predictions: as in ``compute``.
            labels: as in ``compute``.
        """
        import numpy as np

        def scores(counts: Floats) -> Floats:
            values = []
            for row in counts:
                pairs = zip(predictions, row.tolist(), strict=True)
                resample = [prediction for prediction, count in pairs for _ in range(int(count))]
                value = self.compute(resample, labels)[self.selects]
                values.append(np.nan if value is None else value)
            return np.array(values, dtype=np.float64)

        return Resampler(scores, len(predictions))

    def is_right(self, prediction: Prediction) -> bool:
        """Say whether a prediction is right, for lists of the examples that a model gained or lost. Numbers are right
        within half a point."""
        gold, predicted = prediction.gold, prediction.prediction
        if isinstance(gold, float) and isinstance(predicted, float):
            return abs(gold - predicted) <= 0.5
        return bool(gold == predicted)

    def for_language(self, language: str) -> Metric:
        """Return the metric as it is defined for a language (ISO 639-1); most are the same for all."""
        return self


metrics: Registry[type[Metric]] = Registry("metric", home="claf2.metrics")
"""The registered metrics."""
register_metric = metrics.register
