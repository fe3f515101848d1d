"""Tables, curves and comparisons of a board, made from its records by the functions that make them from folders."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from claf2.benchmarking.aggregation import summarize_cells
from claf2.benchmarking.summary import Summary
from claf2.board.records import Records, StoredCell
from claf2.task import suites

__all__ = ["Summaries"]


@dataclass(frozen=True)
class _Cached:
    change: int
    summary: Summary


class Summaries:
    """The summaries of a board's suites. One is computed again only after a change of the board.

    Args:
        records: the records of the board.
    """

    def __init__(self, records: Records) -> None:
        self.records = records
        self._cached: dict[str, _Cached] = {}
        self._lock = threading.Lock()

    def summary(self, suite: str) -> Summary:
        """Return the summary of a suite, as ``bench report`` shows it of a folder.

        Raises:
            RegistryError: if the suite is unknown.
            RunError: if the board has no cells of it.
        """
        with self._lock:
            change = self.records.change_number()
            cached = self._cached.get(suite)
            if cached is None or cached.change != change:
                stored: Sequence[StoredCell] = self.records.cells(suite=suites.get(suite).name)
                cached = self._cached[suite] = _Cached(change, summarize_cells(suites.get(suite), stored))
            return cached.summary
