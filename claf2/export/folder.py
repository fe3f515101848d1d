"""The folder of an export: the graph, the tokenizer, and everything that an answer depends on."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from claf2 import config
from claf2.errors import RunError
from claf2.evaluation.engine import Batching
from claf2.export.onnx_engine import EXTRA, OnnxEngine
from claf2.export.processor import processor_flags
from claf2.export.quantize import check_processor
from claf2.registry import Component
from claf2.runs.model_folder import LoadedModel, ModelFolder
from claf2.runs.resolve import make_run
from claf2.runtime.device import configure_backends
from claf2.runtime.files import check_digests, read_json
from claf2.tokenizers.build import load_tokenizer
from claf2.training.callbacks import check_installed

__all__ = ["ANSWERING", "EXPERIMENT", "GRAPH", "PARITY", "ExportFolder", "ExportRecord", "is_export"]

logger = logging.getLogger("claf2")

ANSWERING = "answering.json"
"""What an answer depends on: ``ExportRecord``."""
EXPERIMENT = "experiment.json"
"""The run's filled config. `config.json` is that of `transformers`, which the tokenizer is loaded with."""
GRAPH = "model.onnx"
"""The network."""
PARITY = "parity.json"
"""How the export differs from its run, and what both cost."""

EXPORT_AGAIN = "export the run again with `claf2 export RUN -o {folder} --overwrite`"


class ExportRecord(Component):
    """What ``answering.json`` holds: how an export answers, and what its answers depend on."""

    task: str
    """The name of the task in the run."""
    head: str
    featurizer: dict[str, Any]
    """The fields of the featurizer, and its ``version``."""
    labels: tuple[str, ...]
    """The labels in the order of the outputs."""
    inputs: tuple[str, ...]
    """The inputs of the graph."""
    outputs: tuple[str, ...]
    """The outputs of the graph."""
    weights: str
    """The format of the weights: ``fp32``, ``int8-dynamic`` …"""
    batching: Batching
    """What becomes of a row's outputs if it is computed together with others."""
    threads: str = "any"
    """The numbers of threads that give the same answers."""
    changes: tuple[str, ...] = ()
    """What was changed about the model of the run before the export."""
    origin: dict[str, Any]
    """The digests of the run: recipe, experiment, data, tokenizer, weights and code; and its seed."""
    code: str
    """The digest of the sources of the claf2 that exported it."""
    versions: dict[str, str]
    """The versions of the libraries that exported it."""
    processor: tuple[str, ...]
    """What the processor that it was evaluated on can do, as far as it changes the bits of an answer."""


def is_export(path: Path) -> bool:
    """Say whether a folder is that of an export."""
    return (path / ANSWERING).is_file()


class ExportFolder(ModelFolder):
    """The folder of an export, which ONNX Runtime computes.

    Args:
        path: the folder.
        threads: how many threads compute a batch; ``None``: as many as PyTorch uses.
        on_rows: called with the number of rows after each batch.

    Raises:
        RunError: when a file is missing or has changed, or this machine would compute other answers.
    """

    def __init__(self, path: Path, *, threads: int | None = None, on_rows: Callable[[int], None] | None = None) -> None:
        check_installed("onnxruntime", EXTRA)
        self.path = path
        self._threads, self._on_rows = threads, on_rows
        remedy = EXPORT_AGAIN.format(folder=path)
        try:
            check_digests(path)
            self.record = ExportRecord(**read_json(path / ANSWERING))
        except RunError as error:
            raise RunError(f"{error}; {remedy}") from error
        except ValidationError as error:
            raise RunError(f"{path / ANSWERING}: was written by another version of claf2; {remedy}") from error
        self.experiment = config.load(str(path / EXPERIMENT)).select_task(self.record.task)
        self._check_unchanged(remedy)

    @property
    def split_digests(self) -> Mapping[str, str]:
        digests: Mapping[str, str] | None = self.record.origin.get("data")
        return digests or {}

    def load_model(self, task: str) -> LoadedModel:
        """Load the model of the task."""
        experiment = self.experiment.select_task(task)
        configure_backends(deterministic=experiment.runtime.deterministic)
        run = make_run(experiment, self.path, load_tokenizer(self.path))
        engine = OnnxEngine(self.path / GRAPH, self.record.batching, threads=self._threads, on_rows=self._on_rows)
        return LoadedModel(run, engine)

    def _check_unchanged(self, remedy: str) -> None:
        task_config = self.experiment.only_task
        featurizer = {**task_config.featurizer.model_dump(mode="json"), "version": type(task_config.featurizer).version}
        if (tuple(task_config.task.labels), featurizer) != (self.record.labels, self.record.featurizer):
            raise RunError(f"{self.path}: this claf2 has other labels or features for the task; {remedy}")
        if self.record.weights != "fp32":
            check_processor()
        others = []
        if self.record.processor != processor_flags():
            others.append("another kind of processor")
        if self.record.versions["onnxruntime"] != importlib.metadata.version("onnxruntime"):
            others.append(f"ONNX Runtime {self.record.versions['onnxruntime']}")
        if others:
            logger.warning(
                "%s was evaluated with %s, so its answers may differ in their last digits; `claf2 evaluate %s` says "
                "what it scores here", self.path, " and ".join(others), self.path,
            )  # fmt: skip
