"""Smaller encoders: some of their layers, and narrower feed-forward networks.

Only what a plain configuration describes is removed, so that what is saved loads with `transformers` alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from claf2.errors import ModelError

__all__ = ["keep_layers", "narrow_feed_forward", "prune"]

logger = logging.getLogger("claf2")


@dataclass(frozen=True)
class PrunableParts:
    """The names of what can be removed from an encoder."""

    layers: str = "encoder.layer"
    """The list of layers."""
    inner: str = "intermediate.dense"
    """Within a layer, the projection to the neurons of the feed-forward network,"""
    outer: str = "output.dense"
    """and the one back."""
    width: str = "intermediate_size"
    """The number of neurons in the configuration."""
    is_gated: bool = False
    """Whether ``inner`` has two rows per neuron, the second of which gates the first."""
    has_plain_first_layer: bool = False
    """Whether the first layer lacks a part that all others have, so that no other can take its place."""


PRUNABLE = {
    **dict.fromkeys("bert camembert deberta deberta-v2 electra roberta".split(), PrunableParts()),
    **dict.fromkeys(("xlm-roberta", "xlm-roberta-xl"), PrunableParts()),
    "distilbert": PrunableParts("transformer.layer", "ffn.lin1", "ffn.lin2", "hidden_dim"),
    "modernbert": PrunableParts("layers", "mlp.Wi", "mlp.Wo", is_gated=True, has_plain_first_layer=True),
}  # fmt: skip
"""The architectures whose layers are separate modules with the same number of neurons."""


def prune(
    model: PreTrainedModel,
    *others: PreTrainedConfig,
    layers: Sequence[int] | None = None,
    width: int | None = None,
) -> None:
    """Make an encoder smaller in place.

    Args:
        model: an encoder, or a head with the encoder inside.
        others: further configurations of the same encoder, to which the new sizes are written.
        layers: see ``keep_layers``; ``None``: all of them.
        width: see ``narrow_feed_forward``; ``None``: as it is.

    Raises:
        ModelError: when the encoder cannot be made smaller in this way.
    """
    parts = _find_parts(model)
    if layers is not None:
        keep_layers(model, layers)
        logger.info("the encoder has layers %s of the stored one", ", ".join(map(str, layers)))
    if width is not None:
        narrow_feed_forward(model, width)
        logger.info("each feed-forward network keeps %d neurons", width)
    for config in others:
        for name in ("num_hidden_layers", parts.width, "layer_types"):
            if hasattr(config, name):
                setattr(config, name, getattr(model.config, name))


def keep_layers(model: PreTrainedModel, layers: Sequence[int]) -> None:
    """Remove all but some layers of an encoder, in place.

    Args:
        model: an encoder, or a head with the encoder inside.
        layers: the positions of the layers that stay, from 0, ascending.

    Raises:
        ModelError: when the encoder has no such layers, or its layers cannot be separated.
    """
    parts = _find_parts(model)
    stack: Any = model.base_model.get_submodule(parts.layers)
    total = len(stack)
    if not layers or list(layers) != sorted(set(layers)) or layers[0] < 0:
        raise ModelError(f"the layers to keep are {list(layers)}: name different layers in ascending order, from 0")
    if layers[-1] >= total:
        raise ModelError(
            f"the model has {total} layers, so there is no layer {layers[-1]}: the last one is {total - 1}"
        )
    if parts.has_plain_first_layer and layers[0] != 0:
        raise ModelError(
            f"the first layer of {model.config.model_type} is unlike the others, so it cannot be removed: keep layer 0"
        )
    kept = [stack[index] for index in layers]
    del stack[:]
    stack.extend(kept)
    for config in _configurations(model):
        if getattr(config, "layer_types", None):  # whether a layer attends to all tokens or to near ones
            config.layer_types = [config.layer_types[index] for index in layers]
        config.num_hidden_layers = len(layers)


def narrow_feed_forward(model: PreTrainedModel, width: int) -> None:
    """Give the feed-forward network of each layer fewer neurons, in place.

    The neurons that stay are those with the largest weights: the product of the norms of what a neuron reads and
    writes. This needs no data, and the result is the same for every task and seed.

    Args:
        model: an encoder, or a head with the encoder inside.
        width: how many neurons each layer keeps.

    Raises:
        ModelError: when the encoder has fewer neurons, or they cannot be separated.
    """
    parts = _find_parts(model)
    before: int = getattr(model.config, parts.width)
    if not 1 <= width <= before:
        raise ModelError(
            f"the feed-forward networks of the model have {before} neurons, not {width}: choose 1 to {before}"
        )
    for layer in model.base_model.get_submodule(parts.layers).children():
        inner: Any = layer.get_submodule(parts.inner)
        outer: Any = layer.get_submodule(parts.outer)
        kept = _largest_neurons(inner.weight, outer.weight, width)
        rows = torch.cat([kept, kept + before]) if parts.is_gated else kept
        inner.weight = nn.Parameter(inner.weight.detach()[rows])
        if inner.bias is not None:
            inner.bias = nn.Parameter(inner.bias.detach()[rows])
        outer.weight = nn.Parameter(outer.weight.detach()[:, kept].contiguous())
        inner.out_features, outer.in_features = len(rows), width
    for config in _configurations(model):
        setattr(config, parts.width, width)


def _find_parts(model: PreTrainedModel) -> PrunableParts:
    kind = model.config.model_type
    if kind == "albert":
        raise ModelError("all layers of an albert are one and the same, so none can be removed: use another encoder")
    if kind not in PRUNABLE:
        raise ModelError(f"the layers of {kind} cannot be made smaller; supported: {', '.join(sorted(PRUNABLE))}")
    return PRUNABLE[kind]


def _configurations(model: PreTrainedModel) -> Iterator[PreTrainedConfig]:
    """Yield every configuration object of a model: an encoder inside a head may have one of its own."""
    found = {id(module.config): module.config for module in model.modules() if isinstance(module, PreTrainedModel)}
    yield from found.values()


def _largest_neurons(inner: torch.Tensor, outer: torch.Tensor, width: int) -> torch.Tensor:
    """Return the positions of the neurons with the largest weights, ascending.

    Args:
        inner: (N, H), or (2N, H) with gates.
        outer: (H, N).
        width: how many.
    """
    neurons = outer.shape[1]
    read = inner.detach().reshape(-1, neurons, inner.shape[1]).norm(dim=-1).prod(0)
    order = torch.argsort(read * outer.detach().norm(dim=0), descending=True, stable=True)
    return order[:width].sort().values
