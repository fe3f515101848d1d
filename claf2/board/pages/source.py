"""What the pages of a board show, from its records."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from claf2.benchmarking.comparison import Comparison
from claf2.benchmarking.summary import Summary
from claf2.board.pages import export_page
from claf2.board.pages.run import RunDetails
from claf2.board.pages.suite import RowRuns
from claf2.board.records import NotFoundError, Records, StoredCell
from claf2.board.summaries import Summaries, row_id
from claf2.errors import RegistryError, RunError

__all__ = ["RecordSource", "export_suite"]

logger = logging.getLogger("claf2")


class RecordSource:
    """The records of a board, as its pages show them: a ``PageSource``.

    Args:
        records: the records of the board.
        summaries: its tables.
    """

    def __init__(self, records: Records, summaries: Summaries) -> None:
        self.records = records
        self.tables = summaries

    def change_number(self) -> int:
        """Return the number of changes, which is larger after every change."""
        return self.records.change_number()

    def summaries(self) -> Sequence[Summary]:
        """Return the summary of each suite with cells. A suite that is not known here is left out."""
        found = []
        for name in self._suites():
            try:
                found.append(self.tables.table(name).summary)
            except RegistryError as error:  # of a plug-in that the board was started without
                logger.warning("%s", error)
        return found

    def _suites(self) -> list[str]:
        return list(self.records.suites())

    def table(self, suite: str) -> tuple[Summary, Sequence[RowRuns], int]:
        """Return the summary of a suite, the runs of each of its rows, and the number of changes that it includes.

        Raises:
            Claf2Error: if there is no such suite, or the board has no cells of it.
        """
        table = self.tables.table(suite)
        if not table.rows:
            known = ", ".join(self._suites()) or "none"
            raise NotFoundError(f"the board has no results of {table.summary.suite}; it has {known}")
        return table.summary, list(map(_row_runs, table.rows)), table.change

    def run(self, digest: str) -> tuple[RunDetails, RowRuns | None] | None:
        """Return a run and the runs of its row; ``None`` if there is none of this digest, or it is not finished."""
        stored = self.records.get(digest)
        if stored is None or not stored.scores:
            return None
        rows = self.tables.table(stored.cell.suite).rows
        row = next((row for row in rows if any(cell.digest == digest for cell in row)), None)
        return _run_details(stored), None if row is None else _row_runs(row)

    def comparison(self, suite: str, first: str, second: str) -> Comparison:
        """Compare two rows of a suite, given by their ids, or two cells, given by their digests.

        Raises:
            Claf2Error: if they cannot be compared; the message says why.
        """
        # Of different recipes as well: the page says so.
        return self.tables.compare_cells(first, second, suite=suite, force=True)


def export_suite(records: Records, suite: str) -> str:
    """Return the pages of a suite of a board and of its runs as one HTML file, to be written as UTF-8.

    Raises:
        Claf2Error: if there is no such suite, or the board has no cells of it.
    """
    table = Summaries(records).table(suite)
    if not table.rows:
        known = ", ".join(sorted(records.suites())) or "none yet"
        raise RunError(f"the board has no results of {table.summary.suite}; it has those of: {known}")

    def runs() -> Iterator[RunDetails]:
        yield from (_run_details(stored) for row in table.rows for stored in row if stored.scores)

    return export_page(table.summary, list(map(_row_runs, table.rows)), runs())


def _row_runs(row: Sequence[StoredCell]) -> RowRuns:
    return RowRuns(
        row_id(row[0]), {(stored.cell.task, stored.cell.seed): stored.digest for stored in row if stored.scores}
    )


def _run_details(stored: StoredCell) -> RunDetails:
    record = stored.record
    curve = [
        {"step": point["step"], "epoch": point["epoch"], **point["scores"]}
        for point in record.get("learning_curve") or ()
    ]
    provenance = record["provenance"] or {}
    return RunDetails(stored.digest, stored.cell, stored.scores, provenance, curve, stored.predictions("valid"))
