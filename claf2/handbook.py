"""The handbook of tasks: a page of Markdown made from the tables, so that it cannot say anything else than they do."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Sequence
from pathlib import Path

from claf2.metrics import Metric, metrics
from claf2.readers import readers
from claf2.samples import generate
from claf2.task import Suite, Task

__all__ = ["handbook"]

LINES = 3
"""How many lines of its format a task shows."""

WIDTH = 150


def handbook(tasks: Sequence[Task], suites: Sequence[Suite], configs: dict[str, list[str]]) -> str:
    """Return the page.

    Args:
        tasks, suites: what to describe.
        configs: task → the BaseConfigs of it.
    """
    parts = [
        "# Tasks",
        "Made by `claf2 tasks handbook`; the rows themselves are in `tasks/`. The lines of each format are of its "
        "generated sample, since no benchmark's data is shipped here.",
    ]
    parts += [_suite(suite) for suite in suites]
    parts += [_task(task, configs.get(task.name, [])) for task in tasks]
    return "\n\n".join(parts) + "\n"


def _suite(suite: Suite) -> str:
    lines = [f"## Suite `{suite.name}`", ""]
    lines += [f"Recipes: {', '.join(suite.recipes)}. {suite.notes}", ""]
    head = ["published", *suite.columns, "average"]
    lines += ["| " + " | ".join(head) + " |", "| " + " | ".join(["---"] * len(head)) + " |"]
    for row in suite.published:
        cells = [" / ".join("" if v is None else f"{v:g}" for v in row.scores.get(task, ())) for task in suite.columns]
        average = suite.average(row.scores)
        shown = "" if average is None else f"{average:.2f}"
        lines.append(f"| {row.model} ({row.source}, {row.split}) | " + " | ".join(cells) + f" | {shown} |")
    return "\n".join(lines)


def _task(task: Task, configs: Sequence[str]) -> str:
    files = ", ".join(f"{split} `{name}`" for split, name in task.files.items())
    facts = [
        f"- language {task.language}, head `{task.head}`"
        + (f", {len(task.labels)} labels: {_some(task.labels)}" if task.labels else ""),
        f"- files: {files}; reader `{readers.name_of(type(task.reader))}`"
        + (f"; hub `{task.hub}`" if task.hub else ""),
        *(f"- metric {_metric(metric)}" for metric in task.metrics),
        f"- BaseConfigs: {', '.join(f'`{name}`' for name in configs) or 'none'}",
        f"- source: {task.source}; licence: {task.licence or 'not stated'}",
    ]
    facts += [f"- {note}" for note in task.notes]
    return f"## `{task.name}`\n\n" + "\n".join(facts) + f"\n\n```text\n{_lines(task)}\n```"


def _some(labels: Sequence[str]) -> str:
    shown = ", ".join(f"`{label}`" for label in labels[:8])
    return shown if len(labels) <= 8 else f"{shown} …"


def _metric(metric: Metric) -> str:
    first = (inspect.getdoc(type(metric)) or "").split(".")[0].replace("\n", " ")
    return f"`{metrics.name_of(type(metric))}`, by `{metric.selects}`: {first}."


def _lines(task: Task) -> str:
    split = next(iter(task.files), "train")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sample.txt"
        task.reader.write(generate(task, split, LINES), path)
        lines = path.read_text(encoding="utf-8").splitlines()
    wanted = lines[: LINES + 1] if lines[0][0] not in "[{" else lines[:12]
    return "\n".join(line if len(line) <= WIDTH else line[:WIDTH] + " …" for line in wanted)
