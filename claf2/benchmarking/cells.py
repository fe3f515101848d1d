"""The cells of a bench: what a cell is, its folder, and what the folder holds."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from claf2 import config
from claf2.benchmarking.runs import CELL_FILE, METRICS, PATH_OPTIONS
from claf2.config import Experiment
from claf2.config.source import parse_overrides
from claf2.errors import ConfigError, RunError
from claf2.evaluation.predictions import predictions_path, read_predictions
from claf2.metrics import Prediction
from claf2.registry import digest
from claf2.runtime.files import read_json, write_json

__all__ = [
    "Cell", "CellResult", "MeasuredCell", "cell_dir", "list_cells", "list_options", "list_unfinished",
    "make_cell", "read_cell", "row_key", "run_name", "write_cell",
]  # fmt: skip

LONGEST_NAME = 80
"""The most characters of a model's name in the name of its folder."""

NOT_MEASURED = ("precision", "cache_dir", "callbacks")
"""The fields of `runtime` that make no other cell: the digest of an experiment contains the precision, and the others
change no score."""

SCORE_INPUTS = ("experiment", "data", "tokenizer", "weights")
"""The entries of ``run.json`` that determine the scores."""

logger = logging.getLogger("claf2")


@dataclass(frozen=True)
class Cell:
    """One model, task and seed."""

    suite: str
    model: str
    weights: str
    task: str
    seed: int
    recipe: str
    """The suffix of the BaseConfig's name."""
    base_config: str
    overrides: tuple[str, ...] = ()
    step: int | None = None
    plugins: tuple[str, ...] = ()
    variant: str = ""
    """The name of the variant; empty: the recipe itself."""
    export: tuple[str, ...] | None = None
    """The arguments of the export that is measured, as words of the command line; ``None``: the run is measured."""

    def arguments(self) -> list[str]:
        """Return the command-line arguments that follow the BaseConfig, without the folder."""
        return ["--pretrained_model_name", self.weights, "--seed_num", str(self.seed), *self.overrides]


def make_cell(fields: Mapping[str, Any]) -> Cell:
    """Return the cell of some JSON values.

    Raises:
        KeyError: if a field is missing.
        TypeError: if there is another field, or one that is no list.
    """
    lists = {name: tuple(fields[name]) for name in ("overrides", "plugins")}
    for name in lists:
        if isinstance(fields[name], str):
            raise TypeError(f"{name} is a text, not a list")
    exported = fields.get("export")
    return Cell(**{**fields, **lists, "export": None if exported is None else tuple(exported)})


def list_options(cell: Cell, hidden: Sequence[str] = PATH_OPTIONS) -> dict[str, str | None]:
    """Return the overrides of a cell, by field, without the hidden ones; and the arguments of its export.

    Raises:
        ConfigError: if an override is not one.
    """
    overrides = {override.key: override.text for override in parse_overrides(cell.overrides)}
    options = {key: text for key, text in overrides.items() if key.rpartition(".")[2] not in hidden}
    if cell.export is not None:
        options["export"] = " ".join(cell.export) or "fp32"
    return options


def row_key(cell: Cell) -> tuple[object, ...]:
    """Return what the cells of a row of a table have in common: everything but task and seed."""
    options = list_options(cell, hidden=("cache_dir",))
    if cell.variant:  # only then, since the boards of earlier versions store digests of the others
        options["variant"] = cell.variant
    return cell.model, cell.step, cell.weights, cell.recipe, frozenset(options.items())


class MeasuredCell(Protocol):
    """A cell and what was measured, wherever it is stored. Tables are made of these."""

    @property
    def cell(self) -> Cell:
        """The cell."""

    @property
    def scores(self) -> Mapping[str, float | None]:
        """The scores of the best evaluation by key (``valid/accuracy``); empty if the run is not finished."""

    @property
    def failure(self) -> str:
        """Why there are no scores; empty if there are, or if the run is not finished."""

    @property
    def provenance(self) -> Mapping[str, object] | None:
        """The content of ``run.json``; ``None`` if the run is not finished."""

    @property
    def source(self) -> str:
        """Where the cell is stored, for messages. No two cells have the same."""

    @property
    def key(self) -> Hashable:
        """The identity of the cell and its content: where it is equal, so are scores and predictions."""

    def predictions(self, split: str) -> list[Prediction]:
        """Return the predictions for a split of the cell's task.

        Raises:
            RunError: if they are missing or damaged.
        """


@dataclass(frozen=True, eq=False)
class CellResult:
    """A cell and what its folder holds: a ``MeasuredCell``."""

    cell: Cell
    folder: Path
    scores: Mapping[str, float | None]
    """The scores of the best evaluation by key (``valid/accuracy``); empty if the run is not finished."""
    failure: str = ""
    provenance: Mapping[str, object] | None = None
    """The content of ``run.json``; ``None`` if the run is not finished."""

    @property
    def digest(self) -> str:
        """The digest of everything that determines the scores: filled config, data, tokenizer and weights, and the
        export that was measured, if any."""
        inputs = [self.provenance and self.provenance.get(name) for name in SCORE_INPUTS]
        return digest(inputs if self.cell.export is None else [*inputs, self.cell.export])

    @property
    def source(self) -> str:
        """The folder."""
        return str(self.folder)

    @property
    def key(self) -> Hashable:
        """The folder, whose content must not change meanwhile."""
        return self.folder

    def predictions(self, split: str) -> list[Prediction]:
        """Return the predictions for a split of the cell's task.

        Raises:
            RunError: if they are missing or damaged.
        """
        return read_predictions(predictions_path(self.folder, self.cell.task, split))


