"""How far the outputs of an export are from those of PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from claf2.evaluation.engine import Batching, Engine
from claf2.export.onnx import TOKEN_INPUTS
from claf2.export.onnx_engine import OnnxEngine
from claf2.export.rows import ModelRows
from claf2.runtime.seed import generator

__all__ = ["compared_shapes", "largest_differences", "observed_batching", "random_batches"]


MOST_COMPARED = 1024
"""The longest input that is compared. Attention in PyTorch needs memory for the square of it."""


def compared_shapes(longest: int) -> list[tuple[int, int]]:
    """Return the numbers of rows and tokens that are compared: short inputs and long ones, with other numbers of rows
    than the batch that was traced.

    Args:
        longest: the tokens of the longest input.
    """
    return [(1, min(7, longest)), (2, min(longest, MOST_COMPARED)), (5, 2)]


def largest_differences(
    module: nn.Module, engine: Engine, task: str, batches: Sequence[Mapping[str, torch.Tensor]], outputs: Sequence[str]
) -> dict[str, float]:
    """Return the largest difference of any output for each batch, by its number of rows and tokens.

    Outputs that are ids are compared as well, as numbers. Padding is not compared, since nothing reads
    what is computed there.

    Args:
        module: what was exported, in evaluation mode.
        engine: computes the export.
        task: the name of the task.
        batches: arguments of the module.
        outputs: the names of the outputs.
    """
    differences = {}
    for batch in batches:
        with torch.inference_mode():
            expected, actual = module(**batch), engine(task, batch)
        rows, *_, length = batch["input_ids"].shape
        differences[f"{rows}x{length}"] = max(
            _largest(getattr(expected, name), getattr(actual, name), batch["attention_mask"]) for name in outputs
        )
    return differences


def _largest(expected: torch.Tensor, actual: torch.Tensor, mask: torch.Tensor) -> float:
    """Return the largest difference of two outputs; of outputs for each token, at those that are in ``mask``."""
    difference = (expected.double() - actual.double()).abs()
    if difference.shape[: mask.ndim] == mask.shape:
        difference = difference[mask.bool()]
    return float(difference.max())


def random_batches(
    example: Mapping[str, torch.Tensor], shapes: Sequence[tuple[int, int]], *, vocab_size: int, pad_id: int
) -> Iterator[dict[str, Any]]:
    """Yield batches of random ids in which the last row is half padding.

    Args:
        example: arguments that hold nothing but ids, mask and segments; where a row has several texts, so have the
            batches.
        shapes: the numbers of rows and tokens.
        vocab_size: the number of ids.
        pad_id: the id of padding.
    """
    for rows, length in shapes:
        shape = (rows, *example["input_ids"].shape[1:-1], length)
        ids = generator(0, "parity", rows, length).integers(0, vocab_size - 1, shape)
        ids += ids >= pad_id  # padding stands nowhere but at the end, as in a batch of texts
        is_token = np.ones(shape, bool)
        if rows > 1:
            is_token[-1, ..., (length + 1) // 2 :] = False
        arrays = {
            "input_ids": np.where(is_token, ids, pad_id),
            "attention_mask": is_token,
            "token_type_ids": is_token & (np.arange(length) >= (length + 1) // 2),
        }
        yield {name: torch.from_numpy(arrays[name].astype(np.int64)) for name in TOKEN_INPUTS if name in example}


def observed_batching(engine: OnnxEngine, rows: ModelRows) -> Batching:
    """Return ``exact`` if each of the rows has the same outputs alone and in a batch of all, to the bit, and else
    ``close``."""
    together = engine(rows.task, rows.arguments(np.arange(len(rows))))
    for row in range(len(rows)):
        alone = engine(rows.task, rows.arguments(np.array([row])))
        for name, tensor in vars(alone).items():
            unpadded = vars(together)[name][row][tuple(slice(size) for size in tensor.shape[1:])]
            if not torch.equal(tensor[0], unpadded):
                return "close"
    return "exact"
