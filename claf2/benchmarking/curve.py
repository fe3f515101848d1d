"""The curve of a pre-training: scores of its checkpoints by step, and which of its moves are real.

Every checkpoint is compared with the previous one and with the best one before it. The questions are many and come one
by one, and nobody knows how many will follow, so each error rate holds for the whole curve:

- A verdict is given once every earlier checkpoint is measured. It then depends on nothing that comes later.
- The k-th comparison has the share H / ((H + k - 1) (H + k)) of the error rate. H checkpoints spend half of it, and
  the shares of infinitely many add up to one (Bonferroni, for any dependence between the comparisons). Holm's step then
  passes the shares of what was found on to the rest.
- The best of k checkpoints is the best by luck too, so a p value against it is multiplied by k.
- A plateau is evidence that little was gained, not missing evidence of a gain: it begins at the earliest checkpoint
  since which, to the last one, a gain of ``tolerance`` points or more is rejected. The candidates are tested backwards
  until the first that fails, which needs no further correction.

The variance of a task over seeds is hard to know from a few seeds, but similar at all checkpoints. The larger of the
pair's own one and that of all checkpoints so far is used, with the degrees of freedom of the latter. A checkpoint at
which a run collapsed therefore keeps its own, larger variance.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import fmean
from typing import TypeAlias

from claf2.benchmarking.runs import ScoredRuns
from claf2.benchmarking.statistics import Difference, compare_runs, estimate_score, half_width, tail_probability
from claf2.errors import Claf2Error

__all__ = [
    "Change",
    "CheckpointCurve",
    "CheckpointScores",
    "CheckpointVerdict",
    "CurveAnalysis",
    "CurveScore",
    "alpha_share",
    "holm_over_steps",
    "next_step",
]  # fmt: skip

CURVE_RESAMPLES = 1000
"""Bootstrap resamples per comparison, as in the table of a bench."""

ERROR_RATE = 0.05
"""The error rate of each kind of statement, for the whole curve."""

Runs: TypeAlias = Mapping[str, ScoredRuns]
"""Task → its runs at one checkpoint."""


def next_step(steps: Collection[int], started: Collection[int]) -> int | None:
    """Return the step to measure next: the last one, then the first one, then always the one that halves the widest gap
    between those that are started; ``None`` if all are."""
    remaining = sorted(set(steps) - set(started))
    if not remaining:
        return None
    if remaining[-1] == max(steps) or not started:
        return remaining[-1]
    if remaining[0] == min(steps):
        return remaining[0]
    return max(remaining, key=lambda step: (min(abs(step - other) for other in started), step))


def alpha_share(number: int, expected: int) -> float:
    """Return the share of the error rate that the comparison with this number has, from 1."""
    return expected / ((expected + number - 1) * (expected + number))


def holm_over_steps(p_values: Sequence[float], expected: int, tasks: int = 1) -> list[float]:
    """Return p values corrected for all comparisons of a curve, those to come included.

    Args:
        p_values: the p values by checkpoint; of several tasks, those of each checkpoint one after the other.
        expected: how many checkpoints are expected; there may be more or fewer.
        tasks: the number of tasks.

    Returns:
        The corrected p values, in the same order. Held against a level, they bound the probability of one or more false
        findings in the whole curve.
    """
    shares = [alpha_share(index // tasks + 1, expected) / tasks for index in range(len(p_values))]
    corrected, largest, remaining = [0.0] * len(p_values), 0.0, 1.0
    for index in sorted(range(len(p_values)), key=lambda index: p_values[index] / shares[index]):
        # Holm (1979) with weights. Comparisons to come count as not found, so that they can only add findings.
        largest = max(largest, min(1.0, p_values[index] / shares[index] * remaining))
        corrected[index], remaining = largest, remaining - shares[index]
    return corrected


@dataclass(frozen=True)
class CurveScore:
    """A mean score over seeds, with its 95 % interval where there is one."""

    value: float
    low: float | None = None
    high: float | None = None
    seeds: int = 1


@dataclass(frozen=True)
class CheckpointScores:
    """What is measured of a checkpoint so far."""

    step: int
    average: CurveScore | None
    """Over the tasks; ``None`` if one is missing."""
    tasks: Mapping[str, CurveScore]
    complete: bool = False
    """All its cells have ended."""


@dataclass(frozen=True)
class Change:
    """A difference between two checkpoints, in points."""

    value: float
    low: float
    high: float
    p: float
    """Corrected for the curve."""
    verdict: str
    """``better``, ``worse`` or ``no evidence``."""
    about: str = "models"
    """``runs``: one seed each, so it holds for these runs only."""


@dataclass(frozen=True)
class CheckpointVerdict:
    """The comparison of a checkpoint with an earlier one."""

    step: int
    reference: int
    """The step of the earlier one."""
    average: Change | None
    tasks: Mapping[str, Change]


@dataclass(frozen=True)
class CheckpointCurve:
    """The scores of a model by step, and what is known about its moves."""

    suite: str
    model: str
    tasks: Sequence[str]
    points: Sequence[CheckpointScores] = ()
    previous: Sequence[CheckpointVerdict] = ()
    """Against the checkpoint before, by step."""
    best: Sequence[CheckpointVerdict] = ()
    """Against the best one before, by step."""
    plateau_since: int | None = None
    """The step since which the average gains less than ``tolerance`` points."""
    dropped_since: int | None = None
    """The step of the best checkpoint, if the last one is really worse."""
    error_rate: float = ERROR_RATE
    expected: int = 10
    tolerance: float = 1.0


@dataclass(frozen=True)
class _Parts:
    """A difference on one task and the parts of its variance, each with its degrees of freedom."""

    value: float
    seed: tuple[float, float]
    examples: tuple[float, float]
    lower_is_better: bool = False
    exact_p: float | None = None
    """Of a test without the parts: McNemar's."""


