"""The only place where weights change.

``fit`` reads top to bottom: take the next batch, set the learning rate, add up the gradients of its parts, clip,
step; where an evaluation is due, judge, keep what is best, save what a resume needs, and perhaps stop. Between two
looks at the loss it never waits for the device.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import nn

from claf2 import ranks
from claf2.batch import Batch, Stream
from claf2.errors import Claf2Error
from claf2.heads import Head
from claf2.models.encoder import EncoderWithHeads
from claf2.objectives import Objective, Pass
from claf2.optim import Schedule
from claf2.report import Report

__all__ = ["Decides", "Job", "Keeper", "Observer", "Plan", "Precision", "State", "fit", "metric_logs"]

logger = logging.getLogger("claf2")


@dataclass(frozen=True)
class Decides:
    """The score that decides on one task of several."""

    metric_key: str
    lower_is_better: bool


@dataclass(frozen=True)
class Plan:
    """How long to train, when to look, and which score decides.

    ``interval`` is the number of steps between evaluations, counted from the start of each epoch when
    ``per_epoch``; the last step is always evaluated. ``patience`` evaluations without a better score end the run.
    Where there are several tasks, ``tasks`` names the score that decides on each of them, and
    ``task_patience`` evaluations without a better one let a task rest from the next epoch on.
    """

    total_steps: int
    interval: int
    per_epoch: bool
    metric_key: str
    lower_is_better: bool
    patience: int | None
    max_norm: float | None
    learning_rate: float
    look_every: int = 1
    """Steps between two looks at the loss on a device that would have to be waited for."""
    tasks: Mapping[str, Decides] = field(default_factory=dict)
    task_patience: int | None = None
    each: bool = False
    """Keep the best checkpoint of each task instead of the best one by ``metric_key``."""

    def due(self, state: State) -> bool:
        """Say whether the model is to be evaluated after the step that ``state`` has just taken."""
        counted = state.position if self.per_epoch else state.step
        return counted % self.interval == 0 or state.step == self.total_steps


def better(value: float | None, best: float | None, *, lower_is_better: bool) -> bool:
    """Say whether ``value`` beats ``best``; an undefined score beats nothing, and a first one always counts."""
    if best is None or value is None:
        return best is None
    return value < best if lower_is_better else value > best


@dataclass
class State:
    """Where a run stands: all that ``fit`` remembers between two steps, besides weights, optimizer and generators."""

    epoch: int = 0
    """Counted from 0; the epoch of the next step."""
    position: int = 0
    """The steps taken in this epoch."""
    step: int = 0
    """The steps taken in all."""
    best_score: float | None = None
    best_step: int | None = None
    best_epoch: int | None = None
    best: dict[str, float | None] = field(default_factory=dict)
    """All scores of the best evaluation."""
    unimproved: int = 0
    """Evaluations since the best one."""
    loss: float = 0.0
    """The sum of step losses since the last evaluation."""
    losses: int = 0
    """How many they are."""
    halvings: int = 0
    """How often parts are halved before they are taken, since larger ones did not fit into memory."""
    rows: int = 0
    """The rows trained on in all, each as often as it was seen."""
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of each of several tasks: its best ``score``, at which ``step``, with which ``logs``, and the evaluations
    ``unimproved`` since."""
    resting: list[str] = field(default_factory=list)
    """The tasks that take no part in this epoch."""
    finished: bool = False


class Observer(Protocol):
    """Watches a run and never steers it."""

    def on_step(self, state: State, loss: torch.Tensor, learning_rate: float) -> None:
        """Called after every optimizer step with the mean loss of its batch, a scalar; reading it waits for the device,
        so an observer reads it only where it says something."""

    def on_report(self, state: State, report: Report, logs: Mapping[str, float | None]) -> None:
        """Called after every evaluation, before anything is saved."""

    def close(self) -> None:
        """Called when the run ends, however it ends."""


class Precision:
    """In what numbers the passes are made: ``fp32``; ``bf16`` or ``fp16`` by automatic casting, fp16 with its losses
    scaled. Weights, gradients and the optimizer stay in fp32."""

    def __init__(self, name: Literal["fp32", "bf16", "fp16"], device: torch.device) -> None:
        self._device = device.type
        self._kind = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def forward(self) -> AbstractContextManager[Any]:
        """Return the context of forward passes."""
        return nullcontext() if self._kind is None else torch.autocast(self._device, self._kind)

    def backward(self) -> AbstractContextManager[Any]:
        """Return the context of a backward pass inside that of ``forward``."""
        return nullcontext() if self._kind is None else torch.autocast(self._device, enabled=False)


