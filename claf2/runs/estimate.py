"""The cost of a run: a few steps are measured, and scaled to all of them."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from claf2.data.batch import BatchStream
from claf2.data.features import FeatureSet
from claf2.evaluation.report import Report
from claf2.models.embeddings import trained_rows
from claf2.runs.locate import cache_dir
from claf2.runs.prepare import PreparedRun, first_examples
from claf2.runs.resolve import EvaluationSets, Run
from claf2.runtime.device import peak_memory_mib
from claf2.runtime.files import replace_dir_atomic
from claf2.training.callbacks import Callback
from claf2.training.kept_steps import KeptSteps
from claf2.training.loop import fit
from claf2.training.optim import build_optimizer
from claf2.training.shards import memory_to_save
from claf2.training.state import State

__all__ = [
    "StepCosts",
    "checkpoint_bytes",
    "count_tokens",
    "estimate_memory",
    "measure_steps",
    "seconds_to_save",
    "task_shares",
    "tokens_per_step",
]

MIB = 2**20

COUNTED_STEPS = 1000
"""How many steps are looked at for the largest micro-batch. To divide a batch takes about a millisecond."""

HEAP_GROWTH = 2 / 3
"""How much a CPU's heap grows after the measured steps, as a share of the activations. Tensors of other sizes leave
holes in it. This is the median of the ten runs of ``benchmarks/costs.py --estimates``, from 16 to 120 steps."""

SAVED_BYTES = 256 * MIB
"""The most that is written to measure how fast checkpoints are saved."""


def task_shares(run: Run, features: Mapping[str, FeatureSet]) -> dict[str, float]:
    """Return each task's share of the steps of the first epoch."""
    experiment = run.experiment
    trained = [task for task, task_config in experiment.tasks.items() if task_config.mix.loss_weight]
    if not features:  # a single task on a corpus
        return dict.fromkeys(trained, 1.0)
    sizes = {task: _steps(run, task, features[task]) for task in trained}
    shares = experiment.sampler.shares(sizes, 0.0) if len(sizes) > 1 else sizes
    return {task: share / sum(shares.values()) for task, share in shares.items()}


def _steps(run: Run, task: str, features: FeatureSet) -> int:
    """Return the number of steps of one pass over a task's features."""
    rows = run.experiment.tasks[task].iterator.batch_size * run.experiment.trainer_config.gradient_accumulation_steps
    return math.ceil(len(features) / rows)


def tokens_per_step(run: Run, features: Mapping[str, FeatureSet]) -> float:
    """Return the mean number of tokens of a step in the first epoch, without padding."""
    tokens = {task: features[task].token_counts().sum() / _steps(run, task, features[task]) for task in features}
    return float(sum(tokens[task] * share for task, share in task_shares(run, features).items()))


def count_tokens(sets: EvaluationSets) -> int:
    """Return the number of tokens of an evaluation."""
    return sum(int(features.token_counts().sum()) for tasks in sets.values() for features, _ in tasks.values())


@dataclass(frozen=True)
class StepCosts:
    """The measured costs of some steps and of the evaluation of some rows."""

    seconds_per_step: float
    seconds_per_token: float
    """Of a training step, without padding."""
    seconds_per_evaluated_token: float
    activation_bytes: int
    """The most bytes that were stored for a backward pass."""
    activation_tokens: int
    """The tokens of the micro-batch for which they were stored."""
    oom_splits: int
    """How often micro-batches had to be halved to fit into memory."""
    peak_mib: float
    """The peak memory of this process, or of its GPU, after these steps."""


class _StepTimer(Callback):
    """A callback and checkpointer that records when each step ends, and saves nothing. The first step warms up and is
    not timed; its memory is measured instead."""

    def __init__(self, first_step: ExitStack) -> None:
        self._first_step = first_step
        self.ends: list[float] = []

    def on_step(self, state: State, loss: torch.Tensor, learning_rate: float) -> None:
        float(loss)  # waits for the device
        self._first_step.close()
        self.ends.append(time.monotonic())

    def save_best(self, report: Report, tasks: Collection[str] | None = None) -> None:
        return None

    def save_last(self, state: State) -> None:
        return None

    def save_step(self, step: int, kept_steps: KeptSteps) -> Path:
        return Path()


