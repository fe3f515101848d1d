"""A gate for CI: it fails only where a score has really dropped, against a baseline that holds the answers themselves.

A baseline holds every run's predictions, not the examples: those are the candidate's own, and must be the same by their
digest. So differences are paired, and a baseline can be published where the data must not be.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

from claf2 import config, run
from claf2.bench.matrix import IDENTITY
from claf2.bench.runs import Seed, TaskRuns, below, examples_digest
from claf2.bench.statistics import Decision, Difference, Runs, compare, look
from claf2.errors import Claf2Error, RunError
from claf2.store import read_json, write_json

__all__ = ["Gate", "TaskGate", "another_seed", "as_json", "check", "junit", "markdown", "record"]

logger = logging.getLogger("claf2")

VERSION = 1
"""Of a baseline's form."""


@dataclass(frozen=True)
class TaskGate:
    """What the gate says of one task."""

    task: str
    score: str
    baseline: float
    value: float
    difference: Difference
    decision: Decision
    seeds: int


@dataclass(frozen=True)
class Gate:
    """What the gate says of all tasks."""

    tasks: Sequence[TaskGate]
    tolerance: float
    alpha: float
    """The chance of one false alarm among all tasks and looks, at most."""
    missing: Sequence[str] = ()
    """Tasks that the baseline has and the candidate has no run of, and the other way about."""

    @property
    def failed(self) -> bool:
        """Whether a task's score has dropped."""
        return any(each.decision == "fail" for each in self.tasks)


def record(folder: Path, baseline: Path, reason: str) -> list[str]:
    """Write the runs of a folder as a baseline, with the reason, and return its tasks. What it replaces is remembered.

    Raises:
        RunError: when the reason is empty, or a task has one seed only.
    """
    if not reason.strip():
        raise RunError("a new baseline needs its --reason: what changed, and why its scores are to be held from now on")
    found = below(folder)
    lonely = [task for task, runs in found.items() if len(runs.seeds) < 2]
    if lonely:
        raise RunError(f"{lonely[0]}: one seed says nothing of the spread over seeds: a baseline needs two or more")
    history = _read(baseline)["history"] if baseline.is_file() else []
    entry = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "reason": reason.strip()}
    tasks = {task: _recorded(runs) for task, runs in found.items()}
    write_json(baseline, {"form": VERSION, "history": [*history, entry], "tasks": tasks})
    return list(tasks)


def _recorded(runs: TaskRuns) -> dict[str, Any]:
    scores = runs.runs().scores
    return {
        "recipe": runs.recipe,
        "metric": _variant(runs),
        "examples": examples_digest(runs.seeds[0].predictions),
        "runs": [
            {
                "seed": seed.number,
                "score": round(float(score), 6),
                "answers": json.dumps([each.prediction for each in seed.predictions], ensure_ascii=False),
            }
            for seed, score in zip(runs.seeds, scores, strict=True)
        ],
    }


def _variant(runs: TaskRuns) -> str:
    """Return which variant of which metric decides."""
    settings = runs.metric.model_dump(mode="json")
    return f"{type(runs.metric).__name__} {runs.metric.selects} {json.dumps(settings, sort_keys=True)}"


def _read(baseline: Path) -> dict[str, Any]:
    stored = read_json(baseline)
    if stored.get("form") != VERSION or not isinstance(stored.get("tasks"), dict):
        raise RunError(f"{baseline}: is no baseline of form {VERSION}; record one with claf2 gate --update")
    return stored


def check(
    baseline: Path, folder: Path, *, tolerance: float = 1.0, alpha: float = 0.05, budget: int | None = None,
    more: Callable[[Seed], object] | None = None,
) -> Gate:  # fmt: skip
    """Hold the runs of a folder against a baseline.

    Args:
        tolerance: by how many points a score may drop.
        alpha: the chance of a false alarm, over all tasks and, when sequential, all looks.
        budget: sequential: how many seeds a task may have at most.
        more: sequential: trains a run like this one with another seed into the folder; called until every task is
            decided or has as many seeds as the budget.

    Raises:
        RunError: when recipe, data or metric are not the baseline's, a prediction file is missing, or there is nothing
            to learn the spread over seeds from.
    """
    stored: Mapping[str, Any] = _read(baseline)["tasks"]
    gates: dict[str, TaskGate] = {}
    while True:
        found = below(folder)
        shared = [task for task in stored if task in found]
        if not shared:
            raise RunError(f"{baseline} has {', '.join(stored)}, {folder} has {', '.join(found)}: none in common")
        for task in shared:
            if task not in gates or len(found[task].seeds) > gates[task].seeds:
                gates[task] = _judge(task, stored[task], found[task], tolerance, alpha / len(shared), budget)
        undecided = [task for task in shared if gates[task].decision == "undecided"]
        if not undecided or more is None:
            break
        for task in undecided:
            logger.info("%s: undecided after %d seeds, one more is trained", task, gates[task].seeds)
            more(max(found[task].seeds, key=lambda seed: seed.number))
        if all(len(below(folder)[task].seeds) == gates[task].seeds for task in undecided):
            raise RunError(f"{undecided[0]}: a further seed was asked for, and none came")
    missing = [f"{task} (not in {folder})" for task in stored if task not in found]
    missing += [f"{task} (not in {baseline})" for task in found if task not in stored]
    return Gate([gates[task] for task in shared], tolerance, alpha, missing)


