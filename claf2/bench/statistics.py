"""How far a score may be off, and whether two models differ, from their predictions on the same examples.

What is asked is how a *model* would do with other seeds on other examples of the same kind. Its mean score over S seeds
is off by

- the seeds' part: the sample variance of the single runs' scores, over S. Runs of equal worth differ by it too, since
  each hits and misses other examples by chance;
- the examples' part: what a bootstrap over examples, the same for all runs (Efron 1979), says of the mean, less that
  chance, which was counted already. Counted twice (as by resampling seeds and examples at once, Owen 2007), it makes a
  test at the 5 % level find equal models different in 1 or 2 of 100 comparisons, and overlook real differences.

An interval reaches as far as the root of the sum of the parts, each times the square of its own Student quantile: for
normal scores never too short, however unequal the parts are (Banerjee 1960), as Satterthwaite's degrees of freedom make
it at two or three seeds. S seeds resampled show (S - 1) / S of their variance; the sample variance shows all of it.

With one seed on each side only those two runs can be compared, by McNemar's exact test where examples are right or
wrong, else by the paired bootstrap; the result says so. Scores are on 0–100, and random numbers come from ``seed``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import chdtri, nctdtrinc, stdtrit
from scipy.stats import binomtest

from claf2.errors import Claf2Error
from claf2.metrics import Metric, Prediction, Resampler

__all__ = ["Band", "Difference", "Look", "Runs", "collapsed", "compare", "holm", "look", "mcnemar", "score", "verdict"]

Floats: TypeAlias = NDArray[np.float64]
About: TypeAlias = Literal["runs", "models"]
Verdict: TypeAlias = Literal["better", "worse", "no evidence", "too noisy to tell"]
Test: TypeAlias = Literal["t", "paired bootstrap", "mcnemar"]
Decision: TypeAlias = Literal["pass", "fail", "undecided", "no evidence"]

RESAMPLES = 2000
"""Resamples of the examples: their standard error is then known to 2 %."""
CELLS = 2_000_000
"""How many counts of examples are held at once."""
UNDEFINED = 0.05
"""The share of resamples whose score may be undefined; they are left out."""
POWER = 0.8
"""The share of comparisons that find a difference called detectable."""
LEAST_P = 1e-15
"""No p value is given below this."""


@dataclass(frozen=True)
class Runs:
    """One model's runs on one task, a seed each, all on the same examples in the same order: two or more of them."""

    examples: tuple[tuple[str, Any], ...]
    """Id and gold of each example."""
    resamplers: tuple[Resampler, ...]
    """The deciding score of each run."""
    lower_is_better: bool = False

    def __post_init__(self) -> None:
        if not self.resamplers:
            raise Claf2Error("there are no predictions to judge; at least one seed is needed")
        if len(self.examples) < 2:
            raise Claf2Error(f"{len(self.examples)} examples say nothing of chance; at least 2 are needed")
        if any(gold is None for _, gold in self.examples):
            raise Claf2Error("there are examples without a gold answer, so there is no score")
        if any(each.size != len(self.examples) for each in self.resamplers):
            raise Claf2Error(f"not every run has predictions for all {len(self.examples)} examples")

    @classmethod
    def of(cls, metric: Metric, predictions: Sequence[Sequence[Prediction]], labels: Sequence[str]) -> Runs:
        """Return runs by the score that the task's first metric selects, from the predictions of each seed.

        Raises:
            Claf2Error: where runs are of other examples, of other gold answers, or of none.
        """
        examples = [tuple((each.id, each.gold) for each in run) for run in predictions]
        for number, each in enumerate(examples[1:], start=2):
            _same_examples(examples[0], each, f"run {number}")
        resamplers = tuple(metric.resampler(run, labels) for run in predictions if run)
        return cls(examples[0] if examples else (), resamplers, metric.selects in metric.lower_is_better)

    @cached_property
    def scores(self) -> Floats:
        """The score of each run, [seeds].

        Raises:
            Claf2Error: where one is undefined.
        """
        values = [each.value() for each in self.resamplers]
        lost = [str(number) for number, value in enumerate(values, start=1) if value is None]
        if lost:
            raise Claf2Error(f"the score of run {', '.join(lost)} of {len(values)} is undefined: it collapsed")
        return np.array(values, dtype=np.float64)

    def __len__(self) -> int:
        return len(self.resamplers)


