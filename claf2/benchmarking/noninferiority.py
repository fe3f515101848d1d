"""Whether a changed model, such as an export, is as good as its origin, except for a margin.

A test for a difference cannot answer this: that no difference was found may only mean that there were few examples.
Non-inferiority is shown only if the whole interval of the difference lies above the margin, so that without evidence it
is not shown.

Origin and candidate answer the same examples, and each candidate comes from one run. The differences are therefore
paired by run and by example, and one run is enough: the result holds for these runs. Only the examples are resampled
(Efron, 1979), and ``changed_answers_variance`` is added.

References:
    Efron (1979), Bootstrap methods: another look at the jackknife. Annals of Statistics 7.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from claf2.benchmarking.comparison import Flip, list_flips
from claf2.benchmarking.runs import Floats, ScoredRuns, check_same_examples
from claf2.benchmarking.statistics import (
    RESAMPLES,
    ScoreEstimate,
    changed_answers_variance,
    estimate_score,
    half_width,
)
from claf2.errors import Claf2Error
from claf2.metrics import Prediction, Resampler
from claf2.task import Task

__all__ = [
    "NonInferiority",
    "NonInferiorityVerdict",
    "classify_noninferiority",
    "estimate_paired_difference",
    "format_noninferiority",
    "measure_noninferiority",
    "noninferiority_to_dict",
]  # fmt: skip

NonInferiorityVerdict: TypeAlias = Literal["non-inferior", "inferior", "not shown"]
"""What the examples show about a margin; ``not shown`` where they are too few for either."""

ROUNDING = 1e-5
"""By how much two numbers may differ, and still be the same answer: relative to their size, and in all."""


@dataclass(frozen=True, kw_only=True)
class NonInferiority:
    """The comparison of a changed model with its origin on one task."""

    task: str
    score: str
    """The key of the score."""
    origin: float
    """The score of the origin, the mean over its runs."""
    candidate: float
    difference: ScoreEstimate
    """By how many points the candidate scores higher. The interval's coverage is ``1 - 2 · alpha``."""
    margin: float
    """By how many points the candidate may be worse."""
    lower_is_better: bool
    verdict: NonInferiorityVerdict
    changed: int
    """The number of examples whose answer differs in any run."""
    gained: Sequence[Flip]
    """Examples that most runs of the candidate have right and most of the origin wrong."""
    lost: Sequence[Flip]
    """Examples that most runs of the origin have right and most of the candidate wrong."""

    @property
    def smallest_margin(self) -> float:
        """The smallest margin for which these predictions show non-inferiority."""
        return _largest_drop(self.difference, self.lower_is_better)


def measure_noninferiority(
    task: Task, origin: Sequence[Sequence[Prediction]], candidate: Sequence[Sequence[Prediction]], *,
    margin: float = 1.0, alpha: float = 0.05, resamples: int = RESAMPLES,
) -> NonInferiority:  # fmt: skip
    """Test whether a changed model is worse than its origin by less than a margin, in the deciding score of the task.

    Args:
        task: the task.
        origin: the predictions of each run of the origin.
        candidate: the predictions of the model that was made of each of these runs, in the same order.
        margin: by how many points the candidate may be worse.
        alpha: the probability with which a candidate that is worse by the margin is called non-inferior.
        resamples: how many bootstrap resamples of the examples are drawn.

    Raises:
        Claf2Error: if the two differ in runs or examples, a score is undefined, or an argument is out of range.
    """
    if not (0 <= margin < math.inf and 0 < alpha < 0.5):  # also false for NaN
        raise Claf2Error(f"margin {margin} and alpha {alpha}: expected a margin from 0 and an alpha in (0, 0.5)")
    if len(origin) != len(candidate):
        raise Claf2Error(
            f"got {len(origin)} runs of the origin and {len(candidate)} of the candidate: give one for one"
        )
    metric = task.metrics[0]
    first, second = (ScoredRuns.from_predictions(metric, runs, task.labels) for runs in (origin, candidate))
    means = []
    for runs, name in ((first, "the origin"), (second, "the candidate")):
        try:
            means.append(float(runs.scores.mean()))
        except Claf2Error as error:
            raise Claf2Error(f"{task.name}, {name}: {error}; train the run again") from error
    difference = estimate_paired_difference(first, second, alpha=alpha, resamples=resamples)
    flips = list_flips(metric, origin, candidate)
    return NonInferiority(
        task=task.name, score=metric.selects, origin=means[0], candidate=means[1], difference=difference,
        margin=margin, lower_is_better=second.lower_is_better,
        verdict=classify_noninferiority(difference, margin, lower_is_better=second.lower_is_better),
        changed=_count_changed(origin, candidate), gained=[flip for flip in flips if flip.is_gained],
        lost=[flip for flip in flips if flip.is_lost],
    )  # fmt: skip


