"""The curve of a pre-training: the order of its checkpoints, corrections, and verdicts on simulated runs."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from claf2.benchmarking.curve import CheckpointCurve, CurveAnalysis, alpha_share, holm_over_steps, next_step
from claf2.benchmarking.curve_report import format_curve, format_verdict
from claf2.benchmarking.runs import ScoredRuns
from claf2.benchmarking.statistics import half_width, holm_correction, tail_probability
from claf2.errors import Claf2Error
from claf2.metrics import Resampler, share

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def runs_of(*shares: float, n: int = 1000, lower_is_better: bool = False, kind: int = 0) -> ScoredRuns:
    """Return runs that have a share of the examples right each; ``kind`` says which examples come first."""
    order = np.random.default_rng(kind).permutation(n)
    runs = tuple(share(order < round(n * value)) for value in shares)
    return ScoredRuns(tuple((str(number), 0) for number in range(n)), runs, lower_is_better)


def analyze(*points: Sequence[float], **settings: float) -> CheckpointCurve:
    """Return the curve of one task whose runs score as said at steps 1000, 2000, …"""
    analysis = CurveAnalysis(["nsmc"], resamples=100, **settings)  # type: ignore[arg-type]
    scores = []
    for number, shares in enumerate(points, start=1):
        runs = {"nsmc": runs_of(*shares)}
        analysis.add(1000 * number, runs)
        scores.append(analysis.scores(1000 * number, runs, complete=True))
    return analysis.curve("s", "m", scores)


def order_of(steps: Sequence[int]) -> list[int]:
    order: list[int] = []
    while (step := next_step(steps, order)) is not None:
        order.append(step)
    return order


def test_ends_come_first_then_halves() -> None:
    assert order_of(range(1, 10)) == [9, 1, 5, 7, 3, 8, 6, 4, 2]
    assert order_of([100]) == [100]
    assert order_of([]) == []
    # A quarter of nine checkpoints is two; with the third, no gap is wider than half of the curve.
    assert next_step([1, 2, 3, 4, 5], {1, 2, 4}) == 5
    assert next_step([10, 20, 60, 100], {10, 100}) == 60


def test_the_shares_of_the_error_rate_add_up_to_one() -> None:
    assert sum(alpha_share(number, 10) for number in range(1, 11)) == pytest.approx(0.5)
    assert sum(alpha_share(number, 10) for number in range(1, 1_000_000)) == pytest.approx(1, abs=1e-4)


def test_a_correction_over_steps_counts_those_to_come() -> None:
    p_values = [0.001, 0.2, 0.0001]
    corrected = holm_over_steps(p_values, 10)
    first, _, third = (alpha_share(number, 10) for number in (1, 2, 3))
    assert corrected[2] == pytest.approx(0.0001 / third)
    assert corrected[0] == pytest.approx(0.001 / first * (1 - third))  # Holm: the share of what was found is free
    assert corrected[1] == 1
    assert all(ours > theirs for ours, theirs in zip(
        corrected, holm_correction({str(n): p for n, p in enumerate(p_values)}).values(), strict=True
    ))  # fmt: skip
    # What comes later adds findings only.
    assert all(
        later <= earlier for earlier, later in zip(corrected, holm_over_steps([*p_values, 0.0], 10), strict=False)
    )
    by_task = holm_over_steps([0.001, 1.0], 10, tasks=2)
    assert by_task[0] == pytest.approx(2 * 0.001 / first)


def test_a_tail_is_the_inverse_of_a_width() -> None:
    terms = [(1.0, 4.0), (0.5, 199.0)]
    assert tail_probability(terms, half_width(terms, 0.01)) == pytest.approx(0.01)
    assert tail_probability(terms, -half_width(terms, 0.01)) == pytest.approx(0.99)


def test_verdicts_on_a_curve_that_rises_and_stays() -> None:
    same = (0.800, 0.801, 0.802)
    curve = analyze((0.5, 0.505, 0.51), (0.7, 0.705, 0.71), same, same, same, same)
    assert [(verdict.step, verdict.reference) for verdict in curve.previous] == [
        (2000, 1000), (3000, 2000), (4000, 3000), (5000, 4000), (6000, 5000)
    ]  # fmt: skip
    averages = [verdict.average.verdict for verdict in curve.previous if verdict.average]
    assert averages == ["better", "better", "no evidence", "no evidence", "no evidence"]
    assert [verdict.tasks["nsmc"].verdict for verdict in curve.previous] == averages
    assert curve.plateau_since == 3000
    assert curve.dropped_since is None
    text = format_verdict(curve, 3000)
    assert text.startswith("step 3k: average 80.1 ± ")
    assert "+9.6 (really better) since 2k; better in nsmc +9.6" in text
    assert "plateau since 3k" in format_verdict(curve, 6000)
    table = format_curve(curve)
    assert table.startswith("# m on s\n\n| step | average | nsmc | since the previous | since the best |")
    assert "In at most 5 of 100 curves" in table


def test_a_drop_is_told_from_a_collapsed_run() -> None:
    good = (0.800, 0.801, 0.802)
    dropped = analyze(good, good, good, (0.70, 0.701, 0.702))
    assert dropped.dropped_since in (1000, 2000, 3000)
    assert "a real drop since" in format_verdict(dropped, 4000)
    # One of three runs learns nothing: the mean falls by as much, but the runs do not agree.
    collapsed = analyze(good, good, good, (0.800, 0.801, 0.5))
    assert collapsed.dropped_since is None
    assert [verdict.average.verdict for verdict in collapsed.previous if verdict.average] == ["no evidence"] * 3


def test_no_plateau_is_seen_where_gains_are_as_large_as_the_tolerance() -> None:
    points = [(0.7 + 0.005 * k, 0.701 + 0.005 * k, 0.702 + 0.005 * k) for k in range(6)]
    assert analyze(*points, tolerance=1.0).plateau_since is None
    assert analyze(*points, tolerance=10.0).plateau_since == 1000


def test_one_seed_is_said_to_be_about_runs() -> None:
    curve = analyze((0.5,), (0.7,))
    assert curve.previous[0].average is not None
    assert curve.previous[0].average.about == "runs"
    assert "(really better of these two runs)" in format_verdict(curve, 2000)


def test_less_may_be_better() -> None:
    def runs(share: float, *, lower: bool) -> ScoredRuns:
        return runs_of(share, share + 0.001, share + 0.002, lower_is_better=lower)

    analysis = CurveAnalysis(["loss", "nsmc"])
    for step, (loss, accuracy) in enumerate([(0.5, 0.7), (0.3, 0.7)]):
        analysis.add(step, {"loss": runs(loss, lower=True), "nsmc": runs(accuracy, lower=False)})
    (verdict,) = analysis.curve("s", "m", []).previous
    assert verdict.tasks["loss"].value == pytest.approx(-20)
    assert verdict.tasks["loss"].verdict == "better"
    assert verdict.average is not None
    assert verdict.average.value == pytest.approx(10)
    assert verdict.average.verdict == "better"


def test_a_missing_task_costs_the_average_only() -> None:
    analysis = CurveAnalysis(["nsmc", "kornli"])
    for step in (1, 2):
        scores = [0.5 + 0.2 * step + chance for chance in (0, 0.001, 0.002)]
        analysis.add(step, {"nsmc": runs_of(*scores)} if step == 2 else dict.fromkeys(analysis.tasks, runs_of(*scores)))
    (verdict,) = analysis.curve("s", "m", []).previous
    assert verdict.average is None
    assert list(verdict.tasks) == ["nsmc"]
    with pytest.raises(Claf2Error, match="step 1 was added to the curve after step 2"):
        analysis.add(1, {})


def test_tasks_outside_of_the_average_of_their_suite_have_an_average_of_their_own() -> None:
    analysis = CurveAnalysis(["wnli"], averaged=["rte", "mrpc"], resamples=100)
    analysis.add(1000, {"wnli": runs_of(0.5, 0.5)})
    analysis.add(2000, {"wnli": runs_of(0.7, 0.7)})
    scores = analysis.scores(2000, {"wnli": runs_of(0.7, 0.7)}, complete=True)
    assert scores.average is not None
    assert scores.average.value == pytest.approx(70.0)


def test_runs_on_other_examples_are_not_compared() -> None:
    analysis = CurveAnalysis(["nsmc"])
    analysis.add(1, {"nsmc": runs_of(0.5, 0.6)})
    analysis.add(2, {"nsmc": runs_of(0.5, 0.6, n=500)})
    (verdict,) = analysis.curve("s", "m", []).previous
    assert verdict.average is None
    assert not verdict.tasks


def test_bands_need_no_variance_over_seeds() -> None:
    flat = ScoredRuns((("1", 0), ("2", 0)), (Resampler(lambda counts: np.full(len(counts), 50.0), 2),))
    point = CurveAnalysis(["x"]).scores(1, {"x": flat})
    assert point.average is not None
    assert point.average.value == 50
    assert point.tasks["x"].seeds == 1


@pytest.mark.parametrize("name", ["flat", "drop of 4 points"])
def test_simulated_curves_are_rarely_wrong(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small version of benchmarks/curve.py, whose figures docs/watch.md quotes."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    sys.modules.pop("curve", None)
    import curve

    given = Namespace(checkpoints=6, tasks=1, seeds=3, examples=200, resamples=60, expected=10)
    rng, counts = np.random.default_rng(1), Counter[str]()
    if name.startswith("drop"):
        given.checkpoints = 8
    for _ in range(20):
        counts.update(curve.judge(curve.SCENARIOS[name], given, rng))
    # Of 20 curves at 5 %, four or more are wrong with a probability of 1.6 %; these are always the same 20.
    assert max(counts[kind] for kind in curve.KINDS) <= 3
