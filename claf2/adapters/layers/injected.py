"""Adapters of the library `peft`: inject their layers into the encoder, and merge them into plain layers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from claf2.adapters.layers.adapted import EncoderChanges, Replacement, gathered, plain_linear
from claf2.adapters.layers.parts import parent_of
from claf2.adapters.layers.quantized import dense_weight
from claf2.errors import ModelError

__all__ = ["inject"]

ADAPTER = "default"
"""The name that `peft` gives an adapter by default."""


def inject(encoder: Any, kind: str, targets: Sequence[str], **settings: Any) -> EncoderChanges:
    """Put adapters of `peft` into an encoder.

    Args:
        encoder: a model of `transformers`, whose weights are frozen.
        kind: the class of the configuration, ``LoraConfig`` or ``IA3Config``.
        targets: the names of the linear layers.
        settings: further fields of the configuration.

    Raises:
        ModelError: when `peft` is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise ModelError("this adapter needs peft: pip install 'claf2[peft]'") from error
    config = getattr(peft, kind)(target_modules=list(targets), **settings)
    peft.inject_adapter_in_model(config, encoder, adapter_name=ADAPTER)
    del encoder.peft_config  # else transformers saves the model as an adapter
    merge = {"LoraConfig": _merged_lora, "IA3Config": _merged_ia3}[kind]
    replaced = []
    for name in targets:
        parent, last = parent_of(encoder, name)
        replaced.append(Replacement(parent, last, partial(merge, getattr(parent, last))))
    return EncoderChanges(replaced=replaced, peft_config=config)


def _merged_lora(layer: Any) -> nn.Module:
    """Return W + s B A as a plain layer; with DoRA, its rows have the learned norms (Liu et al., 2024)."""
    base = layer.get_base_layer()
    down, up = (gathered(part[ADAPTER].weight) for part in (layer.lora_A, layer.lora_B))
    weight = dense_weight(base) + layer.scaling[ADAPTER] * (up @ down)
    if ADAPTER in layer.lora_magnitude_vector:
        norms = gathered(layer.lora_magnitude_vector[ADAPTER].weight)
        weight *= (norms / torch.linalg.vector_norm(weight, dim=1))[:, None]
    return plain_linear(weight, _copied_bias(base))


def _merged_ia3(layer: Any) -> nn.Module:
    """Return a plain layer with scaled outputs, (O, 1), or scaled inputs in the feed-forward network, (1, I)."""
    base, scale = layer.get_base_layer(), gathered(layer.ia3_l[ADAPTER])
    bias = _copied_bias(base)
    if bias is not None and not layer.is_feedforward:
        bias = bias * scale.flatten()
    return plain_linear(dense_weight(base) * scale, bias)


def _copied_bias(base: nn.Module) -> torch.Tensor | None:
    bias: Any = base.bias
    return None if bias is None else gathered(bias).clone()
