"""The cells of a pre-training's checkpoints: which is trained next, and which have ended.

The ends of the curve come first, then always the checkpoint that halves the widest gap, seed by seed, so that the shape
of the curve is known after a part of the cost. A new checkpoint is an end. There is no central record: a cell is done
when its folder says so, whoever trained it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from claf2.benchmarking.cells import Cell, cell_dir, write_cell
from claf2.benchmarking.curve import next_step
from claf2.benchmarking.matrix import BenchModel, CellJob, CellOutcome, Progress
from claf2.benchmarking.runs import METRICS
from claf2.errors import RunError
from claf2.runtime.files import read_json

__all__ = ["CellQueue", "CellState", "QueuedCell"]

PROCESS_DIED = "its process died"


class CellState(Enum):
    """The state of a cell."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    DROPPED = "dropped"
    """Its checkpoint was removed before it was measured."""


ENDED = (CellState.DONE, CellState.FAILED, CellState.DROPPED)


@dataclass
class QueuedCell:
    """A cell and its state."""

    cell: Cell
    step: int
    state: CellState = CellState.WAITING
    folder: Path | None = None
    """``None`` until it was its turn: to find out takes as long as to read a BaseConfig."""
    attempts: int = 0
    not_before: float = 0.0
    """When to ask again whether another process has trained it."""
    failure: str = ""


def _is_done(folder: Path, weights: str | None) -> bool:
    """Say whether the run in a folder is finished and, if their digest is known, began with these weights. Otherwise
    the job finds out what is to be done."""
    if not (folder / METRICS).is_file():
        return False
    if weights is None:
        return True
    try:
        return bool(read_json(folder / "run.json").get("weights") == weights)
    except RunError:
        return False


class CellQueue:
    """The cells of all checkpoints that are known.

    Args:
        out: the folder of the bench.
        plan: returns the cells of a checkpoint, seed by seed.
        cpus: threads per cell.
        keep: keep the best checkpoint of each cell.
        retries: how often a cell that fails is trained again.
        busy_pause: seconds until a cell that another process trains is asked for again.
    """

    def __init__(
        self, out: Path, plan: Callable[[BenchModel], Sequence[Cell]], *, cpus: int | None = None, keep: bool = True,
        retries: int = 1, busy_pause: float = 5.0,
    ) -> None:  # fmt: skip
        self._out, self._plan = out, plan
        self._cpus, self._keep, self._retries, self._busy_pause = cpus, keep, retries, busy_pause
        self._cells: dict[int, list[QueuedCell]] = {}
        self._present: set[int] = set()
        self._weights: dict[int, str | None] = {}
        self._running: dict[str, QueuedCell] = {}
        self._trained, self._seconds = 0, 0.0

    @property
    def steps(self) -> list[int]:
        """The steps of all checkpoints so far, those that were removed included."""
        return sorted(self._cells)

    def cells(self, step: int) -> Sequence[QueuedCell]:
        """Return the cells of a checkpoint."""
        return self._cells[step]

    def update(self, checkpoints: Iterable[BenchModel]) -> tuple[list[int], list[int]]:
        """Take note of the checkpoints that there are now.

        Returns:
            The steps that are new, and those that are gone although cells of them were still to be trained.
        """
        models = {checkpoint.step or 0: checkpoint for checkpoint in checkpoints}
        self._weights |= {step: model.weights_digest for step, model in models.items()}
        new, gone = [], []
        for step in sorted(models.keys() - self._present):
            if step not in self._cells:
                self._cells[step] = [QueuedCell(cell, step) for cell in self._plan(models[step])]
                new.append(step)
            self._change(step, CellState.DROPPED, CellState.WAITING)
        for step in sorted(self._present - models.keys()):
            if self._change(step, CellState.WAITING, CellState.DROPPED):
                gone.append(step)
        self._present = set(models)
        return new, gone

    def _change(self, step: int, old: CellState, new: CellState) -> bool:
        """Move the cells of a checkpoint from one state to another, and say whether there were any."""
        changed = [queued for queued in self._cells[step] if queued.state is old]
        for queued in changed:
            queued.state = new
        return bool(changed)

    def next_job(self) -> CellJob | None:
        """Return the next cell to be trained, or ``None`` if there is none at present."""
        while (queued := self._pick()) is not None:
            queued.folder = queued.folder or cell_dir(self._out, queued.cell)
            weights = self._weights[queued.step]
            if _is_done(queued.folder, weights):
                queued.state = CellState.DONE
                continue
            queued.state = CellState.RUNNING
            self._running[str(queued.folder)] = queued
            return CellJob(queued.cell, str(queued.folder), self._cpus, self._keep, weights_digest=weights)
        return None

    def _pick(self) -> QueuedCell | None:
        now = time.monotonic()
        waiting = [
            queued for step in sorted(self._present) for queued in self._cells[step]
            if queued.state is CellState.WAITING and queued.not_before <= now
        ]  # fmt: skip
        if not waiting:
            return None
        # The cells of a checkpoint are planned seed by seed, so the seed of the one that has most left comes first.
        order = list(dict.fromkeys(queued.cell.seed for cells in self._cells.values() for queued in cells))
        seed = min((queued.cell.seed for queued in waiting), key=order.index)
        candidates = [queued for queued in waiting if queued.cell.seed == seed]
        open_steps = {queued.step for queued in candidates}
        started = {
            step for step in self._present
            if any(queued.cell.seed == seed and queued.state is not CellState.WAITING for queued in self._cells[step])
        }  # fmt: skip
        begun = sorted(open_steps & started)
        newest = max(self._present)
        step = newest if newest in open_steps else begun[0] if begun else next_step(open_steps | started, started)
        return next(queued for queued in candidates if queued.step == step)

    def record(self, job: CellJob, outcome: CellOutcome | None) -> QueuedCell:
        """Take note of how a job ended; ``None``: its process died."""
        queued = self._running.pop(job.folder)
        failure = PROCESS_DIED if outcome is None else outcome.failure
        if outcome is not None and outcome.busy:
            queued.state, queued.not_before = CellState.WAITING, time.monotonic() + self._busy_pause
            return queued
        if outcome is None:
            write_cell(Path(job.folder), job.cell, failure)
        queued.failure = failure
        if not failure:
            queued.state = CellState.DONE
            if outcome is not None:
                self._trained, self._seconds = self._trained + 1, self._seconds + outcome.seconds
        else:
            queued.attempts += 1
            again = queued.attempts <= self._retries and queued.step in self._present
            queued.state = CellState.WAITING if again else CellState.FAILED
        return queued

    def has_ended(self, step: int) -> bool:
        """Say whether all cells of a checkpoint have ended."""
        return all(queued.state in ENDED for queued in self._cells[step])

    def progress(self, workers: int, last: str = "") -> Progress:
        """Return the progress over all checkpoints that are known."""
        states = [queued.state for cells in self._cells.values() for queued in cells]
        total = len(states) - states.count(CellState.DROPPED)
        failed = states.count(CellState.FAILED)
        done = states.count(CellState.DONE) + failed
        eta = (total - done) * self._seconds / self._trained / workers if self._trained else None
        return Progress(total, done, failed, len(self._running), eta, last)
