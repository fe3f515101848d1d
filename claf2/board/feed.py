"""A feed to a board: the cells of a bench are submitted as they end, while others are trained."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

from claf2.benchmarking.cells import CellResult, read_cell
from claf2.benchmarking.runs import CELL_FILE
from claf2.board.submit import BoardClient, submit_cells
from claf2.errors import Claf2Error

__all__ = ["BoardFeed"]

RETRY_SECONDS = 60.0
"""How long after a failure the cells are submitted again, even if no other one ends."""

logger = logging.getLogger("claf2")


class BoardFeed:
    """Submits the cells in the folder of a bench from a thread of its own. A board that does not answer delays nothing
    and ends nothing: its cells are sent later, at the latest at the end.

    Args:
        out: the folder of the bench. The cells that it has already are submitted at once.
        client: the board.
    """

    def __init__(self, out: Path, client: BoardClient) -> None:
        self._out, self._client = out, client
        self._sent: dict[Path, tuple[int, str]] = {}
        self._refused: dict[Path, str] = {}
        """The cells that the board does not take as they are, each with the reason."""
        self._ended, self._closed = Event(), Event()
        self._has_warned, self._may_write = False, False
        self._problem = ""
        self._ended.set()
        self._thread = Thread(target=self._run, name="claf2-board", daemon=True)
        self._thread.start()

    def update(self) -> None:
        """Say that a cell has ended."""
        self._ended.set()

    def close(self) -> list[str]:
        """Submit what is left, and return the cells that the board does not have, each with the reason."""
        self._closed.set()
        self._ended.set()
        self._thread.join(1.0)
        was_busy = self._thread.is_alive()
        if was_busy:
            logger.warning("waiting for the board at %s, which is being sent the last cells", self._client.url)
            self._thread.join()
        # A board that has just not answered is not waited for again.
        problem = self._problem if was_busy and self._problem else self._try()
        return [*self._refused.values(), *([problem] if problem else [])]

    def _run(self) -> None:
        while not self._closed.is_set():
            self._ended.wait(RETRY_SECONDS if self._has_warned else None)
            self._ended.clear()
            if self._closed.is_set():
                return
            self._problem = self._try()
            if self._problem and not self._has_warned:
                logger.warning("%s; the cells that have ended are submitted later", self._problem)
            self._has_warned = bool(self._problem)

    def _try(self) -> str:
        """Submit the cells that have ended since the last time, and return why they could not be."""
        try:
            self._submit()
        except (Claf2Error, OSError) as error:
            return str(error)
        return ""

    def _submit(self) -> None:
        if not self._may_write:  # a token that is refused is known before the first cell has ended
            self._client.check_token()
            self._may_write = True
        waiting = list(self._changed())
        if not waiting:
            return
        submission = submit_cells([result for result, _ in waiting], self._client, workers=1, replace=True)
        for result, state in waiting:
            self._sent[result.folder] = state
            self._refused.pop(result.folder, None)
        for reason in submission.refused:  # it begins with the folder
            folders = [
                result.folder for result, _ in waiting if reason.startswith((f"{result.folder}:", f"{result.folder}/"))
            ]
            self._refuse(folders[0] if folders else self._out, reason)

    def _changed(self) -> Iterator[tuple[CellResult, tuple[int, str]]]:
        """Yield the cells that are not on the board as they are, each with its state."""
        for path in sorted(self._out.glob(f"*/*/{CELL_FILE}")):
            # Before it is read: what is written meanwhile is another state, and is submitted the next time.
            written = _written(path.parent)
            try:
                result = read_cell(path.parent)
            except (Claf2Error, OSError) as error:  # one that is damaged keeps none of the others from the board
                self._refuse(path.parent, str(error))
                continue
            state = (written if result.scores else 0), result.failure
            if (result.scores or result.failure) and self._sent.get(result.folder) != state:
                yield result, state

    def _refuse(self, folder: Path, reason: str) -> None:
        if self._refused.get(folder) != reason:
            logger.warning("not on the board: %s", reason)
        self._refused[folder] = reason


def _written(folder: Path) -> int:
    """Return what changes when a cell is trained again."""
    try:
        return (folder / "metrics.json").stat().st_mtime_ns
    except FileNotFoundError:
        return 0