def cell_dir(out: Path, cell: Cell) -> Path:
    """Return the folder of a cell. Its name distinguishes everything that has a row or a place in a row of its own.

    Raises:
        ConfigError: if the BaseConfig or an override is wrong.
    """
    name = run_name(cell.task, _load_cell(cell))
    if cell.variant:
        if cell.export is not None:
            name = f"{name}-{digest(cell.export)[:8]}"
        return out / f"{_model_name(cell.weights)}@{_variant_name(cell.variant)}" / name
    folder = out / _model_name(cell.weights) / name
    # Earlier versions named the folder of a model without a digest, so that two models could share it.
    earlier = out / re.sub(r"[^\w.-]+", "_", cell.weights.strip("/")) / name
    if not folder.exists() and os.path.isfile(earlier / CELL_FILE):  # false for a name that is too long
        other = read_cell(earlier).cell
        if other.weights == cell.weights and run_name(other.task, _load_cell(other)) == name:
            return earlier
    return folder


def _load_cell(cell: Cell) -> Experiment:
    try:
        return config.load(cell.base_config, cell.arguments(), cell.plugins)
    except ConfigError as error:
        if not cell.variant:
            raise
        raise ConfigError(error.path, error.problem, origin=f"variant {cell.variant}", hint=error.hint) from error


def _model_name(weights: str) -> str:
    """Return the name of a model's folder: that of its weights, with a digest where it cannot be used as it is."""
    weights = weights.rstrip("/")
    name = re.sub(r"[^\w.-]+", "_", weights).strip("._-")[-LONGEST_NAME:]
    return name if name and name == weights else f"{name or 'model'}-{digest(weights)[:8]}"


def _variant_name(variant: str) -> str:
    """Return the name of a variant as a part of a folder's name, with a digest where characters were replaced."""
    name = re.sub(r"[^\w.+-]+", "_", variant)[-LONGEST_NAME:]
    return name if name == variant else f"{name}-{digest(variant)[:8]}"


def run_name(task: str, experiment: Experiment) -> str:
    """Return the name of the folder of a task's run. It contains the seed, and the digest of what is computed and how:
    of the experiment, and of the fields of `runtime` that are set."""
    fields = type(experiment.runtime).model_fields
    values = experiment.runtime.model_dump(mode="json")
    changed = {
        name: value
        for name, value in values.items()
        if name not in NOT_MEASURED and value != fields[name].get_default(call_default_factory=True)
    }
    key = digest([experiment.digest(), changed]) if changed else experiment.digest()
    return f"{task}-{experiment.seed}-{key[:12]}"


def list_cells(out: Path) -> list[CellResult]:
    """Read all cells in the folder of a bench.

    Raises:
        RunError: if there are none, or one is damaged.
    """
    paths = sorted(out.glob(f"*/*/{CELL_FILE}"))
    if not paths:
        raise RunError(f"{out} contains no bench; create one with claf2 bench run")
    return [read_cell(path.parent) for path in paths]


def list_unfinished(folder: Path) -> dict[str, list[str]]:
    """Return why the runs below a folder that were begun and have no scores have none, by task.

    Raises:
        RunError: if a cell is damaged.
    """
    reasons: dict[str, list[str]] = {}
    for path in sorted(folder.rglob(CELL_FILE)):
        result = read_cell(path.parent)
        if not result.scores:
            reason = f"seed {result.cell.seed}: {result.failure or 'not finished'}"
            reasons.setdefault(result.cell.task, []).append(reason)
    for path in sorted(folder.rglob("run.json")):  # of a run that is not a cell
        inner = "stages" in path.relative_to(folder).parts
        if inner or (path.parent / CELL_FILE).is_file() or (path.parent / METRICS).is_file():
            continue
        experiment = config.load(str(path.with_name("config.json")))
        for task in experiment.tasks:
            reasons.setdefault(task, []).append(f"seed {experiment.seed}: not finished")
    return reasons


def read_cell(folder: Path) -> CellResult:
    """Read the cell in a folder.

    Raises:
        RunError: if it is damaged.
    """
    record = read_json(folder / CELL_FILE)
    try:
        failure = record.pop("failure")
        cell = make_cell(record)
    except (KeyError, TypeError) as error:
        raise RunError(f"{folder / CELL_FILE}: damaged: {error!r}") from error
    # A run that was to replace a finished one may have failed before it did.
    if failure or not (folder / METRICS).is_file():
        return CellResult(cell, folder, {}, failure)
    scores = read_json(folder / METRICS).get("best")
    if not isinstance(scores, dict) or any(not isinstance(score, float | int | None) for score in scores.values()):
        raise RunError(f"{folder / METRICS}: damaged: it has no best evaluation")
    return CellResult(cell, folder, scores, "", read_json(folder / "run.json"))


def write_cell(folder: Path, cell: Cell, failure: str) -> None:
    """Write into the folder of a cell which cell it is, and why it failed if it did."""
    try:
        write_json(folder / CELL_FILE, {**asdict(cell), "failure": failure})
    except OSError as error:  # a full disk fails this cell, not the bench
        logger.warning("%s: %s", folder, error)
