"""Checks of a record before it is stored: its scores must follow from its predictions."""

from __future__ import annotations

from claf2.benchmarking.runs import collapse_reason
from claf2.board.cell_record import CellRecord
from claf2.errors import Claf2Error, RegistryError, RunError, first_line
from claf2.metrics import Metric, Prediction
from claf2.task import Suite, suites, tasks

__all__ = ["check_record"]

SCORE_TOLERANCE = 0.01
"""By how many points a score may differ from that of the predictions, whose numbers are rounded."""


def check_record(record: CellRecord) -> None:
    """Check that a record is one of a known suite and task, that it has the predictions that tables need, that metrics
    can read them, and that they have the scores that the record states. A table is then never spoiled by one of its
    cells.

    Raises:
        RunError: if something is missing, or a score is another one.
    """
    try:
        suite = suites.get(record.cell.suite)
    except RegistryError as error:
        raise RunError(f"cell.suite: {error}") from error
    if record.cell.suite != suite.name or record.cell.task not in suite.columns:
        raise RunError(f"cell.task: suite {suite.name!r} has tasks {', '.join(suite.columns)}")
    _ = record.place
    _check_scores(record, suite)


def _check_scores(record: CellRecord, suite: Suite) -> None:
    if not record.scores:
        return
    name = record.cell.task
    task = tasks.get(name)
    for split in {"valid", *(key.partition("/")[0] for key in suite.columns[name])}:
        lines = record.predictions.get(split)
        if not lines:
            raise RunError(f"predictions.{split[:80]}: missing, and the table of {suite.name} needs them")
        predictions = [Prediction(**line) for line in lines]
        for metric in task.metrics:
            _check_metric(record, split, metric, predictions, task.labels)


def _check_metric(
    record: CellRecord, split: str, metric: Metric, predictions: list[Prediction], labels: tuple[str, ...]
) -> None:
    key = f"{split}/{metric.selects}"
    if any(prediction.prediction is None for prediction in predictions):
        return  # the score is undefined, whatever the record states
    try:
        value = metric.resampler(predictions, labels).value()
        collapse_reason(metric, predictions, labels)
        for prediction in predictions:
            metric.is_right(prediction)
    except Claf2Error as error:
        raise RunError(f"predictions.{split[:80]}: {error}") from error
    except Exception as error:
        # Metrics trust that predictions have the form of the task's head, and fail in their own ways where they do not.
        problem = f"not predictions of task {record.cell.task}"
        raise RunError(f"predictions.{split[:80]}: {problem}: {first_line(error)[:200]}") from error
    stated = record.scores.get(key)
    if stated is not None and (value is None or abs(value - stated) > SCORE_TOLERANCE):
        raise RunError(f"scores.{key}: {stated}, but the predictions have {value}; evaluate the run again")
