"""Frozen linear layers with 4-bit or 8-bit weights (bitsandbytes), and how to dequantize them."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from claf2.adapters.layers.adapted import Replacement, gathered, plain_linear
from claf2.adapters.layers.parts import parent_of
from claf2.errors import ModelError

__all__ = ["Bits", "dense_weight", "quantize_linear"]

Bits = Literal["nf4", "int8"]
"""4-bit NormalFloat with doubly quantized constants (Dettmers et al., 2023), or 8-bit integers."""


def quantize_linear(encoder: Any, bits: Bits) -> list[Replacement]:
    """Replace the linear layers inside an encoder's stack by quantized ones.

    Args:
        encoder: a model of `transformers`, whose weights are frozen.
        bits: the format.

    Raises:
        ModelError: when bitsandbytes is not installed.
    """
    try:
        import bitsandbytes
    except ImportError as error:
        raise ModelError("quantized weights need bitsandbytes: pip install 'claf2[qlora]'") from error
    replaced = []
    for name, module in list(encoder.named_modules()):
        if not isinstance(module, nn.Linear) or "layer" not in name:  # a pooler is small, and may be trained
            continue
        parent, last = parent_of(encoder, name)
        layer = _quantized(bitsandbytes, module, bits)
        setattr(parent, last, layer)
        replaced.append(Replacement(parent, last, partial(_dense, layer)))
    return replaced


def _quantized(library: Any, module: nn.Linear, bits: Bits) -> nn.Module:
    shape = (module.in_features, module.out_features, module.bias is not None)
    weight = module.weight.detach().clone()
    layer: Any
    if bits == "nf4":
        layer = library.nn.Linear4bit(*shape, compute_dtype=torch.float32, compress_statistics=True, quant_type=bits)
        # On some CPUs an evaluation would repack the weights, and round their constants to bf16, for good.
        layer.support_avx512bf16_for_cpu = False
        layer.weight = library.nn.Params4bit(weight, requires_grad=False, compress_statistics=True, quant_type=bits)
    else:
        layer = library.nn.Linear8bitLt(*shape, has_fp16_weights=False)
        layer.weight = library.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    if module.bias is not None:
        layer.bias = nn.Parameter(module.bias.detach().clone(), requires_grad=False)
    quantized: nn.Module = layer.to(module.weight.device)
    return quantized


def dense_weight(layer: Any) -> torch.Tensor:
    """Return the weight of a linear layer in full precision, (O, I), quantized or not."""
    if not type(layer).__module__.startswith("bitsandbytes"):
        return gathered(layer.weight)
    from bitsandbytes import functional

    weight = layer.weight
    if hasattr(weight, "quant_state"):
        dense: torch.Tensor = functional.dequantize_4bit(weight.data, weight.quant_state)
    else:  # the first pass moves the scales of the rows into the layer
        scales = layer.state.SCB if weight.SCB is None else weight.SCB
        dense = functional.int8_vectorwise_dequant(weight.data, scales)
    return dense.float()


def _dense(layer: Any) -> nn.Module:
    return plain_linear(dense_weight(layer).clone(), None if layer.bias is None else layer.bias.detach().clone())
