"""From a run to an export: trace, quantize, write the folder, evaluate it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from transformers import PreTrainedModel

from claf2.config import replace_values
from claf2.errors import RunError
from claf2.evaluation.engine import Batching
from claf2.evaluation.predictions import predictions_path, read_predictions
from claf2.evaluation.report import Report, TaskReport, compute_scores
from claf2.export.folder import ANSWERING, EXPERIMENT, GRAPH, PARITY, ExportFolder, ExportRecord, is_export
from claf2.export.onnx import TOKEN_INPUTS, GraphPorts, write_graph
from claf2.export.onnx_engine import EXTRA, OnnxEngine
from claf2.export.parity import compared_shapes, largest_differences, observed_batching, random_batches
from claf2.export.processor import processor_flags
from claf2.export.quantize import QUANTIZED_WEIGHTS, Quantization, check_processor, quantize_graph
from claf2.export.rows import ModelRows
from claf2.metrics import Prediction
from claf2.models.pruning import prune
from claf2.models.source import weights_digest
from claf2.runs.inference import evaluate_folder
from claf2.runs.locate import locate_splits
from claf2.runs.model_folder import TrainedFolder
from claf2.runs.progress import show_progress
from claf2.runs.provenance import code_digest
from claf2.runs.resolve import Run
from claf2.runtime.files import read_json, replace_dir_atomic, write_json
from claf2.training.callbacks import check_installed
from claf2.training.checkpoint import task_best_dir

__all__ = ["Export", "ExportSource", "ModelChange", "export_run"]

logger = logging.getLogger("claf2")

PLAIN = {"precision": "fp32", "padding": "keep", "compile": False, "device": "cpu", "activation_checkpointing": False}
"""The settings of ``runtime`` with which a model is traced: no hook, no cast."""

TRACED_EXAMPLES = 24
"""The validation examples that an export is traced and compared with."""

EXAMPLE_ROWS = 3
"""The rows of the batch that is traced."""

CALIBRATION_ROWS = 128
"""The training examples that give the ranges of activations."""

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
    layers: Sequence[int] | None = None,
    ffn_width: int | None = None,
    changes: Sequence[ModelChange] = (),
    overwrite: bool = False,
) -> Export:
    """Export the best checkpoint of a run, and evaluate the export on the run's validation rows.

    Args:
        run_dir: the folder of the run.
        out: the folder of the export.
        task: one of the run's tasks; ``None`` where it has only one.
        int8: how to quantize; ``None``: not at all.
        layers: the layers of the encoder to keep, from 0; ``None``: all of them.
        ffn_width: how many neurons each feed-forward network keeps; ``None``: all of them.
        changes: what makes the pruned model smaller still, in order.
        overwrite: replace an export that is there.

    Raises:
        Claf2Error: when the run, the head or this processor does not allow it, or a library is missing.
    """
    for library in ("onnx", "onnxscript", "onnxruntime"):
        check_installed(library, EXTRA)
    if int8 is not None:
        check_processor()
    _check_target(out, overwrite)
    source = _prune(_open_source(run_dir, task), layers, ffn_width)
    (name,) = source.run.experiment.tasks
    origin = _stored_predictions(run_dir, source.run, name)
    for change in changes:
        source = change(source)
    rows = ModelRows.read(source.run, source.model, "valid", TRACED_EXAMPLES)
    started = time.monotonic()
    differences: dict[str, float] = {}

    def fill(folder: Path) -> None:
        record = _fill(source, rows, int8, _record_origin(run_dir, name), folder)
        differences.update(_compare(folder / GRAPH, record, source, rows))

    replace_dir_atomic(out, fill)
    seconds = time.monotonic() - started
    try:
        report = _evaluate(out, sum(map(len, origin.values())))
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)  # without scores, it would pass for a finished export
        raise
    parity = {
        "differences": differences,
        "scores": {"origin": _scores(source.run, name, origin), "export": report.logs()},
        "bytes": sum(path.stat().st_size for path in out.glob(f"{GRAPH}*")),
        "seconds": round(seconds, 1),
        "processor": processor_flags(),
    }
    write_json(out / PARITY, parity)
    return Export(out, name, report, origin, parity)


def _fill(
    source: ExportSource, rows: ModelRows, int8: Quantization | None, origin: dict[str, Any], folder: Path
) -> ExportRecord:
    """Write all that an answer depends on into the folder of an export, and return the content of `answering.json`."""
    logger.info("tracing %s", type(source.model).__name__)
    example = rows.example(EXAMPLE_ROWS)
    if int8 is None:
        ports = write_graph(source.model, example, folder / GRAPH, free_axes=rows.free_axes())
    else:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            traced = Path(scratch) / GRAPH
            ports = write_graph(source.model, example, traced, free_axes=rows.free_axes())
            logger.info("quantizing: %s", int8)
            calibration = partial(_calibration, source)
            quantize_graph(traced, folder / GRAPH, int8, calibration)
    source.run.tokenizer.save(folder)
    source.model.config.save_pretrained(folder)
    plain = replace_values(source.run.experiment, {f"runtime.{key}": value for key, value in PLAIN.items()})
    write_json(folder / EXPERIMENT, plain.values)
    batching: Batching = "single"
    if int8 != "dynamic":
        batching = observed_batching(OnnxEngine(folder / GRAPH, "exact"), rows)
    record = _make_record(source, rows.task, ports, origin, QUANTIZED_WEIGHTS[int8] if int8 else "fp32", batching)
    write_json(folder / ANSWERING, record.model_dump(mode="json"))
    return record


def _calibration(source: ExportSource) -> Iterator[dict[str, np.ndarray]]:
    return ModelRows.read(source.run, source.model, "train", CALIBRATION_ROWS).single_passes()


def _evaluate(out: Path, size: int) -> Report:
    """Evaluate the export on the validation rows of its run, of which there are ``size`` or more."""
    done = 0
    with show_progress("evaluating", size, "rows") as progress:

        def count(rows: int) -> None:
            nonlocal done
            done += rows
            progress.update(done)

        return evaluate_folder(out, lambda path: ExportFolder(path, on_rows=count))


def _format_score(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _check_target(out: Path, overwrite: bool) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{out} cannot be created: {error.strerror}; give another folder with -o") from error
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file; give another folder with -o")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not is_export(out):
        raise RunError(f"{out} is not the folder of an export: give an empty or a new one with -o")
    if not overwrite:
        raise RunError(f"{out} holds an export: add --overwrite to replace it, or give another folder with -o")


def _open_source(run_dir: Path, task: str | None) -> ExportSource:
    folder = TrainedFolder(run_dir)
    name = folder.experiment.task_name(task)
    task_config = folder.experiment.tasks[name]
    if task_config.head.binds:
        problem = "a language model cannot be exported, because its head has no graph of its own"
        raise RunError(f"{run_dir}: {problem}; use best/, which transformers and servers of language models load")
    if task_config.head.predicts_tokens or task_config.task.is_corpus:
        raise RunError(f"{run_dir}: a pre-training answers no requests; fine-tune it, and export that run")
    if task_config.head.whole_batch:
        problem = f"task {name!r} ranks any number of texts, and the graph of an export has a fixed number"
        raise RunError(f"{run_dir}: {problem}; serve the run itself, or export one with a head such as embed")
    model = folder.load_model(name)
    plain = model.run.experiment.runtime.model_copy(update=PLAIN)
    if model.run.experiment.adapter is not None:
        method = model.run.experiment.values["model"]["peft"]["name"]
        raise RunError(f"{run_dir}: a model with {method!r} cannot be merged, so it has no export; use 'lora' or 'ia3'")
    # Wrappers have done their work: what they make of the weights is what best/ holds.
    run = dataclasses.replace(
        model.run, experiment=dataclasses.replace(model.run.experiment, runtime=plain, wrappers={})
    )
    module = run.model().eval().head(name)
    assert isinstance(module, PreTrainedModel)
    return ExportSource(run, module)


def _prune(source: ExportSource, layers: Sequence[int] | None, width: int | None) -> ExportSource:
    """Remove layers and neurons from the encoder, and note it."""
    if layers is None and width is None:
        return source
    prune(source.model, layers=layers, width=width)
    changes = [] if layers is None else [f"layers {', '.join(map(str, layers))}"]
    changes += [] if width is None else [f"feed-forward networks of {width} neurons"]
    return dataclasses.replace(source, changes=(*source.changes, *changes))


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


def _record_origin(run_dir: Path, task: str) -> dict[str, Any]:
    """Return what the run depends on, and the digest of the weights that are exported."""
    provenance = read_json(run_dir / "run.json")
    best = task_best_dir(run_dir, task, provenance["config"].get("tasks", (task,)))
    return {**{key: provenance.get(key) for key in RECORDED}, "best": weights_digest(best)}


def _make_record(
    source: ExportSource, task: str, ports: GraphPorts, origin: dict[str, Any], weights: str, batching: Batching
) -> ExportRecord:
    task_config = source.run.experiment.only_task
    featurizer = task_config.featurizer
    packages = ("claf2", "torch", "transformers", "tokenizers", "onnx", "onnxscript", "onnxruntime")
    return ExportRecord(
        task=task,
        head=task_config.task.head,
        featurizer={**featurizer.model_dump(mode="json"), "version": type(featurizer).version},
        labels=tuple(source.run.labels[task]),
        inputs=tuple(ports.inputs),
        outputs=tuple(ports.outputs),
        weights=weights,
        batching=batching,
        changes=source.changes,
        origin=origin,
        code=code_digest(),
        versions={package: importlib.metadata.version(package) for package in packages},
        processor=processor_flags(),
    )


def _compare(graph: Path, record: ExportRecord, source: ExportSource, rows: ModelRows) -> dict[str, float]:
    """Return the largest differences of outputs to PyTorch at shapes that were not traced."""
    engine = OnnxEngine(graph, record.batching)
    example = rows.arguments(np.arange(1))
    shapes = compared_shapes(source.run.experiment.only_task.featurizer.max_seq_length)
    if set(example) <= set(TOKEN_INPUTS):
        tokenizer = source.run.tokenizer
        batches = list(random_batches(example, shapes, vocab_size=tokenizer.vocab_size, pad_id=tokenizer.pad_id))
    else:  # random places of words would mean nothing
        batches = [rows.arguments(np.resize(np.arange(len(rows)), count)) for count, _ in shapes]
    return largest_differences(source.model, engine, rows.task, batches, record.outputs)
