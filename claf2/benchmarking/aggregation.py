"""Aggregation of the cells of a bench: means over seeds, confidence intervals, marks of significance, averages."""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

from claf2.benchmarking.cells import Cell, MeasuredCell, list_cells, list_options, row_key
from claf2.benchmarking.runs import PATH_OPTIONS, ScoredRuns, collapse_reason
from claf2.benchmarking.statistics import (
    Difference,
    ScoreEstimate,
    classify_difference,
    compare_runs,
    estimate_score,
    holm_correction,
)
from claf2.benchmarking.summary import Column, Delta, Failure, GridChoice, PublishedRow, Row, ScoreCell, Summary
from claf2.benchmarking.variant_scores import THESE_RUNS, add_differences, choose_from_grids, measure_costs
from claf2.errors import Claf2Error, RunError
from claf2.evaluation.report import lower_is_better
from claf2.metrics import Metric, Prediction, metrics
from claf2.registry import load_plugin
from claf2.task import Suite, suites, tasks

__all__ = ["Memo", "group_by_row", "summarize_bench", "summarize_cells"]

TABLE_RESAMPLES = 1000
"""Bootstrap resamples per cell: fewer than in a comparison, since a table has many cells and shows two decimals."""

CellT = TypeVar("CellT", bound=MeasuredCell)
ResultT = TypeVar("ResultT")


class Memo:
    """Remembers what was computed from cells, so that another summary computes only what has changed. By default it
    remembers nothing beyond one summary."""

    def __init__(self) -> None:
        self._results: dict[Hashable, Any] = {}
        self._used: dict[Hashable, Any] = {}

    @contextmanager
    def one_pass(self) -> Iterator[None]:
        """Forget at the end of the block what it did not use."""
        self._used = {}
        yield
        self._results, self._used = self._used, {}

    def get(self, key: Hashable, compute: Callable[[], ResultT]) -> ResultT:
        """Return what is remembered under a key, else compute it."""
        if key not in self._used:
            self._used[key] = self._results[key] if key in self._results else compute()
        result: ResultT = self._used[key]
        return result


def summarize_bench(out: Path, *, margin: float = 1.0) -> Summary:
    """Return the summary of a bench's folder.

    Args:
        out: the folder.
        margin: by how many points a variant may be worse than the recipe itself.

    Raises:
        RunError: if it holds no cells, a damaged one, two runs of one cell, or cells of several suites.
    """
    results = list_cells(out)
    for plugin in {plugin for result in results for plugin in result.cell.plugins}:
        load_plugin(plugin)
    names = sorted({result.cell.suite for result in results})
    if len(names) > 1:
        raise RunError(f"{out} holds cells of suites {', '.join(names)}: use one folder per suite")
    return summarize_cells(suites.get(names[0]), results, margin=margin)


def summarize_cells(
    suite: Suite, results: Sequence[MeasuredCell], memo: Memo | None = None, *, margin: float = 1.0
) -> Summary:
    """Return the summary of cells of a suite.

    Args:
        suite: the suite.
        results: the cells.
        memo: what earlier summaries have computed.
        margin: by how many points a variant may be worse than the recipe itself.

    Raises:
        RunError: if predictions are missing or damaged, or there are two runs of one cell.
    """
    memo = memo or Memo()
    columns = _columns(suite, {result.cell.task for result in results})
    groups = group_by_row(results)
    labels = [_row_label(group[0].cell) for group in groups]
    counts = Counter(labels)
    rows = [
        _make_row(suite, columns, group, memo, ambiguous=counts[label] > 1)
        for group, label in zip(groups, labels, strict=True)
    ]
    for position, column in enumerate(columns):
        deltas = _test_column(column, [row.cells[position] for row in rows], groups, memo)
        for index, (mark, delta) in deltas.items():
            rows[index] = _with_delta(rows[index], position, mark, delta)

    def score(position: int, cells: Sequence[MeasuredCell]) -> ScoredRuns | None:
        column = columns[position]
        key = ("runs", column, _keys(cells))
        return memo.get(key, lambda: _score_runs(column, _read_predictions(column, cells))[0])

    grids: tuple[GridChoice, ...] = ()
    if any(row.variant_name for row in rows):
        rows = add_differences(columns, rows, groups, score, margin)
        grids = choose_from_grids(columns, rows, groups, score)
    return Summary(
        suite=suite.name,
        columns=columns,
        rows=tuple(rows),
        published=tuple(_published_rows(suite, columns)),
        failures=tuple(_make_failure(result.cell, result.failure) for result in results if not result.scores),
        notes=suite.notes,
        when=datetime.now(UTC).isoformat(timespec="minutes"),
        interval="95 % confidence interval over seeds and examples",
        reference="the best row of the column (Holm's correction over all pairs of the column's rows)",
        margin=margin,
        grids=grids,
    )


