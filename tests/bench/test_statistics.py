"""Comparisons of models: against scipy and by hand, and on simulated models whose differences are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from claf2.benchmarking import statistics
from claf2.benchmarking.comparison import compare_models
from claf2.benchmarking.interim import InterimAnalysis, interim_test
from claf2.benchmarking.runs import ScoredRuns, collapse_reason, load_runs
from claf2.benchmarking.statistics import (
    Difference,
    classify_difference,
    compare_runs,
    estimate_score,
    holm_correction,
    mcnemar_test,
)
from claf2.errors import Claf2Error, RunError
from claf2.metrics import Metric, Prediction, Resampler, f1, metrics, share

Flags = NDArray[np.bool_]


def examples(n: int) -> tuple[tuple[str, Any], ...]:
    return tuple((str(index), 0) for index in range(n))


def fixed(*scores: float, n: int = 2000) -> ScoredRuns:
    """ScoredRuns whose score does not depend on the examples."""
    return ScoredRuns(
        examples(n),
        tuple(Resampler(lambda counts, score=score: np.full(len(counts), score), n) for score in scores),
    )


def shares(*runs: Sequence[float] | Flags) -> ScoredRuns:
    return ScoredRuns(examples(len(runs[0])), tuple(share(run) for run in runs))


def predictions(gold: Sequence[Any], predicted: Sequence[Any]) -> list[Prediction]:
    return [Prediction(str(n), g, p) for n, (g, p) in enumerate(zip(gold, predicted, strict=True))]


# By hand and by scipy


def test_mcnemar_by_hand() -> None:
    before = np.array([True] * 1 + [False] * 9 + [True] * 50)
    after = np.array([False] * 1 + [True] * 9 + [True] * 50)
    assert mcnemar_test(before, after) == pytest.approx(2 * (1 + 10) / 2**10)
    assert mcnemar_test(after, before, alternative="less") == pytest.approx((1 + 10) / 2**10)
    assert mcnemar_test(before, before) == 1.0


def test_two_runs_of_an_accuracy_are_compared_by_mcnemar_and_only_they() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.random(300) < 0.8, rng.random(300) < 0.7
    difference = compare_runs(shares(before), shares(after))
    assert (difference.test, difference.about, difference.seeds) == ("mcnemar", "runs", (1, 1))
    assert difference.p == mcnemar_test(before, after)
    assert difference.p_worse == mcnemar_test(before, after, alternative="less")
    assert compare_runs(shares(before), shares(after), tolerance=1.0).p_worse > difference.p_worse


def test_two_other_runs_are_compared_by_a_paired_bootstrap() -> None:
    rng = np.random.default_rng(1)
    before = rng.random(500)
    after = np.clip(before + rng.normal(0.01, 0.1, 500), 0, 1)
    difference = compare_runs(shares(before), shares(after))
    t = stats.ttest_rel(after, before)
    assert (difference.test, difference.about) == ("paired bootstrap", "runs")
    assert difference.value == pytest.approx(100 * (after - before).mean())
    assert difference.se == pytest.approx(100 * stats.sem(after - before), rel=0.06)
    assert difference.p == pytest.approx(t.pvalue, rel=0.3)
    assert (difference.high - difference.low) / 2 == pytest.approx(difference.se * stats.t.isf(0.025, 499))


def test_seeds_are_compared_by_welch_where_examples_do_not_matter() -> None:
    first, second = (80.0, 81.5, 82.0), (83.0, 83.2, 84.5, 82.1, 83.0)
    difference = compare_runs(fixed(*first), fixed(*second), tolerance=1.0)
    t = stats.ttest_ind(second, first, equal_var=False)
    assert (difference.test, difference.about, difference.borrowed) == ("t", "models", False)
    assert (difference.p, difference.df) == (pytest.approx(t.pvalue, rel=1e-6), pytest.approx(t.df))
    assert {type(getattr(difference, name)) for name in ("value", "se", "df", "low", "p", "detectable")} == {float}
    low, high = t.confidence_interval(0.95)
    assert (difference.low, difference.high) == (pytest.approx(low), pytest.approx(high))
    shifted = stats.ttest_ind([score + 1 for score in second], first, equal_var=False, alternative="less")
    assert difference.p_worse == pytest.approx(shifted.pvalue, rel=1e-6)
    likely = difference.se * math.sqrt(t.df / stats.chi2.median(t.df))
    assert stats.nct.sf(stats.t.isf(0.025, t.df), t.df, difference.detectable / likely) == pytest.approx(0.8)


def test_one_seed_borrows_the_spread_of_the_other_model() -> None:
    others = (83.0, 83.2, 84.5, 82.1, 83.0)
    for difference in (compare_runs(fixed(81.0), fixed(*others)), compare_runs(fixed(*others), fixed(81.0))):
        se = math.sqrt(np.var(others, ddof=1) * (1 + 1 / 5))
        assert (difference.about, difference.borrowed, difference.df) == ("models", True, pytest.approx(4))
        assert difference.se == pytest.approx(se)
        assert difference.p == pytest.approx(2 * stats.t.sf(abs(difference.value) / se, 4))


def test_seeds_that_agree_leave_the_examples() -> None:
    rng = np.random.default_rng(2)
    before, after = rng.random(400), rng.random(400)
    difference = compare_runs(shares(*[before] * 3), shares(*[after] * 3))
    assert difference.about == "models"
    assert difference.se == pytest.approx(100 * stats.sem(after - before), rel=0.06)
    assert difference.df == pytest.approx(399)


def test_both_parts_take_their_own_quantiles() -> None:
    moments = statistics._Moments(3.0, 1.0, 2.0, 0.5, 300, (3, 3))
    for tail in (0.001, 0.025, 0.2):
        half_width = math.sqrt(stats.t.isf(tail, 2) ** 2 + 0.5 * stats.t.isf(tail, 299) ** 2)
        assert moments.half_width(tail) == pytest.approx(half_width)
        assert moments.tail_probability(half_width) == pytest.approx(tail)
        assert moments.tail_probability(-half_width) == pytest.approx(1 - tail)


def test_a_score_has_an_interval_over_seeds_and_examples() -> None:
    estimate = estimate_score(fixed(80.0, 81.0, 83.0))
    sem = stats.sem([80.0, 81.0, 83.0])
    assert (estimate.value, estimate.se, estimate.df) == (pytest.approx(244 / 3), pytest.approx(sem), pytest.approx(2))
    assert estimate.high - estimate.value == pytest.approx(sem * stats.t.isf(0.025, 2))
    right = np.random.default_rng(3).random(600) < 0.8
    alone = estimate_score(shares(right))
    assert (alone.about, alone.seeds, alone.examples) == ("runs", (1,), 600)
    assert alone.se == pytest.approx(100 * stats.sem(right), rel=0.06)


def test_the_same_seed_gives_the_same_numbers_however_they_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    first, second = shares(*rng.random((2, 200))), shares(*rng.random((3, 200)))
    difference = compare_runs(first, second, seed=5)
    assert compare_runs(first, second, seed=5) == difference
    assert compare_runs(first, second, seed=6) != difference
    monkeypatch.setattr(statistics, "MAX_COUNTS", 1700)
    assert compare_runs(first, second, seed=5) == difference


@pytest.mark.parametrize(("first", "second"), [(1, 1), (1, 3), (4, 4)])
def test_identical_predictions_do_not_differ(first: int, second: int) -> None:
    for right in (np.arange(50) % 3 > 0, np.ones(50, dtype=bool), np.linspace(0, 1, 50)):
        difference = compare_runs(shares(*[right] * first), shares(*[right] * second))
        assert (difference.value, difference.p) == (0.0, 1.0)
        assert difference.low <= 0 <= difference.high
        assert difference.detectable > 0
        assert classify_difference(difference, margin=100) == "no evidence"


def test_nothing_is_known_better_than_to_one_example() -> None:
    """All examples differ in the same way, so that resamples do not vary, and yet three examples are no proof."""
    nothing, everything = np.zeros(3), np.ones(3)
    difference = compare_runs(shares(nothing, nothing), shares(everything, everything))
    assert difference.se == pytest.approx(100 / 3)
    assert difference.p > 0.05


def test_few_changed_answers_do_not_show_that_a_model_is_not_worse() -> None:
    """That none of 200 answers changed does not exclude a loss of one in a hundred; of 2,000 it does."""
    for n, shown in ((200, False), (2000, True)):
        same = shares(*[[1.0] * n] * 3)
        assert compare_runs(same, same, tolerance=1.0, level=0.9).p_worse > 0.95
        difference = compare_runs(same, same, tolerance=1.0, level=0.9, for_noninferiority=True)
        assert (difference.p_worse > 0.95) == shown
        alone = shares([1.0] * n)
        assert (compare_runs(alone, alone, tolerance=1.0, level=0.9, for_noninferiority=True).p_worse > 0.95) == shown


def language_model(*nats: float, n: int = 40) -> ScoredRuns:
    """Runs of a language model that loses about so many nats a byte."""
    metric = metrics.get("causal_lm")()
    rows = [
        [
            Prediction(str(row), {"tokens": 10, "bytes": 30}, {"nats": 30 * (loss + 0.02 * math.sin(row)), "right": 5})
            for row in range(n)
        ]
        for loss in nats
    ]
    return ScoredRuns.from_predictions(metric, rows, ())


def test_a_score_without_an_upper_end_has_points_of_its_own_size() -> None:
    first, second = language_model(0.80, 0.82), language_model(1.10, 1.12)
    assert first.scale == pytest.approx(0.81, abs=0.01)
    difference = compare_runs(first, second)
    assert difference.p < 0.01
    assert classify_difference(difference) == "worse"
    assert difference.detectable < 0.2
    assert fixed(80.0, 81.0).scale == 100.0


def test_holm_by_hand() -> None:
    assert holm_correction({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm_correction({"a": 0.5, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert list(holm_correction({"b": 0.2, "a": 0.1})) == ["b", "a"]
    assert holm_correction({}) == {}
    with pytest.raises(Claf2Error, match="a: nan is not a p value"):
        holm_correction({"a": float("nan")})


def test_verdicts() -> None:
    difference = compare_runs(fixed(80.0, 80.1, 80.2), fixed(83.0, 83.1, 83.2))
    assert classify_difference(difference) == "better"
    assert classify_difference(replace(difference, lower_is_better=True)) == "worse"
    assert classify_difference(compare_runs(fixed(83.0, 83.1), fixed(80.0, 80.1))) == "worse"
    assert classify_difference(difference, p=0.2) == "no evidence"
    noisy = compare_runs(fixed(80.0, 84.0, 82.0), fixed(81.0, 85.0, 82.0))
    assert classify_difference(noisy) == "too noisy to tell"
    assert classify_difference(noisy, margin=50) == "no evidence"


def test_less_may_be_better() -> None:
    first, second = fixed(80.0, 80.1, 80.2), fixed(83.0, 83.1, 83.2)
    assert compare_runs(first, second).p_worse > 0.99
    assert compare_runs(replace(first, lower_is_better=True), replace(second, lower_is_better=True)).p_worse < 0.01


# The gate


def test_a_gate_spends_its_error_rate_once() -> None:
    analyses = [
        interim_test(fixed(80.0, 80.5), fixed(*range(80, 80 + s)), budget=5, tolerance=1.0) for s in (2, 3, 4, 5)
    ]
    assert sum(analysis.alpha for analysis in analyses) == pytest.approx(0.05)
    for analysis in analyses:
        assert analysis.difference.level == pytest.approx(1 - 2 * analysis.alpha)


def test_a_gate_decides() -> None:
    baseline = fixed(80.0, 80.1, 80.2, 80.1, 80.0)

    def decide(*scores: float, tolerance: float = 1.0) -> str:
        analysis = interim_test(baseline, fixed(*scores), budget=3, tolerance=tolerance)
        drop = (-analysis.difference.high, -analysis.difference.low)
        assert (analysis.decision == "fail") == (drop[0] > tolerance)
        assert (analysis.decision == "pass") == (drop[1] < tolerance)
        return analysis.decision

    assert decide(70.0, 70.1, 70.2) == "fail"
    assert decide(80.0, 80.1, 80.2) == "pass"
    assert decide(78.0, 80.0) == "undecided"
    assert decide(78.0, 79.0, 80.0) == "no evidence"
    for wrong in ((80.0,), (80.0,) * 4):
        with pytest.raises(Claf2Error, match="tests after 2 to 3 seeds"):
            decide(*wrong)


# What is refused


def test_other_examples_are_refused() -> None:
    accuracy = metrics.get("accuracy")()
    gold, predicted = ["a", "b", "a"], ["a", "b", "b"]
    runs = ScoredRuns.from_predictions(accuracy, [predictions(gold, predicted)], ["a", "b"])
    assert (runs.scores.tolist(), len(runs)) == ([pytest.approx(200 / 3)], 1)
    moved = [replace(prediction, id=f"x{prediction.id}") for prediction in predictions(gold, predicted)]
    with pytest.raises(Claf2Error, match=r"run 2 has example 'x0' where the first has '0'"):
        ScoredRuns.from_predictions(accuracy, [predictions(gold, predicted), moved], ["a", "b"])
    with pytest.raises(Claf2Error, match="the second model has example 'x0'"):
        compare_runs(runs, ScoredRuns.from_predictions(accuracy, [moved], ["a", "b"]))
    with pytest.raises(Claf2Error, match="run 2 has predictions for 2 examples, the first for 3"):
        ScoredRuns.from_predictions(
            accuracy, [predictions(gold, predicted), predictions(gold[:2], predicted[:2])], ["a", "b"]
        )
    with pytest.raises(Claf2Error, match=r"run 2 has gold 'b' for example '0', not 'a': the data differ"):
        ScoredRuns.from_predictions(
            accuracy, [predictions(gold, predicted), predictions(["b", "b", "a"], predicted)], ["a", "b"]
        )


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: ScoredRuns.from_predictions(metrics.get("accuracy")(), [], ["a"]), "at least one seed"),
        (lambda: ScoredRuns.from_predictions(metrics.get("accuracy")(), [[]], ["a"]), "no predictions"),
        (lambda: ScoredRuns((("0", "a"), ("1", None)), (share([1.0, 0.0]),)), "without a gold answer"),
        (lambda: shares([1.0]), "got 1 examples"),
        (lambda: ScoredRuns(examples(3), (share([1.0, 0.0]),)), "for all 3 examples"),
        (lambda: compare_runs(fixed(80.0), fixed(80.0), tolerance=-1.0), "0 points or more, got -1.0"),
        (lambda: compare_runs(fixed(80.0), fixed(80.0), tolerance=math.nan), "0 points or more, got nan"),
        (lambda: compare_runs(fixed(80.0), fixed(80.0, math.nan)), "the score of run 2 of 2 is undefined"),
    ],
)
def test_what_says_nothing_is_refused(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(Claf2Error, match=message):
        ask()


def test_scores_undefined_in_many_resamples_are_refused() -> None:
    pearson = metrics.get("pearson")()
    few = ScoredRuns.from_predictions(pearson, [predictions([1.0, 1.0, 1.0, 2.0], [0.0, 1.0, 2.0, 3.0])], ())
    with pytest.raises(Claf2Error, match=r"undefined in .* of 2000 resamples: 4 examples are too few"):
        compare_runs(few, few)


# Collapsed seeds


@pytest.mark.parametrize(
    ("metric", "gold", "predicted", "reason"),
    [
        ("accuracy", "aab", "aaa", "it answers 'a' to every example"),
        ("accuracy", "aaab", "abba", "its score, 25.0, is no better than that of always answering 'a', 75.0"),
        ("accuracy", "aabb", "abab", "its score, 50.0, is no better than that of always answering 'a', 50.0"),
        ("accuracy", "aabb", "aaab", None),
        ("accuracy", "aaaa", "aaaa", "its score, 100.0, is no better"),
        ("matthews", "aabb", "abab", "its score, 0.0, is no better"),
        ("pearson", [1.0, 2.0, 3.0], [2.0, 2.0, 2.0], "its score is undefined"),
        ("pearson", [1.0, 2.0, 3.0], [1.0, 2.0, 2.0], None),
        ("squad", [["a"], ["b"]], ["", ""], "it answers '' to every example"),
        ("squad", [["a"], ["b"]], ["", "c"], None),
        ("seqeval", [["B-X", "O"], ["O"]], [["O", "O"], ["O"]], "it answers 'O' to every example"),
        ("wos", [["s-a-1"], ["s-b-1"]], [[], []], "it answers nothing to every example"),
    ],
)
def test_collapsed_seeds_are_seen(
    metric: str, gold: Sequence[Any], predicted: Sequence[Any], reason: str | None
) -> None:
    kind: Metric = metrics.get(metric)()
    actual = collapse_reason(kind, predictions(list(gold), list(predicted)), ["a", "b"])
    assert actual is None if reason is None else (actual or "").startswith(reason)


def test_no_predictions_are_no_collapse() -> None:
    with pytest.raises(Claf2Error, match="no predictions"):
        collapse_reason(metrics.get("accuracy")(), [], ["a"])


# Simulated models. A run has an example right if the sum of four normal terms is above 0: how easy the example is, an
# effect of the model on the example, an effect of the seed on the whole run, and noise. Equal models have the same
# expected score, whatever the effects.

CHURN = 0.5
RESAMPLES = 150


def draw(
    rng: np.random.Generator,
    ease: NDArray[np.float64],
    seeds: int,
    *,
    shift: float = 0.0,
    seed_effect: float,
    model_effect: float,
) -> Flags:
    """Return which examples the runs of one model have right, [seeds, examples]."""
    n = len(ease)
    model_terms = rng.normal(0, model_effect, n) if model_effect else 0.0
    latent = ease + shift + model_terms + rng.normal(0, seed_effect, (seeds, 1)) + rng.normal(0, CHURN, (seeds, n))
    return np.asarray(latent > 0)


def runs_of(kind: str, right: Flags, gold: Flags) -> ScoredRuns:
    if kind == "accuracy":
        return ScoredRuns(examples_of(right.shape[1]), tuple(share(run) for run in right))
    predicts_positive = right == gold
    resamplers = tuple(
        f1((gold & claims)[:, None], np.add(gold, claims, dtype=float)[:, None]) for claims in predicts_positive
    )
    return ScoredRuns(examples_of(right.shape[1]), resamplers)


@cache
def examples_of(n: int) -> tuple[tuple[str, Any], ...]:
    return examples(n)


def pair(
    rng: np.random.Generator, kind: str, n: int, seeds: tuple[int, int], *, start: float = 0.0, shift: float = 0.0,
    seed_effect: float = 0.05, model_effect: float = 0.0,
) -> tuple[ScoredRuns, ScoredRuns]:  # fmt: skip
    ease, gold = rng.normal(1.0, 1.0, n), rng.random(n) < 0.33
    first = draw(rng, ease, seeds[0], shift=start, seed_effect=seed_effect, model_effect=model_effect)
    second = draw(rng, ease, seeds[1], shift=shift, seed_effect=seed_effect, model_effect=model_effect)
    return runs_of(kind, first, gold), runs_of(kind, second, gold)


def comparisons(times: int, kind: str, n: int, seeds: tuple[int, int], **how: float) -> list[Difference]:
    rng = np.random.default_rng(n)
    return [
        compare_runs(*pair(rng, kind, n, seeds, **how), resamples=RESAMPLES, seed=repetition)
        for repetition in range(times)
    ]


def most(times: int, rate: float) -> float:
    """Return the share of false alarms that a test of this rate exceeds in one of 2000 cases only."""
    return float(stats.binom.ppf(0.9995, times, rate)) / times


SETTINGS = [
    (kind, n, seeds, seed_effect, model_effect)
    for n, seeds, seed_effect, model_effect in [
        (277, (1, 5), 0.05, 0.0), (277, (3, 3), 0.05, 0.0), (277, (5, 5), 0.05, 0.0), (277, (2, 4), 0.2, 0.3),
        (1000, (1, 5), 0.05, 0.0), (1000, (3, 3), 0.05, 0.0), (1000, (5, 5), 0.02, 0.8),
    ]
    for kind in ("accuracy", "f1")
]  # fmt: skip


@cache
def under_no_difference(setting: tuple[str, int, tuple[int, int], float, float]) -> tuple[Difference, ...]:
    kind, n, seeds, seed_effect, model_effect = setting
    return tuple(
        comparisons(400 if n == 277 else 150, kind, n, seeds, seed_effect=seed_effect, model_effect=model_effect)
    )


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_false_alarms_of_equal_models(setting: tuple[str, int, tuple[int, int], float, float]) -> None:
    differences = under_no_difference(setting)
    for level in (0.05, 0.01):
        alarms = np.mean([difference.p < level for difference in differences])
        assert alarms <= most(len(differences), level), f"{alarms:.3f} at {level}"
    se = math.sqrt(np.mean([difference.se**2 for difference in differences]))
    assert se == pytest.approx(np.std([difference.value for difference in differences]), rel=0.2)


def test_the_tests_are_not_much_stricter_than_they_say() -> None:
    """With three seeds (Welch) and chance counted once, 3 to 5 of 100 are false alarms."""
    p = [difference.p for setting in SETTINGS for difference in under_no_difference(setting)]
    assert 0.03 <= np.mean(np.array(p) < 0.05) <= 0.05


def test_two_runs_of_equal_worth() -> None:
    """If the seed has no effect, a run is its model, and the test of two runs holds its level."""
    for kind in ("accuracy", "f1"):
        differences = comparisons(500, kind, 277, (1, 1), seed_effect=0.0)
        alarms = np.mean([difference.p < 0.05 for difference in differences])
        assert 0.01 <= alarms <= most(500, 0.05), (kind, alarms)


def test_runs_are_not_models() -> None:
    """If the seed has an effect, two runs differ more often than their models: hence ``about``."""
    differences = comparisons(200, "accuracy", 277, (1, 1), seed_effect=0.2)
    assert {difference.about for difference in differences} == {"runs"}
    assert np.mean([difference.p < 0.05 for difference in differences]) > 0.3


def test_false_alarms_of_a_family_of_tasks() -> None:
    rng = np.random.default_rng(7)
    tasks = [("accuracy", 277), ("f1", 277), ("accuracy", 400)]
    alarms, bare = 0, 0
    for repetition in range(400):
        p = {
            f"{kind} {n}": compare_runs(*pair(rng, kind, n, (5, 5)), resamples=RESAMPLES, seed=repetition).p
            for kind, n in tasks
        }
        alarms += min(holm_correction(p).values()) < 0.05
        bare += min(p.values()) < 0.05
    assert 0.01 <= alarms / 400 <= most(400, 0.05)
    assert bare / 400 > most(400, 0.05)  # uncorrected, it would not hold


def shift_to(accuracy: float, seed_effect: float = 0.05) -> float:
    """Return the shift that gives an expected accuracy, in percent."""
    return float(stats.norm.ppf(accuracy / 100) * math.sqrt(1 + CHURN**2 + seed_effect**2) - 1)


@pytest.mark.parametrize(("n", "seeds"), [(277, (5, 5)), (277, (1, 5)), (1000, (3, 3))])
def test_a_detectable_difference_is_found_as_often_as_claimed(n: int, seeds: tuple[int, int]) -> None:
    level = {"start": shift_to(80), "shift": shift_to(80)}
    claimed = float(
        np.median([difference.detectable for difference in comparisons(150, "accuracy", n, seeds, **level)])
    )
    apart = {"start": shift_to(80 + claimed / 2), "shift": shift_to(80 - claimed / 2)}
    differences = comparisons(250, "accuracy", n, seeds, **apart)
    power = np.mean([difference.p < 0.05 and difference.value < 0 for difference in differences])
    assert 0.70 <= power <= 0.88, f"{power:.3f} of drops by {claimed:.2f}"
    assert np.mean([difference.value for difference in differences]) == pytest.approx(-claimed, abs=0.5)


def test_intervals_cover_the_truth() -> None:
    truth = 100 * stats.norm.cdf(1 / math.sqrt(1 + CHURN**2 + 0.1**2))
    rng = np.random.default_rng(8)
    covered = 0
    for repetition in range(400):
        right = draw(rng, rng.normal(1.0, 1.0, 277), 3, seed_effect=0.1, model_effect=0.0)
        estimate = estimate_score(runs_of("accuracy", right, right[0]), resamples=RESAMPLES, seed=repetition)
        covered += estimate.low <= truth <= estimate.high
    assert 1 - covered / 400 <= most(400, 0.05)
    assert covered < 400


def gates(times: int, drop: float, tolerance: float, *, baseline: int = 5, budget: int = 5) -> list[InterimAnalysis]:
    """Return the decision of repetition of so many gates, repetition with a look after every seed until it decides."""
    rng = np.random.default_rng(9)
    level, analyses = {"start": shift_to(80 + drop / 2), "shift": shift_to(80 - drop / 2)}, []
    for repetition in range(times):
        first, second = pair(rng, "accuracy", 277, (baseline, budget), **level)
        for seeds in range(2, budget + 1):
            so_far = replace(second, resamplers=second.resamplers[:seeds])
            analysis = interim_test(
                first, so_far, budget=budget, tolerance=tolerance, resamples=RESAMPLES, seed=repetition
            )
            if analysis.decision in ("pass", "fail"):
                break
        analyses.append(analysis)
    return analyses


def rate(analyses: Sequence[InterimAnalysis], decision: str) -> float:
    return sum(analysis.decision == decision for analysis in analyses) / len(analyses)


def test_a_gate_holds_its_error_rate_over_all_its_analyses() -> None:
    """Exactly at the tolerance either decision is wrong, and all analyses together err at most at the level."""
    analyses = gates(300, drop=3.0, tolerance=3.0)
    assert rate(analyses, "fail") <= most(300, 0.05)
    assert rate(analyses, "pass") <= most(300, 0.05)
    assert rate(analyses, "fail") + rate(analyses, "pass") >= 0.01
    assert rate(analyses, "undecided") == 0.0


def test_a_gate_finds_what_it_claims_to() -> None:
    claimed = float(np.median([analysis.difference.detectable for analysis in gates(100, drop=0.0, tolerance=0.0)]))
    analyses = gates(200, drop=claimed, tolerance=0.0)
    assert rate(analyses, "fail") >= 0.75, claimed
    assert rate(analyses, "pass") <= most(200, 0.05)
    early = [analysis.difference.seeds[1] < 5 for analysis in analyses if analysis.decision == "fail"]
    assert any(early)


def test_a_run_is_not_compared_with_itself(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is given twice: name two folders"):
        compare_models(tmp_path, tmp_path / "x" / "..")


def test_an_interval_ends_where_the_scale_does() -> None:
    gold = ["0", "1"] * 30
    apart = [predictions(gold, gold), predictions(gold, gold), predictions(gold, gold[1:] + gold[:1])]
    for name, ends in (("accuracy", (0.0, 100.0)), ("matthews", (-100.0, 100.0))):
        runs = ScoredRuns.from_predictions(metrics.get(name)(), apart, "01")
        estimate, difference = estimate_score(runs), compare_runs(runs, runs)
        assert (estimate.low, estimate.high) == ends
        assert estimate.se * 2 > ends[1] - estimate.value  # without the ends, the interval would be longer
        length = ends[1] - ends[0]
        assert (difference.low, difference.high) == (-length, length)
    unlimited = estimate_score(fixed(90.0, 100.0, 110.0))
    assert unlimited.high > 110.0


def test_an_answer_is_right_if_it_is_to_the_metric() -> None:
    squad, klue, wos = (metrics.get(name)() for name in ("squad", "klue_mrc", "wos"))
    for metric in (squad, klue):
        assert metric.is_right(Prediction("0", ["seoul", "the city"], " Seoul"))
        assert not metric.is_right(Prediction("0", ["seoul"], "busan"))
        assert metric.is_right(Prediction("0", [], ""))
        assert not metric.is_right(Prediction("0", [], "seoul"))
    assert wos.is_right(Prediction("0", ["a-b-c", "d-e-f"], ["d-e-f", "a-b-c"]))
    numbers = metrics.get("pearson")()
    assert numbers.is_right(Prediction("0", 3.0, 3.4))
    assert not numbers.is_right(Prediction("0", 3.0, 3.6))


def test_two_checkpoints_must_be_measured_before_they_are_compared(
    tmp_path: Path, model_folder: Callable[..., Path]
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"is a model, .* claf2 bench run --suite SUITE --models .*, then claf2 compare"):
        load_runs(model_folder())
    with pytest.raises(RunError, match="empty: contains no finished run"):
        load_runs(tmp_path / "empty")
