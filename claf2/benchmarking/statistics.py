"""Confidence intervals and tests for scores of fine-tuned models, from the predictions of several seeds.

The question is how a *model* would score with other seeds and on other examples of the same kind. The mean score over S
seeds varies for two reasons:

- seeds: the sample variance of the single runs' scores, divided by S. It includes the chance by which equally good runs
  get different examples right;
- examples: the variance of the mean in a bootstrap over examples (Efron, 1979) that draws the same resamples for all
  runs, minus the chance that the first term includes already. If that chance is counted twice, as it is when seeds and
  examples are resampled together (Owen, 2007), a test at the 5 % level finds equal models different in only 1 or 2 of
  100 comparisons, and misses real differences.

The half-width of an interval is the root of the sum of the two variances, each multiplied by the square of its own
Student quantile. For normal scores the interval is never too short, however unequal the variances are (Banerjee, 1960);
Satterthwaite's degrees of freedom make it too short with two or three seeds. Seeds are not resampled: resampling S of
them shows only (S - 1) / S of their variance.

With one seed on each side, only the two runs can be compared: by McNemar's exact test where examples are right or
wrong, else by the paired bootstrap. The result says so. Random numbers depend on ``seed`` only.

References:
    Agresti and Coull (1998), Approximate is better than "exact" for interval estimation of binomial proportions. The
        American Statistician 52.
    Banerjee (1960), Approximate confidence interval for linear functions of means of k populations when the population
        variances are not equal. Sankhya 22.
    Efron (1979), Bootstrap methods: another look at the jackknife. Annals of Statistics 7.
    Holm (1979), A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6.
    McNemar (1947), Note on the sampling error of the difference between correlated proportions or percentages.
        Psychometrika 12.
    Owen (2007), The pigeonhole bootstrap. Annals of Applied Statistics 1.
    Welch (1947), The generalization of "Student's" problem when several different population variances are involved.
        Biometrika 34.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import chdtri, nctdtrinc, ndtri, stdtrit
from scipy.stats import binomtest

from claf2.benchmarking.runs import Floats, ScoredRuns, check_same_examples
from claf2.errors import Claf2Error
from claf2.metrics import Resampler

__all__ = [
    "Difference", "ScoreEstimate", "changed_answers_variance", "classify_difference", "compare_runs", "estimate_score",
    "half_width", "holm_correction", "mcnemar_test", "tail_probability",
]  # fmt: skip

Scope: TypeAlias = Literal["runs", "models"]
Verdict: TypeAlias = Literal["better", "worse", "no evidence", "too noisy to tell"]
TestName: TypeAlias = Literal["t", "paired bootstrap", "mcnemar"]

RESAMPLES = 2000
"""The number of bootstrap resamples. The relative error of a standard error is then 1 / sqrt(2 · 2000), below 2 %."""
MAX_COUNTS = 2_000_000
"""The most example counts that are held in memory at once."""
MAX_UNDEFINED = 0.05
"""The largest share of resamples whose score may be undefined. They are left out."""
POWER = 0.8
"""The share of comparisons in which a difference that is called detectable is found."""
MIN_P = 1e-15
"""No p value is reported below this: the tails of the distributions are not accurate further out."""


@dataclass(frozen=True, kw_only=True)
class ScoreEstimate:
    """A mean score, or a difference of two, in points, with its confidence interval."""

    value: float
    se: float
    """The standard error."""
    df: float
    """Satterthwaite's degrees of freedom of ``se``, for information: the interval uses those of each variance."""
    low: float
    """The lower end of the interval, which does not reach beyond the ends of the score's scale."""
    high: float
    level: float
    """The coverage of the interval."""
    about: Scope
    """``models``: the interval holds for other seeds too. ``runs``: one seed each, so it holds for these runs only."""
    seeds: tuple[int, ...]
    """The number of seeds of each model."""
    examples: int
    """The number of examples."""


@dataclass(frozen=True, kw_only=True)
class Difference(ScoreEstimate):
    """By how many points the second model scores higher than the first."""

    p: float
    """Two-sided; the null hypothesis is that there is no difference."""
    p_worse: float
    """One-sided; the null hypothesis is that the second model is worse by no more than ``tolerance``."""
    tolerance: float
    detectable: float
    """The smallest true difference that is found, at ``1 - level``, in 80 of 100 such comparisons."""
    test: TestName
    borrowed: bool
    """One model has one seed, and its variance over seeds was taken from the other model."""
    lower_is_better: bool


