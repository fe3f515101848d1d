"""Cells that watches on several machines divide among themselves, through the store that holds the checkpoints.

Beside the run at ``URL``, ``URL.cells`` holds a claim of each cell that is trained somewhere, and what the finished
ones have written. The lock of a cell's folder, which does the same on one machine, is held as well.
"""

from __future__ import annotations

import json
import logging
import uuid
from pathlib import Path

from claf2.benchmarking.matrix import CellJob, CellOutcome, run_cell
from claf2.benchmarking.runs import METRICS
from claf2.errors import RunError
from claf2.storage.leases import claimed, lease
from claf2.storage.objects import NotStoredError, RemoteFolder, StorageError, open_folder

__all__ = ["run_shared_cell"]

CLAIM_SECONDS = 120.0
"""How long the claim of a process that is killed keeps others from its cell."""

RESULTS = ("cell.json", "config.json", "run.json", "metrics.jsonl", "predictions/*.jsonl", METRICS)
"""What tables are made from. The file that marks a run as finished comes last."""

logger = logging.getLogger("claf2")


def run_shared_cell(job: CellJob) -> CellOutcome:
    """Train a cell of a stored checkpoint unless another machine does or has done so, and share its result.

    While the cell is trained, retention does not delete its checkpoint. If the store does not answer, the cell counts
    as busy, so that it is asked for again.
    """
    root = job.cell.weights.rstrip("/").rpartition("/")[0]
    path = "/".join((job.cell.suite, *Path(job.folder).parts[-2:]))
    try:
        remote = open_folder(f"{root}.cells")
        with claimed(remote, path, uuid.uuid4().hex, CLAIM_SECONDS) as is_mine:
            if _fetch(remote, path, job):
                return CellOutcome()
            if not is_mine:
                return CellOutcome(busy=True)
            with lease(job.cell.weights):
                outcome = run_cell(job)
            if not (outcome.failure or outcome.busy):
                _send(remote, path, Path(job.folder))
            return outcome
    except StorageError as error:
        if (Path(job.folder) / METRICS).is_file():
            logger.warning("%s: finished, but not shared: %s", job.folder, error)
            return CellOutcome()
        logger.warning("%s: %s; trying again", job.folder, error)
        return CellOutcome(busy=True)


def _fetch(remote: RemoteFolder, path: str, job: CellJob) -> bool:
    """Write what a finished cell has left in the store into its folder, and say whether there is anything that holds:
    the checkpoint may have been replaced since."""
    folder = Path(job.folder)
    if (folder / METRICS).is_file():
        return False  # finished here: `run_cell` finds out whether it still holds
    try:
        metrics = remote.read(f"{path}/{METRICS}")
        if job.weights_digest is not None and _recorded_weights(remote, path) != job.weights_digest:
            return False
    except NotStoredError:
        return False
    for entry in remote.list(path):
        name = entry.path.removeprefix(f"{path}/")
        if name != METRICS and any(Path(name).match(pattern) for pattern in RESULTS):
            _write(folder / name, remote.read(entry.path))
    _write(folder / METRICS, metrics)
    return True


def _recorded_weights(remote: RemoteFolder, path: str) -> str:
    """Return the digest of the weights that a stored result began with; empty if it is damaged."""
    try:
        return str(json.loads(remote.read(f"{path}/run.json"))["weights"])
    except (ValueError, KeyError, TypeError):
        return ""


def _write(path: Path, content: bytes) -> None:
    from claf2.runtime.files import write_text

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RunError(f"{path}: the result of another machine is damaged; delete it in the store") from error


def _send(remote: RemoteFolder, path: str, folder: Path) -> None:
    for pattern in RESULTS:
        for file in sorted(folder.glob(pattern)):
            remote.write(f"{path}/{file.relative_to(folder).as_posix()}", file.read_bytes())
