"""Networks with a narrow hidden layer, after linear layers of an encoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from claf2.adapters.layers.parts import check_architecture, find_linear, parent_of

__all__ = ["BottleneckLayer", "add_bottlenecks"]

STANDARD_DEVIATION = 0.01
"""The standard deviation of fresh weights, truncated at twice its value: a network starts close to the identity."""


class BottleneckLayer(nn.Module):
    """Adds the output of a network with one narrow hidden layer to its input.

    Args:
        width: the size of input and output.
        size: the size of the hidden layer.
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, size), nn.Linear(size, width)
        for layer in (self.down, self.up):
            nn.init.trunc_normal_(layer.weight, std=STANDARD_DEVIATION, a=-2 * STANDARD_DEVIATION,
                                  b=2 * STANDARD_DEVIATION)  # fmt: skip
            nn.init.zeros_(layer.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return vectors of the same shape, (…, H)."""
        added: torch.Tensor = self.up(functional.gelu(self.down(hidden)))
        return hidden + added


def add_bottlenecks(encoder: Any, size: int) -> None:
    """Put a network after the last projection of attention and of the feed-forward network of each layer, before the
    residual is added, and train the normalization inside the layers.

    Raises:
        ModelError: when the architecture is not known.
    """
    check_architecture(encoder)
    for name in find_linear(encoder, ("attention_output", "outer")):
        parent, last = parent_of(encoder, name)
        linear: Any = getattr(parent, last)
        layer = BottleneckLayer(linear.out_features, size)
        parent.add_module(f"{last}_bottleneck", layer)
        linear.register_forward_hook(_OutputHook(layer))
    for name, module in encoder.named_modules():
        if isinstance(module, nn.LayerNorm) and "layer" in name:
            module.requires_grad_(True)


class _OutputHook:
    """The hook of a linear layer whose outputs go through another one."""

    def __init__(self, layer: BottleneckLayer) -> None:
        self._layer = layer

    def __call__(self, module: nn.Module, args: Any, outputs: torch.Tensor) -> torch.Tensor:
        changed: torch.Tensor = self._layer(outputs)
        return changed
