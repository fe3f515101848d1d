"""Tables, curves and comparisons of a board, made from its records by the functions that make them from folders."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from claf2.benchmarking.aggregation import Memo, group_by_row, summarize_cells
from claf2.benchmarking.cells import row_key
from claf2.benchmarking.comparison import Comparison, compare_task_runs
from claf2.benchmarking.runs import SeedRun, TaskRuns, merge_runs, recipe_words
from claf2.benchmarking.summary import Summary
from claf2.board.curves import StepCurve, make_step_curves
from claf2.board.records import NotFoundError, Records, StoredCell
from claf2.errors import RunError
from claf2.registry import digest
from claf2.task import Suite, suites, tasks

__all__ = ["SuiteTable", "Summaries", "row_id"]


@dataclass(frozen=True)
class SuiteTable:
    """The summary of a suite, and the cells that it was made from."""

    summary: Summary
    rows: Sequence[Sequence[StoredCell]]
    """The cells of each row of the summary."""
    change: int
    """The number of changes of the board that it includes."""


class Summaries:
    """The summaries of a board's suites. Only what a change concerns is computed again.

    Args:
        records: the records of the board.
    """

    def __init__(self, records: Records) -> None:
        self.records = records
        self._tables: dict[str, SuiteTable] = {}
        self._memos: dict[str, Memo] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def table(self, name: str) -> SuiteTable:
        """Return the table of a suite. While one is computed, others get the one before.

        Raises:
            RegistryError: if the suite is unknown.
            RunError: if predictions are missing or damaged.
        """
        suite = suites.get(name)
        with self._guard:
            lock = self._locks.setdefault(suite.name, threading.Lock())
        table = self._tables.get(suite.name)
        if not lock.acquire(blocking=table is None):
            assert table is not None
            return table
        try:
            change, table = self.records.change_number(), self._tables.get(suite.name)
            if table is None or table.change != change:
                table = self._tables[suite.name] = self._make_table(suite, change, table)
            return table
        finally:
            lock.release()

    def _make_table(self, suite: Suite, change: int, earlier: SuiteTable | None) -> SuiteTable:
        stored = self.records.cells(suite=suite.name)
        if earlier is not None and {cell.key for row in earlier.rows for cell in row} == {cell.key for cell in stored}:
            return replace(earlier, change=change)  # another suite changed
        memo = self._memos.setdefault(suite.name, Memo())
        with memo.one_pass():
            summary = summarize_cells(suite, stored, memo)
        return SuiteTable(summary, group_by_row(stored), change)

    def curves(self, name: str) -> list[StepCurve]:
        """Return the scores of a suite by step of pre-training, for each model with checkpoints.

        Raises:
            RegistryError: if the suite is unknown.
            RunError: if predictions are missing or damaged.
        """
        return make_step_curves(suites.get(name), self.table(name).summary)

    def compare_cells(
        self, first: str, second: str, *, suite: str | None = None, force: bool = False, level: float = 0.95,
        margin: float = 2.0,
    ) -> Comparison:  # fmt: skip
        """Compare two cells or two rows.

        Args:
            first: the digest of a cell, the id of a row (``row_id``), or the name of a model with one row.
            second: the same of what is compared with it.
            suite: the suite of the rows; it is needed only for the name of a model in several suites.
            force: compare scores of different recipes as well.
            level: the coverage of intervals.
            margin: the difference in points that the comparison should be able to find.

        Raises:
            Claf2Error: if something is not found or ambiguous; and as ``claf2.benchmarking.comparison.compare_models``
                does.
        """
        if first == second:
            raise RunError("a and b are the same; name two cells or rows")
        found = [self._find(name, suite) for name in (first, second)]
        names = [_describe_cells(cells) for cells in found]
        if names[0] == names[1]:
            names = [f"{name} ({digest[:12]})" for name, digest in zip(names, (first, second), strict=True)]
        runs = [_to_task_runs(cells) for cells in found]
        return compare_task_runs(
            (names[0], names[1]), runs[0], runs[1], force=force, level=level, margin=margin
        )  # fmt: skip

    def _find(self, name: str, suite: str | None) -> Sequence[StoredCell]:
        """Return the cells with scores of a cell's digest, a row's id or a model's name."""
        cell = self.records.get(name)
        if cell is not None:
            found = [[cell]]
        else:
            stored = self.records.cells(suite=None if suite is None else suites.get(suite).name)
            by_suite: dict[str, list[StoredCell]] = {}
            for stored_cell in stored:
                by_suite.setdefault(stored_cell.cell.suite, []).append(stored_cell)
            rows = [row for cells in by_suite.values() for row in group_by_row(cells)]
            found = [row for row in rows if name in (row_id(row[0]), row[0].cell.model)]
        if len(found) > 1:
            ids = ", ".join(row_id(row[0]) for row in found[:10])
            raise RunError(f"{name[:80]} has {len(found)} rows: name one by its id: {ids}")
        finished = [stored_cell for stored_cell in found[0] if stored_cell.scores] if found else []
        if not finished:
            raise NotFoundError(f"{name[:80]}: no such cell, row or model with scores; /api/cells lists them")
        return finished


def row_id(stored: StoredCell) -> str:
    """Return the id of the row of a cell: 16 hexadecimal digits."""
    *fields, options = row_key(stored.cell)
    assert isinstance(options, frozenset)
    return digest([stored.cell.suite, *fields, sorted(map(list, options))])[:16]


def _describe_cells(cells: Sequence[StoredCell]) -> str:
    cell = cells[0].cell
    name = cell.model if cell.step is None else f"{cell.model} step {cell.step}"
    return f"{name}, {cell.task}, seed {cell.seed}" if len(cells) == 1 else name


def _to_task_runs(cells: Sequence[StoredCell]) -> dict[str, TaskRuns]:
    by_task: dict[str, TaskRuns] = {}
    for stored in cells:
        name, provenance = stored.cell.task, stored.record["provenance"] or {}
        recipe, data, config = (provenance.get(key) for key in ("recipe", "data", "config"))
        if not isinstance(recipe, str) or not isinstance(data, Mapping):
            raise RunError(f"{stored.source}: has no recipe or no data in its provenance; submit the run again")
        run = SeedRun(Path(stored.source), stored.cell.seed, config or {}, stored.predictions("valid"))
        digests = {str(split): str(sha256) for split, sha256 in data.items()}
        words = recipe_words(stored.cell.overrides)
        runs = TaskRuns(tasks.get(name), [run], recipe, digests, stored.cell.variant, words)
        by_task[name] = merge_runs(name, by_task[name], runs) if name in by_task else runs
    return by_task
