"""The latency of runs and exports: the same batches for PyTorch and ONNX Runtime, computed by as many threads."""

from __future__ import annotations

import multiprocessing
import os
import platform
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch

from claf2.benchmarking.latency import LatencyReport, LatencySubject, measure_latency
from claf2.data.features import featurize_in_memory
from claf2.data.splits import SplitData
from claf2.errors import RunError
from claf2.export.folder import ANSWERING, GRAPH, is_export
from claf2.export.opening import open_model_folder
from claf2.runs.locate import locate_splits
from claf2.runs.model_folder import LoadedModel
from claf2.runtime.device import peak_memory_mib
from claf2.runtime.files import read_json
from claf2.runtime.precision import Precision
from claf2.runtime.seed import generator
from claf2.training.checkpoint import task_best_dir

__all__ = ["TimedModel", "TimedPrecision", "measure_memory", "time_models"]

TimedPrecision: TypeAlias = Literal["fp32", "bf16"]
"""The number format in which PyTorch computes a run."""

ANY_TEXT = frozenset({"token_type_ids"})
"""The inputs of heads, besides ids and mask, that any text has."""

BYTES_PER_MB = 1e6
BYTES_PER_MIB = 1024**2


class TimedModel:
    """A run or an export whose passes are timed.

    Args:
        folder: its folder.
        task: one of its tasks; ``None`` where it has only one.
        precision: the format in which a run is computed. An export has its own.
        threads: how many threads compute a batch of an export; ``None``: as many as PyTorch uses.

    Raises:
        RunError: when the folder is neither, or damaged, or the head reads more than the tokens of a text.
    """

    def __init__(
        self, folder: Path, *, task: str | None = None, precision: TimedPrecision = "fp32", threads: int | None = None
    ) -> None:
        opened = open_model_folder(folder, threads=threads)
        self.task = opened.experiment.task_name(task)
        self._precision = precision
        head = opened.experiment.tasks[self.task].head
        if head.predicts_tokens:
            raise RunError(f"{folder}: a pre-training answers no requests; measure a run that was fine-tuned from it")
        if inputs := set(head.inputs) - ANY_TEXT:
            raise RunError(
                f"{folder}: its head also reads {', '.join(sorted(inputs))}, which random tokens do not have; measure "
                "another kind of task with the same encoder"
            )
        self._loaded: LoadedModel = opened.load_model(self.task)
        if is_export(folder):
            self.name = f"{folder.name}, onnx {read_json(folder / ANSWERING)['weights']}"
            self.bytes = _count_bytes(folder.glob(f"{GRAPH}*"))
        else:
            self.name = f"{folder.name}, torch {precision}"
            best = task_best_dir(folder, self.task, opened.experiment.tasks)
            self.bytes = _count_bytes(best.glob("*.safetensors"))

    def make_pass(self, rows: int, tokens: int) -> Callable[[], object]:
        """Return a function that computes a batch of random tokens once, in the way in which the engine answers: an
        engine whose answers depend on the batch computes each row alone."""
        engine = self._loaded.engine
        inputs = self._random_inputs(rows, tokens)
        parts = [inputs]
        if engine.batching == "single":
            parts = [{name: tensor[row : row + 1] for name, tensor in inputs.items()} for row in range(rows)]
        precision = Precision(self._precision, engine.device)

        def run() -> object:
            with torch.inference_mode(), precision.forward():
                return [engine(self.task, part) for part in parts]

        return run

    def _random_inputs(self, rows: int, tokens: int) -> Mapping[str, torch.Tensor]:
        run = self._loaded.run
        shape = (rows, *self._texts(), tokens)
        ids = generator(0, "latency", rows, tokens).integers(0, run.tokenizer.vocab_size - 1, shape)
        ids += ids >= run.tokenizer.pad_id  # no padding: every row has all of its tokens
        arrays = {
            "input_ids": ids,
            "attention_mask": np.ones(shape, np.int64),
            "token_type_ids": np.zeros(shape, np.int64),
        }
        device = self._loaded.engine.device
        lengths = torch.full(shape[:-1], tokens)
        return {"lengths": lengths, **{name: torch.from_numpy(array).to(device) for name, array in arrays.items()}}

    def _texts(self) -> tuple[int, ...]:
        """Return how many texts a row has, where it has several, as those of a choice."""
        run = self._loaded.run
        split = locate_splits(run.experiment)[self.task]["valid"]
        assert isinstance(split, SplitData)  # a pre-training, which has other splits, answers no requests
        examples = [example.unlabelled() for example in islice(split.examples(), 1)]
        featurizer = run.experiment.only_task.featurizer
        features = featurize_in_memory(examples, featurizer, run.tokenizer, run.labels[self.task])
        batch = run.dataset(self.task, features).batch(np.arange(1))
        return batch.arrays["input_ids"].shape[1:-1]


