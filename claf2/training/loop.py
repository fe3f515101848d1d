"""The training loop: the only place where weights change.

``fit`` reads top to bottom: take the next batch, set the learning rate, accumulate the gradients of its micro-batches,
clip, step; where an evaluation is due, evaluate, save the best checkpoint, save what a resume needs, and perhaps stop.
On a GPU it waits for the device only where the loss is read.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from claf2.data.batch import Batch, Stream
from claf2.errors import Claf2Error
from claf2.evaluation.report import Report
from claf2.heads import Head
from claf2.models.encoder import EncoderWithHeads
from claf2.runtime import distributed
from claf2.runtime.precision import Precision
from claf2.training.callbacks import Callback
from claf2.training.kept_steps import KeptSteps
from claf2.training.losses import LossModule, LossPart, divide_loss
from claf2.training.objectives import Objective
from claf2.training.optim import Schedule
from claf2.training.state import State

__all__ = ["Checkpointer", "Plan", "SelectionMetric", "TrainingContext", "evaluate_and_save", "fit", "metric_logs"]

logger = logging.getLogger("claf2")


@dataclass(frozen=True)
class SelectionMetric:
    """The score that selects the best checkpoint of a task."""

    metric_key: str
    lower_is_better: bool


@dataclass(frozen=True)
class Plan:
    """How long to train, when to evaluate, and which score selects the best checkpoint.

    ``interval`` is the number of steps between evaluations, counted from the start of each epoch when ``per_epoch``;
    the last step is always evaluated. ``patience`` evaluations without a better score end the run. With several tasks,
    ``tasks`` names the selection metric of each, and ``task_patience`` evaluations without a better score pause a task
    from the next epoch on.
    """

    total_steps: int
    interval: int
    per_epoch: bool
    metric_key: str
    lower_is_better: bool
    patience: int | None
    max_norm: float | None
    learning_rate: float
    read_loss_every: int = 1
    """Steps between two reads of the loss from a device for which the loop would have to wait."""
    tasks: Mapping[str, SelectionMetric] = field(default_factory=dict)
    task_patience: int | None = None
    keep_best_per_task: bool = False
    """Keep the best checkpoint of each task instead of the best one by ``metric_key``."""
    kept_steps: KeptSteps | None = None
    """The steps whose weights are kept besides the best ones; ``None``: none."""

    def is_due(self, state: State) -> bool:
        """Say whether to evaluate after the step that ``state`` has just counted."""
        counted = state.position if self.per_epoch else state.step
        return counted % self.interval == 0 or state.step == self.total_steps

    def is_kept(self, state: State) -> bool:
        """Say whether to keep the weights after the step that ``state`` has just counted: also where an evaluation has
        ended the run early. The loss is read before, so that none are kept after one that is not finite."""
        return self.kept_steps is not None and (state.finished or self.kept_steps.is_due(state.step, self.total_steps))


NO_BEST: Mapping[str, Any] = {"score": None, "step": None, "unimproved": 0, "logs": {}}
"""What ``State.tasks`` holds of a task before its first evaluation."""


def is_better(score: float | None, best: float | None, *, lower_is_better: bool) -> bool:
    """Say whether ``score`` beats ``best``. A score beats one that is undefined, which beats none."""
    if best is None or score is None:
        return score is not None
    return score < best if lower_is_better else score > best


class Checkpointer(Protocol):
    """Saves the state and the best weights of a run."""

    def save_best(self, report: Report, tasks: Collection[str] | None = None) -> None:
        """Save the weights and predictions of the best evaluation so far; of some tasks only, where they are given."""

    def save_last(self, state: State) -> None:
        """Save all that a resume needs."""

    def save_step(self, step: int, kept_steps: KeptSteps) -> Path | None:
        """Keep the weights after a step, and delete kept ones that are superseded. Returns the folder."""


@dataclass(frozen=True)
class TrainingContext:
    """Everything that one call of ``fit`` needs.

    ``state`` says where to begin. ``evaluate`` returns the report of the current weights. ``interrupted`` says, after a
    step, whether the user has asked the run to stop.
    """

    model: EncoderWithHeads
    heads: Mapping[str, Head[Any, Any]]
    stream: Stream
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    plan: Plan
    state: State
    evaluate: Callable[[], Report]
    checkpointer: Checkpointer
    callback: Callback
    interrupted: Callable[[], bool]
    precision: Precision = field(default_factory=lambda: Precision("fp32", torch.device("cpu")))
    loss_weights: Mapping[str, float] = field(default_factory=dict)
    """The factor of each task's loss; 1 where a task is not named."""
    objectives: Sequence[Objective] = ()
    """What changes inputs or loss, applied in this order."""
    companions: Mapping[str, Any] = field(default_factory=dict)
    """What the objectives use besides the model, by their names."""