def _columns(suite: Suite, measured: set[str]) -> tuple[Column, ...]:
    """Return the scores of the measured tasks, the deciding score of each task first."""
    columns = []
    for task in suite.columns:
        if task in measured:
            task_metrics = tasks.get(task).metrics
            for key in dict.fromkeys([f"valid/{task_metrics[0].selects}", *suite.columns[task]]):
                label = f"{task} ({_short_key(key)})"
                columns.append(Column(task, key, label, lower_is_better(task_metrics, key)))
    return tuple(columns)


def _short_key(key: str) -> str:
    split, _, name = key.partition("/")
    return name if split == "valid" else f"{name} {split.removeprefix('valid_')}"


def group_by_row(results: Sequence[CellT]) -> list[list[CellT]]:
    """Group cells that differ only in task and seed, sorted by model, step and training options."""

    def order(result: CellT) -> tuple[object, ...]:
        cell = result.cell
        words = [_sort_key(word) for word in cell.overrides]
        return cell.model, cell.step or 0, cell.recipe, bool(cell.variant), words, _sort_key(cell.variant)

    groups: dict[tuple[object, ...], list[CellT]] = {}
    for result in sorted(results, key=order):
        groups.setdefault(row_key(result.cell), []).append(result)
    return list(groups.values())


def _sort_key(word: str) -> tuple[bool, float, str]:
    """Return the key that sorts numbers by size, before other words."""
    try:
        return False, float(word), ""
    except ValueError:
        return True, 0.0, word


def _row_label(cell: Cell) -> tuple[object, ...]:
    """Return what a table shows of a cell's row."""
    return cell.model, cell.step, cell.recipe, cell.variant, frozenset(list_options(cell).items())


def _make_row(
    suite: Suite, columns: Sequence[Column], group: Sequence[MeasuredCell], memo: Memo, *, ambiguous: bool
) -> Row:
    """Make a row of the cells that differ in task and seed only. One that looks like another one (``ambiguous``) shows
    the weights and folders as well."""
    first = group[0].cell
    model = f"{first.model} ({first.weights})" if ambiguous and first.weights != first.model else first.model
    options = list_options(first, hidden=() if ambiguous else PATH_OPTIONS)
    seeds = tuple(sorted({result.cell.seed for result in group}))
    cells = tuple(_recall_cell(column, _finished(group, column.task), seeds, memo) for column in columns)
    means = {
        task: [
            # A mean over fewer seeds than the row has is not the row's, so it does not count in the average.
            cell.mean if cell and None not in cell.values else None
            for column, cell in zip(columns, cells, strict=True)
            if column.task == task and column.key in suite.columns[task]
        ]
        for task in suite.columns
    }
    return Row(
        model, seeds, cells, first.step, first.recipe, options, suite.average(means), first.variant,
        measure_costs(group),
    )  # fmt: skip


def _make_failure(cell: Cell, reason: str) -> Failure:
    return Failure(cell.model, cell.task, cell.seed, reason or "not finished", cell.step, cell.variant)


def _finished(group: Sequence[MeasuredCell], task: str) -> list[MeasuredCell]:
    return [result for result in group if result.cell.task == task and result.scores]


def _recall_cell(
    column: Column, finished: Sequence[MeasuredCell], seeds: tuple[int, ...], memo: Memo
) -> ScoreCell | None:
    return memo.get(("cell", column, _keys(finished), seeds), lambda: _make_cell(column, finished, seeds))


def _keys(results: Sequence[MeasuredCell]) -> tuple[Hashable, ...]:
    return tuple(result.key for result in results)


def _make_cell(column: Column, finished: Sequence[MeasuredCell], seeds: Sequence[int]) -> ScoreCell | None:
    by_seed: dict[int, MeasuredCell] = {}
    for result in finished:
        other = by_seed.setdefault(result.cell.seed, result)
        if other is not result:  # a BaseConfig has changed since the first of them
            raise RunError(f"{other.source} and {result.source} are runs of one cell: remove the one that is outdated")
    if not by_seed:
        return None
    predictions = _read_predictions(column, list(by_seed.values()))
    undefined = {source for source, run in predictions.items() if any(p.prediction is None for p in run)}
    values = tuple(
        by_seed[seed].scores.get(column.key) if seed in by_seed and by_seed[seed].source not in undefined else None
        for seed in seeds
    )
    defined = [value for value in values if value is not None]
    runs, collapsed = _score_runs(column, predictions)
    estimate: ScoreEstimate | None = None
    if runs is not None and len(defined) == len(by_seed):
        with suppress(Claf2Error):  # the score is undefined in many resamples
            estimate = estimate_score(runs, resamples=TABLE_RESAMPLES)
    return ScoreCell(
        values,
        statistics.mean(defined) if defined else None,
        estimate.low if estimate else None,
        estimate.high if estimate else None,
        tuple(seed for seed, result in by_seed.items() if result.source in collapsed),
    )


def _read_predictions(column: Column, finished: Sequence[MeasuredCell]) -> dict[str, list[Prediction]]:
    """Return the predictions of each run for the split of a column."""
    split = column.key.partition("/")[0]
    return {result.source: result.predictions(split) for result in finished}


