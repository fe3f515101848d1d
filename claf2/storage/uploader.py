"""Uploads in the background: a queue of checkpoints on the disk, and a thread that sends them.

A folder that waits is held by hard links, so that a run may delete its own copy, and a run that is killed sends it when
it is resumed. The thread ends no run: what a store refuses is reported once and tried again.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from claf2.errors import RunError
from claf2.storage.checkpoints import upload_folder
from claf2.storage.objects import ConflictError, RemoteFolder, StorageError, open_folder, redact
from claf2.storage.resume import RESUME, write_resume_manifest
from claf2.storage.retention import Retention, delete_superseded

__all__ = ["UploadOutbox", "Uploader", "send_held"]

logger = logging.getLogger("claf2")

MAX_WAIT = 60.0
"""The longest pause between two attempts, in seconds."""

PROGRESS_SECONDS = 10.0
"""How often a run that waits for its uploads at the end says how many are left."""


class UploadOutbox:
    """The checkpoints of a run that wait to be sent, `steps/.step-000100000.upload/`.

    Args:
        folder: the folder of the kept steps.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, checkpoint: Path, resume: Mapping[str, Path]) -> Path:
        """Hold the files of a checkpoint, and return the folder that holds them.

        Args:
            checkpoint: its folder.
            resume: name → file or folder of what a run is resumed from, if that is sent as well.
        """
        final = self._folder / f".{checkpoint.name}.upload"
        new = final.with_name(f"{final.name}.new")  # what a kill leaves is deleted with other such folders
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(final, ignore_errors=True)
        _link_tree(checkpoint, new / checkpoint.name)
        for name, path in resume.items():
            _link_tree(path, new / RESUME / name)
        os.replace(new, final)
        return final

    def waiting(self) -> list[Path]:
        """Return the folders that wait, by step."""
        return sorted(self._folder.glob(".step-*.upload"))


def _link_tree(source: Path, target: Path) -> None:
    """Make hard links to the files of a folder, or copies where the file system has none. What a run appends to is
    copied, since a link would grow with it."""
    for path in [source] if source.is_file() else sorted(source.rglob("*")):
        copy = target if path == source else target / path.relative_to(source)
        if path.is_dir() or path.name.startswith("."):
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            if path.suffix in (".jsonl", ".log"):
                raise OSError("grows")
            os.link(path, copy)
        except OSError:
            shutil.copyfile(path, copy)