def _judge(
    task: str, stored: Mapping[str, Any], found: TaskRuns, tolerance: float, alpha: float, budget: int | None
) -> TaskGate:
    before = _baseline_runs(task, stored, found)
    now, seeds = found.runs(), len(found.seeds)
    for runs, whose in ((before, "the baseline"), (now, "the candidate")):
        try:
            _ = runs.scores
        except Claf2Error as error:
            raise RunError(f"{task}, {whose}: {error}") from error
    if len(before) == 1 and seeds == 1:
        raise RunError(f"{task}: one seed on each side says nothing of the spread over seeds: train more with --seeds")
    decision: Decision
    if budget is not None and 2 <= seeds <= budget:
        looked = look(before, now, budget=budget, tolerance=tolerance, alpha=alpha)
        difference, decision = looked.difference, looked.decision
    elif budget is not None and seeds < 2:
        difference = compare(before, now, tolerance=tolerance, level=1 - 2 * alpha)
        decision = "undecided"  # the first look is after two seeds
    else:
        difference = compare(before, now, tolerance=tolerance, level=1 - 2 * alpha)
        decision = "fail" if difference.p_worse < alpha else "pass" if difference.p_worse > 1 - alpha else "no evidence"
    return TaskGate(
        task, found.metric.selects, float(before.scores.mean()), float(now.scores.mean()), difference, decision, seeds
    )


def _baseline_runs(task: str, stored: Mapping[str, Any], found: TaskRuns) -> Runs:
    own = {
        "metric variant": (stored["metric"], _variant(found)),
        "recipe": (stored["recipe"], found.recipe),
        "examples": (stored["examples"], examples_digest(found.seeds[0].predictions)),
    }
    for what, (then, now) in own.items():
        if then != now:
            shown = f" ({then} then, {now} now)" if what == "metric variant" else ""
            raise RunError(f"{task}: the baseline was made with another {what}{shown}: record a new one with --update")
    examples = found.seeds[0].predictions
    try:
        said = [
            [
                replace(example, prediction=answer)
                for example, answer in zip(examples, json.loads(run["answers"]), strict=True)
            ]
            for run in stored["runs"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{task}: the baseline is damaged: {error!r}") from error
    return Runs.of(found.metric, said, found.task.labels)


WORDS: dict[Decision, str] = {
    "fail": "FAIL: dropped by more than the tolerance",
    "pass": "pass: did not drop by more than the tolerance",
    "undecided": "undecided: more seeds may tell",
    "no evidence": "pass: no evidence of a drop",
}


def markdown(gate: Gate) -> str:
    """Return what the gate says as Markdown, for a job's summary."""
    lines = [
        f"# Gate: {'FAILED' if gate.failed else 'passed'}",
        "",
        f"Tolerance {gate.tolerance:g} points; at most {100 * gate.alpha:g} % false alarms over all tasks.",
        "",
        "| task | score | baseline | now | difference, interval | detectable | seeds | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for each in gate.tasks:
        d = each.difference
        lines.append(
            f"| {each.task} | {each.score} | {each.baseline:.2f} | {each.value:.2f} | {d.value:+.2f} ({d.low:+.2f} to "
            f"{d.high:+.2f}) | {d.detectable:.1f} | {each.seeds} | {WORDS[each.decision]} |"
        )
    lines += [f"\nNot held against each other: {each}" for each in gate.missing]
    return "\n".join(lines) + "\n"


def junit(gate: Gate) -> str:
    """Return what the gate says as JUnit XML: a test case a task."""
    counts = {"tests": str(len(gate.tasks)), "failures": str(sum(each.decision == "fail" for each in gate.tasks))}
    suite = ElementTree.Element("testsuite", {"name": "claf2 gate", **counts})
    for each in gate.tasks:
        case = ElementTree.SubElement(
            suite, "testcase", {"classname": "claf2.gate", "name": f"{each.task} {each.score}"}
        )
        d = each.difference
        said = f"{each.baseline:.2f} -> {each.value:.2f}, {d.value:+.2f} ({d.low:+.2f} to {d.high:+.2f})"
        if each.decision == "fail":
            ElementTree.SubElement(case, "failure", {"message": f"{WORDS['fail']}: {said}"})
        else:
            ElementTree.SubElement(case, "system-out").text = f"{WORDS[each.decision]}: {said}"
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def as_json(gate: Gate) -> dict[str, Any]:
    """Return what the gate says as a JSON object."""
    verdict: Literal["pass", "fail"] = "fail" if gate.failed else "pass"
    return {"verdict": verdict, **asdict(gate)}


def another_seed(like: Seed) -> None:
    """Train a run like this one with the next seed, beside it.

    Raises:
        Claf2Error: when it fails.
    """
    seed = like.number + 1
    stored = str(like.folder / "config.json")
    experiment = config.load(stored, ["--seed_num", str(seed)])
    folder = like.folder.with_name(f"{'-'.join(experiment.parts)}-{seed}-{experiment.digest()[:12]}")
    if (like.folder / IDENTITY).is_file():
        write_json(folder / IDENTITY, {**read_json(like.folder / IDENTITY), "seed": seed, "failure": ""})
    run.train(config.load(stored, ["--seed_num", str(seed), "--log_dir", str(folder)]), resume=True)
