"""What a run costs: a few steps of it are taken and thrown away, and scaled to all of them."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain, count, islice
from typing import Any

import numpy as np
import torch
from torch import nn

from claf2.build import Run, Sets
from claf2.features import FeatureSet
from claf2.loop import State, fit
from claf2.prepare import Ready
from claf2.readers import Example
from claf2.report import Report

__all__ = ["Measured", "few", "measure", "memory", "shares", "tokens_in", "tokens_per_step"]

MIB = 2**20


def shares(run: Run, features: Mapping[str, FeatureSet]) -> dict[str, float]:
    """Return which part of the first epoch's steps is of each task."""
    experiment = run.experiment
    parts = {task: part for task, part in experiment.parts.items() if part.mix.loss_weight}
    sizes = {task: _steps(run, task, features[task]) for task in parts}
    drawn = experiment.sampler.shares(sizes, 0.0) if len(sizes) > 1 else sizes
    return {task: share / sum(drawn.values()) for task, share in drawn.items()}


def _steps(run: Run, task: str, features: FeatureSet) -> int:
    """Return the steps that go once through a task's features."""
    rows = run.experiment.parts[task].iterator.batch_size * run.experiment.trainer.gradient_accumulation_steps
    return math.ceil(len(features) / rows)


def tokens_per_step(run: Run, features: Mapping[str, FeatureSet]) -> float:
    """Return the mean number of tokens of a step in the first epoch, padding left out."""
    each = {task: features[task].lengths().sum() / _steps(run, task, features[task]) for task in features}
    return float(sum(each[task] * share for task, share in shares(run, features).items()))


def tokens_in(sets: Sets) -> int:
    """Return the tokens of all that is judged in an evaluation."""
    return sum(int(features.lengths().sum()) for own in sets.values() for features, _ in own.values())


def few(
    sets: Mapping[str, tuple[FeatureSet, list[Example]]], sizes: Mapping[str, int]
) -> dict[str, tuple[FeatureSet, list[Example]]]:
    """Return the first examples of each task, as many as ``sizes`` says, with their features."""
    found = {}
    for task, (features, examples) in sets.items():
        rows = np.arange(np.searchsorted(features.table["example"].to_numpy(), sizes[task]))
        found[task] = (replace(features, table=features.table.take(rows)), examples[: sizes[task]])
    return found


@dataclass(frozen=True)
class Measured:
    """What a few steps and the evaluation of a few rows cost."""

    step: float
    """Seconds a step."""
    token: float
    """Seconds a token of a step, padding left out."""
    judged: float
    """Seconds a token of an evaluation."""
    kept: int
    """The most bytes that were kept for a backward pass."""
    of: int
    """The tokens of the part for which they were kept."""
    halvings: int
    """How often parts had to be halved to fit into memory."""


class _Watch:
    """Notes when each step ends, and keeps nothing. The first step is left out of time and is weighed instead."""

    def __init__(self, first: ExitStack) -> None:
        self._first = first
        self.ends: list[float] = []

    def on_step(self, state: State, loss: torch.Tensor, learning_rate: float) -> None:
        float(loss)  # waits for the device
        self._first.close()
        self.ends.append(time.monotonic())

    def on_report(self, state: State, report: Report, logs: Mapping[str, float | None]) -> None:
        return None

    def close(self) -> None:
        return None

    def keep_best(self, report: Report, tasks: Collection[str] | None = None) -> None:
        return None

    def keep_last(self, state: State) -> None:
        return None


class _Scales:
    """Weighs what autograd keeps for the backward pass, each storage once, weights left out."""

    def __init__(self, model: nn.Module) -> None:
        self._own = {each.untyped_storage().data_ptr() for each in model.parameters()}
        self._held: dict[int, int] = {}
        self._now = self.most = 0

    def pack(self, tensor: torch.Tensor) -> _Kept:
        """Take a tensor that is kept."""
        return _Kept(self, tensor.detach())

    def weigh(self, tensor: torch.Tensor, change: int) -> None:
        """Note that a tensor is kept once more (1) or once less (-1)."""
        storage = tensor.untyped_storage()
        place = storage.data_ptr()
        if place in self._own:
            return
        before = self._held.get(place, 0)
        self._held[place] = before + change
        if not before or not self._held[place]:
            self._now += change * storage.nbytes()
            self.most = max(self.most, self._now)


