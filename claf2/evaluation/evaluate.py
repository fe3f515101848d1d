"""Evaluation of a model on examples."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from claf2.data.batch import Batch, TaskDataset, batches_by_length, single_rows
from claf2.evaluation.engine import Engine
from claf2.evaluation.report import Report, TaskReport, compute_scores
from claf2.heads import CollectedOutputs, Head
from claf2.metrics import Metric, undefined
from claf2.readers import Example
from claf2.runtime import distributed
from claf2.runtime.precision import Precision
from claf2.runtime.seed import preserve_rng
from claf2.tokenizers import Tokenizer

__all__ = ["EvaluationData", "ForwardResult", "evaluate_model", "forward_batches"]

logger = logging.getLogger("claf2")


@dataclass(frozen=True)
class EvaluationData:
    """One task's examples and features, and how they are evaluated."""

    dataset: TaskDataset
    examples: Sequence[Example]
    head: Head[Any, Any]
    labels: Sequence[str]
    metrics: Sequence[Metric]
    tokenizer: Tokenizer
    batch_size: int


@dataclass(frozen=True)
class ForwardResult:
    """The outputs of the model for one batch of features."""

    rows: np.ndarray
    """The positions of the features in the data set, (B,)."""
    batch: Batch
    tensors: Mapping[str, torch.Tensor]
    outputs: Any


def forward_batches(engine: Engine, task: str, dataset: TaskDataset, batch_size: int) -> Iterator[ForwardResult]:
    """Yield the outputs for this process's share of the batches, the longest features first.

    Dropout is off, no gradient is recorded, and no generator is touched, so evaluating more often changes no result.

    Args:
        engine: evaluated as it is; its training mode is restored at the end.
        task: whose head answers.
        dataset: M features.
        batch_size: the rows of the first batch; without effect on an engine that computes each row alone.
    """
    is_single = engine.batching == "single"
    batches = single_rows(dataset.lengths) if is_single else batches_by_length(dataset.lengths, batch_size)
    rank, world_size = distributed.rank(), distributed.world_size()
    with engine.evaluation_mode(), preserve_rng(), torch.inference_mode():
        for start in range(0, len(batches), world_size):
            has_batch = start + rank < len(batches)
            # All processes make every pass together, because sharded weights are gathered in it. A process without
            # a batch of its own joins with one row and discards the outputs.
            rows = batches[start + rank] if has_batch else batches[0][:1]
            batch = dataset.batch(rows)
            tensors = batch.tensors(engine.device)
            outputs = engine(task, tensors)
            if has_batch:
                yield ForwardResult(rows, batch, tensors, outputs)


def evaluate_model(engine: Engine, data: Mapping[str, EvaluationData], *, split: str, precision: Precision) -> Report:
    """Evaluate a model on the examples of each task.

    Args:
        engine: what computes the model, as it is.
        data: the examples of each task.
        split: what the scores are called: ``valid``, ``test`` …
        precision: the number format of the passes.
    """
    with precision.forward():
        tasks = {task: _evaluate_task(engine, task, task_data) for task, task_data in data.items()}
    return Report(split=split, tasks=tasks)


@dataclass
class _Partial:
    """What one process has computed: a row of collected outputs for each feature, the features whose outputs are not
    finite, and the sums of losses and targets, scalars or (T,)."""

    rows: dict[int, dict[str, np.ndarray]]
    non_finite: set[int]
    loss: Any = 0.0
    weight: Any = 0.0


def _evaluate_task(engine: Engine, task: str, data: EvaluationData) -> TaskReport:
    partial = _Partial({}, set())
    # The batches of an evaluation are not those of a training.
    has_loss = (engine.takes_targets or not data.head.teacher_forced) and not data.head.whole_batch
    for result in forward_batches(engine, task, data.dataset, data.batch_size):
        if has_loss and all(name in result.batch.arrays for name in data.head.targets):
            partial.loss += data.head.loss(result.outputs, result.tensors).cpu().numpy()
            partial.weight += data.head.weight(result.batch.arrays)
        arrays = {name: tensor.cpu().numpy() for name, tensor in data.head.collect(result.outputs).items()}
        finite = np.ones(len(result.rows), bool)
        for array in arrays.values():
            finite &= np.isfinite(array).reshape(len(array), -1).all(1)
        if not finite.all():
            partial.non_finite.update(result.rows[~finite].tolist())
            arrays = {name: np.nan_to_num(array, posinf=0.0, neginf=0.0) for name, array in arrays.items()}
        for index, row in enumerate(result.rows):
            partial.rows[int(row)] = {name: array[index] for name, array in arrays.items()}
    partials = distributed.all_gather(partial)
    report = _task_report(data, partials) if distributed.is_main() else None
    # The predictions stay in the main process, which writes them; the others need the scores to decide alike.
    summary = distributed.broadcast(report and replace(report, predictions=()))
    return report or summary or TaskReport({}, None, ())


def _task_report(data: EvaluationData, partials: Sequence[_Partial]) -> TaskReport:
    """Return the report on what all processes have computed."""
    rows = {row: outputs for partial in partials for row, outputs in partial.rows.items()}
    features = data.dataset.features
    outputs = [rows[row] for row in range(len(features))]
    collected = CollectedOutputs(data.examples, features.records(), outputs, data.labels, data.tokenizer)
    predictions = data.head.predict(collected)
    undefined_examples = {int(collected.features[row]["example"]) for partial in partials for row in partial.non_finite}
    if undefined_examples:
        predictions = [undefined(p) if index in undefined_examples else p for index, p in enumerate(predictions)]
        logger.warning(
            "%d of %d predictions are undefined: the outputs of the model are NaN or infinite",
            len(undefined_examples), len(predictions),
        )  # fmt: skip
    loss, weight = sum(partial.loss for partial in partials), sum(partial.weight for partial in partials)
    return TaskReport(
        scores=compute_scores(data.metrics, predictions, data.labels),
        loss=float(np.sum(loss / weight)) if np.all(weight) else None,
        predictions=predictions,
        undefined=len(undefined_examples),
    )
