"""A gate for CI: it fails if a score is missing, or has really dropped compared with a baseline of stored predictions.

A baseline stores the predictions of every run, not the examples. The examples are those of the candidate, which must be
the same by their digest. Differences are therefore paired, and a baseline can be published even if the data cannot.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from claf2 import config
from claf2.benchmarking.cells import list_unfinished, run_name
from claf2.benchmarking.interim import Decision, interim_test
from claf2.benchmarking.runs import CELL_FILE, ScoredRuns, SeedRun, TaskRuns, examples_digest, load_runs
from claf2.benchmarking.statistics import Difference, compare_runs
from claf2.errors import Claf2Error, RunError, field_problem, nearest
from claf2.runs import train as training
from claf2.runtime.files import read_json, write_json

__all__ = [
    "GateResult", "TaskGateResult", "UnmeasuredTask", "record_baseline", "run_gate", "train_next_seed",
]  # fmt: skip

logger = logging.getLogger("claf2")


class _StoredRun(BaseModel):
    model_config = ConfigDict(frozen=True)

    seed: int
    score: float
    answers: str
    """The predictions as one JSON list, in a text so that an indented file stays short."""


class _StoredTask(BaseModel):
    model_config = ConfigDict(frozen=True)

    recipe: str = Field(min_length=1)
    metric: str = Field(min_length=1)
    examples: str = Field(min_length=1)
    """The digest of the ids and gold answers of the examples."""
    data: str = ""
    """The digest of the validation data; empty in baselines of earlier versions."""
    runs: tuple[_StoredRun, ...] = Field(min_length=1)


class _Baseline(BaseModel):
    """A baseline file."""

    model_config = ConfigDict(frozen=True)

    form: Literal[1]
    """The version of the format."""
    history: tuple[dict[str, str], ...] = ()
    """The time and reason of each update, oldest first."""
    tasks: dict[str, _StoredTask] = Field(min_length=1)


@dataclass(frozen=True)
class TaskGateResult:
    """The result of the gate for one task."""

    task: str
    score: str
    baseline: float
    value: float
    difference: Difference
    decision: Decision
    seeds: int
    baseline_seeds: int


@dataclass(frozen=True)
class UnmeasuredTask:
    """A task that has no score, or not one of each seed that was begun."""

    task: str
    reason: str
    waived: bool
    """Whether the user accepts this."""

    def __str__(self) -> str:
        return f"{'waived' if self.waived else 'FAIL'}: not measured: {self.reason}"


@dataclass(frozen=True)
class GateResult:
    """The result of the gate for all tasks."""

    tasks: Sequence[TaskGateResult]
    tolerance: float
    alpha: float
    """An upper bound on the probability of a false alarm in any task and analysis."""
    unmeasured: Sequence[UnmeasuredTask] = ()
    """The tasks of the baseline that were not measured, or not with every seed."""
    added: Sequence[str] = ()
    """The tasks that the baseline does not have."""
    needs_evidence: bool = False
    """A task passes only if it is shown that its score has not dropped by more than the tolerance."""

    def is_failed(self, task: TaskGateResult) -> bool:
        """Whether a task fails the gate: its score has dropped or, with ``needs_evidence``, may have dropped."""
        return task.decision != "pass" if self.needs_evidence else task.decision == "fail"

    @property
    def failed(self) -> bool:
        """Whether a task fails, or was not measured and is not waived."""
        return any(map(self.is_failed, self.tasks)) or any(not task.waived for task in self.unmeasured)


def record_baseline(folder: Path, baseline: Path, reason: str, *, waive: Collection[str] = ()) -> list[str]:
    """Write the runs of a folder as a baseline, and return its tasks. The history of the old baseline is kept.

    Args:
        folder: the runs.
        baseline: the baseline file.
        reason: why the runs are accepted as the baseline.
        waive: tasks that may lack runs: seeds that have no score, or all runs of a task of the old baseline, which
            then leaves the baseline.

    Raises:
        RunError: if the reason is empty, a task has only one seed, or lacks runs and is not waived.
    """
    if not reason.strip():
        raise RunError("a new baseline needs a --reason: say what has changed, and why the new scores are accepted")
    runs_by_task = load_runs(folder)
    for task, runs in runs_by_task.items():
        if len(runs.seed_runs) < 2:
            raise RunError(f"{task}: one seed shows no variance over seeds: a baseline needs at least two")
    old = _read_baseline(baseline) if baseline.is_file() else None
    unmeasured = _list_unmeasured(folder, old.tasks if old else (), runs_by_task, waive, every=True)
    for entry in unmeasured:
        if not entry.waived:
            raise RunError(f"{entry.task}: {entry.reason}: train it, or accept this with --waive {entry.task}")
    history = old.history if old else ()
    update = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "reason": reason.strip()}
    if unmeasured:
        update["waived"] = "; ".join(f"{entry.task}: {entry.reason}" for entry in unmeasured)
    tasks = {task: _to_stored(runs) for task, runs in runs_by_task.items()}
    write_json(baseline, _Baseline(form=1, history=(*history, update), tasks=tasks).model_dump(mode="json"))
    return list(tasks)


def _list_unmeasured(
    folder: Path, expected: Iterable[str], measured: Collection[str], waive: Collection[str], *, every: bool = False
) -> list[UnmeasuredTask]:
    """Return the tasks that lack runs.

    Args:
        folder: where the runs are.
        expected: the tasks of the baseline.
        measured: the tasks with a finished run.
        waive: the tasks whose lack of runs the user accepts.
        every: check the tasks that the folder holds as well.

    Raises:
        RunError: if a waived task is neither in the baseline nor in the folder.
    """
    unfinished = list_unfinished(folder)
    known = list(dict.fromkeys([*expected, *measured, *unfinished]))
    for name in waive:
        if name not in known:
            raise RunError(f"--waive {name}: neither the baseline nor {folder} has it; {nearest(name, known)}")
    unmeasured = []
    for task in known if every else expected:
        reasons = [] if task in measured else [f"no finished run in {folder}"]
        reasons += unfinished.get(task, [])
        if reasons:
            # The reason of a failure can be any text, and goes into a table and into XML.
            text = "".join(character if character.isprintable() else " " for character in "; ".join(reasons))
            unmeasured.append(UnmeasuredTask(task, " ".join(text.split()), task in waive))
    return unmeasured


def _to_stored(runs: TaskRuns) -> _StoredTask:
    stored_runs = [
        _StoredRun(
            seed=run.seed,
            score=round(float(score), 6),
            answers=json.dumps([prediction.prediction for prediction in run.predictions], ensure_ascii=False),
        )
        for run, score in zip(runs.seed_runs, runs.scored().scores, strict=True)
    ]
    return _StoredTask(
        recipe=runs.recipe,
        metric=_metric_variant(runs),
        examples=examples_digest(runs.seed_runs[0].predictions),
        data=runs.data.get("valid", ""),
        runs=tuple(stored_runs),
    )


def _metric_variant(runs: TaskRuns) -> str:
    """Return the deciding metric with its settings, as one line."""
    settings = runs.metric.model_dump(mode="json")
    return f"{type(runs.metric).__name__} {runs.metric.selects} {json.dumps(settings, sort_keys=True)}"


def _read_baseline(path: Path) -> _Baseline:
    try:
        return _Baseline.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        problem = f"{field}: {field_problem(first)}"
        raise RunError(f"{path}: not a baseline, or damaged: {problem}; record a new one with --update") from error


def run_gate(
    baseline: Path, folder: Path, *, tolerance: float = 1.0, alpha: float = 0.05, budget: int | None = None,
    train_seed: Callable[[SeedRun], object] | None = None, waive: Collection[str] = (), needs_evidence: bool = False,
) -> GateResult:  # fmt: skip
    """Compare the runs of a folder, the candidate, with a baseline.

    Args:
        baseline: the baseline file.
        folder: the candidate's runs.
        tolerance: by how many points a score may drop.
        alpha: the probability of a false alarm over all tasks and, if sequential, all analyses. With
            ``needs_evidence``, the probability with which a drop beyond the tolerance passes.
        budget: the largest number of seeds per task of a sequential gate; ``None``: the gate is not sequential.
        train_seed: trains a run like the given one with another seed into the folder. A sequential gate calls it until
            every task is decided or has used its budget.
        waive: tasks of the baseline that may lack runs. All others fail if they have none, or if a run was begun and
            has no score.
        needs_evidence: a task passes only if non-inferiority is shown: its whole interval lies within the tolerance.

    Raises:
        RunError: if recipe, data or metric differ from the baseline's, a prediction file is missing, both sides have
            one seed, or an argument is out of range.
    """
    if not (0 <= tolerance < math.inf and 0 < alpha <= 0.5):  # also false for NaN, with which every task would pass
        raise RunError(f"tolerance {tolerance} and alpha {alpha}: expected a tolerance from 0 and an alpha in (0, 0.5]")
    stored = _read_baseline(baseline).tasks
    results: dict[str, TaskGateResult] = {}
    while True:
        candidate = load_runs(folder)
        shared = [task for task in stored if task in candidate]
        if not shared:
            tasks = f"{baseline} has {', '.join(stored)}, {folder} has {', '.join(candidate)}"
            raise RunError(f"no task in common: {tasks}")
        for task in shared:
            if task not in results or len(candidate[task].seed_runs) > results[task].seeds:
                # Bonferroni over tasks; within a task, the sequential test divides its share among the analyses. If
                # every task must be shown to pass, a wrong pass needs one in each task that has dropped.
                share = alpha if needs_evidence else alpha / len(shared)
                results[task] = _run_task_gate(
                    task, stored[task], candidate[task], tolerance, share, budget, needs_evidence=needs_evidence
                )
        undecided = [task for task in shared if results[task].decision == "undecided"]
        if not undecided or train_seed is None:
            break
        for task in undecided:
            logger.info("%s: undecided after %d seeds; training one more", task, results[task].seeds)
            train_seed(max(candidate[task].seed_runs, key=lambda run: run.seed))
        trained = load_runs(folder)
        if all(len(trained[task].seed_runs) == results[task].seeds for task in undecided):
            raise RunError(f"{undecided[0]}: a seed was trained, but not into {folder}: give the folder of the model")
    unmeasured = _list_unmeasured(folder, stored, candidate, waive)
    added = [task for task in candidate if task not in stored]
    return GateResult([results[task] for task in shared], tolerance, alpha, unmeasured, added, needs_evidence)


def _run_task_gate(
    task: str, stored: _StoredTask, runs: TaskRuns, tolerance: float, alpha: float, budget: int | None, *,
    needs_evidence: bool,
) -> TaskGateResult:  # fmt: skip
    candidate, seeds = runs.scored(), len(runs.seed_runs)
    _check_defined(task, "the candidate", candidate)
    baseline = _load_baseline_runs(task, stored, runs)
    _check_defined(task, "the baseline", baseline)
    if len(baseline) == 1 and seeds == 1:
        raise RunError(f"{task}: one seed on each side shows no variance over seeds: train more with --seeds")
    tolerated = tolerance * baseline.scale / 100.0
    decision: Decision
    if budget is not None and 2 <= seeds <= budget:
        analysis = interim_test(
            baseline, candidate, budget=budget, tolerance=tolerated, alpha=alpha, for_noninferiority=needs_evidence
        )
        difference, decision = analysis.difference, analysis.decision
    else:
        difference = compare_runs(
            baseline, candidate, tolerance=tolerated, level=1 - 2 * alpha, for_noninferiority=needs_evidence
        )
        if budget is not None and seeds < 2:
            decision = "undecided"  # the first interim analysis needs two seeds
        elif difference.p_worse < alpha:
            decision = "fail"
        else:
            decision = "pass" if difference.p_worse > 1 - alpha else "no evidence"
    baseline_mean, mean = float(baseline.scores.mean()), float(candidate.scores.mean())
    return TaskGateResult(task, runs.metric.selects, baseline_mean, mean, difference, decision, seeds, len(stored.runs))


def _check_defined(task: str, name: str, runs: ScoredRuns) -> None:
    try:
        _ = runs.scores
    except Claf2Error as error:
        raise RunError(f"{task}, {name}: {error}") from error


def _load_baseline_runs(task: str, stored: _StoredTask, runs: TaskRuns) -> ScoredRuns:
    """Return the runs of a baseline, on the examples of the candidate.

    Raises:
        RunError: if recipe, metric or examples differ.
    """
    examples = runs.seed_runs[0].predictions
    variant = _metric_variant(runs)
    problem = ""
    if stored.metric != variant:
        problem = f"a different metric variant ({stored.metric} in the baseline, {variant} now)"
    elif stored.recipe != runs.recipe:
        problem = "a different recipe"
    elif stored.examples != examples_digest(examples):
        problem = "different examples"
    elif stored.data and stored.data != runs.data.get("valid", ""):
        problem = "different validation data"
    if problem:
        raise RunError(f"{task}: the baseline was recorded with {problem}: record a new one with --update")
    try:
        predictions = [
            [
                replace(example, prediction=answer)
                for example, answer in zip(examples, json.loads(run.answers), strict=True)
            ]
            for run in stored.runs
        ]
    except (TypeError, ValueError) as error:
        raise RunError(f"{task}: the baseline is damaged: {error}; record a new one with --update") from error
    return ScoredRuns.from_predictions(runs.metric, predictions, runs.task.labels)


def train_next_seed(run: SeedRun) -> None:
    """Train a run like the given one with the next seed, into a folder beside it.

    Raises:
        Claf2Error: if the run fails.
    """
    if "export" in read_json(run.folder / "run.json"):
        raise RunError(f"{run.folder}: an export is not trained: measure more seeds with claf2 bench run --variants")
    seed = run.seed + 1
    stored_config = str(run.folder / "config.json")
    experiment = config.load(stored_config, ["--seed_num", str(seed)])
    folder = run.folder.with_name(run_name("-".join(experiment.tasks), experiment))
    if (run.folder / CELL_FILE).is_file():  # a cell of a bench stays one, so that its report shows the new seed as well
        write_json(folder / CELL_FILE, {**read_json(run.folder / CELL_FILE), "seed": seed, "failure": ""})
    training.train(config.load(stored_config, ["--seed_num", str(seed), "--log_dir", str(folder)]), resume=True)