def fit(context: TrainingContext) -> None:
    """Train ``context.model`` until the plan is complete; ``context.state`` then says where the run stands.

    Stops early after ``plan.patience`` evaluations without improvement, or, after a complete step and with everything
    saved, when the user has interrupted the run.
    """
    model, plan, state, optimizer = context.model, context.plan, context.state, context.optimizer
    device, scaler = model.device, context.precision.scaler
    losses = LossModule(model, context.heads, context.objectives, context.companions)
    network = distributed.wrap_ddp(losses)
    # Losses are summed on the device, so that a GPU need not finish a step before the next one is queued.
    unread_loss = torch.zeros((), device=device)
    model.train()
    while not state.finished:
        # A resumed run continues inside the epoch: the order depends on (seed, epoch) alone, so skipping is exact.
        for task, batches in context.stream.epoch(state.epoch, start=state.position, paused=state.paused):
            # The rate is a pure function of the step: there is no scheduler state to save, and none to lag behind.
            # Warm-up starts at 0, as in `transformers`.
            learning_rate = plan.learning_rate * context.schedule.factor(state.step, plan.total_steps)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate

            loss, rows, interrupted = _accumulate_gradients(context, losses, network, task, batches)
            if plan.max_norm is not None:
                scaler.unscale_(optimizer)  # the norm is that of the true gradients; nothing happens unless fp16
                _clip_gradients(model, plan.max_norm)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)

            state.step += 1
            state.position += 1
            state.loss_steps += 1
            state.rows += rows
            unread_loss += loss
            is_due, is_kept = plan.is_due(state), plan.is_kept(state)
            # A single process need not wait for the next step to hear of Ctrl-C.
            interrupted = context.interrupted() if distributed.world_size() == 1 else interrupted
            # On a CPU nothing is queued, so reading at once costs nothing and finds a diverged loss at its step.
            if is_due or is_kept or interrupted or device.type == "cpu" or state.step % plan.read_loss_every == 0:
                state.loss_sum += _read_loss(unread_loss, task, state.step, learning_rate)
                unread_loss.zero_()
            context.callback.on_step(state, loss, learning_rate)
            kept = evaluate_and_save(context) if is_due else _keep_step(context)
            if is_due:
                model.train()
            if kept is not None:
                context.callback.on_kept(state, kept)
            if state.finished:
                return
            if interrupted:
                context.checkpointer.save_last(state)
                return
        state.epoch += 1
        state.position = 0
        if plan.task_patience is not None:
            exhausted = [name for name, entry in state.tasks.items() if entry["unimproved"] >= plan.task_patience]
            # Where every task is exhausted, none is paused: the run itself ends by `patience`.
            state.paused = exhausted if len(exhausted) < len(state.tasks) else []


def _clip_gradients(model: EncoderWithHeads, max_norm: float) -> None:
    """Clip the gradients of the weights, but of nothing that objectives learn: it would dominate the norm."""
    learned = set(model.learned.parameters())
    weights = [parameter for parameter in model.parameters() if parameter not in learned]
    torch.nn.utils.clip_grad_norm_(weights, max_norm)


def _keep_step(context: TrainingContext) -> Path | None:
    """Keep the weights after a step, if that is due, and return their folder."""
    plan, state = context.plan, context.state
    if plan.kept_steps is None or not plan.is_kept(state):
        return None
    return context.checkpointer.save_step(state.step, plan.kept_steps)


