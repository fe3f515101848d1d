"""Turns what happens in a run into events of a notifier."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from claf2.errors import Interrupted, first_line
from claf2.notifications.events import Event
from claf2.notifications.messages import format_seconds
from claf2.training.callbacks import Callback, RunInfo

if TYPE_CHECKING:
    from claf2.evaluation.report import Report
    from claf2.notifications.notifier import Notifier
    from claf2.training.state import State

__all__ = ["RunNotifier"]

LOG_FILES = ("train.log", ".train.log.new")
"""The log of a run; the second one belongs to a run that is about to replace another one."""
LOG_BYTES = 16 * 2**10
"""How much of the end of a log is read."""


class RunNotifier(Callback):
    """Turns what happens in a run into events.

    Args:
        notifier: sends them.
        run: the run.
        log_lines: how many of the last lines of its log an event about a failure has.
    """

    def __init__(self, notifier: Notifier, run: RunInfo, log_lines: int) -> None:
        self._notifier, self._run, self._log_lines = notifier, run, log_lines
        self._started, self._first_step = time.monotonic(), run.state.step
        self._previous: tuple[int, float] | None = None
        self._failed = False
        if notifier.follows_kill:
            text = f"was killed, or its machine stopped, without a message; resumes after step {run.state.step:,}"
            notifier.send(Event("failed", text))

    def on_report(self, state: State, report: Report, logs: Mapping[str, float | None]) -> None:
        score = logs.get(self._run.metric_key)
        if score is None:
            return
        text = f"step {state.step:,}: {self._run.metric_key} {score:.4g}"
        if self._previous is not None:
            step, before = self._previous
            text += f", {score - before:+.2g} since step {step:,}"
        if state.best_step == state.step:
            text += ", the best so far"
        self._previous = (state.step, score)
        self._notifier.send(Event("result", text + self._time_left(state)))

    def on_kept(self, state: State, folder: Path) -> None:
        score = "" if self._previous is None else f"; {self._run.metric_key} {self._previous[1]:.4g}"
        if self._previous is not None and self._previous[0] != state.step:
            score += f" at step {self._previous[0]:,}"
        self._notifier.send(Event("kept", f"step {state.step:,} kept in {folder}{score}{self._time_left(state)}"))

    def on_event(self, event: Event) -> None:
        self._notifier.send(event)

    def on_failure(self, error: BaseException) -> None:
        self._failed = True
        step = self._run.state.step
        if isinstance(error, Interrupted | KeyboardInterrupt):
            self._notifier.send(Event("failed", f"was stopped after step {step:,}; --resume continues it"))
            return
        text = f"failed after step {step:,}: {first_line(error)}"
        self._notifier.send(Event("failed", text, "\n".join(self._last_lines())))

    def close(self) -> None:
        state = self._run.state
        if state.finished and not self._failed:
            score = "" if state.best_score is None else f"; best {self._run.metric_key} {state.best_score:.4g}"
            score += "" if state.best_step is None else f" at step {state.best_step:,}"
            seconds = format_seconds(time.monotonic() - self._started)
            self._notifier.send(Event("finished", f"finished after step {state.step:,} in {seconds}{score}"))
        self._notifier.close()

    def _time_left(self, state: State) -> str:
        steps = state.step - self._first_step
        if steps <= 0 or state.step >= self._run.total_steps:
            return ""
        seconds = (time.monotonic() - self._started) / steps * (self._run.total_steps - state.step)
        return f"; ETA {format_seconds(seconds)}"

    def _last_lines(self) -> list[str]:
        """Return the end of the log, which does not name the failure yet."""
        for name in LOG_FILES[::-1]:
            try:
                with (self._run.folder / name).open("rb") as file:
                    file.seek(max(0, file.seek(0, 2) - LOG_BYTES))
                    text = file.read().decode(errors="replace")
            except OSError:
                continue
            return list(deque(text.splitlines(), self._log_lines))
        return []
