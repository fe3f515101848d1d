"""MLflow: a server or a local database of runs. Needs the extra ``mlflow``."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from claf2.training.callbacks import Callback, CallbackSpec, RunInfo, check_installed, flatten, register_callback

if TYPE_CHECKING:
    import torch

    from claf2.evaluation.report import Report
    from claf2.training.state import State

__all__ = ["MLflow"]

logger = logging.getLogger("claf2")

RUN_TAG = "claf2.run"
"""The tag by which a resumed run finds its record again."""
MAX_VALUE = 6000
"""The most characters of a parameter that MLflow stores."""
MAX_BATCH = 100
"""The most parameters of one request."""


@register_callback("mlflow")
class MLflow(CallbackSpec):
    """Parameters, losses and scores of a run, in an experiment of MLflow."""

    tracking_uri: str | None = None
    """A server or a database, e.g. `sqlite:///mlflow.db`; `null`: `$MLFLOW_TRACKING_URI`, else MLflow's default."""
    experiment_name: str = "claf2"
    run_name: str | None = None
    """`null`: the folder of the run."""
    tags: dict[str, str] = Field({})

    def check(self) -> None:
        check_installed("mlflow", "mlflow")

    def build(self, run: RunInfo) -> Callback:
        return MLflowLogger(self, run)


class MLflowLogger(Callback):
    """Writes one run. Requests are sent by a thread of MLflow, so that a slow server does not delay the training."""

    def __init__(self, spec: MLflow, run: RunInfo) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=spec.tracking_uri)
        self._run = run
        self._pending: list[Any] = []
        experiment = self._client.get_experiment_by_name(spec.experiment_name)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(spec.experiment_name)
        earlier = self._client.search_runs([experiment_id], f"tags.`{RUN_TAG}` = '{run.id}'", max_results=1)
        if earlier:
            self._id = earlier[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
            return
        tags = {**spec.tags, RUN_TAG: run.id, "claf2.recipe": run.provenance["recipe"]}
        record = self._client.create_run(experiment_id, run_name=spec.run_name or str(run.folder), tags=tags)
        self._id = record.info.run_id
        self._log_config(run.config)

    def on_step(self, state: State, loss: torch.Tensor, learning_rate: float) -> None:
        if state.step % self._run.log_every == 0:
            self._log({"train/batch_loss": float(loss), "train/learning_rate": learning_rate}, state.step)

    def on_report(self, state: State, report: Report, logs: Mapping[str, float | None]) -> None:
        self._log(logs, state.step)

    def close(self) -> None:
        for operation in self._pending:
            operation.wait()
        self._client.set_terminated(self._id, "FINISHED" if self._run.state.finished else "KILLED")

    def _log(self, values: Mapping[str, float | None], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(name, value, now, step)
            for name, value in values.items()
            if value is not None and math.isfinite(value)
        ]
        self._pending.append(self._client.log_batch(self._id, metrics=metrics, synchronous=False))

    def _log_config(self, config: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        params = [
            Param(name, (value if isinstance(value, str) else json.dumps(value))[:MAX_VALUE])
            for name, value in flatten(config).items()
        ]
        for start in range(0, len(params), MAX_BATCH):
            self._client.log_batch(self._id, params=params[start : start + MAX_BATCH])
