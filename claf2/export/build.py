"""From a run to an export: trace, quantize, write the folder, evaluate it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from transformers import PreTrainedModel

from claf2.data.features import featurize_in_memory
from claf2.data.splits import SplitData
from claf2.errors import RunError
from claf2.evaluation.predictions import predictions_path, read_predictions
from claf2.evaluation.report import Report, TaskReport, compute_scores
from claf2.export.folder import ANSWERING, EXPERIMENT, GRAPH, PARITY, Answering, ExportFolder, is_export
from claf2.export.onnx import TOKEN_INPUTS, GraphPorts, import_onnx, write_graph
from claf2.export.onnx_engine import OnnxEngine
from claf2.export.parity import SHAPES, largest_differences, random_batches
from claf2.export.processor import processor_flags
from claf2.metrics import Prediction
from claf2.models.encoder import EncoderWithHeads
from claf2.models.source import weights_digest
from claf2.runs.inference import evaluate_folder
from claf2.runs.locate import locate_splits
from claf2.runs.model_folder import TrainedFolder
from claf2.runs.provenance import code_digest
from claf2.runs.resolve import Run
from claf2.runtime.files import read_json, replace_dir_atomic, write_json

__all__ = ["Export", "ExportSource", "ModelChange", "export_run"]

logger = logging.getLogger("claf2")

Quantization: TypeAlias = Literal["dynamic", "blocks", "static"]
"""How weights and activations become 8-bit integers."""

PLAIN = {"precision": "fp32", "padding": "keep", "compile": False, "device": "cpu", "activation_checkpointing": False}
"""The settings of ``runtime`` with which a model is traced: no hook, no cast."""

EXAMPLE_ROWS = 3

RECORDED = ("base_config", "recipe", "experiment", "data", "tokenizer", "weights", "seed", "code", "versions")
"""The entries of the run's `run.json` that an export repeats; its ``weights`` are what the training started from."""


@dataclass(frozen=True)
class ExportSource:
    """What is exported: the model of one task."""

    run: Run
    """The run, with its tokenizer."""
    model: PreTrainedModel
    """The head with its encoder, in evaluation mode and on the CPU."""
    changes: tuple[str, ...] = ()
    """What was changed about the model of the run, for `answering.json`."""


ModelChange: TypeAlias = Callable[[ExportSource], ExportSource]
"""Makes a smaller model before the export. It returns a new source, with one more entry in ``changes``."""


@dataclass(frozen=True)
class Export:
    """A finished export, and what is needed to compare it with its origin."""

    folder: Path
    task: str
    report: Report
    """The evaluation of the export on the validation rows."""
    origin: Mapping[str, Sequence[Prediction]]
    """Split → the predictions of the run that are stored in its folder."""
    parity: Mapping[str, Any]
    """The content of `parity.json`."""

    def summary(self) -> str:
        """Return scores, size and differences as lines, for a console."""
        before, after = self.parity["scores"]["origin"], self.parity["scores"]["export"]
        lines = [f"{key}: {_format_score(after[key])} (run: {_format_score(before[key])})" for key in before]
        worst = max(self.parity["differences"].values())
        size = self.parity["bytes"] / 1e6
        return "\n".join([*lines, f"largest difference of an output: {worst:.1e}", f"{size:.1f} MB in {self.folder}"])


def export_run(
    run_dir: Path,
    out: Path,
    *,
    task: str | None = None,
    int8: Quantization | None = None,
    changes: Sequence[ModelChange] = (),
    overwrite: bool = False,
) -> Export:
    """Export the best checkpoint of a run, and evaluate the export on the run's validation rows.

    Args:
        run_dir: the folder of the run.
        out: the folder of the export.
        task: one of the run's tasks; ``None`` where it has only one.
        int8: how to quantize; ``None``: not at all.
        changes: what makes the model smaller first, in order.
        overwrite: replace an export that is there.

    Raises:
        Claf2Error: when the run, the head or this processor does not allow it, or a library is missing.
    """
    import_onnx()
    _check_target(out, overwrite)
    source = _open_source(run_dir, task)
    name = next(iter(source.run.experiment.tasks))
    origin = _stored_predictions(run_dir, source.run, name)
    for change in changes:
        source = change(source)
    example = _example(source, name)
    started = time.monotonic()
    logger.info("%s: tracing %s", run_dir, type(source.model).__name__)

    def fill(folder: Path) -> None:
        ports = write_graph(source.model, example, folder / GRAPH)
        source.run.tokenizer.save(folder)
        source.model.config.save_pretrained(folder)
        plain = source.run.experiment.with_values({f"runtime.{key}": value for key, value in PLAIN.items()})
        write_json(folder / EXPERIMENT, plain.values)
        answering = _answering(source, name, ports, _origin(run_dir, name))
        write_json(folder / ANSWERING, answering.model_dump(mode="json"))

    replace_dir_atomic(out, fill)
    seconds = time.monotonic() - started
    differences = _compare(out, source, name, example)
    logger.info("%s: evaluating the validation rows", out)
    report = evaluate_folder(out, ExportFolder)
    parity = {
        "differences": differences,
        "scores": {"origin": _scores(source.run, name, origin), "export": report.logs()},
        "bytes": sum(path.stat().st_size for path in out.glob(f"{GRAPH}*")),
        "seconds": round(seconds, 1),
        "processor": processor_flags(),
    }
    write_json(out / PARITY, parity)
    return Export(out, name, report, origin, parity)