class _Kept:
    """A tensor on the scales for as long as it lives."""

    def __init__(self, scales: _Scales, tensor: torch.Tensor) -> None:
        self._scales, self.tensor = scales, tensor
        scales.weigh(tensor, 1)

    def __del__(self) -> None:
        self._scales.weigh(self.tensor, -1)


def measure(ready: Ready, steps: int) -> Measured:
    """Take one step to warm up and a few to measure, by the loop itself, then judge as many batches of each task. The
    model is of no use afterwards."""
    experiment, plan = ready.run.experiment, ready.plan
    optimizer = experiment.update.build(ready.model, plan.learning_rate)
    wanted = steps + 1
    batches = chain.from_iterable(ready.stream.epoch(epoch) for epoch in count())
    tokens = [[int(part.arrays["attention_mask"].sum()) for part in parts] for _, parts in islice(batches, wanted)]
    scales, state, first = _Scales(ready.model), State(), ExitStack()
    watch = _Watch(first)
    with first:
        if not experiment.runtime.compile:  # whose graphs keep what they keep
            first.enter_context(torch.autograd.graph.saved_tensors_hooks(scales.pack, lambda kept: kept.tensor))
        longer = replace(
            plan, total_steps=plan.total_steps + wanted, interval=plan.total_steps + wanted, per_epoch=False
        )
        job = ready.job(
            optimizer=optimizer,
            state=state,
            judge=lambda: Report("valid", {}),
            keeper=watch,
            observer=watch,
            interrupted=lambda: len(watch.ends) >= steps,
        )
        fit(replace(job, plan=longer))
    seconds = watch.ends[-1] - watch.ends[0]
    optimizer.zero_grad(set_to_none=True)
    some: Sets = {
        split: few(own, {task: steps * part.iterator.eval_batch_size for task, part in experiment.parts.items()})
        for split, own in ready.valid.items()
    }
    begun = time.monotonic()
    ready.run.judge(ready.model, some)
    return Measured(
        step=seconds / steps,
        token=seconds / sum(sum(parts) for parts in tokens[1:]),
        judged=(time.monotonic() - begun) / tokens_in(some),
        kept=scales.most,
        of=max(tokens[0]),
        halvings=state.halvings,
    )


def memory(ready: Ready, measured: Measured | None) -> dict[str, Any]:
    """Return what training needs besides the process itself: weights, gradients and the optimizer's state exactly,
    activations as measured, and scaled to the tokens of a batch of the longest rows."""
    trained = [each for each in ready.model.parameters() if each.requires_grad]
    found: dict[str, Any] = {
        "weights": sum(each.nbytes for each in ready.model.weights().values()) / MIB,
        "gradients": sum(each.nbytes for each in trained) / MIB,
        "optimizer": _optimizer_bytes(ready) / MIB,
    }
    if measured is None or not measured.kept:
        return found
    longest = max(
        int(np.sort(ready.train[task].lengths())[-part.iterator.batch_size :].sum())
        for task, part in ready.run.experiment.parts.items()
        if part.mix.loss_weight
    )
    most = min(longest, ready.run.experiment.runtime.max_tokens_per_micro_batch or longest)
    kept = measured.kept / MIB
    return {
        **found,
        "activations": kept,
        "activations_tokens": measured.of,
        "activations_most": kept * max(1.0, most / measured.of),
        "most_tokens": most,
        "halvings": measured.halvings,
        "all": sum(found.values()) + kept * max(1.0, most / measured.of),
    }


def _optimizer_bytes(ready: Ready) -> int:
    """Return the size of the optimizer's state, by a step of the same optimizer on weights that have shapes only."""
    shapes = nn.ParameterList(
        nn.Parameter(torch.empty_like(each, device="meta"), requires_grad=each.requires_grad)
        for each in ready.model.parameters()
    )
    optimizer = ready.run.experiment.update.build(shapes, ready.plan.learning_rate)
    for each in shapes:
        each.grad = torch.empty_like(each) if each.requires_grad else None
    optimizer.step()
    kept = chain.from_iterable(state.values() for state in optimizer.state.values())
    return sum(each.nbytes for each in kept if isinstance(each, torch.Tensor))