def _count_bytes(files: Iterable[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def time_models(
    folders: Sequence[Path], shapes: Sequence[tuple[int, int]], *, task: str | None = None,
    precisions: Sequence[TimedPrecision] = ("fp32",), threads: int | None = None, passes: int = 100,
    max_seconds: float = 60.0, memory: bool = False,
) -> LatencyReport:  # fmt: skip
    """Measure the latency of runs and exports.

    Args:
        folders: the folders of runs and exports.
        shapes: the numbers of rows and tokens of a batch.
        task: one of their tasks; ``None`` where they have only one.
        precisions: the formats in which each run is computed.
        threads: how many threads compute a batch; ``None``: as many as PyTorch uses.
        passes: see ``measure_latency``.
        max_seconds: see ``measure_latency``.
        memory: also measure the memory of each model, in a process of its own.

    Raises:
        RunError: when a folder is neither, or damaged, or its model cannot be measured.
    """
    load = os.getloadavg()[0]
    count = threads or torch.get_num_threads()
    subjects = []
    with _use_threads(count):
        for folder in folders:
            for precision in precisions[:1] if is_export(folder) else precisions:
                model = TimedModel(folder, task=task, precision=precision, threads=count)
                used = measure_memory(folder, shapes[-1], task, precision, count) if memory else None
                subjects.append(LatencySubject(model.name, model.make_pass, model.bytes / BYTES_PER_MB, used))
        entries = measure_latency(subjects, shapes, passes=passes, max_seconds=max_seconds)
    return LatencyReport(subjects, entries, count, _processor_name(), load)


@contextmanager
def _use_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def measure_memory(
    folder: Path, shape: tuple[int, int], task: str | None = None, precision: TimedPrecision = "fp32", threads: int = 1
) -> float:
    """Return by how many MB the peak memory of a new process grows when it loads a model and computes a batch. What the
    libraries need, once they are imported, is not included.

    Args:
        folder: the folder of a run or an export.
        shape: the rows and tokens of the batch.
        task: one of its tasks; ``None`` where it has only one.
        precision: the format in which a run is computed.
        threads: how many threads compute the batch.
    """
    # Not forked: the copy of a process holds what its parent has loaded.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_memory_of_a_batch, folder, shape, task, precision, threads).result()


def _memory_of_a_batch(
    folder: Path, shape: tuple[int, int], task: str | None, precision: TimedPrecision, threads: int
) -> float:
    if is_export(folder):
        import onnxruntime  # noqa: F401 before the first measurement, as the other libraries
    torch.set_num_threads(threads)
    before = peak_memory_mib()["peak_memory_mib"]
    TimedModel(folder, task=task, precision=precision, threads=threads).make_pass(*shape)()
    return (peak_memory_mib()["peak_memory_mib"] - before) * BYTES_PER_MIB / BYTES_PER_MB


def _processor_name(cpu_info: Path = Path("/proc/cpuinfo")) -> str:
    text = cpu_info.read_text(encoding="utf-8", errors="replace") if cpu_info.is_file() else ""
    line = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return line[1] if line else platform.machine()