@dataclass(frozen=True)
class _Moments:
    """A value and the two terms of its variance."""

    value: float
    seed_variance: float
    seed_df: float
    example_variance: float
    n_examples: int
    n_seeds: tuple[int, ...]
    bounds: tuple[float, float] = (-math.inf, math.inf)
    """The lowest and the highest value there can be."""

    @property
    def example_df(self) -> float:
        return self.n_examples - 1.0

    @property
    def _terms(self) -> list[tuple[float, float]]:
        terms = [(self.seed_variance, self.seed_df), (self.example_variance, self.example_df)]
        return [(variance, df) for variance, df in terms if variance]

    def estimate(self, level: float) -> ScoreEstimate:
        variance, half = self.seed_variance + self.example_variance, self.half_width((1 - level) / 2)
        df = variance**2 / (self.seed_variance**2 / self.seed_df + self.example_variance**2 / self.example_df)
        # A quantile of few seeds is wide, and would reach beyond the end of the scale, where no score can be.
        low = max(self.value - half, min(self.value, self.bounds[0]))
        high = min(self.value + half, max(self.value, self.bounds[1]))
        return ScoreEstimate(
            value=self.value, se=math.sqrt(variance), df=df, low=low, high=high, level=level,
            about="runs" if max(self.n_seeds) == 1 else "models", seeds=self.n_seeds, examples=self.n_examples,
        )  # fmt: skip

    def half_width(self, tail: float) -> float:
        """Return the distance by which the value exceeds the truth with a probability of at most ``tail``."""
        return half_width(self._terms, tail)

    def detectable(self, tail: float) -> float:
        """Return the smallest distance between truth and threshold that a test with this tail finds as often as POWER.

        The power of a t test is that of a noncentral t distribution; ``nctdtrinc`` solves it for the noncentrality.
        """
        # A variance estimated from few seeds lies below the true one more often than not, so that a test planned with
        # it would promise too much. Dividing by the median of its chi-squared distribution makes both equally likely.
        return math.sqrt(
            sum(
                variance * df / float(chdtri(df, 0.5)) * float(nctdtrinc(df, 1 - POWER, -stdtrit(df, tail))) ** 2
                for variance, df in self._terms
            )
        )

    def tail_probability(self, distance: float) -> float:
        """Return the probability that the value exceeds the truth by at least ``distance``: the inverse of
        ``half_width``."""
        return tail_probability(self._terms, distance)


def half_width(terms: Sequence[tuple[float, float]], tail: float) -> float:
    """Return the distance by which a value exceeds the truth with a probability of at most ``tail``.

    Args:
        terms: the parts of the value's variance, each with its degrees of freedom.
        tail: the probability.
    """
    # Banerjee (1960): each variance with the quantile of its own degrees of freedom, not one pooled quantile.
    return math.sqrt(sum(variance * float(stdtrit(df, tail)) ** 2 for variance, df in terms))


def tail_probability(terms: Sequence[tuple[float, float]], distance: float) -> float:
    """Return the probability that a value exceeds the truth by at least ``distance``: the inverse of ``half_width``."""
    if distance <= 0:
        return 0.5 if distance == 0 else 1.0 - tail_probability(terms, -distance)
    if half_width(terms, MIN_P) <= distance:
        return MIN_P
    # A sum of t quantiles has no inverse in closed form. On a log scale the root is found for tiny p values too.
    log_p = brentq(lambda log: half_width(terms, math.exp(log)) - distance, math.log(MIN_P), math.log(0.5))
    return math.exp(log_p)


def changed_answers_variance(alpha: float, examples: int, scale: float = 100.0) -> float:
    """Return the variance of z² changed answers, which Agresti and Coull (1998) add for proportions.

    A bootstrap of a few changed answers gives too short an interval, since other examples may change other answers. A
    test that must show that a score has not dropped would therefore pass too often.

    Args:
        alpha: the error rate of the test; z is its quantile.
        examples: the number of examples.
        scale: see ``ScoredRuns.scale``.
    """
    return (float(ndtri(alpha)) * scale / examples) ** 2


