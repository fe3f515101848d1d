"""The cells of a bench as a summary: means, bands, marks of significance, averages, what failed."""

from __future__ import annotations

import statistics as plain
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from claf2.bench import statistics
from claf2.bench.matrix import Measured, found
from claf2.bench.statistics import Runs, holm
from claf2.bench.summary import Cell, Column, Failure, Published, Row, Summary, Versus
from claf2.errors import Claf2Error, RunError
from claf2.metrics import Metric, metrics
from claf2.overrides import parse_arguments
from claf2.registry import load_plugin
from claf2.report import lower_is_better
from claf2.store import read_predictions
from claf2.task import Suite, suites, tasks

__all__ = ["markdown", "summarize"]

RESAMPLES = 1000

PLACES = ("data_dir", "cache_dir")
"""What says where something is, and is no choice."""

BAND = "95 % band over seeds and examples"


def summarize(out: Path) -> tuple[Suite, Summary]:
    """Return what a bench's folder holds.

    Raises:
        RunError: when it holds none, a damaged one, or cells of several suites.
    """
    cells = found(out)
    for plugin in {plugin for each in cells for plugin in each.cell.plugins}:
        load_plugin(plugin)
    names = sorted({each.cell.suite for each in cells})
    if len(names) > 1:
        raise RunError(f"{out} holds cells of suites {', '.join(names)}: give each a folder of its own")
    suite = suites.get(names[0])
    measured = {each.cell.task for each in cells}
    keys = [(task, key) for task in suite.columns if task in measured for key in _keys(suite, task)]
    columns = tuple(Column(task, key, f"{task} ({_short(key)})", _lower(task, key)) for task, key in keys)
    groups: dict[tuple[object, ...], list[Measured]] = {}
    for each in sorted(
        cells, key=lambda one: (one.cell.model, one.cell.step or 0, one.cell.recipe, one.cell.overrides)
    ):
        cell = each.cell
        groups.setdefault((cell.model, cell.step, cell.weights, cell.recipe, cell.overrides), []).append(each)
    rows = [_row(suite, keys, own) for own in groups.values()]
    _mark(rows, keys, list(groups.values()))
    return suite, Summary(
        suite=suite.name,
        columns=columns,
        rows=tuple(rows),
        published=tuple(_published(suite, keys)),
        failures=tuple(
            Failure(each.cell.model, each.cell.task, each.cell.seed, each.failure or "not finished", each.cell.step)
            for each in cells
            if not each.scores
        ),
        notes=suite.notes,
        when=datetime.now(UTC).isoformat(timespec="minutes"),
        band=BAND,
        versus="the best row of the column (Holm's correction over the column's rows)",
    )


def _keys(suite: Suite, task: str) -> list[str]:
    """Return the keys of a task's columns: the one that decides first."""
    deciding = f"valid/{tasks.get(task).metrics[0].selects}"
    return list(dict.fromkeys([deciding, *suite.columns[task]]))


def _short(key: str) -> str:
    split, _, name = key.partition("/")
    return name if split == "valid" else f"{name} {split.removeprefix('valid_')}"


def _lower(task: str, key: str) -> bool:
    return lower_is_better(tasks.get(task).metrics, key)


def _metric(task: str, key: str) -> Metric | None:
    """Return a metric that gives this score as its deciding one, where there is one."""
    name = key.partition("/")[2]
    own = [metric for metric in tasks.get(task).metrics if metric.selects == name]
    known = [metrics.get(each)() for each in metrics.names() if each == name and metrics.get(each).selects == name]
    return next(iter([*own, *known]), None)


def _row(suite: Suite, keys: Sequence[tuple[str, str]], own: Sequence[Measured]) -> Row:
    cell = own[0].cell
    seeds = tuple(sorted({each.cell.seed for each in own}))
    cells = tuple(_cell(task, key, [each for each in own if each.cell.task == task], seeds) for task, key in keys)
    means = {
        task: [
            entry.mean if entry and None not in entry.values else None
            for (name, key), entry in zip(keys, cells, strict=True)
            if name == task and key in suite.columns[task]
        ]
        for task in suite.columns
    }
    given = {each.key: each.text for each in parse_arguments(cell.overrides)}
    options = {key: text for key, text in given.items() if key.rpartition(".")[2] not in PLACES}
    return Row(cell.model, seeds, cells, cell.step, cell.recipe, options, suite.average(means))


def _cell(task: str, key: str, own: Sequence[Measured], seeds: Sequence[int]) -> Cell | None:
    by_seed = {each.cell.seed: each for each in own if each.scores}
    if not by_seed:
        return None
    values = tuple(by_seed[seed].scores.get(key) if seed in by_seed else None for seed in seeds)
    known = [value for value in values if value is not None]
    runs, lost = _runs(task, key, list(by_seed.values()))
    band = None
    if runs is not None and len(known) == len(by_seed):
        band = statistics.score(runs, resamples=RESAMPLES)
    collapsed = tuple(seed for seed, each in by_seed.items() if each.folder in lost)
    return Cell(
        values, plain.mean(known) if known else None,
        band.low if band else None, band.high if band else None, collapsed,
    )  # fmt: skip


