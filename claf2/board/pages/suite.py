"""The content of the page of a suite as plain data and text: comparisons, legend, chart. Only templates write HTML."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import TypeAlias

from claf2.benchmarking.summary import Column, Row, ScoreCell, Summary, finite_or_none, format_options
from claf2.board.curves import average_points
from claf2.board.pages.numbers import NO_SCORE, format_count, format_score, format_step
from claf2.board.pages.variants import VariantTable, make_variant_table
from claf2.errors import RegistryError
from claf2.registry import digest
from claf2.task import suites

__all__ = [
    "AVERAGE", "MeanTable", "OptionTable", "RowRuns", "SuitePage", "best_indices", "checkpoint_series",
    "compare_options", "make_suite_page", "suite_facts",
]  # fmt: skip

AVERAGE = Column("average", "", "average")
"""The column of averages, which comes before the columns of the summary."""

AS_IN_RECIPE = "as in the recipe"
"""The value of an option that a row does not override."""

ChartData: TypeAlias = dict[str, list[dict[str, object]]]
"""``scores``: label and direction of each score; ``series``: label and points of each line."""

Means: TypeAlias = Sequence[float | None]
"""A mean per column, that of the average first."""


@dataclass(frozen=True)
class MeanTable:
    """Means that are compared with each other."""

    title: str
    rows: Mapping[str, Means]
    best: tuple[frozenset[int], ...]
    """For each column, the indices of the best rows."""


@dataclass(frozen=True)
class OptionTable:
    """The values of one training option, compared in all settings in which at least two of them were tried."""

    option: str
    """``recipe``, or as on the command line: ``--learning_rate``."""
    overall: MeanTable
    """The only setting, or the means over the settings that have every value."""
    settings: tuple[MeanTable, ...]
    """A table per setting, a row per value. A setting is a model, step and the other options."""


@dataclass(frozen=True)
class Problem:
    """A run that failed or collapsed."""

    model: str
    kind: str
    """``failed`` or ``collapsed``."""
    training: str
    """The step and training options."""
    task: str
    seed: int
    reason: str


@dataclass(frozen=True)
class RowRuns:
    """The runs of a row of the table, which have pages of their own."""

    id: str
    """What names the row in the addresses of pages."""
    digests: Mapping[tuple[str, int], str] = field(default_factory=dict)
    """(task, seed) → the digest of the run."""

    @cached_property
    def _first(self) -> dict[str, str]:
        return {task: run for (task, _), run in sorted(self.digests.items(), reverse=True)}

    def first(self, task: str) -> str:
        """Return the digest of the run of a task with the lowest seed; empty if there is none."""
        return self._first.get(task, "")


@dataclass(frozen=True)
class LegendEntry:
    """A sign of the score table and its meaning."""

    sign: str
    meaning: str
    style: str = ""
    """``bold``, ``italic``, or empty."""


@dataclass(frozen=True)
class SuitePage:
    """Everything that the template of a suite's page shows."""

    summary: Summary
    columns: tuple[Column, ...]
    """The average and the columns of the summary."""
    best: tuple[frozenset[int], ...]
    """For each column, the indices of the best rows. Published rows do not compete."""
    facts: str
    notes: tuple[str, ...]
    """Paragraphs."""
    details: Mapping[str, str]
    """The lines that can be shown below a score: name → text of the menu."""
    legend: tuple[LegendEntry, ...]
    chart: ChartData
    options: tuple[OptionTable, ...]
    problems: tuple[Problem, ...]
    runs: tuple[RowRuns, ...]
    """The runs of each row."""
    several_variants: bool
    """Whether rows were trained in different ways, so that each must say how."""
    remarks: tuple[str, ...] = ()
    """Lines below the chart."""
    variants: VariantTable | None = None
    """``None``: there is only the recipe itself."""

    @property
    def title(self) -> str:
        """The head of the page."""
        return self.summary.title or self.summary.suite


def make_suite_page(summary: Summary, runs: Sequence[RowRuns] = (), remarks: Sequence[str] = ()) -> SuitePage:
    """Return the content of the page of a suite.

    Args:
        summary: the summary of the suite.
        runs: the runs of each row of the summary, in their order; empty: they have no pages.
        remarks: lines to be shown below the chart.
    """
    runs = runs or [RowRuns(_row_digest(row)) for row in summary.rows]
    columns = (AVERAGE, *summary.columns)
    cells = [cell for row in summary.rows for cell in row.cells]
    details = {"interval": summary.interval, "seeds": "each seed"}
    if any(cell and cell.delta for cell in cells):
        details["delta"] = "difference, with p"
    return SuitePage(
        summary=summary,
        columns=columns,
        best=_best_rows([_means(row) for row in summary.rows], columns),
        facts=f"{suite_facts(summary)}. A score is the mean over seeds."
        if summary.rows
        else "Nothing was measured yet.",
        notes=tuple(part for part in re.split(r"\n\s*\n", summary.notes.strip()) if part),
        details=details,
        legend=tuple(_legend(summary, cells)),
        chart=_chart_data(summary, columns, [row.id for row in runs]),
        options=tuple(compare_options(summary.rows, columns)),
        problems=tuple(_problems(summary)),
        runs=tuple(runs),
        several_variants=len({row.variant() for row in summary.rows}) > 1,
        remarks=tuple(remarks),
        variants=make_variant_table(summary),
    )


