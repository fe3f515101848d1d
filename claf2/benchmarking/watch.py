"""Watch the checkpoints of a pre-training: measure each of them as it appears, and say which moves are real.

The watch removes and stops nothing. It writes ``curve.json`` and ``curve.md`` into the folder of its bench.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from claf2.benchmarking.backends import Backend
from claf2.benchmarking.cell_queue import CellQueue, CellState
from claf2.benchmarking.cells import Cell, cell_dir
from claf2.benchmarking.matrix import BenchModel, CellJob, Progress, plan_cells, run_cell
from claf2.errors import Claf2Error, RunError
from claf2.models.source import listed_weights_digest
from claf2.runtime.files import read_json, write_json
from claf2.task import Suite

__all__ = ["CheckpointLister", "WatchPlan", "default_dir", "import_training", "watch_checkpoints"]

MANIFEST = "manifest.json"
"""The file that makes a folder a checkpoint. ``claf2.training.kept_steps``, which writes it, is not needed here."""

WATCHED_FILE = "watch.json"
"""The file in the folder of a bench that names the run that is watched."""

logger = logging.getLogger("claf2")


def import_training() -> None:
    """Import what trains a cell. Workers do it before there is one."""
    import claf2.runs.train  # noqa: F401


class CheckpointLister:
    """Lists the checkpoints of a run: in its folder, or in a store.

    Args:
        target: the folder of a run, its ``steps/``, another folder of checkpoints, or the URL of a store.

    Raises:
        RunError: if there is no such folder, or the URL cannot be listed.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.is_store = "://" in target
        self._last: list[BenchModel] = []
        self._unreachable = False
        if target.startswith(("http://", "https://")):
            raise RunError(f"{target}: http servers list no files; watch the store itself, or a folder")
        if self.is_store:
            from claf2.storage.objects import open_folder

            open_folder(target)  # a mistake in the URL would not pass by waiting
        elif not Path(target).is_dir():
            raise RunError(f"{target}: no such folder; start the pre-training first, or correct the name")
        root = target.rstrip("/") if self.is_store else os.path.abspath(target)
        self.root = root.removesuffix("/steps")
        """The URL or the absolute path of the run."""
        self.model = Path(self.root).name
        """The name of the model."""
        self.problem = ""
        """Why the last listing has failed, if it has."""

    def checkpoints(self) -> Sequence[BenchModel]:
        """Return the checkpoints that there are now, by step. If the store cannot be reached, they are those of the
        last call."""
        try:
            found = self._list_store() if self.is_store else list(self._list_folder())
        except (Claf2Error, OSError) as error:
            self.problem = str(error)
            if not self._unreachable:
                logger.warning("%s cannot be listed: %s; trying again", self.target, error)
            self._unreachable = True
            return self._last
        if self._unreachable:
            logger.info("%s can be listed again", self.target)
        self._unreachable, self.problem = False, ""
        self._last = sorted(found, key=lambda model: model.step or 0)
        return self._last

    def _list_folder(self) -> Iterator[BenchModel]:
        # An absolute path, because the name of a cell's folder depends on it: two watches must agree about it.
        root = Path(os.path.abspath(self.target))
        steps = root / "steps"
        with os.scandir(steps if steps.is_dir() else root) as entries:
            for entry in entries:
                _, dash, number = entry.name.rpartition("-")
                manifest = os.path.join(entry.path, MANIFEST)
                named = dash and number.isdecimal() and not entry.name.startswith(".")
                if named and os.path.isfile(manifest):
                    weights = _read_weights_digest(manifest, os.stat(manifest).st_mtime_ns)
                    yield BenchModel(self.model, entry.path, int(number), weights)

    def _list_store(self) -> list[BenchModel]:
        from claf2.storage.checkpoints import list_checkpoints

        return [
            BenchModel(self.model, stored.url, stored.step, _weights_digest(stored.manifest))
            for stored in list_checkpoints(self.target)
        ]


@lru_cache(maxsize=4096)
def _read_weights_digest(manifest: str, modified: int) -> str | None:
    """Return the digest of the weights that a manifest names; it is read again when it has changed."""
    try:
        return _weights_digest(json.loads(Path(manifest).read_bytes()))
    except (ValueError, OSError):
        return None


def _weights_digest(manifest: Mapping[str, Any]) -> str | None:
    """Return the digest of a checkpoint's weights; ``None`` if its manifest names none."""
    try:
        return listed_weights_digest({name: entry["sha256"] for name, entry in manifest["files"].items()})
    except (KeyError, TypeError, AttributeError):
        return None


def default_dir(target: str, suite: str) -> Path:
    """Return the folder of the bench of a watched run, unless another one is given.

    Raises:
        RunError: if there is no such folder as the target.
    """
    return Path("logs/watch") / (CheckpointLister(target).model or "model") / suite