def _combine(
    signed_models: Sequence[tuple[float, ScoredRuns]], resamples: int, seed: int, added: float = 0.0
) -> _Moments:
    """Return the sum of the models' mean scores, each multiplied by its sign, and the variance of the sum, to which
    ``added`` is added."""
    models = [runs for _, runs in signed_models]
    n_seeds, n = tuple(len(runs) for runs in models), len(models[0].examples)
    value = float(sum(sign * runs.scores.mean() for sign, runs in signed_models))
    ends_of_scale = [sorted((sign * runs.bounds[0], sign * runs.bounds[1])) for sign, runs in signed_models]
    bounds = (sum(low for low, _ in ends_of_scale), sum(high for _, high in ends_of_scale))
    # One bootstrap for all runs of all models: differences are paired, since every run sees the same resamples.
    covariance = _bootstrap_covariance([resampler for runs in models for resampler in runs.resamplers], resamples, seed)
    weights = np.repeat([sign / size for (sign, _), size in zip(signed_models, n_seeds, strict=True)], n_seeds)
    total = float(weights @ covariance @ weights)
    # If the models agree on every example, or one is right on all, the bootstrap shows no variance, which no finite
    # sample can prove. The score of one example, the resolution of a score, is then the least standard error.
    floor = (models[0].scale / n) ** 2
    if max(n_seeds) == 1:
        return _Moments(value, 0.0, math.inf, max(total, floor) + added, n, n_seeds, bounds)
    ends = np.cumsum(n_seeds)
    blocks = [covariance[end - size : end, end - size : end] for end, size in zip(ends, n_seeds, strict=True)]
    # For each model: the variance over seeds of one run's score, and the share of it that is the chance of examples.
    run_variances = [
        (float(runs.scores.var(ddof=1)), _unshared_variance(block)) if len(runs) > 1 else None
        for runs, block in zip(models, blocks, strict=True)
    ]
    # A single seed shows no variance over seeds; that of the other model is the best guess (``Difference.borrowed``).
    known = next(variances for variances in run_variances if variances is not None)
    terms = [np.array(variances or known) / size for variances, size in zip(run_variances, n_seeds, strict=True)]
    seed_variance, chance = np.sum(terms, axis=0).tolist()
    if None in run_variances:
        seed_df = max(n_seeds) - 1.0
    else:  # Welch (1947): the two models need not vary equally over seeds
        denominator = float(sum(term[0] ** 2 / (size - 1) for term, size in zip(terms, n_seeds, strict=True)))
        seed_df = seed_variance**2 / denominator if denominator else float(sum(n_seeds) - len(n_seeds))
    # The chance of examples is in the variance over seeds already, and must not be counted again.
    example_variance = max(total - chance, floor - seed_variance, 0.0) + added
    return _Moments(value, seed_variance, seed_df, example_variance, n, n_seeds, bounds)


def _unshared_variance(covariance: Floats) -> float:
    """Return the variance over examples that a run does not share with the other runs of its model: the mean of the
    diagonal of the runs' covariance, minus the mean off the diagonal."""
    size = len(covariance)
    diagonal = float(np.trace(covariance)) / size
    return diagonal - (float(covariance.sum()) - diagonal * size) / (size * (size - 1))


