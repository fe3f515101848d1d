"""Prediction files: one JSON line per example, with id, gold, prediction, score and details."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection
from pathlib import Path

from claf2.errors import RunError
from claf2.evaluation.report import Report
from claf2.metrics import Prediction, undefined
from claf2.runtime.files import format_json, write_text

__all__ = ["predictions_path", "read_predictions", "to_json_line", "write_predictions"]

REMEDY = "write it again with `claf2 evaluate RUN`, or delete the folder of the run and repeat its command"


def predictions_path(run_dir: Path, task: str, split: str) -> Path:
    """Return the file of a run that holds the predictions for a split of a task."""
    return run_dir / "predictions" / f"{task}-{split}.jsonl"


def to_json_line(prediction: Prediction) -> str:
    """Return a prediction as one line of JSON, without the line break."""
    return format_json(dataclasses.asdict(prediction))


def write_predictions(run_dir: Path, report: Report, tasks: Collection[str] | None = None) -> None:
    """Write the predictions of a report into a run's folder.

    Args:
        run_dir: the folder of the run.
        report: what was evaluated; its further splits are written too.
        tasks: the tasks to write; ``None``: all of them.
    """
    for task, task_report in report.tasks.items():
        if tasks is None or task in tasks:
            lines = [to_json_line(prediction) + "\n" for prediction in task_report.predictions]
            write_text(predictions_path(run_dir, task, report.split), "".join(lines))
    for other in report.others:
        write_predictions(run_dir, other, tasks)


def read_predictions(path: Path) -> list[Prediction]:
    """Read a prediction file. A prediction with a number that is not finite, which older versions have written, is
    undefined.

    Raises:
        RunError: when the file is missing or damaged.
    """
    try:
        # Only \n ends a line: texts may hold other line breaks, at which `splitlines` would split as well.
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
        return [_from_json_line(line) for line in lines]
    except FileNotFoundError as error:
        raise RunError(f"{path}: missing; {REMEDY}") from error
    except (UnicodeDecodeError, json.JSONDecodeError, TypeError) as error:
        raise RunError(f"{path}: damaged: {error}; {REMEDY}") from error


def _from_json_line(line: str) -> Prediction:
    non_finite: list[str] = []
    prediction = Prediction(**json.loads(line, parse_constant=non_finite.append))
    return undefined(prediction) if non_finite else prediction
