"""Passes of an encoder that several heads share."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

__all__ = ["EncoderPasses"]


class EncoderPasses:
    """Remembers what an encoder returned, in a block. No gradient may be recorded in it.

    Args:
        encoder: its ``forward`` is replaced in the block.
    """

    def __init__(self, encoder: nn.Module) -> None:
        self._encoder: Any = encoder
        self._compute = encoder.forward
        self._passes: list[tuple[dict[str, Any], Any]] = []

    def __enter__(self) -> None:
        self._encoder.forward = self._forward

    def __exit__(self, *_: object) -> None:
        del self._encoder.forward

    def _forward(self, input_ids: torch.Tensor, **inputs: Any) -> Any:
        inputs = {"input_ids": input_ids, **inputs}
        for earlier, outputs in self._passes:
            if _have_equal_tensors(earlier, inputs):
                return copy.copy(outputs)
        self._passes.append((inputs, self._compute(**inputs)))
        return copy.copy(self._passes[-1][1])


def _have_equal_tensors(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    tensors = [
        {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)} for inputs in (first, second)
    ]
    return tensors[0].keys() == tensors[1].keys() and all(
        torch.equal(tensor, tensors[1][name]) for name, tensor in tensors[0].items()
    )