def _same_examples(first: Sequence[tuple[str, Any]], other: Sequence[tuple[str, Any]], whose: str) -> None:
    if len(first) != len(other):
        raise Claf2Error(f"{whose} has predictions for {len(other)} examples, the first for {len(first)}")
    for (mine, gold), (its, other_gold) in zip(first, other, strict=True):
        if mine != its:
            raise Claf2Error(f"{whose} has example {its!r} where the first has {mine!r}; align them by id")
        if gold != other_gold:
            raise Claf2Error(f"{whose} has gold {other_gold!r} for example {mine!r}, the first {gold!r}: other data")


@dataclass(frozen=True)
class _Estimate:
    """A value with the parts of its variance."""

    value: float
    seeds_part: float
    seeds_df: float
    examples_part: float
    examples: int
    seeds: tuple[int, ...]

    def band(self, level: float) -> dict[str, Any]:
        variance, reach = self.seeds_part + self.examples_part, self.reach((1 - level) / 2)
        df = variance**2 / (self.seeds_part**2 / self.seeds_df + self.examples_part**2 / (self.examples - 1))
        return {
            "value": self.value, "se": math.sqrt(variance), "df": df, "low": self.value - reach,
            "high": self.value + reach, "level": level, "about": "runs" if max(self.seeds) == 1 else "models",
            "seeds": self.seeds, "examples": self.examples,
        }  # fmt: skip

    @property
    def _parts(self) -> list[tuple[float, float]]:
        parts = [(self.seeds_part, self.seeds_df), (self.examples_part, self.examples - 1.0)]
        return [(variance, df) for variance, df in parts if variance]

    def reach(self, tail: float) -> float:
        """Return how far a value may lie above the truth with chance ``tail``."""
        return math.sqrt(sum(variance * float(stdtrit(df, tail)) ** 2 for variance, df in self._parts))

    def detectable(self, tail: float) -> float:
        """Return how far the truth must lie above a threshold for a test with this tail to find it, as often as POWER.

        Few seeds show less than their variance more often than not: the parts are set to where half of them lie above.
        """
        return math.sqrt(
            sum(
                variance * df / float(chdtri(df, 0.5)) * float(nctdtrinc(df, 1 - POWER, -stdtrit(df, tail))) ** 2
                for variance, df in self._parts
            )
        )

    def chance(self, distance: float) -> float:
        """Return the chance of a value at least this far above the truth."""
        if distance <= 0:
            return 0.5 if distance == 0 else 1.0 - self.chance(-distance)
        if self.reach(LEAST_P) <= distance:
            return LEAST_P
        place = brentq(lambda log: self.reach(math.exp(log)) - distance, math.log(LEAST_P), math.log(0.5))
        return math.exp(place)


def _estimate(groups: Sequence[tuple[float, Runs]], resamples: int, seed: int) -> _Estimate:
    """Return the sum of the models' mean scores, each times its sign."""
    models = [runs for _, runs in groups]
    seeds, n = tuple(len(runs) for runs in models), len(models[0].examples)
    value = float(sum(sign * runs.scores.mean() for sign, runs in groups))
    covariance = _covariance([each for runs in models for each in runs.resamplers], resamples, seed)
    weights = np.repeat([sign / size for (sign, _), size in zip(groups, seeds, strict=True)], seeds)
    total = float(weights @ covariance @ weights)
    least = (100.0 / n) ** 2  # no mean is known better than to one example
    if max(seeds) == 1:
        return _Estimate(value, 0.0, math.inf, max(total, least), n, seeds)
    ends = np.cumsum(seeds)
    blocks = [covariance[end - size : end, end - size : end] for end, size in zip(ends, seeds, strict=True)]
    # Of each model: the variance of a single run's score, and what of it is the chance of examples.
    spreads = [
        (float(runs.scores.var(ddof=1)), _chance(block)) if len(runs) > 1 else None
        for runs, block in zip(models, blocks, strict=True)
    ]
    donor = next(each for each in spreads if each is not None)  # for one with a single seed, whose spread is unknown
    parts = [np.array(each or donor) / size for each, size in zip(spreads, seeds, strict=True)]
    seeds_part, chance = np.sum(parts, axis=0).tolist()
    if None in spreads:
        df = max(seeds) - 1.0
    else:  # Welch (1947)
        spent = float(sum(part[0] ** 2 / (size - 1) for part, size in zip(parts, seeds, strict=True)))
        df = seeds_part**2 / spent if spent else float(sum(seeds) - len(seeds))
    return _Estimate(value, seeds_part, df, max(total - chance, least - seeds_part, 0.0), n, seeds)


