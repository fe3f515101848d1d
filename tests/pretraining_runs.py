"""What tests of pre-trainings do with runs: interrupt them, and compare what they leave."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from stored import last_bytes

from claf2 import config
from claf2.evaluation.report import Report
from claf2.runs.prepare import PreparedRun
from claf2.runs.train import train
from claf2.training.callbacks import Callback
from claf2.training.kept_steps import KeptSteps
from claf2.training.loop import fit
from claf2.training.optim import build_optimizer
from claf2.training.state import State
from claf2.training.trainers.pretrain import PretrainTrainer

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
"""What runs a module in two processes."""


class Recorder(Callback):
    """Remembers the loss and the learning rate of each step, and saves nothing."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.rates: list[float] = []

    def on_step(self, state: State, loss: torch.Tensor, learning_rate: float) -> None:
        self.losses.append(float(loss))
        self.rates.append(learning_rate)

    def save_best(self, report: Report, tasks: Collection[str] | None = None) -> None:
        return None

    def save_last(self, state: State) -> None:
        return None

    def save_step(self, step: int, kept_steps: KeptSteps) -> None:
        return None


def run_fit(prepared: PreparedRun) -> Recorder:
    """Train a prepared run in memory."""
    recorder = Recorder()
    optimizer = build_optimizer(prepared.run.experiment.optimizer, prepared.model, prepared.plan.learning_rate)
    context = prepared.training_context(
        optimizer=optimizer,
        state=State(),
        evaluate=lambda: prepared.run.evaluate_sets(prepared.model, prepared.valid),
        checkpointer=recorder,
        callback=recorder,
        interrupted=lambda: False,
    )
    fit(context)
    return recorder


def outcome(folder: Path) -> dict[str, bytes]:
    """Return the bytes of metrics and weights, and those of the optimizer's state."""
    names = ["metrics.json", "metrics.jsonl", "best/model.safetensors"]
    names += sorted(str(path.relative_to(folder)) for path in folder.glob("steps/*/model.safetensors"))
    files = {name: (folder / name).read_bytes() for name in names}
    # The header of the file lists optimizer state in the order in which it was made.
    return files | last_bytes(folder)


def train_until(experiment: Any, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start or resume a run, and interrupt it after some steps."""
    count = 0

    @contextmanager
    def interrupted_once() -> Iterator[Callable[[], bool]]:
        def interrupted() -> bool:
            nonlocal count
            count += 1
            return count == steps

        yield interrupted

    with monkeypatch.context() as patch:
        patch.setattr("claf2.runs.train.interruptible", interrupted_once)
        train(experiment, resume=True)


def shrink(name: str, log_dir: Path, model: Path) -> list[str]:
    """Return the overrides that make a recipe small, and leave its kinds of model, rows, masks and optimizer."""
    experiment = config.load(name)
    trainer = experiment.trainer
    assert isinstance(trainer, PretrainTrainer)
    phases = [
        {"until": 4 * number, "batch_size": 4, "max_seq_length": 8 * number + 16}
        for number, _ in enumerate(trainer.phases, start=1)
    ]
    ramp = {"batch_size": 2, "increment": 1, "rows": 3} if trainer.batch_ramp else None
    dataset = experiment.only_task.data.dataset
    words = [
        "--data_reader.source", "sample",
        f"--{dataset}.valid_documents", "10",
        f"--{dataset}.shard_bytes", "65536",
        "--trainer.pretrain.phases", json.dumps(phases),
        "--trainer.pretrain.batch_ramp", json.dumps(ramp),
        "--trainer.pretrain.keep_step_count", "1",
        "--trainer.pretrain.keep_last", "1",
        "--eval_and_save_step_count", "2",
        "--precision", "fp32",
        "--log_dir", str(log_dir),
    ]  # fmt: skip
    schedule = experiment.optimizer_config.lr_scheduler_type
    if getattr(experiment.schedule, "warmup_steps", None) is not None:
        words += [f"--{schedule}.warmup_steps", "1"]
    if experiment.model.pretrained_model_name != "scratch":
        return [*words, "--pretrained_model_name", str(model)]
    architecture: dict[str, Any] = {**experiment.model.architecture, **SMALL}
    architecture.pop("vocab_size", None)
    if "layer_types" in architecture:
        architecture["layer_types"] = architecture["layer_types"][: SMALL["num_hidden_layers"]]
    return [*words, "--architecture", json.dumps(architecture), "--vocab_size", "900"]