def _runs(task: str, key: str, own: Sequence[Measured]) -> tuple[Runs | None, set[Path]]:
    """Return the runs of a row by one score, and the folders of those that learnt nothing."""
    metric, labels = _metric(task, key), tasks.get(task).labels
    if metric is None:
        return None, set()
    split = key.partition("/")[0]
    said = [read_predictions(each.folder / "predictions" / f"{task}-{split}.jsonl") for each in own]
    lost = {
        each.folder for each, one in zip(own, said, strict=True) if statistics.collapsed(metric, one, labels)
    }  # fmt: skip
    try:
        return Runs.of(metric, said, labels), lost
    except Claf2Error:
        return None, lost


def _mark(rows: list[Row], keys: Sequence[tuple[str, str]], groups: Sequence[Sequence[Measured]]) -> None:
    """Compare each row of a column with its best one, and put the marks in."""
    for place, (task, key) in enumerate(keys):
        runs: dict[int, Runs] = {}
        for number, own in enumerate(groups):
            entry = rows[number].cells[place]
            finished = [each for each in own if each.cell.task == task and each.scores]
            found_runs = _runs(task, key, finished)[0] if entry and finished and None not in entry.values else None
            if found_runs is not None:
                runs[number] = found_runs
        if len(runs) < 2:
            continue
        sign = -1 if _lower(task, key) else 1
        top = max(runs, key=lambda number: sign * float(runs[number].scores.mean()))
        differences = {}
        for number, own_runs in runs.items():
            if number != top:
                try:
                    differences[number] = statistics.compare(runs[top], own_runs, resamples=RESAMPLES)
                except Claf2Error:
                    continue  # judged on other data: not comparable
        corrected = holm({str(number): each.p for number, each in differences.items()})
        for number, each in differences.items():
            p = corrected[str(number)]
            mark = "" if each.about == "runs" or p >= 0.05 else "*" if p >= 0.01 else "**"
            word = statistics.verdict(each, p=p) + (", of these runs only" if each.about == "runs" else "")
            entry = rows[number].cells[place]
            assert entry is not None
            changed = Cell(
                entry.values, entry.mean, entry.low, entry.high, entry.collapsed, mark, Versus(each.value, p, word)
            )
            cells = (*rows[number].cells[:place], changed, *rows[number].cells[place + 1 :])
            rows[number] = Row(**{**vars(rows[number]), "cells": cells})


def _published(suite: Suite, keys: Sequence[tuple[str, str]]) -> list[Published]:
    found_rows = []
    for each in suite.published:
        scores: Mapping[tuple[str, str], float | None] = {
            (task, key): score
            for task, own in each.scores.items()
            for key, score in zip(suite.columns[task], own, strict=True)
        }
        found_rows.append(
            Published(
                each.model, each.source.replace("†", "").strip(" ,"), tuple(scores.get(key) for key in keys),
                each.split, "†" not in each.source, suite.average(each.scores),
            )
        )  # fmt: skip
    return found_rows


def markdown(summary: Summary) -> str:
    """Return a summary as a Markdown table, published rows in italics."""
    head = ["model", *(column.label for column in summary.columns), "average"]
    lines = [head, ["---"] * len(head)]
    for row in summary.rows:
        name = row.model if row.step is None else f"{row.model} step {row.step}"
        seeds = f"{len(row.seeds)} seed{'s' * (len(row.seeds) > 1)}"
        said = f"{name}, {row.variant()} ({seeds})"
        lines.append([said, *map(_shown, row.cells), _number(row.average)])
    for each in summary.published:
        where = f"{each.source}{'' if each.verified else ' †'}, {each.split}"
        lines.append([f"*{each.model}* ({where})", *map(_number, each.scores), _number(each.average)])
    parts = [f"# {summary.suite}", "\n".join("| " + " | ".join(line) + " |" for line in lines), summary.notes]
    failures = [f"- {each.model}, {each.task}, seed {each.seed}: {each.reason}" for each in summary.failures]
    parts += ["Failed:\n\n" + "\n".join(failures)] if failures else []
    marks = "; ".join(f"{mark} {words}" for mark, words in summary.marks.items())
    parts.append(
        f"Mean over seeds, {summary.band} in brackets. {marks}, against {summary.versus}. Rows in italics are "
        "published; †: not checked against its source."
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def _shown(cell: Cell | None) -> str:
    if cell is None:
        return ""
    lost = sum(value is None for value in cell.values)
    band = "" if cell.low is None or cell.high is None else f" ({cell.low:.2f} to {cell.high:.2f})"
    note = (f" ({lost} without)" if lost else "") + (f" ({len(cell.collapsed)} collapsed)" if cell.collapsed else "")
    return f"{_number(cell.mean)}{cell.mark}{band}{note}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