def _accumulate_gradients(
    context: TrainingContext, losses: LossModule, network: nn.Module, task: str, batches: Sequence[Batch]
) -> tuple[torch.Tensor, int, bool]:
    """Accumulate the gradients of a batch, micro-batch by micro-batch.

    The micro-batches of all processes share one denominator, so that their gradients add up to those of the whole
    batch, however unevenly the targets are distributed and however small the last batch is. Where a micro-batch does
    not fit into memory, all are halved and the batch is computed again; later ones are halved beforehand.

    Returns:
        The mean loss of the batch, a scalar; its number of rows; whether the user has interrupted any of several
        processes.
    """
    head, device = context.heads[task], context.model.device
    with context.precision.forward():
        batches = [losses.change_inputs(task, batch) for batch in batches]
    for _ in range(context.state.oom_splits):
        batches = [half for batch in batches for half in batch.halves()]
    # A loss with several terms has one denominator for each, (T,): a parser has as many heads as relations, but a
    # dialogue has more value tokens than gates.
    own_targets = np.atleast_1d(sum(head.weight(batch.arrays) * batch.has_loss for batch in batches))
    own_rows = sum(len(batch) for batch in batches if batch.has_loss)
    several = distributed.world_size() > 1
    # One collective tells every process all that it must know of the others before the step.
    numbers = [*own_targets, own_rows, len(batches), several and context.interrupted()]
    gathered = distributed.all_gather_numbers(numbers)
    *targets, rows, _, interrupted = gathered.sum(0).tolist()
    counts = gathered[:, -3].astype(int).tolist()
    if distributed.is_sharded(network):
        # Sharded weights are gathered in every pass, so all processes must make the same number of passes.
        missing = int(gathered[:, -2].max()) - len(batches)
        batches = [*batches, *[batches[0].dummy_batch()] * missing]
    # Processes average their gradients, and the sum is wanted, so each loss is multiplied by their number.
    scale = context.loss_weights.get(task, 1.0) * distributed.world_size()
    shares = torch.as_tensor(scale / np.maximum(1.0, targets), dtype=torch.float32, device=device)
    shares = shares if len(targets) > 1 else shares[0]
    share = torch.as_tensor(scale / max(1, rows), dtype=torch.float32, device=device)
    while True:
        parts: Sequence[LossPart | None] = [None] * len(batches)
        try:
            if head.whole_batch and (several or len(batches) > 1):
                # In a context of its own: what is cast without a graph must not be found by the second pass.
                with context.precision.forward():
                    parts = divide_loss(head, partial(context.model, task), batches, shares, counts, device)
            loss = _backward(context, network, task, batches, parts, shares, share)
            return distributed.all_reduce_sum(loss) / distributed.world_size(), int(rows), bool(interrupted)
        except torch.OutOfMemoryError:
            # Several processes cannot take back gradients that they have exchanged already.
            if several or all(len(batch) == 1 for batch in batches):
                raise
        context.optimizer.zero_grad(set_to_none=True)
        context.state.oom_splits += 1
        batches = [half for batch in batches for half in batch.halves()]
        logger.warning("out of memory: computing the batch again in %d micro-batches", len(batches))


def _backward(
    context: TrainingContext,
    network: nn.Module,
    task: str,
    batches: Sequence[Batch],
    parts: Sequence[LossPart | None],
    shares: torch.Tensor,
    share: torch.Tensor,
) -> torch.Tensor:
    """Add the gradients of micro-batches to those of the weights, and return the sum of the losses, a scalar."""
    loss = torch.zeros((), device=context.model.device)
    # One autocast context for all micro-batches: weights are cast once a step, not once a pass.
    with context.precision.forward():
        for remaining, batch, part in zip(range(len(batches), 0, -1), batches, parts, strict=True):
            with distributed.no_sync(network, last=remaining == 1):
                tensors = batch.tensors(context.model.device, target_places=context.heads[task].predicts_tokens)
                if part is not None:
                    part.repeat_draws()
                batch_loss = network(task, tensors, shares * batch.has_loss, share * batch.has_loss, part)
                with context.precision.backward():
                    context.precision.scaler.scale(batch_loss).backward()
            loss += batch_loss.detach()
    return loss


def _read_loss(total: torch.Tensor, task: str, step: int, learning_rate: float) -> float:
    """Return the sum of the losses since the last read.

    Raises:
        Claf2Error: when one of them was not finite.
    """
    value = float(total)
    if not math.isfinite(value):
        raise Claf2Error(
            f"the loss of task {task!r} became {value} at step {step} (learning rate {learning_rate:.3g}); "
            "try a lower --optimizer.learning_rate"
        )
    return value


