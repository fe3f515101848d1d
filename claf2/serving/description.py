"""What a service says about a model: what it has scored, and what its answers depend on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from claf2.benchmarking.runs import ScoredRuns
from claf2.benchmarking.statistics import estimate_score
from claf2.errors import Claf2Error
from claf2.evaluation.predictions import predictions_path, read_predictions
from claf2.evaluation.report import compute_scores
from claf2.export.folder import ANSWERING, is_export
from claf2.machine.qa import QaMachine
from claf2.models.source import weights_digest
from claf2.runs.model_folder import LoadedModel
from claf2.runtime.files import read_json
from claf2.serving.models import ServedModel
from claf2.training.checkpoint import task_best_dir

__all__ = ["describe_model", "stored_splits"]

RUN_ENTRIES = ("base_config", "recipe", "experiment", "data", "tokenizer", "weights", "seed", "code", "versions")
"""What is shown of a run's `run.json`. The others say where it ran and how fast."""

EXPORT_ENTRIES = ("weights", "changes", "origin", "code", "versions", "processor", "threads")
"""What is shown of an export's `answering.json`."""


def describe_model(model: ServedModel, folder: Path) -> dict[str, Any]:
    """Return what ``/info`` says about a model."""
    answerer, limits = model.answerer, model.limits
    return {
        "folder": folder.name,
        "engine": "onnxruntime" if is_export(folder) else "torch",
        "batching": {
            "rule": answerer.batching, "together": limits.is_batching, "max_tokens": limits.max_tokens,
            "max_wait_ms": 1000 * limits.max_wait, "at_the_same_time": limits.threads,
        },
        "collection": _describe_collection(model.qa) if model.qa is not None else None,
        "tasks": {name: _describe_task(answerer.model(name), folder, name) for name in answerer.tasks},
        "provenance": _describe_origin(folder, answerer.tasks),
    }  # fmt: skip


def _describe_collection(machine: QaMachine) -> dict[str, Any]:
    index = machine.index
    names = ("passages", "content", "settings", "encoder_digest")
    return {
        "index": index.folder.name, **{name: index.manifest[name] for name in names}, "task": machine.task,
        "k": machine.k, "method": machine.method, "threshold": machine.threshold,
        "search_weight": machine.search_weight,
    }  # fmt: skip


def stored_splits(folder: Path, task: str) -> list[str]:
    """Return the splits of a task whose predictions a folder holds."""
    prefix = f"{task}-"
    return sorted(path.stem.removeprefix(prefix) for path in (folder / "predictions").glob(f"{prefix}*.jsonl"))


def _describe_origin(folder: Path, tasks: list[str]) -> dict[str, Any]:
    if is_export(folder):
        answering = read_json(folder / ANSWERING)
        return {name: answering[name] for name in EXPORT_ENTRIES}
    record = read_json(folder / "run.json")
    run_tasks = record["config"].get("tasks", tasks)
    digests = {name: weights_digest(task_best_dir(folder, name, run_tasks)) for name in tasks}
    return {**{name: record.get(name) for name in RUN_ENTRIES}, "best": digests}


def _describe_task(loaded: LoadedModel, folder: Path, name: str) -> dict[str, Any]:
    task_config = loaded.run.experiment.only_task
    task = task_config.task
    fields = [
        field for field in task_config.head.fields_for(task) if not (field == "text_b" and task.reader.pairs is False)
    ]
    return {
        "dataset": task.name, "language": task.language, "head": task.head, "fields": fields,
        "optional": ["text_b"] if "text_b" in fields and task.reader.pairs is None else [],
        "labels": list(task.labels), "max_seq_length": task_config.featurizer.max_seq_length,
        "is_sample": task_config.data.source == "sample",
        "scores": {split: _describe_scores(loaded, folder, name, split) for split in stored_splits(folder, name)},
    }  # fmt: skip


def _describe_scores(loaded: LoadedModel, folder: Path, name: str, split: str) -> Mapping[str, Any] | None:
    """Return the scores of the stored predictions for a split, the deciding one with its interval."""
    task = loaded.run.experiment.only_task.task
    metric = task.metrics[0]
    try:
        predictions = read_predictions(predictions_path(folder, name, split))
        scores = compute_scores(task.metrics, predictions, task.labels)
        estimate = estimate_score(ScoredRuns.from_predictions(metric, [predictions], task.labels))
    except Claf2Error as error:
        return {"problem": str(error)}
    return {
        "examples": estimate.examples, "deciding": metric.selects, "value": estimate.value, "low": estimate.low,
        "high": estimate.high, "level": estimate.level, "all": scores,
    }  # fmt: skip