class Keeper(Protocol):
    """Stores what a run must not lose."""

    def keep_best(self, report: Report, tasks: Collection[str] | None = None) -> None:
        """Store the weights and predictions of the best evaluation so far; of some tasks only, where they are given."""

    def keep_last(self, state: State) -> None:
        """Store all that a resume needs."""


@dataclass(frozen=True)
class Job:
    """All that one stage of training needs, built and ready.

    ``state`` says where to begin. ``judge`` evaluates the model as it stands. ``interrupted`` says, after a step,
    whether the user wants the run to end.
    """

    model: EncoderWithHeads
    heads: Mapping[str, Head]
    stream: Stream
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    plan: Plan
    state: State
    judge: Callable[[], Report]
    keeper: Keeper
    observer: Observer
    interrupted: Callable[[], bool]
    precision: Precision = field(default_factory=lambda: Precision("fp32", torch.device("cpu")))
    weights: Mapping[str, float] = field(default_factory=dict)
    """What the loss of a task is multiplied by; 1 where it is not named."""
    objectives: Sequence[Objective] = ()
    """What changes the loss, in this order."""


def fit(job: Job) -> None:
    """Train ``job.model`` until the plan is fulfilled; ``job.state`` says in the end where the run stands.

    Stops early after ``plan.patience`` evaluations without improvement, or, after a finished step and with everything
    saved, when the job was interrupted.
    """
    model, plan, state, optimizer = job.model, job.plan, job.state, job.optimizer
    device = model.device
    scaler = job.precision.scaler
    network = ranks.spread(_Loss(job))
    unread = torch.zeros((), dtype=torch.float64, device=device)
    model.train()
    while not state.finished:
        for task, parts in job.stream.epoch(state.epoch, start=state.position, resting=state.resting):
            head = job.heads[task]

            # A pure function of the step: nothing to save, and never a step behind (warm-up starts at 0).
            rate = plan.learning_rate * job.schedule.factor(state.step, plan.total_steps)
            for group in optimizer.param_groups:
                group["lr"] = rate

            loss, rows = _gradients(job, network, task, head, parts, device)
            if plan.max_norm is not None:
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(model.parameters(), plan.max_norm)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)

            state.step += 1
            state.position += 1
            state.losses += 1
            state.rows += rows
            unread += loss
            due, asked = plan.due(state), bool(ranks.total(torch.tensor(float(job.interrupted()))))
            if due or asked or device.type == "cpu" or state.step % plan.look_every == 0:
                state.loss += _finite(unread, task, state.step, rate)
                unread.zero_()
            job.observer.on_step(state, loss, rate)
            if due:
                _judge(job)
                model.train()
            if state.finished:
                return
            if asked:
                job.keeper.keep_last(state)
                return
        state.epoch += 1
        state.position = 0
        if plan.task_patience is not None:
            tired = [task for task, each in state.tasks.items() if each["unimproved"] >= plan.task_patience]
            state.resting = tired if len(tired) < len(state.tasks) else []


def _gradients(
    job: Job, network: nn.Module, task: str, head: Head, parts: Sequence[Batch], device: torch.device
) -> tuple[torch.Tensor, int]:
    """Add the gradients of a batch up, part by part, and return its mean loss, a scalar, and its rows.

    The parts share one denominator, over all processes, so their gradients add up to the whole batch's gradient,
    however unevenly the targets fall on them and however short the last batch is. Where a part does not fit into
    memory, all are halved and the batch is done again; later ones are halved beforehand.
    """
    for _ in range(job.state.halvings):
        parts = [half for part in parts for half in part.halves()]
    if ranks.sharded(network):
        parts = [*parts, *[parts[0].company()] * (ranks.most(len(parts)) - len(parts))]
    own = sum(head.weight(part.arrays) * part.counts for part in parts)
    rows = sum(len(part) for part in parts if part.counts)
    *targets, whole = ranks.total(torch.tensor([*np.atleast_1d(own), rows], dtype=torch.float64)).tolist()
    # Processes average their gradients, so each counts for all.
    scale = job.weights.get(task, 1.0) * ranks.count()
    shares = torch.as_tensor(scale / np.maximum(1.0, targets), dtype=torch.float32, device=device)
    shares = shares if np.ndim(own) else shares[0]
    while True:
        loss = torch.zeros((), device=device)
        try:
            with job.precision.forward():  # one context for all parts, so that weights are cast once
                for left, part in zip(range(len(parts), 0, -1), parts, strict=True):
                    with ranks.unsent(network, last=left == 1):
                        part_loss = network(task, part.tensors(device), shares * part.counts)
                        with job.precision.backward():
                            job.precision.scaler.scale(part_loss).backward()
                    loss += part_loss.detach()
            return ranks.total(loss) / ranks.count(), int(whole)
        except torch.OutOfMemoryError:
            if ranks.count() > 1 or all(len(part) == 1 for part in parts):
                raise  # several processes cannot take back what they have sent
        job.optimizer.zero_grad(set_to_none=True)
        job.state.halvings += 1
        parts = [half for part in parts for half in part.halves()]
        logger.warning("out of memory: the batch is done again in %d parts", len(parts))


