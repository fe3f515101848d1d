"""A head with its encoder as an ONNX graph, in which the number of rows and their length are free."""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from claf2.errors import RunError

__all__ = ["GraphPorts", "output_names", "write_graph"]

ROWS, LENGTH = "batch", "length"
"""The names of the free axes."""

TOKEN_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""The inputs whose last axis is that of the tokens."""

LARGEST_FILE = 1_900_000_000
"""The bytes of weights above which they lie in a file of their own: protobuf files end at 2 GiB."""


@dataclass(frozen=True)
class GraphPorts:
    """The names of the tensors that go into a graph and come out of it."""

    inputs: Sequence[str]
    outputs: Sequence[str]


def output_names(outputs: Any) -> list[str]:
    """Return the names of the tensors among a module's outputs, which is a data class as in `transformers`.

    Raises:
        RunError: when it is not.
    """
    if not dataclasses.is_dataclass(outputs):
        raise RunError(f"outputs of type {type(outputs).__name__} cannot be exported: return a data class of tensors")
    names = [field.name for field in dataclasses.fields(outputs)]
    return [name for name in names if isinstance(getattr(outputs, name), torch.Tensor)]


class _Positional(nn.Module):
    """Passes tensors to a module by name, and returns some of its outputs in order."""

    def __init__(self, module: nn.Module, ports: GraphPorts) -> None:
        super().__init__()
        self.module = module
        self.ports = ports

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = self.module(**dict(zip(self.ports.inputs, tensors, strict=True)))
        return tuple(getattr(outputs, name) for name in self.ports.outputs)


def write_graph(
    module: nn.Module,
    example: Mapping[str, torch.Tensor],
    path: Path,
    *,
    free_axes: Mapping[str, Collection[int]] | None = None,
) -> GraphPorts:
    """Write a module as an ONNX file. Weights of more than 2 GB go to a file beside it.

    Args:
        module: in evaluation mode; its outputs are a data class.
        example: the arguments of a pass, with several rows of several tokens. The axes of rows and tokens are free in
            the graph.
        path: the file.
        free_axes: the axes besides that of the rows that are free in inputs other than ids, mask and segments.

    Raises:
        RunError: when the module cannot be traced.
    """
    from torch.export import Dim

    with torch.inference_mode():
        ports = GraphPorts(list(example), output_names(module(**example)))
    rows, length = Dim(ROWS), Dim(LENGTH)
    shapes: list[dict[int, Any]] = []
    for name, tensor in example.items():
        others = dict.fromkeys((free_axes or {}).get(name, ()), Dim.AUTO)
        shapes.append({0: rows, **({tensor.ndim - 1: length} if name in TOKEN_INPUTS else others)})
    wrapped = _Positional(module, ports).eval()
    with _quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                wrapped,
                tuple(example.values()),
                dynamo=True,
                dynamic_shapes=(tuple(shapes),),
                input_names=list(ports.inputs),
                output_names=list(ports.outputs),
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise RunError(
                f"{type(module).__name__} cannot be exported to ONNX: {reason}; answer with the run itself"
            ) from error
    assert program is not None
    _drop_traces(program.model)
    size = sum(weight.numel() * weight.element_size() for weight in module.parameters())
    program.save(path, external_data=size > LARGEST_FILE)
    return ports


def _drop_traces(model: Any) -> None:
    """Remove what the exporter notes about its own work, such as the paths of source files."""
    model.metadata_props.clear()
    for graph in model.graphs():
        graph.metadata_props.clear()
        for node in graph:
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()
        for value in (*graph.inputs, *graph.initializers.values()):
            value.metadata_props.clear()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's messages, which users can do nothing about, from the terminal."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