def _format_score(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _check_target(out: Path, overwrite: bool) -> None:
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not is_export(out):
        raise RunError(f"{out} is not the folder of an export: give an empty or a new one with -o")
    if not overwrite:
        raise RunError(f"{out} holds an export: add --overwrite to replace it, or give another folder with -o")


def _open_source(run_dir: Path, task: str | None) -> ExportSource:
    folder = TrainedFolder(run_dir)
    experiment = folder.experiment if task is None else folder.experiment.select_task(task)
    only_task = experiment.only_task
    name = next(name for name, task_config in experiment.tasks.items() if task_config is only_task)
    if only_task.head.predicts_tokens:
        raise RunError(f"{run_dir}: a pre-training answers no requests; fine-tune it, and export that run")
    model = folder.load_model(name)
    plain = model.run.experiment.runtime.model_copy(update=PLAIN)
    # Wrappers have done their work: what they make of the weights is what best/ holds.
    run = dataclasses.replace(
        model.run, experiment=dataclasses.replace(model.run.experiment, runtime=plain, wrappers={})
    )
    module = run.model().eval().head(name)
    assert isinstance(module, PreTrainedModel)
    return ExportSource(run, module)


def _example(source: ExportSource, task: str) -> dict[str, torch.Tensor]:
    """Return the arguments of a pass over some validation rows."""
    run, (name, task_config) = source.run, next(iter(source.run.experiment.tasks.items()))
    split = locate_splits(run.experiment)[name]["valid"]
    assert isinstance(split, SplitData)  # a corpus has no head that answers
    examples = [example.unlabelled() for example in islice(split.examples(), EXAMPLE_ROWS)]
    features = featurize_in_memory(examples, task_config.featurizer, run.tokenizer, run.labels[name])
    dataset = run.dataset(name, features)
    batch = dataset.batch(np.resize(np.arange(len(features)), EXAMPLE_ROWS))
    takes_segments = getattr(source.model.config, "type_vocab_size", 0) > 1
    model = EncoderWithHeads(
        {task: source.model},
        takes_segments=takes_segments,
        extra_inputs={task: tuple(task_config.head.inputs)},
    )
    return model.arguments(task, batch.tensors(torch.device("cpu")))


def _stored_predictions(run_dir: Path, run: Run, task: str) -> dict[str, list[Prediction]]:
    splits = [split for split in locate_splits(run.experiment)[task] if split != "train"]
    return {split: read_predictions(predictions_path(run_dir, task, split)) for split in splits}


def _scores(run: Run, task: str, predictions: Mapping[str, Sequence[Prediction]]) -> dict[str, float | None]:
    """Return the scores of stored predictions, named as those of a report."""
    metrics, labels = run.experiment.only_task.task.metrics, run.labels[task]
    reports = [
        Report(split, {task: TaskReport(compute_scores(metrics, rows, labels), None, rows)})
        for split, rows in predictions.items()
    ]
    first, *others = reports
    return dataclasses.replace(first, others=others).logs()


def _origin(run_dir: Path, task: str) -> dict[str, Any]:
    """Return what the run depends on, and the digest of the weights that are exported."""
    provenance = read_json(run_dir / "run.json")
    several = "tasks" in provenance["config"]
    best = run_dir / "best" / task if several else run_dir / "best"
    return {**{key: provenance.get(key) for key in RECORDED}, "best": weights_digest(best)}


def _answering(source: ExportSource, task: str, ports: GraphPorts, origin: dict[str, Any]) -> Answering:
    task_config = source.run.experiment.only_task
    featurizer = task_config.featurizer
    packages = ("claf2", "torch", "transformers", "tokenizers", "onnx", "onnxscript", "onnxruntime")
    return Answering(
        task=task,
        head=task_config.task.head,
        featurizer={**featurizer.model_dump(mode="json"), "version": type(featurizer).version},
        labels=tuple(source.run.labels[task]),
        inputs=tuple(ports.inputs),
        outputs=tuple(ports.outputs),
        weights="fp32",
        batching="exact",
        changes=source.changes,
        origin=origin,
        code=code_digest(),
        versions={package: importlib.metadata.version(package) for package in packages},
        processor=processor_flags(),
    )


def _compare(out: Path, source: ExportSource, task: str, example: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Return the largest differences of outputs to PyTorch at shapes that were not traced."""
    answering = ExportFolder(out).answering
    engine = OnnxEngine(out / GRAPH, answering.batching)
    if set(example) <= set(TOKEN_INPUTS):
        tokenizer = source.run.tokenizer
        batches = list(random_batches(example, SHAPES, vocab_size=tokenizer.vocab_size, pad_id=tokenizer.pad_id))
    else:  # random places of words would mean nothing
        batches = [{name: tensor[:rows] for name, tensor in example.items()} for rows in (1, EXAMPLE_ROWS)]
    return largest_differences(source.model, engine, task, batches, answering.outputs)