def _chance(covariance: Floats) -> float:
    """Return how much of one run's variance over examples it does not share with the other runs of its model."""
    size = len(covariance)
    own = float(np.trace(covariance)) / size
    return own - (float(covariance.sum()) - own * size) / (size * (size - 1))


def _covariance(resamplers: Sequence[Resampler], resamples: int, seed: int) -> Floats:
    """Return the covariance over examples of the runs' scores, [runs, runs], by a bootstrap."""
    rng = np.random.default_rng(seed)
    n = resamplers[0].size
    rows = max(1, CELLS // n)
    found = []
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        drawn = rng.integers(0, n, size=(size, n)) + n * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)
        found.append(np.stack([each.scores(counts) for each in resamplers], axis=1))
    scores = np.concatenate(found)
    defined = np.isfinite(scores).all(axis=1)
    if (lost := int((~defined).sum())) > UNDEFINED * resamples:
        raise Claf2Error(f"the score is undefined in {lost} of {resamples} resamples of the {n} examples: too few")
    # A resample knows the mean that it is drawn from: the variance is too small by (n - 1) / n.
    covariance: Floats = np.atleast_2d(np.cov(scores[defined], rowvar=False)) * n / (n - 1)
    return covariance


@dataclass(frozen=True, kw_only=True)
class Band:
    """A mean score, or a difference of two, in points, and how far it may be off."""

    value: float
    se: float
    df: float
    """Satterthwaite's degrees of freedom of ``se``, for the reader: the interval takes each part's own."""
    low: float
    high: float
    level: float
    """The coverage of the interval."""
    about: About
    """`models`: other seeds would lie there too. `runs`: one seed each, and the next ones may say otherwise."""
    seeds: tuple[int, ...]
    """How many there are, of each model."""
    examples: int


def score(runs: Runs, *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0) -> Band:
    """Return a model's score, the mean over its seeds, with its band."""
    return Band(**_estimate([(1.0, runs)], resamples, seed).band(level))


@dataclass(frozen=True, kw_only=True)
class Difference(Band):
    """How much more a model scores than another."""

    p: float
    """Two-sided, that there is no difference."""
    p_worse: float
    """One-sided, that it is worse by no more than ``tolerance``."""
    tolerance: float
    detectable: float
    """The smallest true difference that is found, at 1 - ``level``, in 80 of 100 such comparisons."""
    test: Test
    borrowed: bool
    """One model has one seed, and the other's spread over seeds was taken for both."""
    lower_is_better: bool


def compare(
    first: Runs, second: Runs, *, tolerance: float = 0.0, level: float = 0.95,
    resamples: int = RESAMPLES, seed: int = 0,
) -> Difference:  # fmt: skip
    """Return how much more the second model scores than the first, and whether that may be chance.

    Seeds of the two are taken for independent; where runs that share one go the same way, the test is the stricter.

    Args:
        first: the model compared with, e.g. a baseline.
        second: the model that is judged.
        tolerance: by how many points the second may be worse.
        level: the coverage of the interval.
        resamples, seed: of the bootstrap over examples.

    Raises:
        Claf2Error: where examples differ, a score is undefined, or the tolerance is negative.
    """
    _same_examples(first.examples, second.examples, "the second model")
    if tolerance < 0 or not math.isfinite(tolerance):
        raise Claf2Error(f"a tolerance of {tolerance} points: it is 0 or more")
    found = _estimate([(-1.0, first), (1.0, second)], resamples, seed)
    drop = found.value if second.lower_is_better else -found.value
    p, p_worse = min(1.0, 2 * found.chance(abs(found.value))), found.chance(drop - tolerance)
    test: Test = "t" if max(found.seeds) > 1 else "paired bootstrap"
    before, after = first.resamplers[0].right, second.resamplers[0].right
    if test != "t" and before is not None and after is not None:
        test, p = "mcnemar", mcnemar(before, after)
        p_worse = p_worse if tolerance else mcnemar(before, after, alternative="less")
    return Difference(
        **found.band(level), p=p, p_worse=p_worse, tolerance=tolerance, test=test,
        detectable=found.detectable((1 - level) / 2), borrowed=min(found.seeds) == 1 < max(found.seeds),
        lower_is_better=second.lower_is_better,
    )  # fmt: skip


