"""A suite of tasks with one model: every task and seed trained, the scores in one table beside the published ones."""

from __future__ import annotations

import logging
import os
import re
import statistics
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from claf2 import config, inference, run
from claf2.build import data_root
from claf2.config import Experiment
from claf2.errors import ChangedError, Claf2Error, Interrupted, RunError
from claf2.metrics import Prediction
from claf2.overrides import parse_arguments
from claf2.store import read_json, write_json, write_text
from claf2.task import Published, Suite

__all__ = ["Cell", "measure", "submit", "table"]

GIVEN = {"seed_num": "--seeds", "pretrained_model_name": "--model", "log_dir": "--out"}
"""Fields that a suite sets itself, and the option that says them."""

LEGEND = """Measured scores are of the development sets, mean ± standard deviation over seeds; rows in italics are
published ones. †: not checked against its source."""

logger = logging.getLogger("claf2")


@dataclass(frozen=True)
class Cell:
    """One model, task and seed: its scores in the order of the suite's columns, or why there are none."""

    model: str
    task: str
    seed: int
    folder: str
    variant: str = ""
    """The recipe, and what was set besides: cells of one variant make one row."""
    scores: tuple[float | None, ...] = ()
    recipe: str = ""
    failure: str = ""


def measure(
    suite: Suite,
    models: Sequence[str],
    *,
    tasks: Sequence[str],
    seeds: Sequence[int],
    recipe: str,
    folder: Path,
    overrides: Sequence[str] = (),
) -> list[Cell]:
    """Train every model on every task with every seed, and write ``suite.json`` and ``suite.md`` into ``folder``.

    A cell lives in a folder that is named after the digest of its experiment. What is finished there is taken as it is,
    what was interrupted goes on. A cell that fails is reported, and the others go on.

    Args:
        tasks: those of the suite's that are wanted; none: all.
        recipe: the ending of the BaseConfigs' names.
        overrides: words of the command line, for every cell.

    Raises:
        Claf2Error: when there is no such task or recipe, or a BaseConfig is wrong.
    """
    wanted = list(dict.fromkeys(tasks or suite.columns))
    unknown = [task for task in wanted if task not in suite.columns]
    if unknown or recipe not in suite.recipes:
        known = list(suite.columns) if unknown else list(suite.recipes)
        raise RunError(f"suite {suite.name!r} has no {(unknown or [recipe])[0]!r}; it has {', '.join(known)}")
    for each in parse_arguments(overrides):
        if each.key.rsplit(".", 1)[-1] in GIVEN:
            raise RunError(f"--{each.key} is set for each cell: say {GIVEN[each.key.rsplit('.', 1)[-1]]}")
    variant = " ".join([recipe, *overrides])
    replaced = {(model, task, seed, variant) for model in models for task in wanted for seed in seeds}
    cells = [
        cell for cell in _stored(suite, folder) if (cell.model, cell.task, cell.seed, cell.variant) not in replaced
    ]
    for model in dict.fromkeys(models):
        for task in wanted:
            for seed in seeds:
                words = ["--pretrained_model_name", model, "--seed_num", str(seed), *overrides]
                experiment = config.load(f"{suite.configs[task]}_{recipe}", words)
                name = f"{task}-{seed}-{experiment.digest()[:12]}"
                place = folder / re.sub(r"[^\w.-]+", "_", model.strip("/")) / name
                experiment = config.load(experiment.name, [*words, "--log_dir", str(place)])
                identity = {"model": model, "task": task, "seed": seed, "folder": str(place), "variant": variant}
                cells.append(_cell(suite, identity, experiment, place))
                write_json(folder / "suite.json", _record(suite, cells))
                write_text(folder / "suite.md", table(suite, cells))
    return cells


def _stored(suite: Suite, folder: Path) -> list[Cell]:
    """Return the cells that were measured in the folder before.

    Raises:
        RunError: when they are another suite's, or what is there is damaged.
    """
    path = folder / "suite.json"
    if not path.is_file():
        return []
    record = read_json(path)
    if record.get("suite") != suite.name:
        raise RunError(
            f"{path} is of suite {record.get('suite')!r}: give {suite.name!r} a folder of its own with --out"
        )
    try:
        cells = [Cell(**{**each, "scores": tuple(each["scores"])}) for each in record["cells"]]
    except (KeyError, TypeError) as error:
        raise RunError(f"{path}: damaged: {error!r}") from error
    for cell in cells:
        whole = cell.failure or len(cell.scores) == len(suite.columns.get(cell.task, ()))
        if not whole or any(not isinstance(score, float | None) for score in cell.scores):
            raise RunError(f"{path}: damaged: the scores of {cell.task!r} are {cell.scores}")
    return cells


def _cell(suite: Suite, identity: dict[str, Any], experiment: Experiment, place: Path) -> Cell:
    task = identity["task"]
    logger.info("suite %s: %s, seed %d, %s", suite.name, task, identity["seed"], identity["model"])
    try:
        try:
            run.train(experiment, resume=True)
        except ChangedError as error:
            logger.warning("suite %s: %s is trained again: %s", suite.name, task, error)
            run.train(experiment, overwrite=True)
        best = read_json(place / "metrics.json")["best"]
    except (Claf2Error, OSError) as error:
        if isinstance(error, Interrupted):
            raise
        logger.warning("suite %s: %s failed: %s", suite.name, task, error)
        return Cell(**identity, failure=str(error))
    scores = tuple(best.get(key) for key in suite.columns[task])
    return Cell(**identity, scores=scores, recipe=experiment.recipe_digest())