def _check_finite(report: Report, step: int, learning_rate: float) -> None:
    """Check an evaluation before anything is saved.

    Raises:
        Claf2Error: when predictions or a loss are not finite.
    """
    for split in (report, *report.others):
        for task, task_report in split.tasks.items():
            if task_report.undefined or not math.isfinite(task_report.loss or 0.0):
                raise Claf2Error(
                    f"the outputs for split {split.split} of task {task!r} are NaN or infinite after step {step} "
                    f"(learning rate {learning_rate:.3g}); try a lower --optimizer.learning_rate"
                )


def evaluate_and_save(context: TrainingContext) -> Path | None:
    """Evaluate, save the best checkpoint, keep the step if that is due, save the last checkpoint. In this order, a kill
    in between repeats some steps but loses none: `last/` never says that something is done which is not stored. The
    first evaluation is the best one even if its score is undefined. Returns the folder of the kept step."""
    plan, state = context.plan, context.state
    report = context.evaluate()
    _check_finite(report, state.step, context.optimizer.param_groups[0]["lr"])
    logs = report.logs()
    if state.loss_steps:
        logs = {"train/loss": state.loss_sum / state.loss_steps, **logs}
    state.loss_sum, state.loss_steps = 0.0, 0
    score = report.value(plan.metric_key)
    improved = state.best_step is None or is_better(score, state.best_score, lower_is_better=plan.lower_is_better)
    if improved:
        state.best_score, state.best_step, state.best_epoch = score, state.step, state.epoch + 1
        state.best, state.unimproved = logs, 0
    else:
        state.unimproved += 1
    improved_tasks = _update_tasks(plan, state, report)
    if plan.keep_best_per_task and improved_tasks:
        context.checkpointer.save_best(report, improved_tasks)
    elif improved and not plan.keep_best_per_task:
        context.checkpointer.save_best(report)
    exhausted = plan.patience is not None and state.unimproved >= plan.patience
    state.finished = exhausted or state.step == plan.total_steps
    context.callback.on_report(state, report, logs)
    kept = _keep_step(context)
    context.checkpointer.save_last(state)
    return kept


def _update_tasks(plan: Plan, state: State, report: Report) -> list[str]:
    """Update the best score of each of several tasks, and return the tasks that have improved."""
    improved = []
    for task, selection in plan.tasks.items():
        score = report.value(f"{task}/{selection.metric_key}")
        entry = state.tasks.setdefault(task, dict(NO_BEST))
        if entry["step"] is None or is_better(score, entry["score"], lower_is_better=selection.lower_is_better):
            entry |= {"score": score, "step": state.step, "unimproved": 0}
            entry["logs"] = {key: value for key, value in report.logs().items() if key.split("/")[1] == task}
            improved.append(task)
        else:
            entry["unimproved"] += 1
    return improved


def forget_best(plan: Plan, state: State, tasks: Collection[str]) -> None:
    """Forget the best evaluation of some tasks, whose weights a later one has replaced that is now repeated. It becomes
    the best one again. Its score may differ where steps do not repeat exactly, but it is that of `best/`."""
    message = "best/ comes from an evaluation after step %d, which is repeated; the best checkpoint is selected again"
    logger.warning(message, state.step)
    if plan.keep_best_per_task:
        for task in tasks:
            state.tasks[task] |= NO_BEST
        return
    state.best_score = state.best_step = state.best_epoch = None
    state.best, state.unimproved = {}, 0


def metric_logs(plan: Plan, state: State) -> dict[str, Any]:
    """Return the Metric Logs: the scores of the best evaluation, and its epoch and step."""
    best = dict(state.best)
    if plan.keep_best_per_task:  # the checkpoints of the tasks come from different steps, and so do their scores
        best = {key: value for key, value in best.items() if key == "train/loss"}
        best |= {key: value for entry in state.tasks.values() for key, value in entry["logs"].items()}
    logs: dict[str, Any] = {
        "best_epoch": state.best_epoch,
        "best_global_step": state.best_step,
        "best": best,
        "best_score": state.best_score,
        "metric_key": plan.metric_key,
    }
    if state.tasks:
        logs["tasks"] = {task: {"score": entry["score"], "step": entry["step"]} for task, entry in state.tasks.items()}
    return logs