def _row_digest(row: Row) -> str:
    """Return a short name of a row, which stays the same when others are added."""
    # As ASCII, since a name that comes from a folder may hold what UTF-8 cannot represent.
    return digest(json.dumps([row.model, row.step, row.recipe, dict(row.options)], sort_keys=True))[:12]


def best_indices(values: Sequence[float | None], *, lower_is_better: bool = False) -> frozenset[int]:
    """Return the indices of the best values, ties at two decimals included; none if there are less than two values."""
    rounded = {
        index: round(known, 2) for index, value in enumerate(values) if (known := finite_or_none(value)) is not None
    }
    if len(rounded) < 2:
        return frozenset()
    best = min(rounded.values()) if lower_is_better else max(rounded.values())
    return frozenset(index for index, value in rounded.items() if value == best)


def _best_rows(rows: Sequence[Means], columns: Sequence[Column]) -> tuple[frozenset[int], ...]:
    return tuple(
        best_indices([means[index] for means in rows], lower_is_better=column.lower_is_better)
        for index, column in enumerate(columns)
    )


def _means(row: Row) -> Means:
    return [finite_or_none(row.average), *(finite_or_none(cell.mean) if cell else None for cell in row.cells)]


def suite_facts(summary: Summary) -> str:
    """Return in one line what was measured."""
    rows = summary.rows
    if not rows:
        return "Nothing was measured yet"
    checkpoints = {(row.model, row.step) for row in rows if row.step is not None}
    seeds = sorted({len(row.seeds) for row in rows})
    variants = {row.variant() for row in rows}
    facts = [
        format_count(len({row.model for row in rows}), "model"),
        format_count(len(checkpoints), "checkpoint") if checkpoints else "",
        format_count(len({column.task for column in summary.columns}), "task"),
        format_count(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds",
        min(variants) if len(variants) == 1 else f"{len(variants)} training variants",
    ]
    return " · ".join(filter(None, facts))


def _legend(summary: Summary, cells: Sequence[ScoreCell | None]) -> Iterator[LegendEntry]:
    """Yield the meaning of the signs that occur."""
    measured = [cell for cell in cells if cell]
    if len(summary.rows) > 1:
        yield LegendEntry("bold", "best measured score of the column, ties included", "bold")
    if any(cell.low is not None for cell in measured):
        yield LegendEntry("±", summary.interval)
    for mark, meaning in summary.marks.items():
        if any(cell.mark == mark for cell in measured):
            yield LegendEntry(mark, meaning)
    if summary.reference and any(cell.mark or cell.delta for cell in measured):
        yield LegendEntry("", f"marks and differences compare with {summary.reference}")
    if any(column.lower_is_better for column in summary.columns):
        yield LegendEntry("↓", "lower is better")
    if any(cell.collapsed for cell in measured):
        yield LegendEntry("collapsed", "the run learned nothing; see the list below")
    if summary.published:
        yield LegendEntry("italics", "published by others, not measured here", "italic")
    if any(not row.verified for row in summary.published):
        yield LegendEntry("†", "not checked against its source")
    if any(cell is None or cell.mean is None for cell in cells):
        yield LegendEntry(NO_SCORE, "not measured, or undefined")


def checkpoint_series(rows: Sequence[Row]) -> dict[tuple[str, str], list[int]]:
    """Return the indices of the rows of each model and training variant by step, for those with at least two steps."""
    series: dict[tuple[str, str], dict[int, int]] = {}
    for index, row in enumerate(rows):
        if row.step is not None:
            series.setdefault((row.model, row.variant()), {})[row.step] = index
    return {name: [by_step[step] for step in sorted(by_step)] for name, by_step in series.items() if len(by_step) > 1}


def _chart_data(summary: Summary, columns: Sequence[Column], ids: Sequence[str]) -> ChartData:
    """Return the data of the chart: the scores of each model and training variant at each step."""
    series = checkpoint_series(summary.rows)
    several_variants = len({variant for _, variant in series}) > 1
    drawn = [index for indices in series.values() for index in indices]
    label, averages = _averages(summary, drawn)
    labels = [label, *(column.label for column in summary.columns)]
    return {
        "scores": [
            {"label": label, "lower": column.lower_is_better} for label, column in zip(labels, columns, strict=True)
        ],
        "series": [
            {
                "label": f"{model} · {variant}" if several_variants else model,
                "keys": [ids[index] for index in indices],
                "points": [_point(summary.rows[index], averages[index]) for index in indices],
            }
            for (model, variant), indices in series.items()
        ],
    }


def _averages(summary: Summary, indices: Sequence[int]) -> tuple[str, dict[int, dict[str, object]]]:
    """Return the name of the average of the chart, and its values by row.

    All lines average the same tasks: those that any of the rows has. Without the suite, which says how tasks are
    averaged, they are the averages of the table, which have no interval.
    """
    rows = [summary.rows[index] for index in indices]
    try:
        label, points = average_points(suites.get(summary.suite), summary.columns, rows)
    except (RegistryError, KeyError):  # the suite of a plug-in that is not loaded here, or of an earlier version
        return AVERAGE.label, {index: {"mean": finite_or_none(summary.rows[index].average)} for index in indices}
    values: list[dict[str, object]] = [{"mean": point.mean, "low": point.low, "high": point.high} for point in points]
    return label, dict(zip(indices, values, strict=True))


def _point(row: Row, average: Mapping[str, object]) -> dict[str, object]:
    scores = [average]
    for cell in row.cells:
        score: dict[str, object] = {}
        if cell is not None:
            score = {
                "mean": finite_or_none(cell.mean),
                "low": finite_or_none(cell.low),
                "high": finite_or_none(cell.high),
            }
            if cell.collapsed:
                score["collapsed"] = len(cell.collapsed)
        scores.append(score)
    return {"step": row.step, "scores": scores}


def compare_options(rows: Sequence[Row], columns: Sequence[Column]) -> list[OptionTable]:
    """Return a table for each option in which rows differ while everything else is the same.

    The recipe counts as an option; the pre-training step does not.
    """
    options = dict.fromkeys(name for row in rows for name in row.training_options())
    return [table for option in options if (table := _compare_option(option, rows, columns)) is not None]


def _compare_option(option: str, rows: Sequence[Row], columns: Sequence[Column]) -> OptionTable | None:
    settings: dict[tuple[str, int | None, frozenset[tuple[str, str]]], dict[str, Row]] = {}
    for row in rows:
        others = row.training_options()
        value = others.pop(option, AS_IN_RECIPE)
        # A set, since rows that give the same options in another order belong to the same setting.
        settings.setdefault((row.model, row.step, frozenset(others.items())), {}).setdefault(value, row)
    compared = [by_value for by_value in settings.values() if len(by_value) > 1]
    if not compared:
        return None
    values = sorted(dict.fromkeys(value for by_value in compared for value in by_value), key=_value_order)
    tables = []
    for by_value in compared:
        first = next(iter(by_value.values()))
        others = {name: value for name, value in first.training_options().items() if name != option}
        title = " · ".join(filter(None, (first.model, format_step(first.step), format_options(others))))
        means = {value: _means(by_value[value]) for value in values if value in by_value}
        tables.append(MeanTable(title, means, _best_rows(list(means.values()), columns)))
    overall = tables[0] if len(tables) == 1 else _average_settings(tables, values, columns)
    return OptionTable(option, overall, tuple(tables))


def _average_settings(settings: Sequence[MeanTable], values: Sequence[str], columns: Sequence[Column]) -> MeanTable:
    """Return the means over the settings that have every value, so that all rows average the same settings.

    A column in which one of these settings has no score has no mean.
    """
    complete = [setting for setting in settings if len(setting.rows) == len(values)]
    means: dict[str, list[float | None]] = {value: [] for value in values}
    for index in range(len(columns)):
        scores = {value: [setting.rows[value][index] for setting in complete] for value in values}
        defined = bool(complete) and not any(None in column_scores for column_scores in scores.values())
        for value, column_scores in scores.items():
            known = [score for score in column_scores if score is not None]
            means[value].append(fmean(known) if defined else None)
    title = f"mean of the {format_count(len(complete), 'setting')} with every value"
    return MeanTable(title, means, _best_rows(list(means.values()), columns))


def _value_order(value: str) -> tuple[int, float]:
    """Sort the recipe's own value first, then numbers by size, then other values in the order of their rows."""
    try:
        return (0, 0.0) if value == AS_IN_RECIPE else (1, float(value))
    except ValueError:
        return (2, 0.0)


def _problems(summary: Summary) -> Iterator[Problem]:
    """Yield the runs that failed, then those that collapsed."""
    for run in summary.failures:
        yield Problem(run.model, "failed", _training(run.step, run.variant), run.task, run.seed, run.reason)
    for row in summary.rows:
        for column, cell in zip(summary.columns, row.cells, strict=True):
            if cell is not None:
                values = dict(zip(row.seeds, cell.values, strict=False))
                for seed in cell.collapsed:
                    reason = f"{column.key} {format_score(values.get(seed))}"
                    training = _training(row.step, row.variant())
                    yield Problem(row.model, "collapsed", training, column.label, seed, reason)


def _training(step: int | None, variant: str) -> str:
    return " · ".join(filter(None, (format_step(step), variant))) or NO_SCORE