def _record(suite: Suite, cells: Sequence[Cell]) -> dict[str, Any]:
    averages = {name: _average(suite, own) for name, own in _rows(cells).items()}
    return {"suite": suite.name, "averages": averages, "cells": [asdict(cell) for cell in cells]}


def table(suite: Suite, cells: Sequence[Cell]) -> str:
    """Return the table as Markdown: a row a model with mean and standard deviation over seeds, then what was
    published."""
    tasks = list(suite.columns)
    head = [
        "model",
        *(f"{task} ({', '.join(_short(key) for key in suite.columns[task])})" for task in tasks),
        "average",
    ]
    rows = []
    for name, own in _rows(cells).items():
        seeds = len({cell.seed for cell in own})
        row = [f"{name} ({seeds} seed{'s' * (seeds > 1)})"]
        row += [_measured([cell for cell in own if cell.task == task]) for task in tasks]
        rows.append([*row, _number(_average(suite, own))])
    for each in suite.published:
        scores = [" / ".join(map(_number, each.scores[task])) if task in each.scores else "" for task in tasks]
        rows.append([f"*{each.model}* ({_where(each)})", *scores, _number(suite.average(each.scores))])
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    failures = [f"- {cell.model}, {cell.task}, seed {cell.seed}: {cell.failure}" for cell in cells if cell.failure]
    parts = [f"# {suite.name}", "\n".join(lines), suite.notes]
    parts += ["Failed:\n\n" + "\n".join(failures)] if failures else []
    parts.append(LEGEND)
    return "\n\n".join(part for part in parts if part) + "\n"


def _where(row: Published) -> str:
    return f"{row.source}, {row.split}"


def _short(key: str) -> str:
    split, _, name = key.partition("/")
    return name if split == "valid" else f"{name} {split.removeprefix('valid_')}"


def _rows(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Return the cells of each row: those of one model and one variant."""
    rows: dict[str, list[Cell]] = {}
    for cell in cells:
        rows.setdefault(f"{cell.model}, {cell.variant}" if cell.variant else cell.model, []).append(cell)
    return rows


def _columns(cells: Sequence[Cell]) -> Iterator[list[float | None]]:
    """Yield the values of each score over the seeds that did not fail."""
    yield from (list(values) for values in zip(*(cell.scores for cell in cells if not cell.failure), strict=True))


def _measured(cells: Sequence[Cell]) -> str:
    parts = []
    for values in _columns(cells):
        known = [value for value in values if value is not None]
        band = f" ± {statistics.stdev(known):.2f}" if len(known) > 1 else ""
        lost = f" ({len(values) - len(known)} undefined)" if len(known) < len(values) else ""
        parts.append((f"{statistics.mean(known):.2f}{band}" if known else "") + lost)
    return " / ".join(parts)


def _average(suite: Suite, cells: Sequence[Cell]) -> float | None:
    means: dict[str, list[float | None]] = {}
    for task in suite.columns:
        columns = list(_columns([cell for cell in cells if cell.task == task]))
        means[task] = [
            statistics.mean([v for v in values if v is not None]) if None not in values else None for values in columns
        ] or [None]
    return suite.average(means)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def submit(suite: Suite, folder: Path, archive: Path) -> list[str]:
    """Answer the suite's official test files with the best run of each task in ``folder``, and zip the answers.

    Returns:
        The files of the submission that could not be made, with the reason.

    Raises:
        RunError: when the suite takes no submissions, or nothing was measured in ``folder``.
    """
    if not suite.submission:
        raise RunError(f"suite {suite.name!r} takes no submissions")
    cells = _stored(suite, folder)
    if not cells:
        raise RunError(f"{folder} holds no suite.json: nothing was measured there; see claf2 suite run")
    missing, answers = [], {}
    for name, (task, file) in suite.submission.items():
        own = [cell for cell in cells if cell.task == task and not cell.failure and None not in cell.scores]
        if not own:
            missing.append(f"{name}: {task} was not trained")
            continue
        best = Path(max(own, key=lambda cell: sum(score or 0.0 for score in cell.scores)).folder)
        try:
            path = data_root(config.load(str(best / "config.json")).data) / file
            answers[name] = _answers(inference.answer(best, path))
        except (Claf2Error, OSError) as error:
            missing.append(f"{name}: {error}")
    if not answers:
        raise RunError(f"nothing to submit: {'; '.join(missing)}")
    archive.parent.mkdir(parents=True, exist_ok=True)
    scratch = archive.with_name(f".{archive.name}.new")
    with zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED) as target:
        for name, text in answers.items():
            target.writestr(zipfile.ZipInfo(name), text)
    os.replace(scratch, archive)
    return missing


def _answers(predictions: Sequence[Prediction]) -> str:
    """Return the lines of a submission, numbers to three places as GLUE's own examples have them."""
    said = [each.prediction for each in predictions]
    shown = [f"{value:.3f}" if isinstance(value, float) else str(value) for value in said]
    lines = [f"{each.id}\t{value}" for each, value in zip(predictions, shown, strict=True)]
    return "\n".join(["index\tprediction", *lines]) + "\n"