class _ActivationMeter:
    """Measures the memory of the tensors that autograd saves for the backward pass. Each storage counts once, and
    weights do not count."""

    def __init__(self, model: nn.Module) -> None:
        self._weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        self._references: dict[int, int] = {}
        self._current = self.peak = 0

    def pack(self, tensor: torch.Tensor) -> _SavedTensor:
        """Count a tensor that autograd saves."""
        return _SavedTensor(self, tensor.detach())

    def add(self, tensor: torch.Tensor, change: int) -> None:
        """Count one reference more (1) or less (-1) to the storage of a tensor."""
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        if address in self._weights:
            return
        before = self._references.get(address, 0)
        self._references[address] = before + change
        if not before or not self._references[address]:
            self._current += change * storage.nbytes()
            self.peak = max(self.peak, self._current)


class _SavedTensor:
    """A saved tensor, counted for as long as it lives."""

    def __init__(self, meter: _ActivationMeter, tensor: torch.Tensor) -> None:
        self._meter, self.tensor = meter, tensor
        meter.add(tensor, 1)

    def __del__(self) -> None:
        self._meter.add(self.tensor, -1)


def measure_steps(prepared: PreparedRun, steps: int) -> StepCosts:
    """Take one step to warm up and ``steps`` to measure, in the loop itself, then evaluate as many batches of each
    task. The model is changed and must not be used afterwards."""
    experiment, plan = prepared.run.experiment, prepared.plan
    optimizer = build_optimizer(experiment.optimizer, prepared.model, plan.learning_rate)
    taken = steps + 1
    steps_of_epochs = chain.from_iterable(prepared.stream.epoch(epoch) for epoch in count())
    tokens = [
        [int(batch.arrays["attention_mask"].sum()) for batch in microbatches]
        for _, microbatches in islice(steps_of_epochs, taken)
    ]
    meter, state, first_step = _ActivationMeter(prepared.model), State(), ExitStack()
    timer = _StepTimer(first_step)
    with first_step:
        if not experiment.runtime.compile:  # a compiled graph decides by itself what it saves
            hooks = torch.autograd.graph.saved_tensors_hooks(meter.pack, lambda saved: saved.tensor)
            first_step.enter_context(hooks)
        # The plan is extended so that neither its end nor an evaluation falls into the measured steps.
        end = plan.total_steps + taken
        extended = replace(plan, total_steps=end, interval=end, per_epoch=False)
        context = prepared.training_context(
            optimizer=optimizer,
            state=state,
            evaluate=lambda: Report("valid", {}),
            checkpointer=timer,
            callback=timer,
            interrupted=lambda: len(timer.ends) >= steps,  # asked before the current step is recorded
        )
        fit(replace(context, plan=extended))
    seconds = timer.ends[-1] - timer.ends[0]
    optimizer.zero_grad(set_to_none=True)
    peak = list(peak_memory_mib().values())[-1]
    rows = {task: steps * task_config.iterator.eval_batch_size for task, task_config in experiment.tasks.items()}
    sample: EvaluationSets = {split: first_examples(tasks, rows) for split, tasks in prepared.valid.items()}
    started = time.monotonic()
    prepared.run.evaluate_sets(prepared.model, sample)
    return StepCosts(
        seconds_per_step=seconds / steps,
        seconds_per_token=seconds / sum(sum(microbatches) for microbatches in tokens[1:]),
        seconds_per_evaluated_token=(time.monotonic() - started) / count_tokens(sample),
        activation_bytes=meter.peak,
        activation_tokens=max(tokens[0]),
        oom_splits=state.oom_splits,
        peak_mib=peak,
    )