def _score_runs(column: Column, predictions: Mapping[str, Sequence[Prediction]]) -> tuple[ScoredRuns | None, set[str]]:
    """Return the runs of a row scored by one column, if all have a score, and the sources of the runs
    that collapsed."""
    metric, labels = _find_metric(column), tasks.get(column.task).labels
    if metric is None:
        return None, set()
    try:
        collapsed = {source for source, run in predictions.items() if collapse_reason(metric, run, labels)}
    except Claf2Error:  # a metric of this name is registered, but it is not the one that gave the task's score
        return None, set()
    try:
        runs = ScoredRuns.from_predictions(metric, list(predictions.values()), labels)
        _ = runs.scores
        return runs, collapsed
    except Claf2Error:  # the runs have other examples, too few, or no score: there is no interval
        return None, collapsed


def _find_metric(column: Column) -> Metric | None:
    """Return a metric whose deciding score is that of a column, if there is one."""
    name = column.key.partition("/")[2]
    candidates: list[Metric] = [*tasks.get(column.task).metrics]
    if name in metrics.names():  # the task may name a metric that reports this score beside its deciding one
        candidates.append(metrics.get(name)())
    return next((metric for metric in candidates if metric.selects == name), None)


def _test_column(
    column: Column, cells: Sequence[ScoreCell | None], groups: Sequence[Sequence[MeasuredCell]], memo: Memo
) -> dict[int, tuple[str, Delta]]:
    """Compare each row of a column with the best row.

    Returns:
        Row → its mark of significance and its difference to the best row. Rows that cannot be compared are left out.
    """
    finished = {
        index: _finished(group, column.task)
        for index, (cell, group) in enumerate(zip(cells, groups, strict=True))
        if cell is not None and None not in cell.values
    }
    keys = {index: _keys(results) for index, results in finished.items()}

    @cache
    def score_row(index: int) -> ScoredRuns | None:
        return _score_runs(column, _read_predictions(column, finished[index]))[0]

    def mean(index: int) -> float | None:
        runs = score_row(index)
        return None if runs is None else float(runs.scores.mean())

    def compare(best: int, index: int) -> Difference | None:
        first, second = score_row(best), score_row(index)
        assert first is not None
        assert second is not None
        try:
            return compare_runs(first, second, resamples=TABLE_RESAMPLES)
        except Claf2Error:  # evaluated on other data
            return None

    means = {index: memo.get(("mean", column, keys[index]), partial(mean, index)) for index in finished}
    ranked = {index: value for index, value in means.items() if value is not None}
    if len(ranked) < 2:
        return {}
    sign = -1 if column.lower_is_better else 1
    best = max(ranked, key=lambda index: sign * ranked[index])
    compared = {
        index: memo.get(("difference", column, keys[best], keys[index]), partial(compare, best, index))
        for index in ranked
        if index != best
    }
    return _mark_differences({index: difference for index, difference in compared.items() if difference is not None})


def _mark_differences(differences: Mapping[int, Difference]) -> dict[int, tuple[str, Delta]]:
    """Return the mark of significance of each row of a column, and its difference to the best row."""
    # Every row is a test against the best one, so without a correction a long table would always have marks. The best
    # of k rows is also the best by luck: it could have been any, so that k (k - 1) / 2 pairs are tested in all.
    factor = (len(differences) + 1) / 2
    corrected = holm_correction({str(index): min(1.0, factor * each.p) for index, each in differences.items()})
    deltas = {}
    for index, difference in differences.items():
        p = corrected[str(index)]
        verdict: str = classify_difference(difference, p=p)
        mark = "*" * ((p < 0.05) + (p < 0.01))
        if difference.about == "runs":  # one seed each: nothing is known about the models, so nothing is marked
            mark, verdict = "", f"{verdict}, {THESE_RUNS}"
        deltas[index] = mark, Delta(difference.value, p, verdict)
    return deltas


def _with_delta(row: Row, position: int, mark: str, delta: Delta) -> Row:
    cell = row.cells[position]
    assert cell is not None  # rows without a score are not tested
    cells = list(row.cells)
    cells[position] = dataclasses.replace(cell, mark=mark, delta=delta)
    return dataclasses.replace(row, cells=tuple(cells))


def _published_rows(suite: Suite, columns: Sequence[Column]) -> list[PublishedRow]:
    rows = []
    for published in suite.published:
        scores = {
            (task, key): score
            for task, task_scores in published.scores.items()
            for key, score in zip(suite.columns[task], task_scores, strict=True)
        }
        row = PublishedRow(
            model=published.model,
            source=published.source.replace("†", "").strip(" ,"),
            scores=tuple(scores.get((column.task, column.key)) for column in columns),
            split=published.split,
            verified="†" not in published.source,
            average=suite.average(published.scores),
        )
        rows.append(row)
    return rows
