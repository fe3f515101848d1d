"""Graphs with 8-bit integers in the place of weights, and where they are multiplied, of activations."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from claf2.errors import RunError
from claf2.export.onnx import LARGEST_FILE
from claf2.export.processor import has_integer_products, processor_flags

__all__ = ["QUANTIZATIONS", "QUANTIZED_WEIGHTS", "Quantization", "check_processor", "quantize_graph"]

Quantization: TypeAlias = Literal["dynamic", "blocks", "blocks-4bit", "static"]
"""``dynamic``: weights per channel, embeddings included; activations by the range of each pass, so that a row's answer
depends on those beside it. ``blocks``: weights in blocks of 32 with a scale each; ``blocks-4bit``: with 4 bits.
``static``: weights per channel; activations by the ranges of calibration rows."""

CalibrationRows: TypeAlias = Iterable[Mapping[str, np.ndarray]]
"""The inputs of one pass after another."""

BLOCK_SIZE = 32

INTEGER_ACTIVATIONS = 4
"""ONNX Runtime's accuracy level at which blocks of activations are 8-bit integers as well."""


def check_processor() -> None:
    """Check that this processor computes 8-bit integers without overflow.

    Raises:
        RunError: when it does not.
    """
    if not has_integer_products(processor_flags()):
        raise RunError(
            "this processor adds up products of 8-bit integers in 16 bits, which overflows: it has neither AVX-VNNI "
            "nor AVX-512 VNNI; export without --int8, or use a machine whose processor has it (lscpu lists vnni)"
        )


def quantize_graph(graph: Path, target: Path, kind: Quantization, calibration: Callable[[], CalibrationRows]) -> None:
    """Write a quantized copy of a graph. The same graph and rows give the same bytes.

    Args:
        graph: the file of an fp32 graph.
        target: the file to write.
        kind: how to quantize.
        calibration: returns the passes that ``static`` takes the ranges of activations from.
    """
    external = _size(graph) > LARGEST_FILE
    with _quiet():
        QUANTIZATIONS[kind](graph, target, calibration, external)


def _dynamic(graph: Path, target: Path, calibration: Callable[[], CalibrationRows], external: bool) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(graph, target, per_channel=True, weight_type=QuantType.QInt8, use_external_data_format=external)


def _blocks(
    graph: Path, target: Path, calibration: Callable[[], CalibrationRows], external: bool, *, bits: int = 8
) -> None:
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(
        onnx.load(graph), bits=bits, block_size=BLOCK_SIZE, is_symmetric=True, accuracy_level=INTEGER_ACTIVATIONS
    )
    quantizer.process()
    quantizer.model.save_model_to_file(str(target), external)


def _static(graph: Path, target: Path, calibration: Callable[[], CalibrationRows], external: bool) -> None:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    class CalibrationReader(CalibrationDataReader):  # type: ignore[misc]
        """Gives the rows one after another."""

        def __init__(self) -> None:
            self._rows = iter(calibration())

        def get_next(self) -> Any:
            return next(self._rows, None)

    quantize_static(
        graph,
        target,
        CalibrationReader(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        use_external_data_format=external,
    )


QUANTIZATIONS: Mapping[Quantization, Callable[[Path, Path, Callable[[], CalibrationRows], bool], None]] = {
    "dynamic": _dynamic, "blocks": _blocks, "blocks-4bit": partial(_blocks, bits=4), "static": _static
}  # fmt: skip
"""How each kind is made."""

QUANTIZED_WEIGHTS: Mapping[Quantization, str] = {
    **{kind: f"int8-{kind}" for kind in QUANTIZATIONS}, "blocks-4bit": "int4-blocks"
}  # fmt: skip
"""What the format of the weights is called in `answering.json`."""


def _size(graph: Path) -> int:
    return sum(path.stat().st_size for path in graph.parent.glob(f"{graph.name}*"))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantizer's messages, which users can do nothing about, from the terminal."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