def classify_noninferiority(
    difference: ScoreEstimate, margin: float, *, lower_is_better: bool = False
) -> NonInferiorityVerdict:
    """Return the verdict: ``non-inferior`` if the whole interval is better than the margin, ``inferior`` if the whole
    interval is worse, else ``not shown``.

    Args:
        difference: by how many points the candidate scores higher.
        margin: by how many points it may be worse.
        lower_is_better: whether a lower score is better.
    """
    if _largest_drop(difference, lower_is_better) < margin:
        return "non-inferior"
    smallest_drop = difference.low if lower_is_better else -difference.high
    return "inferior" if smallest_drop > margin else "not shown"


def _largest_drop(difference: ScoreEstimate, lower_is_better: bool) -> float:
    return difference.high if lower_is_better else -difference.low


def estimate_paired_difference(
    first: ScoredRuns, second: ScoredRuns, *, alpha: float = 0.05, resamples: int = RESAMPLES
) -> ScoreEstimate:
    """Return by how many points the second model scores higher than the first, of which it was made run by run.

    Args:
        first: the runs of the origin.
        second: the runs of the candidate, in the same order.
        alpha: the interval's coverage is ``1 - 2 · alpha``.
        resamples: how many bootstrap resamples of the examples are drawn.

    Raises:
        Claf2Error: if the examples differ.
    """
    check_same_examples(first.examples, second.examples, "the candidate")
    pairs = list(zip(first.resamplers, second.resamplers, strict=True))

    def mean_difference(counts: Floats) -> Floats:
        difference: Floats = np.mean([after.scores(counts) - before.scores(counts) for before, after in pairs], axis=0)
        return difference

    low, high = second.bounds
    # The mean over the runs is one score of the examples, so that its bootstrap is paired in both ways.
    paired = ScoredRuns(
        second.examples, (Resampler(mean_difference, len(second.examples)),), bounds=(low - high, high - low),
        scale=first.scale,
    )  # fmt: skip
    estimate = estimate_score(paired, level=1 - 2 * alpha, resamples=resamples)
    added = changed_answers_variance(alpha, estimate.examples, first.scale)
    half = half_width([(estimate.se**2 + added, estimate.df)], alpha)
    return replace(
        estimate, se=math.sqrt(estimate.se**2 + added), low=max(estimate.value - half, paired.bounds[0]),
        high=min(estimate.value + half, paired.bounds[1]), seeds=(len(first), len(second)),
    )  # fmt: skip


def _count_changed(origin: Sequence[Sequence[Prediction]], candidate: Sequence[Sequence[Prediction]]) -> int:
    changed = {
        before.id
        for runs in zip(origin, candidate, strict=True)
        for before, after in zip(*runs, strict=True)
        if not _is_same(before.prediction, after.prediction)
    }
    return len(changed)


def _is_same(before: object, after: object) -> bool:
    """Say whether two answers are the same. Numbers are, up to rounding."""
    if isinstance(before, float) and isinstance(after, float):
        return math.isclose(before, after, rel_tol=ROUNDING, abs_tol=ROUNDING)
    return before == after


def format_noninferiority(result: NonInferiority, *, examples: int = 3) -> str:
    """Return the result as text.

    Args:
        result: the result.
        examples: how many gained and lost examples are listed.
    """
    difference = result.difference
    lines = [
        f"{result.task} {result.score}: {result.origin:.2f} → {result.candidate:.2f}, {difference.value:+.2f} points "
        f"({100 * difference.level:.3g} % interval {difference.low:+.2f} to {difference.high:+.2f}): {result.verdict} "
        f"within {result.margin:g}",
        f"{result.changed} of {difference.examples} answers differ: {len(result.gained)} gained, "
        f"{len(result.lost)} lost",
    ]
    if result.verdict == "not shown":
        lines.append(
            f"These examples show non-inferiority within {math.ceil(100 * result.smallest_margin) / 100:.2f} points. "
            "More examples give a shorter interval."
        )
    for direction, flips in (("gained", result.gained), ("lost", result.lost)):
        lines += [
            f"- {direction} {flip.id} (gold {flip.gold!r}): {flip.predictions[0]!r} → {flip.predictions[1]!r}"
            for flip in flips[:examples]
        ]
    return "\n".join(lines) + "\n"


def noninferiority_to_dict(result: NonInferiority) -> dict[str, object]:
    """Return the result as a dict for JSON. Flips are listed by the id of their example."""
    flips = {"gained": [flip.id for flip in result.gained], "lost": [flip.id for flip in result.lost]}
    return {**asdict(result), **flips, "smallest_margin": result.smallest_margin}