@dataclass(frozen=True)
class WatchPlan:
    """What is measured of every checkpoint, and how."""

    suite: Suite
    seeds: Sequence[int]
    recipe: str
    tasks: Sequence[str] = ()
    """Tasks of the suite; all of them by default."""
    overrides: Sequence[str] = ()
    plugins: Sequence[str] = ()
    cpus: int | None = None
    """Threads per cell."""
    keep: bool = False
    """Keep the best checkpoint of each cell."""
    retries: int = 1

    def cells(self, model: BenchModel) -> list[Cell]:
        """Return the cells of a checkpoint, seed by seed.

        Raises:
            RunError: in the cases in which ``plan_cells`` raises it.
        """
        return plan_cells(
            self.suite, [model], tasks=self.tasks, seeds=self.seeds, recipe=self.recipe, overrides=self.overrides,
            plugins=self.plugins,
        )  # fmt: skip

    def check(self, out: Path) -> None:
        """Configure one cell of each task, so that mistakes are found before the first checkpoint appears.

        Raises:
            Claf2Error: if a cell cannot be configured.
        """
        cells = self.cells(BenchModel("model", "model", 0))
        for cell in {cell.task: cell for cell in cells}.values():
            cell_dir(out, cell)


def watch_checkpoints(
    lister: CheckpointLister, plan: WatchPlan, out: Path, *, backend: Backend, poll: float = 5.0,
    until_step: int | None = None, once: bool = False, on_progress: Callable[[Progress], None] = lambda _: None,
    on_ended: Callable[[CellQueue], None] = lambda _: None,
) -> CellQueue:  # fmt: skip
    """Measure the checkpoints of a run as they appear.

    Args:
        lister: lists the checkpoints.
        plan: what is measured of each.
        out: the folder of the bench.
        backend: trains the cells.
        poll: seconds between two looks for new checkpoints.
        until_step: end when there is a checkpoint of this step or a later one, and those up to this step are measured.
        once: end when the checkpoints that are there at the start are measured.
        on_progress: called whenever a cell has ended.
        on_ended: called when all cells of one seed of a checkpoint, or of all, have ended.

    Returns:
        All cells and their state.

    Raises:
        Claf2Error: if a cell cannot be configured; nothing is trained then.
        Interrupted: after Ctrl-C; the runs in progress have saved their state.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        hint = "give another folder with --out"
        raise RunError(f"{out}: cannot be the folder of a bench: {error.strerror}; {hint}") from error
    plan.check(out)
    _claim_folder(out, lister.root)
    queue = CellQueue(out, plan.cells, cpus=plan.cpus, keep=plan.keep, retries=plan.retries, busy_pause=poll)
    jobs = _jobs(lister, queue, poll=poll, until_step=until_step, once=once, on_ended=on_ended)
    function = run_cell
    if lister.is_store:
        from claf2.benchmarking.shared_cells import run_shared_cell as function
    with closing(backend.map(function, jobs, pause=poll)) as outcomes:  # type: ignore[type-var]
        for job, outcome in outcomes:
            queued = queue.record(job, outcome)
            cell, ending = queued.cell, ""
            if queued.failure:
                logger.warning("step %s, %s, seed %d: %s", cell.step, cell.task, cell.seed, queued.failure)
                ending = ": failed"
            if queued.state is not CellState.WAITING or queued.failure:
                name = f"step {cell.step} {cell.task} seed {cell.seed}{ending}"
                on_progress(queue.progress(backend.workers, name))
                on_ended(queue)
    return queue


def _claim_folder(out: Path, root: str) -> None:
    """Write into the folder of a bench which run is watched: two runs would replace each other's curve and verdicts.

    Raises:
        RunError: if it is that of another run.
    """
    path = out / WATCHED_FILE
    try:
        watched = read_json(path).get("run") if path.is_file() else None
    except RunError as error:
        raise RunError(f"{error}; delete it if the folder is that of {root}") from error
    if watched not in (None, root):
        raise RunError(f"{out}: holds the curve of {watched}; give another folder with --out")
    write_json(path, {"run": root})


def _jobs(
    lister: CheckpointLister, queue: CellQueue, *, poll: float, until_step: int | None, once: bool,
    on_ended: Callable[[CellQueue], None],
) -> Iterator[CellJob | None]:  # fmt: skip
    """Yield cells to be trained, and ``None`` when there is none at present."""
    listed, is_last_there = 0.0, False
    first: set[int | None] | None = None
    while True:
        if not listed or time.monotonic() - listed >= poll:
            checkpoints = lister.checkpoints()
            if until_step is not None:
                is_last_there = is_last_there or any((model.step or 0) >= until_step for model in checkpoints)
                checkpoints = [model for model in checkpoints if (model.step or 0) <= until_step]
            listed = time.monotonic()
            if once:
                first = {model.step for model in checkpoints} if first is None else first
                checkpoints = [model for model in checkpoints if model.step in first]
                if not first:
                    if lister.problem:
                        raise RunError(lister.problem)
                    raise RunError(f"{lister.target} has no checkpoints: folders step-N with a {MANIFEST}")
            new, gone = queue.update(checkpoints)
            if new:
                logger.info("new checkpoints: %s", ", ".join(map(str, new)))
            for step in gone:
                logger.warning("step %d was removed before it was measured; the rest of its cells is left out", step)
            if gone:
                on_ended(queue)
        job = queue.next_job()
        if job is None:
            steps = queue.steps
            if all(map(queue.has_ended, steps)):
                on_ended(queue)
                if once or is_last_there:
                    return
        yield job