@dataclass
class CurveAnalysis:
    """Adds checkpoint after checkpoint to a curve, and keeps what was computed.

    Args:
        averaged: the tasks of the average.
        tasks: all tasks.
        expected: how many checkpoints are expected, to share the error rate among them.
        tolerance: how many points the average may still gain on a plateau.
    """

    tasks: Sequence[str]
    averaged: Sequence[str] = ()
    expected: int = 10
    tolerance: float = 1.0
    resamples: int = CURVE_RESAMPLES
    _runs: dict[int, Runs] = field(default_factory=dict)
    _variances: dict[tuple[int, str], float] = field(default_factory=dict)
    _differences: dict[tuple[int, int, str], Difference] = field(default_factory=dict)
    _previous: list[tuple[int, int, _Raw]] = field(default_factory=list)
    _best: list[tuple[int, int, _Raw]] = field(default_factory=list)
    plateau_since: int | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.averaged = [task for task in self.averaged if task in self.tasks] or list(self.tasks)

    @property
    def steps(self) -> list[int]:
        """The steps that were added."""
        return list(self._runs)

    def add(self, step: int, runs: Runs) -> None:
        """Add the next checkpoint, when its runs have ended.

        Raises:
            Claf2Error: if the step is not after those that were added.
        """
        earlier = self.steps
        if earlier and step <= earlier[-1]:
            raise Claf2Error(f"step {step} was added to the curve after step {earlier[-1]}")
        self._runs[step] = runs
        for task, scored in runs.items():
            self._variances[step, task] = float(scored.scores.var(ddof=1)) if len(scored) > 1 else 0.0
        if not earlier:
            return
        self._previous.append((step, earlier[-1], self._compare(earlier[-1], step)))
        averages = {other: average for other in earlier if (average := self._mean(other)) is not None}
        best = max(averages, key=lambda other: averages[other]) if averages else earlier[-1]
        self._best.append((step, best, self._compare(best, step, candidates=len(earlier))))
        self.plateau_since = self._find_plateau(step)

    def curve(self, suite: str, model: str, points: Sequence[CheckpointScores]) -> CheckpointCurve:
        """Return the curve with the verdicts so far."""
        best = self._correct(self._best)
        last = best[-1] if best else None
        dropped = last is not None and last.average is not None and last.average.verdict == "worse"
        return CheckpointCurve(
            suite, model, list(self.tasks), points, self._correct(self._previous), best, self.plateau_since,
            last.reference if last and dropped else None, ERROR_RATE, self.expected, self.tolerance,
        )  # fmt: skip

    def scores(self, step: int, runs: Runs, *, complete: bool = False) -> CheckpointScores:
        """Return the scores of a checkpoint with intervals for each alone, of however many runs there are."""
        tasks, parts = {}, []
        for task, scored in runs.items():
            estimate = estimate_score(scored, resamples=self.resamples)
            tasks[task] = CurveScore(estimate.value, estimate.low, estimate.high, len(scored))
            own = float(scored.scores.var(ddof=1)) / len(scored) if len(scored) > 1 else 0.0
            example_part = max(estimate.se**2 - own, 0.0)
            parts.append(
                _Parts(estimate.value, (own, max(len(scored) - 1.0, 1.0)), (example_part, estimate.examples - 1.0))
            )
        average: CurveScore | None = None
        if all(task in runs for task in self.averaged):
            chosen = [part for task, part in zip(runs, parts, strict=True) if task in self.averaged]
            value = fmean(part.value for part in chosen)
            half = half_width(_terms(chosen), 0.025)
            average = CurveScore(value, value - half, value + half, min(len(runs[task]) for task in self.averaged))
        return CheckpointScores(step, average, tasks, complete)

    def _mean(self, step: int) -> float | None:
        """Return the average of a checkpoint, oriented so that more is better."""
        runs = self._runs[step]
        if not all(task in runs for task in self.averaged):
            return None
        return fmean(_sign(runs[task]) * float(runs[task].scores.mean()) for task in self.averaged)

    def _compare(self, first: int, second: int, candidates: int = 1) -> _Raw:
        """Compare two checkpoints on each task and on average.

        Args:
            first: the earlier step.
            second: the later step.
            candidates: among how many checkpoints the first one was chosen.
        """
        parts = {}
        for task in self.tasks:
            if task in self._runs[first] and task in self._runs[second]:
                with suppress(Claf2Error):  # evaluated on other data, or undefined in many resamples
                    parts[task] = self._parts(first, second, task)
        single = any(len(runs) == 1 for step in (first, second) for runs in self._runs[step].values())
        about = "runs" if single else "models"
        tasks = {task: self._raw_change([part], about, candidates) for task, part in parts.items()}
        average = None
        if all(task in parts for task in self.averaged):
            average = self._raw_change(self._oriented(parts), about, candidates)
        return _Raw(average, tasks, {task for task, part in parts.items() if part.lower_is_better})

    def _raw_change(self, parts: Sequence[_Parts], about: str, candidates: int) -> Change:
        value, terms = fmean(part.value for part in parts), _terms(parts)
        p = min(1.0, 2 * tail_probability(terms, abs(value)))
        if len(parts) == 1 and parts[0].exact_p is not None:
            p = parts[0].exact_p
        half = half_width(terms, ERROR_RATE / 2)
        return Change(value, value - half, value + half, min(1.0, p * candidates), "", about)

    def _oriented(self, parts: Mapping[str, _Parts]) -> list[_Parts]:
        """Return the parts of the averaged tasks, oriented so that more is better."""
        chosen = [parts[task] for task in self.averaged]
        return [
            _Parts(-part.value if part.lower_is_better else part.value, part.seed, part.examples, exact_p=part.exact_p)
            for part in chosen
        ]

    def _parts(self, first: int, second: int, task: str) -> _Parts:
        runs = [self._runs[step][task] for step in (first, second)]
        key = (first, second, task)
        if key not in self._differences:
            self._differences[key] = compare_runs(*runs, resamples=self.resamples)
        difference = self._differences[key]
        variances = [self._variances[step, task] for step in (first, second) if len(self._runs[step][task]) > 1]
        if not variances:
            exact = difference.p if difference.test == "mcnemar" else None
            examples = (difference.se**2, difference.examples - 1.0)
            return _Parts(difference.value, (0.0, 1.0), examples, difference.lower_is_better, exact)
        known = iter(variances)  # of a single run, that of the other checkpoint
        own = sum((next(known) if len(scored) > 1 else variances[0]) / len(scored) for scored in runs)
        dfs = {step: len(by_task[task]) - 1 for step, by_task in self._runs.items() if task in by_task}
        df = sum(dfs.values())  # `second` is the last step that was added
        pooled = sum(dfs[step] * self._variances[step, task] for step in dfs) / df
        seed = max(own, pooled * sum(1 / len(scored) for scored in runs))
        examples = (max(difference.se**2 - own, 0.0), difference.examples - 1.0)
        return _Parts(difference.value, (seed, float(df)), examples, difference.lower_is_better)

    def _find_plateau(self, last: int) -> int | None:
        """Return the step at which the plateau begins that lasts to ``last``: two checkpoints before it or earlier."""
        steps = self.steps
        level, since = ERROR_RATE * alpha_share(len(steps) - 1, self.expected), None
        for number, step in enumerate(reversed(steps[:-1]), start=1):
            if self._mean(step) is None or self._mean(last) is None:
                break
            try:
                parts = self._oriented({task: self._parts(step, last, task) for task in self.averaged})
            except Claf2Error:  # as in _compare
                break
            gain = fmean(part.value for part in parts)
            if tail_probability(_terms(parts), self.tolerance - gain) > level:
                break
            since = step if number > 1 else None
        return since

    def _correct(self, comparisons: Sequence[tuple[int, int, _Raw]]) -> list[CheckpointVerdict]:
        """Return comparisons with p values that are corrected for the whole curve."""
        averages = [raw.average.p if raw.average else 1.0 for _, _, raw in comparisons]
        corrected = holm_over_steps(averages, self.expected)
        by_task = [raw.tasks[task].p if task in raw.tasks else 1.0 for _, _, raw in comparisons for task in self.tasks]
        corrected_by_task = iter(holm_over_steps(by_task, self.expected, len(self.tasks)))
        verdicts = []
        for (step, reference, raw), p in zip(comparisons, corrected, strict=True):
            ps = {task: next(corrected_by_task) for task in self.tasks}
            tasks = {
                task: self._decide(change, ps[task], lower=task in raw.lower) for task, change in raw.tasks.items()
            }
            average = self._decide(raw.average, p) if raw.average else None
            verdicts.append(CheckpointVerdict(step, reference, average, tasks))
        return verdicts

    def _decide(self, change: Change, p: float, *, lower: bool = False) -> Change:
        verdict = "no evidence"
        if p < ERROR_RATE and change.value:
            verdict = "better" if (change.value > 0) != lower else "worse"
        return Change(change.value, change.low, change.high, p, verdict, change.about)


@dataclass(frozen=True)
class _Raw:
    """The comparison of two checkpoints before the correction."""

    average: Change | None
    tasks: Mapping[str, Change]
    lower: Collection[str]
    """The tasks in which less is better."""


def _terms(parts: Sequence[_Parts]) -> list[tuple[float, float]]:
    """Return the parts of the variance of a mean over tasks, which are independent of each other."""
    scale = len(parts) ** 2
    terms = [(variance / scale, df) for part in parts for variance, df in (part.seed, part.examples)]
    return [(variance, df) for variance, df in terms if variance]


def _sign(runs: ScoredRuns) -> int:
    return -1 if runs.lower_is_better else 1
