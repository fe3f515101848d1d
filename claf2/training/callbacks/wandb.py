"""Weights & Biases, online or offline. Needs the extra ``wandb``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from claf2.training.callbacks import Callback, CallbackSpec, RunInfo, check_installed, register_callback

if TYPE_CHECKING:
    import torch

    from claf2.evaluation.report import Report
    from claf2.training.state import State

__all__ = ["WeightsAndBiases"]


@register_callback("wandb")
class WeightsAndBiases(CallbackSpec):
    """Configuration, losses and scores of a run, in a project of Weights & Biases."""

    project: str = "claf2"
    entity: str | None = None
    """The user or team that owns the project; `null`: the user's default."""
    group: str | None = None
    """The runs that a page shows together, e.g. the seeds of one experiment."""
    run_name: str | None = None
    """`null`: the folder of the run."""
    mode: Literal["online", "offline", "disabled"] | None = None
    """`offline` writes to `dir` only; `wandb sync` uploads it later. `null`: `$WANDB_MODE`, else `online`."""
    dir: str | None = None
    """The folder of local files; `null`: `$WANDB_DIR`, else `wandb/` in the working directory."""

    def check(self) -> None:
        check_installed("wandb", "wandb")

    def build(self, run: RunInfo) -> Callback:
        return WeightsAndBiasesLogger(self, run)


class WeightsAndBiasesLogger(Callback):
    """Writes one run."""

    def __init__(self, spec: WeightsAndBiases, run: RunInfo) -> None:
        import wandb

        self._run = run
        self._record = wandb.init(
            project=spec.project,
            entity=spec.entity,
            group=spec.group,
            name=spec.run_name or str(run.folder),
            mode=spec.mode,
            dir=spec.dir,
            id=run.id,
            resume="allow",
            config={**json.loads(json.dumps(run.config)), "recipe": run.provenance["recipe"]},
            reinit="create_new",  # a run on several tasks has follow-up runs in the same process
        )
        # Steps are a metric of their own: the library refuses to go back to an earlier step, as a resume may have to.
        self._record.define_metric("step", hidden=True)
        self._record.define_metric("*", step_metric="step")
        self._record.define_metric(run.metric_key, step_metric="step", summary="min" if run.lower_is_better else "max")

    def on_step(self, state: State, loss: torch.Tensor, learning_rate: float) -> None:
        if state.step % self._run.log_every == 0:
            self._record.log(
                {"step": state.step, "train/batch_loss": float(loss), "train/learning_rate": learning_rate}
            )

    def on_report(self, state: State, report: Report, logs: Mapping[str, float | None]) -> None:
        self._record.log({"step": state.step, **{name: value for name, value in logs.items() if value is not None}})

    def close(self) -> None:
        self._record.finish(exit_code=0 if self._run.state.finished else 1)
