"""Progress of long work on the console, with the time left."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from claf2.training.callbacks.console import progress_display

__all__ = ["ProgressMeter", "show_progress"]

LOGGED_EVERY = 30.0
"""Seconds between two lines, where there is no terminal for a bar."""

logger = logging.getLogger("claf2")


class ProgressMeter:
    """A progress bar on a terminal, and a log line every half minute elsewhere.

    Args:
        task: what is done, such as ``reading``.
        total: how much there is to do.
        unit: what is counted; ``B`` for bytes.
    """

    def __init__(self, task: str, total: int, unit: str) -> None:
        self._task, self._total, self._unit = task, total, unit
        self._start = self._logged = time.monotonic()
        self._bar: Any = None
        if progress_display() is not None:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=total, desc=task, unit=unit, unit_scale=True, dynamic_ncols=True, leave=False)

    def update(self, done: int) -> None:
        """Show that ``done`` of the total is done."""
        if self._bar is not None:
            self._bar.update(min(done, self._total) - self._bar.n)
            return
        now = time.monotonic()
        if now - self._logged < LOGGED_EVERY or not done:
            return
        self._logged = now
        left = (now - self._start) * max(0, self._total - done) / done
        logger.info("%s: %.0f %%, %d:%02d min left", self._task, 100 * done / self._total, *divmod(int(left), 60))

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()


@contextmanager
def show_progress(task: str, total: int, unit: str) -> Iterator[ProgressMeter]:
    """Show progress while the block runs; see ``ProgressMeter``."""
    progress = ProgressMeter(task, total, unit)
    try:
        yield progress
    finally:
        progress.close()
