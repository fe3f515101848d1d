"""A feed to a board: the cells of a bench are submitted as they end, while others are trained."""

from __future__ import annotations

import logging
from pathlib import Path
from threading import Event, Thread

from claf2.benchmarking.cells import CELL_FILE, CellResult, read_cell
from claf2.board.submit import BoardClient, Submission, submit_cells
from claf2.errors import Claf2Error

__all__ = ["BoardFeed"]

logger = logging.getLogger("claf2")


class BoardFeed:
    """Submits the cells in the folder of a bench from a thread of its own. A board that does not answer delays nothing
    and ends nothing: its cells are sent later, at the latest at the end.

    Args:
        out: the folder of the bench.
        client: the board.
    """

    def __init__(self, out: Path, client: BoardClient) -> None:
        self._out, self._client = out, client
        self._sent: dict[Path, tuple[int, str]] = {}
        self._ended, self._closed = Event(), Event()
        self._has_warned = False
        self._thread = Thread(target=self._run, name="claf2-board", daemon=True)
        self._thread.start()

    def update(self) -> None:
        """Say that a cell has ended."""
        self._ended.set()

    def close(self) -> list[str]:
        """Submit what is left, and return the cells that the board does not have, each with the reason."""
        self._closed.set()
        self._ended.set()
        self._thread.join()
        try:
            return self._submit().refused
        except Claf2Error as error:
            return [str(error)]

    def _run(self) -> None:
        while not self._closed.is_set():
            self._ended.wait()
            self._ended.clear()
            if self._closed.is_set():
                return
            try:
                self._submit()
            except Claf2Error as error:
                if not self._has_warned:
                    logger.warning("%s; the cells that have ended are submitted later", error)
                self._has_warned = True
            else:
                self._has_warned = False

    def _submit(self) -> Submission:
        """Submit the cells that have ended since the last time."""
        waiting = [
            result for result in map(read_cell, self._folders()) if self._sent.get(result.folder) != _state(result)
        ]
        submission = submit_cells(waiting, self._client, workers=1, replace=True) if waiting else Submission()
        if not submission.refused:
            self._sent |= {result.folder: _state(result) for result in waiting}
        return submission

    def _folders(self) -> list[Path]:
        return [path.parent for path in sorted(self._out.glob(f"*/*/{CELL_FILE}"))]


def _state(result: CellResult) -> tuple[int, str]:
    """Return what changes when a cell is trained again."""
    path = result.folder / "metrics.json"
    return (path.stat().st_mtime_ns if result.scores else 0), result.failure
