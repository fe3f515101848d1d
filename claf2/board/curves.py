"""Scores by step of pre-training, with their intervals, and the average of the tasks that were measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from claf2.benchmarking.summary import Column, Row, ScoreCell, Summary
from claf2.task import Suite

__all__ = ["CurvePoint", "ScoreCurve", "StepCurve", "average_points", "make_step_curves"]

AVERAGE_LABEL = "average"
"""The name of the curve of the suite's average."""


@dataclass(frozen=True)
class CurvePoint:
    """A score after some steps of pre-training."""

    step: int
    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ScoreCurve:
    """One score by step; the score of the suite is called ``average``."""

    label: str
    points: tuple[CurvePoint, ...]


@dataclass(frozen=True)
class StepCurve:
    """The scores of one model, fine-tuned in one way, by step of its pre-training."""

    model: str
    variant: str
    curves: tuple[ScoreCurve, ...]
    """The average of the suite, then one for each column of its table."""


def make_step_curves(suite: Suite, summary: Summary) -> list[StepCurve]:
    """Return the scores of a suite by step of pre-training, for each model with checkpoints."""
    by_model: dict[tuple[str, str], list[Row]] = {}
    for row in summary.rows:
        if row.step is not None:
            by_model.setdefault((row.model, row.variant()), []).append(row)
    return [
        StepCurve(model, variant, _make_curves(suite, summary.columns, sorted(rows, key=lambda row: row.step or 0)))
        for (model, variant), rows in by_model.items()
    ]


def _make_curves(suite: Suite, columns: Sequence[Column], rows: Sequence[Row]) -> tuple[ScoreCurve, ...]:
    curves = [_average_curve(suite, columns, rows)]
    for position, column in enumerate(columns):
        points = [(row.step, row.cells[position]) for row in rows]
        curves.append(ScoreCurve(column.label, tuple(_to_point(step or 0, cell) for step, cell in points if cell)))
    return tuple(curves)


def _to_point(step: int, cell: ScoreCell) -> CurvePoint:
    return CurvePoint(step, cell.mean, cell.low, cell.high)


def _average_curve(suite: Suite, columns: Sequence[Column], rows: Sequence[Row]) -> ScoreCurve:
    label, points = average_points(suite, columns, rows)
    return ScoreCurve(label, tuple(point for point in points if point.mean is not None))


def average_points(suite: Suite, columns: Sequence[Column], rows: Sequence[Row]) -> tuple[str, list[CurvePoint]]:
    """Return the average of the tasks that any of the rows has, with its interval.

    Returns:
        Its name, which says how many tasks are missing from the suite's average, and a point per row. A row that lacks
        one of these tasks has no average.
    """
    averaged = suite.averaged or tuple(suite.columns)
    keys = {(task, key) for task in averaged for key in suite.columns[task]}
    used = [
        position
        for position, column in enumerate(columns)
        if (column.task, column.key) in keys and any(row.cells[position] for row in rows)
    ]
    measured = {columns[position].task for position in used}
    points = []
    for row in rows:
        by_task: dict[str, list[ScoreCell | None]] = {task: [] for task in measured}
        for position in used:
            by_task[columns[position].task].append(row.cells[position])
        points.append(_average_point(row.step or 0, list(by_task.values())))
    is_whole = len(measured) == len(averaged)
    return AVERAGE_LABEL if is_whole else f"{AVERAGE_LABEL} of {len(measured)} of {len(averaged)} tasks", points


def _average_point(step: int, cells_by_task: Sequence[Sequence[ScoreCell | None]]) -> CurvePoint:
    """Return the average of tasks with its interval. Tasks are independent, since each has examples and runs of its
    own; the scores of one task are not, so their intervals are averaged as if they erred together."""
    means, squares = [], []
    for cells in cells_by_task:
        # A mean over fewer seeds than the row has is not the row's.
        complete = [cell for cell in cells if cell and cell.mean is not None and None not in cell.values]
        if len(complete) < len(cells):
            return CurvePoint(step, None, None, None)
        means.append(fmean(cell.mean for cell in complete if cell.mean is not None))
        widths = [(cell.high - cell.low) / 2 for cell in complete if cell.low is not None and cell.high is not None]
        squares.append(fmean(widths) ** 2 if len(widths) == len(cells) else math.nan)
    if not means:
        return CurvePoint(step, None, None, None)
    mean, half = fmean(means), math.sqrt(sum(squares)) / len(means)
    return CurvePoint(step, mean, None, None) if math.isnan(half) else CurvePoint(step, mean, mean - half, mean + half)
