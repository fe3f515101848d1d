"""What a run asks of its own process: time, signals, a log file, and less garbage collection."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from claf2.errors import Claf2Error

__all__ = ["Stopwatch", "freeze_heap", "interruptible", "log_file", "stop_signals_interrupt"]

logger = logging.getLogger("claf2")

STOP_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)]
"""The signals besides Ctrl-C that ask a process to end: by Kubernetes, SLURM and `torchrun`, when the terminal closes,
and by SLURM some time before the end of a job (`--signal=USR1@120`)."""

FORWARDED_WITHIN = 1.0
"""Seconds in which a second SIGINT counts as the first one: in a terminal, `torchrun` forwards the Ctrl-C that its
processes receive as well."""


class Stopwatch:
    """A context manager that adds up the seconds spent inside it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._started = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.monotonic() - self._started


@contextmanager
def freeze_heap() -> Iterator[None]:
    """Leave the objects that exist by now out of garbage collections in the block.

    Code that makes many small objects starts full collections. After the imports of torch and transformers, each of
    them visits several hundred thousand objects, none of which is garbage.
    """
    if gc.get_freeze_count():  # the program has frozen objects itself, and they must stay so
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def stop_signals_interrupt() -> Iterator[None]:
    """Let SIGTERM, SIGHUP and SIGUSR1 raise KeyboardInterrupt in the block, as Ctrl-C does."""

    def on_signal(signum: int, frame: object) -> None:
        raise KeyboardInterrupt(f"stopped by {signal.Signals(signum).name}")

    with _handle(_not_ignored(STOP_SIGNALS), on_signal):
        yield


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether the user or the system has asked the run to stop, so that it can stop after
    the current step: by Ctrl-C, SIGTERM, SIGHUP or SIGUSR1. A second Ctrl-C ends the process at once."""
    received: list[float] = []

    def on_signal(signum: int, frame: object) -> None:
        received.append(time.monotonic())
        if len(received) == 1:
            name = "Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name
            logger.warning("%s: stopping after this step; press Ctrl-C again to stop at once without saving", name)
        elif signum == signal.SIGINT and received[-1] - received[0] > FORWARDED_WITHIN:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)

    with _handle([signal.SIGINT, *_not_ignored(STOP_SIGNALS)], on_signal):
        yield lambda: bool(received)


def _not_ignored(signals: list[signal.Signals]) -> list[signal.Signals]:
    """Return the signals that the process does not ignore; `nohup` makes it ignore SIGHUP, for example."""
    return [signum for signum in signals if signal.getsignal(signum) is not signal.SIG_IGN]


@contextmanager
def _handle(signals: list[signal.Signals], handler: Callable[[int, object], None]) -> Iterator[None]:
    """Handle signals in the block. In other threads than the main one nothing is changed: Python does not allow it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {signum: signal.signal(signum, handler) for signum in signals}
    try:
        yield
    finally:
        for signum, old_handler in previous.items():
            signal.signal(signum, old_handler)


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Write all log messages of the block from level INFO on to a file as well, and at last the error that ends it.
    Other handlers receive what they would have received without it: a program that uses claf2 as a library may want
    warnings only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    own_level, propagate, threshold = logger.level, logger.propagate, logger.getEffectiveLevel()
    forward = _Forward(threshold)
    if threshold > logging.INFO and propagate:
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.addHandler(forward)
    logger.addHandler(handler)
    try:
        yield
    except BaseException as error:
        handler.record_end(error)
        raise
    finally:
        logger.removeHandler(handler)
        with suppress(OSError):
            handler.close()
        logger.removeHandler(forward)
        logger.setLevel(own_level)
        logger.propagate = propagate


class _LogFile(logging.FileHandler):
    """A log file that a full disk ends, with one warning."""

    def record_end(self, error: BaseException) -> None:
        """Write why the block ends, with a traceback if the user cannot know what to do about it."""
        expected = isinstance(error, Claf2Error | KeyboardInterrupt | OSError)
        message = str(error) or ("interrupted" if isinstance(error, KeyboardInterrupt) else type(error).__name__)
        trace = None if expected else (type(error), error, error.__traceback__)
        self.handle(logger.makeRecord(logger.name, logging.ERROR, __file__, 0, message, (), trace))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 the name is logging's
        if self in logger.handlers:
            logger.removeHandler(self)
            logger.warning("%s cannot be written any more: %s", self.baseFilename, sys.exc_info()[1])


class _Forward(logging.Handler):
    """Passes messages on to the parent of the logger, as propagation does, but from a level on."""

    def emit(self, record: logging.LogRecord) -> None:
        if logger.parent is not None:
            logger.parent.callHandlers(record)