class _Loss(nn.Module):
    """The loss of a part, objectives included, as one module, so that all that learns from it is known to be used."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.model, self.heads, self.objectives = job.model, job.heads, job.objectives

    def forward(self, task: str, tensors: Mapping[str, torch.Tensor], shares: torch.Tensor) -> torch.Tensor:
        head, outputs = self.heads[task], self.model(task, tensors)
        loss: torch.Tensor = (head.loss(outputs, tensors) * shares).sum()
        for objective in self.objectives:
            loss = objective.loss(loss, Pass(self.model, task, head, tensors, outputs, shares.mean()))
        return loss


def _finite(total: torch.Tensor, task: str, step: int, rate: float) -> float:
    """Return the sum of the losses since the last look.

    Raises:
        Claf2Error: when one of them was no number.
    """
    value = float(total)
    if not math.isfinite(value):
        raise Claf2Error(
            f"the loss of task {task!r} became {value} at step {step} (learning rate {rate:.3g}); "
            "try a lower optimizer.learning_rate"
        )
    return value


def _judge(job: Job) -> None:
    """Evaluate; keep the best; save. In this order, so that a kill in between only repeats what was lost."""
    plan, state = job.plan, job.state
    report = job.judge()
    logs = {"train/loss": state.loss / state.losses, **report.logs()}
    state.loss, state.losses = 0.0, 0
    value = report.value(plan.metric_key)
    improved = better(value, state.best_score, lower_is_better=plan.lower_is_better)
    if improved:
        state.best_score, state.best_step, state.best_epoch = value, state.step, state.epoch + 1
        state.best, state.unimproved = logs, 0
    else:
        state.unimproved += 1
    risen = _note_tasks(plan, state, report)
    if plan.each and risen:
        job.keeper.keep_best(report, risen)
    elif improved and not plan.each:
        job.keeper.keep_best(report)
    tired = plan.patience is not None and state.unimproved >= plan.patience
    state.finished = tired or state.step == plan.total_steps
    job.observer.on_report(state, report, logs)
    job.keeper.keep_last(state)


def _note_tasks(plan: Plan, state: State, report: Report) -> list[str]:
    """Note where each of several tasks stands, and return those that have a best score now."""
    risen = []
    for task, decides in plan.tasks.items():
        value = report.value(f"{task}/{decides.metric_key}")
        own = state.tasks.setdefault(task, {"score": None, "step": None, "unimproved": 0, "logs": {}})
        if better(value, own["score"], lower_is_better=decides.lower_is_better):
            own |= {"score": value, "step": state.step, "unimproved": 0}
            own["logs"] = {key: each for key, each in report.logs().items() if key.split("/")[1] == task}
            risen.append(task)
        else:
            own["unimproved"] += 1
    return risen


def metric_logs(plan: Plan, state: State) -> dict[str, Any]:
    """Return the Metric Logs: the best evaluation and where it was."""
    best = dict(state.best)
    if plan.each:  # what is kept of each task is of another step
        best = {key: each for key, each in best.items() if key == "train/loss"}
        best |= {key: each for task in state.tasks.values() for key, each in task["logs"].items()}
    return {
        "best_epoch": state.best_epoch,
        "best_global_step": state.best_step,
        "best": best,
        "best_score": state.best_score,
        "metric_key": plan.metric_key,
        **(
            {"tasks": {task: {"score": own["score"], "step": own["step"]} for task, own in state.tasks.items()}}
            if state.tasks
            else {}
        ),
    }
