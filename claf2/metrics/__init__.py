"""Metrics: the benchmarks' official definitions, computed from predictions alone, offline."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from claf2.registry import Component, Registry

__all__ = ["Metric", "Prediction", "Scores", "metrics", "register_metric"]

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

    def for_language(self, language: str) -> Metric:
        """Return this metric as it is defined for another language; most do not depend on it."""
        return self


metrics: Registry[type[Metric]] = Registry("metric", home="claf2.metrics")
register_metric = metrics.register
