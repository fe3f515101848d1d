"""What a run shows on the console: log lines and a progress bar."""

from __future__ import annotations

import importlib.util
import json
import logging
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from claf2.training.callbacks import Callback

if TYPE_CHECKING:
    import torch
    from tqdm import tqdm

    from claf2.evaluation.report import Report
    from claf2.training.state import State

__all__ = ["ConsoleLogger", "ProgressBar", "progress_display"]

logger = logging.getLogger("claf2")


class ConsoleLogger(Callback):
    """Log lines for people: one every ``every`` steps, and one per evaluation."""

    def __init__(self, every: int, total_steps: int, epochs: int, metric_key: str) -> None:
        self._every = every
        self._total_steps = total_steps
        self._epochs = epochs
        self._metric_key = metric_key
        self._start = self._last = time.monotonic()
        self._first_step: int | None = None

    def on_step(self, state: State, loss: torch.Tensor, learning_rate: float) -> None:
        if self._first_step is None:
            self._first_step = state.step - 1
        if state.step % self._every:
            return
        now = time.monotonic()
        seconds_per_step = (now - self._start) / (state.step - self._first_step)
        remaining = seconds_per_step * (self._total_steps - state.step)
        logger.info(
            "Step: %d/%d  Batch Loss: %.4f  lr: %.3g  %.2f sec  remaining: %s",
            state.step, self._total_steps, float(loss), learning_rate, now - self._last, _clock(remaining),
        )  # fmt: skip
        self._last = now

    def on_report(self, state: State, report: Report, logs: Mapping[str, float | None]) -> None:
        logger.info(
            "# Epoch: [%d/%d]  Step: %d  Metrics %s", state.epoch + 1, self._epochs, state.step, json.dumps(logs)
        )
        if state.best_step == state.step:
            logger.info(" * Best validation score so far. (%s) : %s", self._metric_key, state.best_score)


def progress_display() -> Literal["terminal", "notebook"] | None:
    """Return where a progress bar can be shown; ``None``: nowhere, since the output goes to a file or a pipe."""
    if sys.stderr.isatty():
        return "terminal"
    ipython = sys.modules.get("IPython")  # what runs in a notebook has imported it
    shell = ipython.get_ipython() if ipython is not None else None
    return "notebook" if getattr(shell, "kernel", None) is not None else None


class ProgressBar(Callback):
    """A progress bar with the time left: a line of text, or in a notebook that can show one a widget.

    Args:
        total_steps: the steps of the run.
        start: how many of them were taken before.
        every: how often the loss is shown, in steps.
        display: where the bar is shown, from ``progress_display``.
    """

    def __init__(self, total_steps: int, start: int, every: int, display: Literal["terminal", "notebook"]) -> None:
        if display == "notebook" and importlib.util.find_spec("ipywidgets"):
            from tqdm.notebook import tqdm
        else:
            from tqdm.std import tqdm

        self._every = every
        self._bar: tqdm[None] = tqdm(total=total_steps, initial=start, unit="step", dynamic_ncols=True, leave=False)
        self._consoles = [handler for handler in (*logger.handlers, *logging.root.handlers) if _is_console(handler)]
        for handler in self._consoles:
            handler.addFilter(self._make_room)

    def on_step(self, state: State, loss: torch.Tensor, learning_rate: float) -> None:
        if state.step % self._every == 0:
            self._bar.set_postfix_str(f"loss {float(loss):.4f}", refresh=False)
        self._bar.update(state.step - self._bar.n)

    def close(self) -> None:
        for handler in self._consoles:
            handler.removeFilter(self._make_room)
        self._bar.close()

    def _make_room(self, record: logging.LogRecord) -> bool:
        """Clear the bar, so that a line of the log takes its place; the next update draws it below the line."""
        self._bar.clear()
        return True


def _is_console(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stdout, sys.stderr)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{rest:02d}"
