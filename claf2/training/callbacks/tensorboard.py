"""TensorBoard: the default tracker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from claf2.training.callbacks import Callback, CallbackSpec, RunInfo, register_callback

if TYPE_CHECKING:
    import torch

    from claf2.evaluation.report import Report
    from claf2.training.state import State

__all__ = ["TensorBoard"]


@register_callback("tensorboard")
class TensorBoard(CallbackSpec):
    """Losses, learning rate and scores as `events.out.tfevents.*` in the folder of the run."""

    def build(self, run: RunInfo) -> Callback:
        step = run.state.step
        return TensorBoardLogger(run.folder, run.log_every, purge_step=step + 1 if step else None)


class TensorBoardLogger(Callback):
    """Writes one run."""

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
