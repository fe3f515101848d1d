"""The content of the page of a run: its scores, learning curves, errors, config and provenance, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from claf2.benchmarking.cells import Cell
from claf2.benchmarking.summary import finite_or_none
from claf2.board.pages.mistakes import (
    ConfusionMatrix,
    ErrorKind,
    Mistake,
    confusion_matrix,
    count_errors,
    list_mistakes,
)
from claf2.board.pages.suite import RowRuns
from claf2.errors import Claf2Error
from claf2.metrics import Prediction
from claf2.runtime.files import format_json
from claf2.task import tasks

__all__ = ["RunDetails", "RunLink", "RunPage", "make_run_page"]


@dataclass(frozen=True)
class RunDetails:
    """Everything that is known of a run: one model, task and seed."""

    digest: str
    cell: Cell
    scores: Mapping[str, float | None]
    """The scores of the best evaluation by key."""
    provenance: Mapping[str, object] = field(default_factory=dict)
    """The content of ``run.json``, with the filled config in ``config``."""
    curve: Sequence[Mapping[str, object]] = ()
    """The evaluations in their order: ``step``, ``epoch`` and the scores by key."""
    predictions: Sequence[Prediction] = ()
    """The predictions for the validation set."""


@dataclass(frozen=True)
class RunLink:
    """A run of the same row, to switch to."""

    label: str
    digest: str
    current: bool = False


@dataclass(frozen=True)
class RunPage:
    """Everything that the template of a run's page shows."""

    details: RunDetails
    title: str
    facts: str
    scores: tuple[tuple[str, float | None], ...]
    seeds: tuple[RunLink, ...]
    tasks: tuple[RunLink, ...]
    curves: Mapping[str, object]
    confusion: ConfusionMatrix | None
    errors: tuple[ErrorKind, ...]
    mistakes: tuple[Mistake, ...]
    wrong: int
    """The number of examples that the run gets wrong."""
    config: str
    """The filled config as JSON."""
    provenance: tuple[tuple[str, str], ...]
    """Name → value, the most important first."""
    checkpoint: str
    """The weights that were fine-tuned: a hub id, a folder or a URL."""
    checkpoint_url: str
    """The same as a link; empty if a browser cannot open it."""


def make_run_page(details: RunDetails, row: RowRuns | None = None) -> RunPage:
    """Return the content of the page of a run.

    Args:
        details: the run.
        row: the runs of the same row, to switch to.
    """
    cell, predictions = details.cell, details.predictions
    try:
        task = tasks.get(cell.task)
        labels, is_right = task.labels, task.metrics[0].is_right
    except Claf2Error:  # the task of a plug-in that is not loaded here
        labels, is_right = (), _is_equal
    seeds, other_tasks = _list_siblings(details, row)
    wrong = sum(row.prediction is not None and row.gold is not None and not is_right(row) for row in predictions)
    config = details.provenance.get("config")
    return RunPage(
        details=details,
        title=f"{cell.model} on {cell.task}",
        facts=_facts(cell, predictions, wrong),
        scores=tuple(
            (key, finite_or_none(score))
            for key, score in sorted(details.scores.items(), key=lambda pair: pair[0].endswith("loss"))
        ),
        seeds=seeds,
        tasks=other_tasks,
        curves=_curves(details.curve),
        confusion=confusion_matrix(predictions, labels),
        errors=count_errors(predictions),
        mistakes=list_mistakes(predictions, is_right),
        wrong=wrong,
        config=format_json(config, indent=2) if config else "",
        provenance=tuple(_provenance_rows(details)),
        checkpoint=cell.weights,
        checkpoint_url=cell.weights if cell.weights.startswith(("http://", "https://")) else "",
    )


def _is_equal(row: Prediction) -> bool:
    return bool(row.gold == row.prediction)


def _facts(cell: Cell, predictions: Sequence[Prediction], wrong: int) -> str:
    step = None if cell.step is None else f"step {cell.step:,}"
    examples = f"{len(predictions):,} examples, {wrong:,} wrong" if predictions else None
    return " · ".join(filter(None, (step, f"seed {cell.seed}", cell.recipe, examples)))


def _list_siblings(details: RunDetails, row: RowRuns | None) -> tuple[tuple[RunLink, ...], tuple[RunLink, ...]]:
    """Return the runs of the same row: those with other seeds, and those of other tasks, with this seed if possible."""
    own_task, own_seed = details.cell.task, details.cell.seed
    seeds: dict[int, str] = {}
    by_task: dict[str, str] = {}
    for (task, seed), run in row.digests.items() if row else ():
        if task == own_task:
            seeds[seed] = run
        if seed == own_seed or task not in by_task:
            by_task[task] = run
    return (
        tuple(RunLink(str(seed), run, run == details.digest) for seed, run in sorted(seeds.items())),
        tuple(RunLink(task, run, run == details.digest) for task, run in by_task.items()),
    )


def _curves(curve: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Return the data of the learning curves: one line per key, with its values by training step."""
    keys = dict.fromkeys(key for record in curve for key in record if key not in ("step", "epoch"))
    lines = []
    for key in keys:
        points = [(record["step"], _number(record.get(key))) for record in curve]
        known = [{"step": step, "mean": value} for step, value in points if value is not None]
        if known:
            lines.append({"label": key, "loss": key.endswith("loss"), "points": known})
    return {"lines": lines}


def _number(value: Any) -> float | None:
    return finite_or_none(float(value)) if isinstance(value, int | float) else None


PROVENANCE = ("base_config", "seed", "commit", "versions", "device", "hardware", "data", "recipe", "experiment")
"""The entries of ``run.json`` that are shown first. The others follow in their order."""


def _provenance_rows(details: RunDetails) -> Sequence[tuple[str, str]]:
    rows = [("run", details.digest), ("weights", details.cell.weights), ("overrides", " ".join(details.cell.overrides))]
    record = {name: value for name, value in details.provenance.items() if name not in ("config", "overrides")}
    if "weights" in record:
        record["digest of the weights"] = record.pop("weights")
    ordered = [name for name in PROVENANCE if name in record] + [name for name in record if name not in PROVENANCE]
    rows += [(name, _format_value(record[name])) for name in ordered]
    return [(name.replace("_", " "), value) for name, value in rows if value]


def _format_value(value: object) -> str:
    if isinstance(value, Mapping):
        nested = any(isinstance(inner, Mapping) for inner in value.values())
        return ("; " if nested else " · ").join(f"{name} {_format_value(inner)}" for name, inner in value.items())
    return "" if value is None else value if isinstance(value, str) else format_json(value)