def mcnemar(
    before: NDArray[np.bool_], after: NDArray[np.bool_], *, alternative: Literal["two-sided", "less"] = "two-sided"
) -> float:
    """Return McNemar's exact p value (1947, in its binomial form) of two runs, from which of the same examples each has
    right, [examples]; `less` asks whether the second has fewer."""
    gained, lost = int((~before & after).sum()), int((before & ~after).sum())
    return float(binomtest(gained, gained + lost, alternative=alternative).pvalue) if gained + lost else 1.0


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p values corrected for their number (Holm 1979): the chance of one false alarm among all stays below the
    level that they are held against.

    Raises:
        Claf2Error: where one is no number of 0 to 1.
    """
    for name, p in p_values.items():
        if not 0 <= p <= 1:
            raise Claf2Error(f"{name}: {p} is no p value")
    corrected, worst = {}, 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda pair: pair[1])):
        worst = max(worst, min(1.0, p * (len(p_values) - rank)))
        corrected[name] = worst
    return {name: corrected[name] for name in p_values}


def verdict(difference: Difference, *, p: float | None = None, margin: float = 2.0) -> Verdict:
    """Say in a word what a comparison found, by its p value or by ``p``, corrected for others beside it (``holm``).

    Where nothing was found, and a difference of ``margin`` points would often be missed too, it is too noisy to tell.
    """
    if (difference.p if p is None else p) < 1 - difference.level and difference.value:
        return "better" if (difference.value > 0) != difference.lower_is_better else "worse"
    return "too noisy to tell" if difference.detectable > margin else "no evidence"


@dataclass(frozen=True)
class Look:
    """What a gate says after some of its seeds."""

    decision: Decision
    """`undecided`: the next seed may tell; `no evidence`: there is none left."""
    difference: Difference
    alpha: float
    """The part of the error rate spent on this look; the interval's coverage is 1 - 2 · alpha."""


def look(
    baseline: Runs, runs: Runs, *, budget: int, tolerance: float, alpha: float = 0.05,
    resamples: int = RESAMPLES, seed: int = 0,
) -> Look:  # fmt: skip
    """Say whether a model passes, after each of its seeds from the second to the last of a budget.

    It fails where the whole interval of its drop lies beyond the tolerance, and passes where it lies within. Over all
    looks together, a model whose drop is within the tolerance fails with a chance of at most ``alpha``, and one whose
    drop is beyond passes with at most that: the looks' shares, which grow with the seeds, add up to ``alpha``, whatever
    hangs together among them (Bonferroni).

    Raises:
        Claf2Error: where there is one seed, or more than the budget; and as ``compare``.
    """
    if not 2 <= len(runs) <= budget:
        raise Claf2Error(f"a gate looks after 2 to {budget} seeds, not after {len(runs)}")
    spent = alpha * (len(runs) - 1) / (budget * (budget - 1) / 2)
    found = compare(baseline, runs, tolerance=tolerance, level=1 - 2 * spent, resamples=resamples, seed=seed)
    if found.p_worse < spent:
        return Look("fail", found, spent)
    if found.p_worse > 1 - spent:
        return Look("pass", found, spent)
    return Look("no evidence" if len(runs) == budget else "undecided", found, spent)


def collapsed(metric: Metric, predictions: Sequence[Prediction], labels: Sequence[str]) -> str | None:
    """Say why a run has learnt nothing, or return ``None``.

    A run has where its score is undefined, where it answers the same to everything that has several answers, or where,
    for labels, it scores no better than the most frequent gold label would.
    """
    if not predictions:
        raise Claf2Error("there are no predictions to judge")
    value = metric.resampler(predictions, labels).value()
    if value is None:
        return "its score is undefined"
    told = {answer for each in predictions for answer in _answers(each.prediction)}
    golds = Counter(answer for each in predictions for answer in _answers(each.gold))
    if len(told) <= 1 < len(golds):
        return f"it answers {', '.join(told) or 'nothing'} to every example"
    if all(isinstance(each.gold, str) for each in predictions):
        majority = Counter(str(each.gold) for each in predictions).most_common(1)[0][0]
        always = [replace(each, prediction=majority) for each in predictions]
        level = metric.resampler(always, labels).value()
        lower = metric.selects in metric.lower_is_better
        if level is not None and (value >= level if lower else value <= level):
            return f"its score, {value:.1f}, is no better than that of always answering {majority!r}, {level:.1f}"
    return None


def _answers(value: Any) -> list[str]:
    return [repr(each) for each in value] if isinstance(value, list) else [repr(value)]