def estimate_memory(prepared: PreparedRun, costs: StepCosts | None) -> dict[str, Any]:
    """Return what training needs besides the process itself, in MiB: weights, gradients and optimizer state exactly;
    activations as measured, and scaled to the tokens of the largest micro-batch. ``peak`` is what this process has
    needed for the measured steps, imports included, scaled in the same way, and what saving a checkpoint and the
    growth of the heap need.

    Args:
        prepared: the run.
        costs: what was measured; ``None``: activations are left out.
    """
    trained = [parameter for parameter in prepared.model.parameters() if parameter.requires_grad]
    weights = sum(tensor.nbytes for tensor in prepared.model.weights().values())
    restricted = trained_rows(prepared.model)
    memory: dict[str, Any] = {
        "weights": (weights + (restricted[1].table_bytes if restricted else 0)) / MIB,
        "gradients": sum(parameter.nbytes for parameter in trained) / MIB,
        "optimizer": _optimizer_bytes(prepared) / MIB,
    }
    if costs is None or not costs.activation_bytes:
        return memory
    most_tokens = costs.activation_tokens
    if isinstance(prepared.stream, BatchStream):
        most_tokens = max(
            most_tokens, prepared.stream.largest_microbatch(min(prepared.plan.total_steps, COUNTED_STEPS))
        )
    activations = costs.activation_bytes / MIB
    most = activations * max(1.0, most_tokens / costs.activation_tokens)
    growth = HEAP_GROWTH * most if prepared.model.device.type == "cpu" else 0.0
    return {
        **memory,
        "activations": activations,
        "activations_tokens": costs.activation_tokens,
        "activations_most": most,
        "most_tokens": most_tokens,
        "oom_splits": costs.oom_splits,
        "all": sum(memory.values()) + most,
        # The allocator of a CPU keeps what the largest micro-batch has freed, so that saving needs more.
        "peak": costs.peak_mib + most - activations + growth + memory_to_save(prepared.model) / MIB,
    }


def checkpoint_bytes(prepared: PreparedRun) -> tuple[dict[str, int], int]:
    """Return the size of each task's model in `best/`, and that of `last/`."""
    model = prepared.model
    best = {task: sum(tensor.nbytes for tensor in model.head(task).state_dict().values()) for task in model.names}
    counts = prepared.count_weights()
    trained = counts["trained_parameters"]
    restricted = trained_rows(model)
    # All rows of the word embeddings are stored, also those that are not trained; under an adapter, no others.
    idle = restricted[1].num_idle if restricted else 0
    weights = 4 * (trained if model.adapted else counts["parameters"])
    return best, weights + round(_optimizer_bytes(prepared) * (1 + idle / trained))


def seconds_to_save(prepared: PreparedRun, evaluations: int, stages: Iterable[tuple[str, int]] = ()) -> float:
    """Return how long a run takes to save, if each of its evaluations is the best one so far. A file is written to the
    folder of caches to measure it, and deleted again.

    Args:
        prepared: the run.
        evaluations: their number.
        stages: the task and the number of evaluations of each run that follows.
    """
    best, last = checkpoint_bytes(prepared)
    size = evaluations * (sum(best.values()) + last)
    size += sum(number * (best[task] + last) for task, number in stages)
    kept = prepared.plan.kept_steps
    if kept is not None:
        size += sum(best.values()) * (prepared.plan.total_steps // kept.interval)
    folder = cache_dir(prepared.run.experiment)
    folder.mkdir(parents=True, exist_ok=True)
    sample = torch.ones(min(size, SAVED_BYTES), dtype=torch.uint8)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        started = time.monotonic()
        replace_dir_atomic(Path(scratch) / "saved", lambda target: _write(target / "sample", sample))
        return size * (time.monotonic() - started) / max(1, sample.nbytes)


def _write(path: Path, tensor: torch.Tensor) -> None:
    path.write_bytes(save({"tensor": tensor}))  # in memory first, as `torch.distributed.checkpoint` does


def _optimizer_bytes(prepared: PreparedRun) -> int:
    """Return the size of the optimizer's state, from a step of the same optimizer on weights without memory."""
    shapes = nn.ParameterList(
        nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=parameter.requires_grad)
        for parameter in prepared.model.parameters()
    )
    optimizer = prepared.run.experiment.optimizer.build(shapes, prepared.plan.learning_rate)
    for parameter in shapes:
        parameter.grad = torch.empty_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    state = chain.from_iterable(state.values() for state in optimizer.state.values())
    return sum(tensor.nbytes for tensor in state if isinstance(tensor, torch.Tensor))