def _bootstrap_covariance(resamplers: Sequence[Resampler], resamples: int, seed: int) -> Floats:
    """Return the covariance over examples of the runs' scores, [runs, runs], by a bootstrap (Efron, 1979)."""
    rng = np.random.default_rng(seed)
    n = resamplers[0].size
    rows = max(1, MAX_COUNTS // n)
    chunks = []
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        # One bincount for all resamples of the chunk: those of resample r are counted in the bins r · n to r · n + n.
        indices = rng.integers(0, n, size=(size, n)) + n * np.arange(size)[:, None]
        counts = np.bincount(indices.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)
        chunks.append(np.stack([resampler.scores(counts) for resampler in resamplers], axis=1))
    scores = np.concatenate(chunks)
    defined = np.isfinite(scores).all(axis=1)
    if (undefined := int((~defined).sum())) > MAX_UNDEFINED * resamples:
        raise Claf2Error(f"the score is undefined in {undefined} of {resamples} resamples: {n} examples are too few")
    # Resamples vary around the mean of the sample, not around the true mean, so their variance is too small by
    # (n - 1) / n: the usual correction of a variance, which a bootstrap does not make by itself.
    covariance: Floats = np.atleast_2d(np.cov(scores[defined], rowvar=False)) * n / (n - 1)
    return covariance


def estimate_score(
    runs: ScoredRuns, *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> ScoreEstimate:
    """Return the score of a model, the mean over its seeds, with its confidence interval."""
    return _combine([(1.0, runs)], resamples, seed).estimate(level)


def compare_runs(
    first: ScoredRuns, second: ScoredRuns, *, tolerance: float = 0.0, level: float = 0.95,
    resamples: int = RESAMPLES, seed: int = 0, for_noninferiority: bool = False,
) -> Difference:  # fmt: skip
    """Return by how much the second model scores higher than the first, and whether that may be chance.

    The seeds of the two models are taken as independent. If runs that share a seed vary together, the test is stricter
    than its level.

    Args:
        first: the model compared with, such as a baseline.
        second: the model under test.
        tolerance: by how much the second model may be worse, in the unit of the score.
        level: the coverage of the interval.
        resamples: how many bootstrap resamples of the examples are drawn.
        seed: of the bootstrap.
        for_noninferiority: whether the result is to show that the second model is not worse. The variance is then
            larger (``changed_answers_variance``).

    Raises:
        Claf2Error: if the examples differ, a score is undefined, or the tolerance is negative.
    """
    check_same_examples(first.examples, second.examples, "the second model")
    if tolerance < 0 or not math.isfinite(tolerance):
        raise Claf2Error(f"the tolerance must be 0 points or more, got {tolerance}")
    tail = (1 - level) / 2
    added = changed_answers_variance(tail, len(first.examples), first.scale) if for_noninferiority else 0.0
    moments = _combine([(-1.0, first), (1.0, second)], resamples, seed, added)
    drop = moments.value if second.lower_is_better else -moments.value
    p = min(1.0, 2 * moments.tail_probability(abs(moments.value)))
    p_worse = moments.tail_probability(drop - tolerance)
    test: TestName = "t" if max(moments.n_seeds) > 1 else "paired bootstrap"
    first_right, second_right = first.resamplers[0].right, second.resamplers[0].right
    if test != "t" and first_right is not None and second_right is not None:
        # Two runs of an accuracy: McNemar's test is exact. It has no form with a tolerance, where the bootstrap stays.
        test, p = "mcnemar", mcnemar_test(first_right, second_right)
        p_worse = p_worse if tolerance else mcnemar_test(first_right, second_right, alternative="less")
    return Difference(
        **vars(moments.estimate(level)), p=p, p_worse=p_worse, tolerance=tolerance, test=test,
        detectable=moments.detectable(tail), borrowed=min(moments.n_seeds) == 1 < max(moments.n_seeds),
        lower_is_better=second.lower_is_better,
    )  # fmt: skip


def mcnemar_test(
    first: NDArray[np.bool_], second: NDArray[np.bool_], *, alternative: Literal["two-sided", "less"] = "two-sided"
) -> float:
    """Return the p value of McNemar's test (1947) in its exact, binomial form.

    Args:
        first: which examples the first run has right, [examples].
        second: the same for the second run.
        alternative: ``less`` tests whether the second run has fewer examples right.
    """
    gained, lost = int((~first & second).sum()), int((first & ~second).sum())
    # Examples on which the runs agree say nothing about their difference: only the others are counted.
    return float(binomtest(gained, gained + lost, alternative=alternative).pvalue) if gained + lost else 1.0


def holm_correction(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p values corrected for multiple testing (Holm, 1979).

    Held against a level, the corrected values bound the probability of one or more false alarms among all tests,
    whatever the dependence between them. Holm's procedure rejects whatever Bonferroni's does, and more.

    Raises:
        Claf2Error: if a value is not between 0 and 1.
    """
    for name, p in p_values.items():
        if not 0 <= p <= 1:
            raise Claf2Error(f"{name}: {p} is not a p value")
    corrected, largest = {}, 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        # The running maximum keeps the order: no test may be significant after a smaller p value was not.
        largest = max(largest, min(1.0, p * (len(p_values) - rank)))
        corrected[name] = largest
    return {name: corrected[name] for name in p_values}


def classify_difference(difference: Difference, *, p: float | None = None, margin: float = 2.0) -> Verdict:
    """Return the verdict of a comparison.

    Args:
        difference: the comparison.
        p: its p value corrected for other tests (``holm_correction``); its own by default.
        margin: if nothing was found, and a difference of this many points would often be missed too, the verdict is
            ``too noisy to tell``: the absence of evidence is then no evidence of absence.
    """
    if (difference.p if p is None else p) < 1 - difference.level and difference.value:
        return "better" if (difference.value > 0) != difference.lower_is_better else "worse"
    return "too noisy to tell" if difference.detectable > margin else "no evidence"
