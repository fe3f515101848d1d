"""The only place where weights are judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from claf2 import ranks
from claf2.batch import Batch, Source, by_length
from claf2.heads import Head
from claf2.loop import Precision
from claf2.metrics import Metric
from claf2.models.encoder import EncoderWithHeads
from claf2.readers import Example
from claf2.report import Report, TaskReport, score
from claf2.seed import undisturbed
from claf2.tokenizers import Tokenizer

__all__ = ["EvaluationData", "evaluate"]


@dataclass(frozen=True)
class EvaluationData:
    """One task's examples to be judged, their features, and how."""

    source: Source
    examples: Sequence[Example]
    head: Head
    labels: Sequence[str]
    metrics: Sequence[Metric]
    tokenizer: Tokenizer


def evaluate(
    model: EncoderWithHeads,
    data: Mapping[str, EvaluationData],
    *,
    split: str,
    batch_sizes: Mapping[str, int],
    precision: Precision | None = None,
) -> Report:
    """Judge ``model`` on the examples of each task. Draws from no generator, so judging more often changes nothing."""
    was_training = model.training
    model.eval()
    with undisturbed(), torch.inference_mode(), nullcontext() if precision is None else precision.forward():
        tasks = {task: _evaluate(model, task, each, batch_sizes[task]) for task, each in data.items()}
    model.train(was_training)
    return Report(split=split, tasks=tasks)


def _evaluate(model: EncoderWithHeads, task: str, data: EvaluationData, batch_size: int) -> TaskReport:
    found: dict[int, dict[str, np.ndarray[Any, Any]]] = {}
    loss: Any = 0.0
    weight: Any = 0.0
    batches = by_length(data.source.lengths, batch_size)
    for turn in range(0, len(batches), ranks.count()):
        mine = turn + ranks.number() < len(batches)
        rows = batches[turn + ranks.number() if mine else 0][: None if mine else 1]
        batch = data.source.batch(rows)
        tensors = batch.tensors(model.device)
        outputs = model(task, tensors)
        if not mine:  # a pass is made by all processes together; this one's is of no use
            continue
        if _labelled(batch, data.head):
            loss += data.head.loss(outputs, tensors).cpu().numpy()
            weight += data.head.weight(batch.arrays)
        arrays = {name: each.cpu().numpy() for name, each in data.head.collect(outputs).items()}
        for index, row in enumerate(rows):
            found[int(row)] = {name: each[index] for name, each in arrays.items()}
    parts = ranks.gathered((found, loss, weight))
    report = _report(data, parts) if ranks.first() else None
    others = ranks.told(report and replace(report, predictions=()))
    return report or others or TaskReport({}, None, ())


def _report(data: EvaluationData, found: Sequence[tuple[Mapping[int, Any], Any, Any]]) -> TaskReport:
    """Return the report on what all processes have found."""
    rows = {row: each for mine, _, _ in found for row, each in mine.items()}
    features = data.source.features
    collected = [rows[row] for row in range(len(features))]
    predictions = data.head.predict(data.examples, features.records(), collected, data.labels, data.tokenizer)
    loss, weight = sum(each[1] for each in found), sum(each[2] for each in found)
    return TaskReport(
        scores=score(data.metrics, predictions, data.labels),
        loss=float(np.sum(loss / weight)) if np.all(weight) else None,
        predictions=predictions,
    )


def _labelled(batch: Batch, head: Head) -> bool:
    return all(name in batch.arrays for name in head.targets)
