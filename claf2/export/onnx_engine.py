"""The engine of exports: ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import torch

from claf2.evaluation.engine import Batching
from claf2.training.callbacks import check_installed

__all__ = ["EXTRA", "OnnxEngine"]

EXTRA = "onnx"
"""The extra of claf2 that brings the libraries."""

ERRORS = 3
"""The level of ONNX Runtime's log at which it reports errors alone."""


class OnnxEngine:
    """Computes an ONNX graph of one head.

    The number of threads changes no bit of an answer, since the sums of a row are never divided among them.

    Args:
        path: the file of the graph.
        batching: what becomes of a row's outputs if it is computed together with others.
        threads: how many threads compute a batch; ``None``: as many as PyTorch uses.
        on_rows: called with the number of rows after each batch.
    """

    is_thread_safe: ClassVar[bool] = True
    takes_targets: ClassVar[bool] = False

    def __init__(
        self,
        path: Path,
        batching: Batching,
        *,
        threads: int | None = None,
        on_rows: Callable[[int], None] | None = None,
    ) -> None:
        check_installed("onnxruntime", EXTRA)
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = ERRORS
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._inputs = [port.name for port in self._session.get_inputs()]
        self._outputs = [port.name for port in self._session.get_outputs()]
        self._on_rows = on_rows
        self.batching: Batching = batching
        self.device = torch.device("cpu")

    def evaluation_mode(self) -> AbstractContextManager[None]:
        """Do nothing: a graph has no dropout."""
        return nullcontext()

    def shared_pass(self) -> AbstractContextManager[None]:
        """Do nothing: a graph has one head."""
        return nullcontext()

    def __call__(self, task: str, inputs: Mapping[str, torch.Tensor]) -> SimpleNamespace:
        """Return the outputs of the graph as attributes of the names that the head reads."""
        arrays = self._session.run(self._outputs, {name: inputs[name].numpy() for name in self._inputs})
        if self._on_rows is not None:
            self._on_rows(len(inputs["input_ids"]))
        return SimpleNamespace(**dict(zip(self._outputs, map(torch.from_numpy, arrays), strict=True)))
