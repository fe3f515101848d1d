"""Observers: console, progress bar, TensorBoard, JSONL. They watch a run; one that fails is logged and dropped."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from claf2.loop import Observer, State
from claf2.report import Report

if TYPE_CHECKING:
    import torch
    from tqdm import tqdm

__all__ = ["Console", "Journal", "Observers", "ProgressBar", "TensorBoard"]

logger = logging.getLogger("claf2")


class Observers:
    """Several observers as one."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = list(observers)

    def on_step(self, state: State, loss: torch.Tensor, learning_rate: float) -> None:
        self._tell(lambda observer: observer.on_step(state, loss, learning_rate))

    def on_report(self, state: State, report: Report, logs: Mapping[str, float | None]) -> None:
        self._tell(lambda observer: observer.on_report(state, report, logs))

    def close(self) -> None:
        self._tell(lambda observer: observer.close())

    def _tell(self, what: Callable[[Observer], None]) -> None:
        for observer in list(self._observers):
            try:
                what(observer)
            except Exception:
                logger.exception("%s failed and is not asked again; the run goes on", type(observer).__name__)
                self._observers.remove(observer)


class Console:
    """Lines for people: one every ``every`` steps, one an evaluation. They go through the log ``claf2``."""

    def __init__(self, every: int, total_steps: int, epochs: int, metric_key: str) -> None:
        self._every = every
        self._total = total_steps
        self._epochs = epochs
        self._key = metric_key
        self._start = self._last = time.monotonic()
        self._first: int | None = None

    def on_step(self, state: State, loss: torch.Tensor, learning_rate: float) -> None:
        if self._first is None:
            self._first = state.step - 1
        if state.step % self._every:
            return
        now = time.monotonic()
        left = (now - self._start) / (state.step - self._first) * (self._total - state.step)
        logger.info(
            "Step: %d/%d  Batch Loss: %.4f  lr: %.3g  %.2f sec  remaining: %s",
            state.step, self._total, float(loss), learning_rate, now - self._last, _clock(left),
        )  # fmt: skip
        self._last = now

    def on_report(self, state: State, report: Report, logs: Mapping[str, float | None]) -> None:
        logger.info(
            "# Epoch: [%d/%d]  Step: %d  Metrics %s", state.epoch + 1, self._epochs, state.step, json.dumps(logs)
        )
        if state.best_step == state.step:
            logger.info(" * Best validation score so far. (%s) : %s", self._key, state.best_score)

    def close(self) -> None:
        return None


class ProgressBar:
    """One line that fills up, with the time left; for terminals only."""

    def __init__(self, total_steps: int, start: int, every: int) -> None:
        from tqdm import tqdm

        self._every = every
        self._bar: tqdm[None] = tqdm(total=total_steps, initial=start, unit="step", dynamic_ncols=True, leave=False)

    def on_step(self, state: State, loss: torch.Tensor, learning_rate: float) -> None:
        if state.step % self._every == 0:
            self._bar.set_postfix_str(f"loss {float(loss):.4f}", refresh=False)
        self._bar.update(state.step - self._bar.n)

    def on_report(self, state: State, report: Report, logs: Mapping[str, float | None]) -> None:
        return None

    def close(self) -> None:
        self._bar.close()


class TensorBoard:
    """Losses, learning rate and scores as scalars in ``events.out.tfevents.*``."""

    def __init__(self, folder: Path, every: int, purge_step: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=purge_step)
        self._every = every

    def on_step(self, state: State, loss: torch.Tensor, learning_rate: float) -> None:
        if state.step % self._every == 0:
            self._writer.add_scalar("train/batch_loss", float(loss), state.step)
            self._writer.add_scalar("train/learning_rate", learning_rate, state.step)

    def on_report(self, state: State, report: Report, logs: Mapping[str, float | None]) -> None:
        for name, value in logs.items():
            if value is not None:
                self._writer.add_scalar(name, value, state.step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class Journal:
    """``metrics.jsonl``: one line an evaluation. A resumed run first drops the lines of steps it takes again."""

    def __init__(self, path: Path, step: int) -> None:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        path.write_text("".join(kept), encoding="utf-8")
        self._file: TextIO = path.open("a", encoding="utf-8")

    def on_step(self, state: State, loss: torch.Tensor, learning_rate: float) -> None:
        return None

    def on_report(self, state: State, report: Report, logs: Mapping[str, float | None]) -> None:
        self._file.write(json.dumps({"step": state.step, "epoch": state.epoch + 1, **logs}) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{rest:02d}"
