"""Comparisons of models: against scipy and by hand, and on simulated models whose differences are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from claf2.bench import statistics
from claf2.bench.statistics import Difference, Look, Runs, collapsed, compare, holm, look, mcnemar, score, verdict
from claf2.errors import Claf2Error
from claf2.metrics import Metric, Prediction, Resampler, f1, metrics, share

Flags = NDArray[np.bool_]


def examples(n: int) -> tuple[tuple[str, Any], ...]:
    return tuple((str(index), 0) for index in range(n))


def fixed(*scores: float, n: int = 2000) -> Runs:
    """Runs whose score does not depend on the examples."""
    return Runs(
        examples(n),
        tuple(Resampler(lambda counts, each=each: np.full(len(counts), each), n) for each in scores),
    )


def shares(*runs: Sequence[float] | Flags) -> Runs:
    return Runs(examples(len(runs[0])), tuple(share(each) for each in runs))


def predictions(gold: Sequence[Any], said: Sequence[Any]) -> list[Prediction]:
    return [Prediction(str(n), g, p) for n, (g, p) in enumerate(zip(gold, said, strict=True))]


# By hand and by scipy


def test_mcnemar_by_hand() -> None:
    before = np.array([True] * 1 + [False] * 9 + [True] * 50)
    after = np.array([False] * 1 + [True] * 9 + [True] * 50)
    assert mcnemar(before, after) == pytest.approx(2 * (1 + 10) / 2**10)
    assert mcnemar(after, before, alternative="less") == pytest.approx((1 + 10) / 2**10)
    assert mcnemar(before, before) == 1.0


def test_two_runs_of_an_accuracy_are_compared_by_mcnemar_and_only_they() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.random(300) < 0.8, rng.random(300) < 0.7
    found = compare(shares(before), shares(after))
    assert (found.test, found.about, found.seeds) == ("mcnemar", "runs", (1, 1))
    assert found.p == mcnemar(before, after)
    assert found.p_worse == mcnemar(before, after, alternative="less")
    assert compare(shares(before), shares(after), tolerance=1.0).p_worse > found.p_worse


def test_two_other_runs_are_compared_by_a_paired_bootstrap() -> None:
    rng = np.random.default_rng(1)
    before = rng.random(500)
    after = np.clip(before + rng.normal(0.01, 0.1, 500), 0, 1)
    found = compare(shares(before), shares(after))
    t = stats.ttest_rel(after, before)
    assert (found.test, found.about) == ("paired bootstrap", "runs")
    assert found.value == pytest.approx(100 * (after - before).mean())
    assert found.se == pytest.approx(100 * stats.sem(after - before), rel=0.06)
    assert found.p == pytest.approx(t.pvalue, rel=0.3)
    assert (found.high - found.low) / 2 == pytest.approx(found.se * stats.t.isf(0.025, 499))


def test_seeds_are_compared_by_welch_where_examples_do_not_matter() -> None:
    first, second = (80.0, 81.5, 82.0), (83.0, 83.2, 84.5, 82.1, 83.0)
    found = compare(fixed(*first), fixed(*second), tolerance=1.0)
    t = stats.ttest_ind(second, first, equal_var=False)
    assert (found.test, found.about, found.borrowed) == ("t", "models", False)
    assert (found.p, found.df) == (pytest.approx(t.pvalue, rel=1e-6), pytest.approx(t.df))
    assert {type(getattr(found, name)) for name in ("value", "se", "df", "low", "p", "detectable")} == {float}
    low, high = t.confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    shifted = stats.ttest_ind([each + 1 for each in second], first, equal_var=False, alternative="less")
    assert found.p_worse == pytest.approx(shifted.pvalue, rel=1e-6)
    likely = found.se * math.sqrt(t.df / stats.chi2.median(t.df))
    assert stats.nct.sf(stats.t.isf(0.025, t.df), t.df, found.detectable / likely) == pytest.approx(0.8)


def test_one_seed_borrows_the_spread_of_the_other_model() -> None:
    others = (83.0, 83.2, 84.5, 82.1, 83.0)
    for found in (compare(fixed(81.0), fixed(*others)), compare(fixed(*others), fixed(81.0))):
        se = math.sqrt(np.var(others, ddof=1) * (1 + 1 / 5))
        assert (found.about, found.borrowed, found.df) == ("models", True, pytest.approx(4))
        assert found.se == pytest.approx(se)
        assert found.p == pytest.approx(2 * stats.t.sf(abs(found.value) / se, 4))


def test_seeds_that_agree_leave_the_examples() -> None:
    rng = np.random.default_rng(2)
    before, after = rng.random(400), rng.random(400)
    found = compare(shares(*[before] * 3), shares(*[after] * 3))
    assert found.about == "models"
    assert found.se == pytest.approx(100 * stats.sem(after - before), rel=0.06)
    assert found.df == pytest.approx(399)


def test_both_parts_take_their_own_quantiles() -> None:
    found = statistics._Estimate(3.0, 1.0, 2.0, 0.5, 300, (3, 3))
    for tail in (0.001, 0.025, 0.2):
        reach = math.sqrt(stats.t.isf(tail, 2) ** 2 + 0.5 * stats.t.isf(tail, 299) ** 2)
        assert found.reach(tail) == pytest.approx(reach)
        assert found.chance(reach) == pytest.approx(tail)
        assert found.chance(-reach) == pytest.approx(1 - tail)


def test_a_score_has_a_band_over_seeds_and_examples() -> None:
    found = score(fixed(80.0, 81.0, 83.0))
    sem = stats.sem([80.0, 81.0, 83.0])
    assert (found.value, found.se, found.df) == (pytest.approx(244 / 3), pytest.approx(sem), pytest.approx(2))
    assert found.high - found.value == pytest.approx(sem * stats.t.isf(0.025, 2))
    right = np.random.default_rng(3).random(600) < 0.8
    alone = score(shares(right))
    assert (alone.about, alone.seeds, alone.examples) == ("runs", (1,), 600)
    assert alone.se == pytest.approx(100 * stats.sem(right), rel=0.06)


def test_the_same_seed_gives_the_same_numbers_however_they_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    first, second = shares(*rng.random((2, 200))), shares(*rng.random((3, 200)))
    found = compare(first, second, seed=5)
    assert compare(first, second, seed=5) == found
    assert compare(first, second, seed=6) != found
    monkeypatch.setattr(statistics, "CELLS", 1700)
    assert compare(first, second, seed=5) == found


@pytest.mark.parametrize(("first", "second"), [(1, 1), (1, 3), (4, 4)])
def test_identical_predictions_do_not_differ(first: int, second: int) -> None:
    for right in (np.arange(50) % 3 > 0, np.ones(50, dtype=bool), np.linspace(0, 1, 50)):
        found = compare(shares(*[right] * first), shares(*[right] * second))
        assert (found.value, found.p) == (0.0, 1.0)
        assert found.low <= 0 <= found.high
        assert found.detectable > 0
        assert verdict(found, margin=100) == "no evidence"


def test_nothing_is_known_better_than_to_one_example() -> None:
    """All differ in the same way: no resample varies, and yet three examples are no proof."""
    nothing, everything = np.zeros(3), np.ones(3)
    found = compare(shares(nothing, nothing), shares(everything, everything))
    assert found.se == pytest.approx(100 / 3)
    assert found.p > 0.05


def test_holm_by_hand() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({"a": 0.5, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert list(holm({"b": 0.2, "a": 0.1})) == ["b", "a"]
    assert holm({}) == {}
    with pytest.raises(Claf2Error, match="a: nan is no p value"):
        holm({"a": float("nan")})


def test_verdicts() -> None:
    found = compare(fixed(80.0, 80.1, 80.2), fixed(83.0, 83.1, 83.2))
    assert verdict(found) == "better"
    assert verdict(replace(found, lower_is_better=True)) == "worse"
    assert verdict(compare(fixed(83.0, 83.1), fixed(80.0, 80.1))) == "worse"
    assert verdict(found, p=0.2) == "no evidence"
    noisy = compare(fixed(80.0, 84.0, 82.0), fixed(81.0, 85.0, 82.0))
    assert verdict(noisy) == "too noisy to tell"
    assert verdict(noisy, margin=50) == "no evidence"


def test_less_may_be_better() -> None:
    first, second = fixed(80.0, 80.1, 80.2), fixed(83.0, 83.1, 83.2)
    assert compare(first, second).p_worse > 0.99
    assert compare(replace(first, lower_is_better=True), replace(second, lower_is_better=True)).p_worse < 0.01


# The gate


def test_a_gate_spends_its_error_rate_once() -> None:
    looks = [look(fixed(80.0, 80.5), fixed(*range(80, 80 + s)), budget=5, tolerance=1.0) for s in (2, 3, 4, 5)]
    assert sum(each.alpha for each in looks) == pytest.approx(0.05)
    for each in looks:
        assert each.difference.level == pytest.approx(1 - 2 * each.alpha)


def test_a_gate_decides() -> None:
    baseline = fixed(80.0, 80.1, 80.2, 80.1, 80.0)

    def decide(*scores: float, tolerance: float = 1.0) -> str:
        found = look(baseline, fixed(*scores), budget=3, tolerance=tolerance)
        drop = (-found.difference.high, -found.difference.low)
        assert (found.decision == "fail") == (drop[0] > tolerance)
        assert (found.decision == "pass") == (drop[1] < tolerance)
        return found.decision

    assert decide(70.0, 70.1, 70.2) == "fail"
    assert decide(80.0, 80.1, 80.2) == "pass"
    assert decide(78.0, 80.0) == "undecided"
    assert decide(78.0, 79.0, 80.0) == "no evidence"
    for wrong in ((80.0,), (80.0,) * 4):
        with pytest.raises(Claf2Error, match="looks after 2 to 3 seeds"):
            decide(*wrong)


# What is refused


def test_other_examples_are_refused() -> None:
    accuracy = metrics.get("accuracy")()
    gold, said = ["a", "b", "a"], ["a", "b", "b"]
    runs = Runs.of(accuracy, [predictions(gold, said)], ["a", "b"])
    assert (runs.scores.tolist(), len(runs)) == ([pytest.approx(200 / 3)], 1)
    moved = [replace(each, id=f"x{each.id}") for each in predictions(gold, said)]
    with pytest.raises(Claf2Error, match=r"run 2 has example 'x0' where the first has '0'"):
        Runs.of(accuracy, [predictions(gold, said), moved], ["a", "b"])
    with pytest.raises(Claf2Error, match="the second model has example 'x0'"):
        compare(runs, Runs.of(accuracy, [moved], ["a", "b"]))
    with pytest.raises(Claf2Error, match="run 2 has predictions for 2 examples, the first for 3"):
        Runs.of(accuracy, [predictions(gold, said), predictions(gold[:2], said[:2])], ["a", "b"])
    with pytest.raises(Claf2Error, match=r"run 2 has gold 'b' for example '0', the first 'a': other data"):
        Runs.of(accuracy, [predictions(gold, said), predictions(["b", "b", "a"], said)], ["a", "b"])


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: Runs.of(metrics.get("accuracy")(), [], ["a"]), "at least one seed"),
        (lambda: Runs.of(metrics.get("accuracy")(), [[]], ["a"]), "no predictions"),
        (lambda: Runs((("0", "a"), ("1", None)), (share([1.0, 0.0]),)), "without a gold answer"),
        (lambda: shares([1.0]), "1 examples say nothing of chance"),
        (lambda: Runs(examples(3), (share([1.0, 0.0]),)), "for all 3 examples"),
        (lambda: compare(fixed(80.0), fixed(80.0), tolerance=-1.0), "a tolerance of -1.0 points"),
        (lambda: compare(fixed(80.0), fixed(80.0), tolerance=math.nan), "a tolerance of nan points"),
        (lambda: compare(fixed(80.0), fixed(80.0, math.nan)), "the score of run 2 of 2 is undefined"),
    ],
)
def test_what_says_nothing_is_refused(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(Claf2Error, match=message):
        ask()


def test_scores_undefined_in_many_resamples_are_refused() -> None:
    pearson = metrics.get("pearson")()
    few = Runs.of(pearson, [predictions([1.0, 1.0, 1.0, 2.0], [0.0, 1.0, 2.0, 3.0])], ())
    with pytest.raises(Claf2Error, match=r"undefined in .* of 2000 resamples of the 4 examples"):
        compare(few, few)


# Collapsed seeds


@pytest.mark.parametrize(
    ("metric", "gold", "said", "reason"),
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
def test_collapsed_seeds_are_seen(metric: str, gold: Sequence[Any], said: Sequence[Any], reason: str | None) -> None:
    kind: Metric = metrics.get(metric)()
    found = collapsed(kind, predictions(list(gold), list(said)), ["a", "b"])
    assert found is None if reason is None else (found or "").startswith(reason)


def test_no_predictions_are_no_collapse() -> None:
    with pytest.raises(Claf2Error, match="no predictions"):
        collapsed(metrics.get("accuracy")(), [], ["a"])


# Simulated models. An example is right where its ease, the model's own taste for it, the seed's fortune and a chance of
# its own come out above 0. Equal models have the same expected score, whatever their tastes.

CHURN = 0.5
RESAMPLES = 150


def draw(
    rng: np.random.Generator, ease: NDArray[np.float64], seeds: int, *, shift: float = 0.0, fortune: float, taste: float
) -> Flags:
    """Return which examples the runs of one model have right, [seeds, examples]."""
    n = len(ease)
    own = rng.normal(0, taste, n) if taste else 0.0
    latent = ease + shift + own + rng.normal(0, fortune, (seeds, 1)) + rng.normal(0, CHURN, (seeds, n))
    return np.asarray(latent > 0)


def runs_of(kind: str, right: Flags, gold: Flags) -> Runs:
    if kind == "accuracy":
        return Runs(examples_of(right.shape[1]), tuple(share(each) for each in right))
    said = right == gold
    resamplers = tuple(f1((gold & each)[:, None], np.add(gold, each, dtype=float)[:, None]) for each in said)
    return Runs(examples_of(right.shape[1]), resamplers)


@cache
def examples_of(n: int) -> tuple[tuple[str, Any], ...]:
    return examples(n)


def pair(
    rng: np.random.Generator, kind: str, n: int, seeds: tuple[int, int], *, start: float = 0.0, shift: float = 0.0,
    fortune: float = 0.05, taste: float = 0.0,
) -> tuple[Runs, Runs]:  # fmt: skip
    ease, gold = rng.normal(1.0, 1.0, n), rng.random(n) < 0.33
    first = draw(rng, ease, seeds[0], shift=start, fortune=fortune, taste=taste)
    second = draw(rng, ease, seeds[1], shift=shift, fortune=fortune, taste=taste)
    return runs_of(kind, first, gold), runs_of(kind, second, gold)


def comparisons(times: int, kind: str, n: int, seeds: tuple[int, int], **how: float) -> list[Difference]:
    rng = np.random.default_rng(n)
    return [compare(*pair(rng, kind, n, seeds, **how), resamples=RESAMPLES, seed=each) for each in range(times)]


def most(times: int, rate: float) -> float:
    """Return the highest share of false alarms that a test of this rate shows, but for one case in 2000."""
    return float(stats.binom.ppf(0.9995, times, rate)) / times


SETTINGS = [
    (kind, n, seeds, fortune, taste)
    for n, seeds, fortune, taste in [
        (277, (1, 5), 0.05, 0.0), (277, (3, 3), 0.05, 0.0), (277, (5, 5), 0.05, 0.0), (277, (2, 4), 0.2, 0.3),
        (1000, (1, 5), 0.05, 0.0), (1000, (3, 3), 0.05, 0.0), (1000, (5, 5), 0.02, 0.8),
    ]
    for kind in ("accuracy", "f1")
]  # fmt: skip


@cache
def under_no_difference(setting: tuple[str, int, tuple[int, int], float, float]) -> tuple[Difference, ...]:
    kind, n, seeds, fortune, taste = setting
    return tuple(comparisons(400 if n == 277 else 150, kind, n, seeds, fortune=fortune, taste=taste))


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_false_alarms_of_equal_models(setting: tuple[str, int, tuple[int, int], float, float]) -> None:
    found = under_no_difference(setting)
    for level in (0.05, 0.01):
        alarms = np.mean([each.p < level for each in found])
        assert alarms <= most(len(found), level), f"{alarms:.3f} at {level}"
    se = math.sqrt(np.mean([each.se**2 for each in found]))
    assert se == pytest.approx(np.std([each.value for each in found]), rel=0.2)


def test_the_tests_are_not_much_stricter_than_they_say() -> None:
    """Welch at three seeds, and chance counted once, leave 3 to 5 in 100."""
    p = [each.p for setting in SETTINGS for each in under_no_difference(setting)]
    assert 0.03 <= np.mean(np.array(p) < 0.05) <= 0.05


def test_two_runs_of_equal_worth() -> None:
    """Where seeds have no fortune, two runs are two models, and their test holds its level."""
    for kind in ("accuracy", "f1"):
        found = comparisons(500, kind, 277, (1, 1), fortune=0.0)
        alarms = np.mean([each.p < 0.05 for each in found])
        assert 0.01 <= alarms <= most(500, 0.05), (kind, alarms)


def test_runs_are_not_models() -> None:
    """Where seeds have fortune, two runs differ more often than their models: hence ``about``."""
    found = comparisons(200, "accuracy", 277, (1, 1), fortune=0.2)
    assert {each.about for each in found} == {"runs"}
    assert np.mean([each.p < 0.05 for each in found]) > 0.3


def test_false_alarms_of_a_family_of_tasks() -> None:
    rng = np.random.default_rng(7)
    tasks = [("accuracy", 277), ("f1", 277), ("accuracy", 400)]
    alarms, bare = 0, 0
    for each in range(400):
        p = {f"{kind} {n}": compare(*pair(rng, kind, n, (5, 5)), resamples=RESAMPLES, seed=each).p for kind, n in tasks}
        alarms += min(holm(p).values()) < 0.05
        bare += min(p.values()) < 0.05
    assert 0.01 <= alarms / 400 <= most(400, 0.05)
    assert bare / 400 > most(400, 0.05)  # uncorrected, it would not hold


def shift_to(accuracy: float, fortune: float = 0.05) -> float:
    """Return the shift at which the expected accuracy is so many percent."""
    return float(stats.norm.ppf(accuracy / 100) * math.sqrt(1 + CHURN**2 + fortune**2) - 1)


@pytest.mark.parametrize(("n", "seeds"), [(277, (5, 5)), (277, (1, 5)), (1000, (3, 3))])
def test_a_detectable_difference_is_found_as_often_as_claimed(n: int, seeds: tuple[int, int]) -> None:
    level = {"start": shift_to(80), "shift": shift_to(80)}
    claimed = float(np.median([each.detectable for each in comparisons(150, "accuracy", n, seeds, **level)]))
    apart = {"start": shift_to(80 + claimed / 2), "shift": shift_to(80 - claimed / 2)}
    found = comparisons(250, "accuracy", n, seeds, **apart)
    power = np.mean([each.p < 0.05 and each.value < 0 for each in found])
    assert 0.70 <= power <= 0.88, f"{power:.3f} of drops by {claimed:.2f}"
    assert np.mean([each.value for each in found]) == pytest.approx(-claimed, abs=0.5)


def test_intervals_cover_the_truth() -> None:
    truth = 100 * stats.norm.cdf(1 / math.sqrt(1 + CHURN**2 + 0.1**2))
    rng = np.random.default_rng(8)
    covered = 0
    for each in range(400):
        right = draw(rng, rng.normal(1.0, 1.0, 277), 3, fortune=0.1, taste=0.0)
        band = score(runs_of("accuracy", right, right[0]), resamples=RESAMPLES, seed=each)
        covered += band.low <= truth <= band.high
    assert 1 - covered / 400 <= most(400, 0.05)
    assert covered < 400


def gates(times: int, drop: float, tolerance: float, *, baseline: int = 5, budget: int = 5) -> list[Look]:
    """Return the decision of each of so many gates, each with a look after every seed until it decides."""
    rng = np.random.default_rng(9)
    level, decisions = {"start": shift_to(80 + drop / 2), "shift": shift_to(80 - drop / 2)}, []
    for each in range(times):
        first, second = pair(rng, "accuracy", 277, (baseline, budget), **level)
        for seeds in range(2, budget + 1):
            mine = replace(second, resamplers=second.resamplers[:seeds])
            found = look(first, mine, budget=budget, tolerance=tolerance, resamples=RESAMPLES, seed=each)
            if found.decision in ("pass", "fail"):
                break
        decisions.append(found)
    return decisions


def rate(looks: Sequence[Look], decision: str) -> float:
    return sum(each.decision == decision for each in looks) / len(looks)


def test_a_gate_holds_its_error_rate_over_all_its_looks() -> None:
    """Exactly at the tolerance either answer is wrong, and the union of the looks' errors stays below the level."""
    looks = gates(300, drop=3.0, tolerance=3.0)
    assert rate(looks, "fail") <= most(300, 0.05)
    assert rate(looks, "pass") <= most(300, 0.05)
    assert rate(looks, "fail") + rate(looks, "pass") >= 0.01
    assert rate(looks, "undecided") == 0.0


def test_a_gate_finds_what_it_claims_to() -> None:
    claimed = float(np.median([each.difference.detectable for each in gates(100, drop=0.0, tolerance=0.0)]))
    looks = gates(200, drop=claimed, tolerance=0.0)
    assert rate(looks, "fail") >= 0.75, claimed
    assert rate(looks, "pass") <= most(200, 0.05)
    early = [each.difference.seeds[1] < 5 for each in looks if each.decision == "fail"]
    assert any(early)
