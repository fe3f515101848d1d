"""The number format of forward and backward passes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

__all__ = ["Precision"]


class Precision:
    """The number format of the passes: ``fp32``, or ``bf16`` and ``fp16`` by automatic casting, fp16 with scaled
    losses. Weights, gradients and the optimizer stay in fp32.

    Args:
        name: the format.
        device: where the passes run.
    """

    def __init__(self, name: Literal["fp32", "bf16", "fp16"], device: torch.device) -> None:
        self._device = device.type
        self._dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def forward(self) -> AbstractContextManager[Any]:
        """Return the context of forward passes."""
        return nullcontext() if self._dtype is None else torch.autocast(self._device, self._dtype)

    def backward(self) -> AbstractContextManager[Any]:
        """Return the context of a backward pass inside that of ``forward``."""
        return nullcontext() if self._dtype is None else torch.autocast(self._device, enabled=False)
