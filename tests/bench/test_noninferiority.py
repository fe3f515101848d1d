"""Whether a changed model is shown to be as good as its origin, except for a margin."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import pytest

from claf2.benchmarking.noninferiority import (
    classify_noninferiority,
    format_noninferiority,
    measure_noninferiority,
    noninferiority_to_dict,
)
from claf2.benchmarking.statistics import ScoreEstimate
from claf2.errors import Claf2Error
from claf2.metrics import Prediction
from claf2.task import Task, tasks


def answers(task: Task, right: Sequence[bool]) -> list[Prediction]:
    """Return predictions of which these are right."""
    labels = task.labels[:2]
    return [
        Prediction(f"row-{number}", labels[number % 2], labels[number % 2 if is_right else 1 - number % 2])
        for number, is_right in enumerate(right)
    ]


def flipped(n: int, lost: int, gained: int, wrong: int = 40) -> tuple[list[bool], list[bool]]:
    """Return which answers of origin and candidate are right: the first ones are lost, the last ones are gained."""
    before = [True] * (n - wrong) + [False] * wrong
    return before, [index >= lost and (is_right or index >= n - gained) for index, is_right in enumerate(before)]


def measure(n: int, lost: int, gained: int, margin: float = 1.0, name: str = "sst") -> object:
    task = tasks.get(name)
    before, after = flipped(n, lost, gained)
    return measure_noninferiority(task, [answers(task, before)], [answers(task, after)], margin=margin)


@pytest.mark.parametrize(
    ("n", "lost", "gained", "verdict"),
    [
        (872, 3, 3, "non-inferior"),  # six flips of 872, the case of an int8 export
        (872, 6, 0, "not shown"),
        (872, 40, 0, "inferior"),
        (872, 0, 40, "non-inferior"),
        (277, 0, 0, "not shown"),  # other examples may flip: one of 100 may, with a probability above 5 %
        (400, 0, 0, "non-inferior"),
        (100, 0, 0, "not shown"),
    ],
)
def test_a_verdict_needs_evidence(n: int, lost: int, gained: int, verdict: str) -> None:
    result = measure(n, lost, gained)
    assert result.verdict == verdict
    assert result.difference.value == pytest.approx(100 * (gained - lost) / n)
    assert result.difference.about == "runs"
    assert (len(result.gained), len(result.lost), result.changed) == (gained, lost, gained + lost)
    assert [flip.id for flip in result.lost] == [f"row-{number}" for number in range(lost)]


def test_the_smallest_margin_is_the_one_that_is_shown() -> None:
    result = measure(500, 4, 2)
    assert result.verdict == "not shown"
    assert measure(500, 4, 2, result.smallest_margin + 1e-6).verdict == "non-inferior"
    assert measure(500, 4, 2, result.smallest_margin - 1e-6).verdict == "not shown"
    points = math.ceil(100 * result.smallest_margin) / 100
    assert f"show non-inferiority within {points:.2f} points" in format_noninferiority(result)


@pytest.mark.parametrize(("lost", "gained"), [(0.01, 0.0), (0.03, 0.02)])
def test_a_candidate_that_is_worse_by_the_margin_is_rarely_called_non_inferior(lost: float, gained: float) -> None:
    task, random = tasks.get("sst"), np.random.default_rng(0)
    n, wrong_calls, repetitions = 600, 0, 150
    for _ in range(repetitions):
        draws, before = random.random(n), random.random(n) < 0.8
        after = np.where(before, draws >= lost / 0.8, draws < gained / 0.2)
        result = measure_noninferiority(
            task, [answers(task, before)], [answers(task, after)], margin=1.0, resamples=200
        )
        wrong_calls += result.verdict == "non-inferior"
    # Nominal 5 %; the 99 % quantile of a binomial count with 150 repetitions is 14. Without the added changes: 15 %.
    assert wrong_calls <= 14


def test_several_runs_are_paired_with_their_own_candidates() -> None:
    task = tasks.get("sst")
    random = np.random.default_rng(1)
    origin = [random.random(400) < right for right in (0.6, 0.8, 0.9)]  # runs that differ far more than 1 point
    candidate = [np.where(np.arange(400) == 7, False, run) for run in origin]
    result = measure_noninferiority(
        task, [answers(task, run) for run in origin], [answers(task, run) for run in candidate]
    )
    assert result.verdict == "non-inferior"
    assert result.difference.seeds == (3, 3)
    assert result.difference.value == pytest.approx(result.candidate - result.origin)
    with pytest.raises(Claf2Error, match="3 runs of the origin and 2 of the candidate: give one for one"):
        measure_noninferiority(task, [answers(task, run) for run in origin], [answers(task, run) for run in origin[1:]])


def test_a_score_that_is_no_share_of_right_answers_is_resampled() -> None:
    result = measure(872, 3, 3, name="mrpc")  # F1
    assert result.score == tasks.get("mrpc").metrics[0].selects
    assert result.verdict == "non-inferior"
    gold = [3.0 * math.sin(number) for number in range(600)]
    origin = [Prediction(str(number), value, value + math.cos(7 * number)) for number, value in enumerate(gold)]
    close = [Prediction(run.id, run.gold, run.prediction + 0.01 * math.sin(3 * i)) for i, run in enumerate(origin)]
    damaged = [Prediction(run.id, run.gold, math.cos(5 * i)) for i, run in enumerate(origin)]
    stsb = tasks.get("stsb")
    assert measure_noninferiority(stsb, [origin], [close]).verdict == "non-inferior"
    assert measure_noninferiority(stsb, [origin], [damaged]).verdict == "inferior"
    rounded = [Prediction(run.id, run.gold, run.prediction + 7e-7) for run in origin]
    assert measure_noninferiority(stsb, [origin], [rounded]).changed == 0
    assert measure_noninferiority(stsb, [origin], [close]).changed > 500


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-0.9, 0.5, "non-inferior"), (-1.1, 0.5, "not shown"), (-3.0, -1.1, "inferior"), (-3.0, -0.9, "not shown")],
)
def test_where_lower_is_better_the_interval_is_mirrored(low: float, high: float, verdict: str) -> None:
    def estimate(low: float, high: float) -> ScoreEstimate:
        return ScoreEstimate(
            value=(low + high) / 2, se=1.0, df=9.0, low=low, high=high, level=0.9, about="runs", seeds=(1, 1),
            examples=10,
        )  # fmt: skip

    assert classify_noninferiority(estimate(low, high), 1.0) == verdict
    assert classify_noninferiority(estimate(-high, -low), 1.0, lower_is_better=True) == verdict


def test_the_result_as_text_and_json() -> None:
    result = measure(872, 12, 1)
    text = format_noninferiority(result, examples=2)
    assert "points (90 % interval" in text
    assert ": not shown within 1" in text
    assert "13 of 872 answers differ: 1 gained, 12 lost" in text
    assert "- lost row-1 (gold " in text
    assert "row-2 " not in text
    stored = json.loads(json.dumps(noninferiority_to_dict(result), allow_nan=False))
    assert stored["lost"] == [f"row-{number}" for number in range(12)]
    assert stored["verdict"] == "not shown"
    assert stored["difference"]["low"] == pytest.approx(-stored["smallest_margin"])


def test_what_cannot_be_compared_is_refused() -> None:
    task = tasks.get("sst")
    run = answers(task, [True, False] * 50)
    for settings in ({"margin": math.nan}, {"margin": -1.0}, {"alpha": 0.5}, {"alpha": math.nan}):
        with pytest.raises(Claf2Error, match="expected a margin from 0 and an alpha in"):
            measure_noninferiority(task, [run], [run], **settings)
    with pytest.raises(Claf2Error, match="the candidate has predictions for 99 examples, the first for 100"):
        measure_noninferiority(task, [run], [run[1:]])
    undefined = [Prediction(run[0].id, run[0].gold, None), *run[1:]]
    with pytest.raises(Claf2Error, match="sst, the candidate: the score of run 1 of 1 is undefined"):
        measure_noninferiority(task, [run], [undefined])