@dataclass
class Uploader:
    """Sends checkpoints in a thread of its own. Nothing that goes wrong there reaches the caller.

    Args:
        url: where the run's checkpoints are stored.
        retention: which checkpoints stay there.
        best: returns the best one of some steps, if it is known.
        max_waiting: how many checkpoints may wait. The oldest ones are left out, with a warning, and stay on the disk
            if the run has deleted its own copies.
        on_uploaded: called with a sentence when a checkpoint has arrived.
        on_failure: called with a sentence when uploads begin to fail.
    """

    url: str
    retention: Retention = field(default_factory=Retention)
    best: Callable[[Sequence[int]], int | None] = lambda _: None
    max_waiting: int = 8
    on_uploaded: Callable[[str], None] = lambda _: None
    on_failure: Callable[[str], None] = lambda _: None

    def __post_init__(self) -> None:
        self._queue: deque[Path] = deque()
        self._changed = threading.Condition()
        self._closing, self._cancelled = threading.Event(), threading.Event()
        self._is_busy = self._is_failing = False
        self._thread = threading.Thread(target=self._work, name="claf2-upload", daemon=True)

    def add(self, waiting: Path) -> None:
        """Queue a folder of the outbox, or a kept checkpoint itself, which is sent if it is still there then."""
        with self._changed:
            if waiting not in self._queue:
                self._queue.append(waiting)
            held = [path for path in self._queue if _is_held(path)]
            for left_out in held[: -self.max_waiting]:
                self._queue.remove(left_out)
                if left_out.with_name(_name(left_out)).is_dir():
                    shutil.rmtree(left_out, ignore_errors=True)
                logger.warning(
                    "%s: not uploaded, since %d later checkpoints wait; send it with claf2 push, or resume the run",
                    _name(left_out), self.max_waiting,
                )  # fmt: skip
            self._changed.notify_all()
        if not self._thread.is_alive():
            self._thread.start()

    def close(self, seconds: float) -> list[Path]:
        """Wait until all is sent, but not longer than so many seconds, and return the folders that are not."""
        self._closing.set()
        deadline, reported = time.monotonic() + seconds, time.monotonic()
        with self._changed:
            while (self._queue or self._is_busy) and (left := deadline - time.monotonic()) > 0:
                self._changed.notify_all()
                self._changed.wait(min(left, 1.0))
                if time.monotonic() - reported >= PROGRESS_SECONDS:
                    reported = time.monotonic()
                    count = len(self._queue) + self._is_busy
                    logger.info("uploading: %d checkpoints left; waiting at most %.0f s more", count, left)
            unsent = ([self._current] if self._is_busy else []) + list(self._queue)
            self._queue.clear()
            self._cancelled.set()
            self._changed.notify_all()
        return unsent

    def _work(self) -> None:
        while (waiting := self._next()) is not None:
            attempt = 0
            while not self._cancelled.is_set():
                problem = self._send(waiting)
                if problem is None:
                    break
                if not self._is_failing:
                    logger.warning("%s; the run continues, and the upload is tried again", problem)
                    self._is_failing = True
                    self.on_failure(f"{_name(waiting)} cannot be uploaded: {problem}; the run continues")
                pause = min(MAX_WAIT, 2.0**attempt) * random.uniform(0.5, 1.0)
                attempt += 1
                with self._changed:
                    # At the end of the run, waiting long would only cost time.
                    self._changed.wait_for(self._cancelled.is_set, min(pause, 2.0) if self._closing.is_set() else pause)
            with self._changed:
                self._is_busy = False
                self._changed.notify_all()

    def _next(self) -> Path | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._cancelled.is_set())
            if self._cancelled.is_set():
                return None
            self._current, self._is_busy = self._queue.popleft(), True
            return self._current

    def _send(self, waiting: Path) -> str | None:
        """Send what waits, and return why that failed, if trying again may help."""
        name, started = _name(waiting), time.monotonic()
        try:
            folder = open_folder(self.url)
            send_held(waiting, folder, sent=self._check_cancelled) if _is_held(waiting) else upload_folder(
                waiting, folder, name, sent=self._check_cancelled, verify=False
            )
            logger.info("%s is in %s (%.1f s)", name, self.url, time.monotonic() - started)
            self.on_uploaded(f"{name} is in {self.url}")
            self._is_failing = False
            _remove(waiting)
            delete_superseded(folder, self.retention, self.best)
        except _CancelledError:
            return None
        except ConflictError as error:
            logger.error("%s; it is not uploaded, and the run continues", error)
            _remove(waiting)
        except (StorageError, OSError) as error:
            return redact(str(error)) if waiting.is_dir() else None
        except RunError as error:
            if waiting.is_dir():  # otherwise the run has deleted its checkpoint since
                logger.error("%s; it is not uploaded, and the run continues", error)
            _remove(waiting)
        except Exception:
            logger.exception("%s is not uploaded, and the run continues", name)
        return None

    def _check_cancelled(self, sent: int) -> None:
        if self._cancelled.is_set():
            raise _CancelledError


class _CancelledError(Exception):
    """The run has ended, and does not wait any longer."""


def send_held(waiting: Path, folder: RemoteFolder, *, sent: Callable[[int], None] = lambda _: None) -> None:
    """Upload a folder of the outbox: a checkpoint, and what a run is resumed from.

    Raises:
        RunError: if a file is missing or has changed.
        StorageError: if the store refuses, or holds something else there.
    """
    name = _name(waiting)
    upload_folder(waiting / name, folder, name, sent=sent, verify=False)
    if (waiting / RESUME).is_dir():
        write_resume_manifest(waiting / RESUME, waiting / name)
        upload_folder(waiting / RESUME, folder, f"{name}/{RESUME}", sent=sent, verify=False)


def _is_held(path: Path) -> bool:
    return path.name.startswith(".")


def _remove(waiting: Path) -> None:
    if _is_held(waiting):
        shutil.rmtree(waiting, ignore_errors=True)


def _name(waiting: Path) -> str:
    return waiting.name.removeprefix(".").removesuffix(".upload")
