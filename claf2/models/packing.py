"""Packing: the layers of an encoder process the real tokens of a batch as one row, so that nothing is computed for
padding.

The embeddings of a batch, (N, L, H), become (1, T, H) before the stack of layers, T being the number of
real tokens, and the stack's outputs become (N, L, H) again, so that embeddings, pooler and heads are unaffected. Inside
the stack everything works on single tokens except attention, which is computed for groups of rows of similar length.

Where a head reads the first token alone, the last layer computes no other: it needs the keys and values of all tokens,
but one query a row, and what follows attention for one token a row. The stack's output is then (N, 1, H).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from claf2.data.microbatch import CostModel, pack_microbatches
from claf2.models.attention import attend_with_dropout

__all__ = ["Layout", "Packing", "is_packable"]


@dataclass(frozen=True)
class Architecture:
    """The names of the parts of an encoder."""

    stack: str = "encoder"
    """The stack of layers."""
    key: str = "key"
    value: str = "value"
    """The projections of attention."""
    norm: str = ""
    """Within a layer, what normalizes the inputs of attention."""


PACKABLE = {
    "albert": Architecture(),
    "bert": Architecture(),
    "camembert": Architecture(),
    "distilbert": Architecture(stack="transformer", key="k_lin", value="v_lin"),
    "electra": Architecture(),
    "roberta": Architecture(),
    "xlm-roberta": Architecture(),
    "xlm-roberta-xl": Architecture(norm="attention.self_attn_layer_norm"),
}
"""The architectures that can be packed. In these, positions affect only the embeddings, and attention is looked up in
the registry of `transformers`."""

LAYER_PREFIX = "prefix"
"""The name, in the module of a layer's attention, of learned keys and values that all rows attend to."""

ATTENTION = "claf2_packed"
"""The name of packed attention in that registry."""

GROUP_OVERHEAD = {"cpu": 2_000, "cuda": 1_000_000}
"""The cost of one more group for attention, in units of rows times squared length. The value for GPUs is a guess."""


LONG = 64
"""The number of tokens from which attention in blocks is faster on a CPU."""


@dataclass(frozen=True)
class Group:
    """Rows of similar length, padded to ``length``."""

    rows: int
    length: int
    tokens: int
    places: torch.Tensor | None
    """The positions of its tokens among rows * length, (tokens,); ``None`` where no row is padded."""
    mask: torch.Tensor | None
    """Which positions hold tokens, (rows, 1, 1, length)."""


class Layout:
    """The positions of the real tokens of N rows of width L, the longest rows first.

    Args:
        lengths: the tokens of each row, on the host, (N,); a row's tokens come before its padding.
        width: L.
        device: where the indices are needed.
        first_tokens: whether the last layer computes the first token of each row alone.
    """

    def __init__(self, lengths: np.ndarray, width: int, device: torch.device, *, first_tokens: bool = False) -> None:
        lengths = np.where(lengths > 0, lengths, 1)  # an empty row keeps one token, so that attention has a key
        overhead = GROUP_OVERHEAD.get(device.type, GROUP_OVERHEAD["cuda"])
        parts = pack_microbatches(lengths, CostModel(overhead, quadratic=1.0))
        order = np.concatenate(parts)
        self.index = _to_device(_places(lengths[order], order * width), device)
        self.groups = [_group(lengths[part], device) for part in parts]
        self.first_tokens = first_tokens
        if first_tokens:
            self._starts = _to_device(np.cumsum(lengths[order]) - lengths[order], device)
            self._ranks = _to_device(np.argsort(order), device)

    def pack(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the real tokens of (N, L, H) as one row, (1, T, H)."""
        return hidden.flatten(0, 1).index_select(0, self.index)[None]

    def unpack(self, packed: torch.Tensor, rows: int, width: int) -> torch.Tensor:
        """Return (1, T, H) as (N, L, H), with zeros for padding."""
        empty = packed.new_zeros(rows * width, packed.shape[-1])
        return empty.index_copy(0, self.index, packed[0]).view(rows, width, -1)

    def pack_first(self, packed: torch.Tensor) -> torch.Tensor:
        """Return the first token of each row of (1, T, H), (1, N, H)."""
        return packed.index_select(1, self._starts)

    def unpack_first(self, packed: torch.Tensor) -> torch.Tensor:
        """Return the first tokens, (1, N, H), as (N, 1, H)."""
        return packed[0].index_select(0, self._ranks)[:, None]


@dataclass(frozen=True)
class FirstTokens:
    """What a layer attends with whose queries are those of the first tokens: takes the place of the layout."""

    layout: Layout
    hidden: torch.Tensor
    """The input of attention for all tokens, (1, T, H)."""
    architecture: Architecture

    def keys_and_values(self, attention: Any, heads: int) -> list[torch.Tensor]:
        """Project all tokens: two tensors (1, heads, T, D)."""
        names = self.architecture.key, self.architecture.value
        projected = [getattr(attention, name)(self.hidden) for name in names]
        return [tensor.unflatten(-1, (heads, -1)).transpose(1, 2) for tensor in projected]


def _group(lengths: np.ndarray, device: torch.device) -> Group:
    rows, length, tokens = len(lengths), int(lengths[0]), int(lengths.sum())
    if tokens == rows * length:
        return Group(rows, length, tokens, None, None)
    places = _to_device(_places(lengths, np.arange(rows) * length), device)
    mask = _to_device(np.arange(length)[None, :] < lengths[:, None], device)
    return Group(rows, length, tokens, places, mask[:, None, None, :])


def _places(lengths: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """Return the position of every token, given that of each row's first one."""
    before = np.cumsum(lengths) - lengths
    return np.asarray(np.repeat(begins - before, lengths) + np.arange(int(lengths.sum())))


def _to_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    tensor = torch.from_numpy(array)
    # A copy from pageable memory would make the host wait for the device.
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class Packing:
    """Packs what goes through one encoder's stack of layers.

    Args:
        model: a model with the encoder inside; its attention is replaced.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._layout: Layout | None = None
        self._shape = (0, 0)
        encoder: Any = model.base_model
        # Not on the model: some versions of `transformers` do not pass it on from a head's own network.
        encoder.set_attn_implementation(ATTENTION)
        self._architecture = PACKABLE[model.config.model_type]
        stack: nn.Module = getattr(encoder, self._architecture.stack)
        stack.register_forward_pre_hook(self._before, with_kwargs=True)
        stack.register_forward_hook(self._after)
        self._stack = stack
        last_layer, self._applications = _last_layer(stack, model.config)
        last_layer.register_forward_pre_hook(self._before_last_layer, with_kwargs=True)
        self._applied = 0

    @contextmanager
    def packed(
        self, lengths: torch.Tensor, width: int, device: torch.device, *, first_tokens: bool = False
    ) -> Iterator[None]:
        """Pack the forward pass inside the block: rows of these lengths, (N,) or (B, C), padded to ``width``. With
        ``first_tokens`` the encoder returns the first token of each row alone."""
        flat = lengths.flatten().numpy()
        is_evaluation = not torch.is_grad_enabled() and not self._stack.training
        if (flat == width).all() and is_evaluation and not first_tokens:
            # Nothing is padded, as in a single request, so packing would only copy. Outputs have the same bits either
            # way; gradients of single rows do not, nor does what dropout draws.
            yield
            return
        self._layout, self._shape = Layout(flat, width, device, first_tokens=first_tokens), (len(flat), width)
        try:
            yield
        finally:
            self._layout = None

    def unpack(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return what a module inside the stack computes for the real tokens of the current pass, (1, T, H), with zeros
        for padding, (N, L, H)."""
        return hidden if self._layout is None else self._layout.unpack(hidden, *self._shape)

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._layout is None:
            return None
        self._applied = 0
        hidden = args[0] if args else kwargs.pop("hidden_states")
        # Architectures pass the mask by position or by name. The layout takes its place, and `_attend` gets it.
        if len(args) > 1:
            return (self._layout.pack(hidden), self._layout, *args[2:]), kwargs
        return (self._layout.pack(hidden),), {**kwargs, "attention_mask": self._layout}

    def _after(self, module: nn.Module, args: tuple[Any, ...], outputs: Any) -> Any:
        if self._layout is None:
            return None
        hidden, layout = outputs.last_hidden_state, self._layout
        if not layout.first_tokens:
            outputs.last_hidden_state = layout.unpack(hidden, *self._shape)
            return outputs
        if self._applied < self._applications:  # the last layer was called in an unknown way, and computed all tokens
            hidden = layout.pack_first(hidden)
        outputs.last_hidden_state = layout.unpack_first(hidden)
        return outputs

    def _before_last_layer(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        layout = args[1] if len(args) > 1 else kwargs.get("attention_mask")
        if not isinstance(layout, Layout) or not layout.first_tokens:
            return None
        self._applied += 1
        if self._applied < self._applications:
            return None
        hidden, *others = args
        names = self._architecture
        attended = module.get_submodule(names.norm)(hidden) if names.norm else hidden
        first_tokens = FirstTokens(layout, attended, names)
        if others:
            return (layout.pack_first(hidden), first_tokens, *others[1:]), kwargs
        return (layout.pack_first(hidden),), {**kwargs, "attention_mask": first_tokens}


def is_packable(model: nn.Module) -> bool:
    """Say whether the encoder of a model can be packed."""
    return isinstance(model, PreTrainedModel) and model.config.model_type in PACKABLE


def _last_layer(stack: Any, config: Any) -> tuple[nn.Module, int]:
    """Return the last layer of a stack, and how many times a pass applies it: ALBERT shares layers."""
    if config.model_type != "albert":
        return stack.layer[-1], 1
    groups, layers = config.num_hidden_groups, config.num_hidden_layers
    applications = sum(int(index / (layers / groups)) == groups - 1 for index in range(layers))
    return stack.albert_layer_groups[-1].albert_layers[-1], applications


def _attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Layout | FirstTokens | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within the rows of a layout; query, key, value (1, heads, T, D), returned (1, T, heads, D). For the first
    tokens alone, they are (1, heads, N, D), returned (1, N, heads, D). Without a layout the rows are not packed:
    (N, heads, L, D), returned (N, L, heads, D)."""
    prefix = getattr(module, LAYER_PREFIX, None)
    if attention_mask is None:
        if prefix is not None:
            key, value, _ = prefix.extend(key, value, None)
        attended = functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout, scale=scaling)
        return attended.transpose(1, 2), None
    first_tokens = isinstance(attention_mask, FirstTokens)
    if isinstance(attention_mask, FirstTokens):
        layout = attention_mask.layout
        # The layer has projected its first tokens alone; these keys and values are not used.
        key, value = attention_mask.keys_and_values(module, query.shape[1])
    else:
        layout = attention_mask
    # A block mask over one row would cost the square of all tokens, and PyTorch's kernels for variable lengths have no
    # dropout. A few groups of padded rows cost little more than the real tokens.
    sizes = [group.tokens for group in layout.groups]
    query_sizes = [group.rows for group in layout.groups] if first_tokens else sizes
    # Splitting is cheaper than indexing, whose gradient fills a tensor of full size for each group.
    split = [
        torch.split(tensor[0].transpose(0, 1), counts)
        for tensor, counts in ((query, query_sizes), (key, sizes), (value, sizes))
    ]
    outputs = []
    for group, queries, keys, values in zip(layout.groups, *split, strict=True):
        query_rows = queries[:, :, None] if first_tokens else _to_rows(queries, group)
        key_rows, value_rows, mask = _to_rows(keys, group), _to_rows(values, group), group.mask
        if prefix is not None:
            key_rows, value_rows, mask = prefix.extend(key_rows, value_rows, mask)
        rows = (query_rows, key_rows, value_rows)
        as_many_keys = prefix is None and not first_tokens
        if dropout and as_many_keys and group.length >= LONG and query.device.type == "cpu" and scaling is not None:
            attended = attend_with_dropout(*rows, mask, dropout=dropout, scale=scaling)
        else:
            attended = functional.scaled_dot_product_attention(*rows, attn_mask=mask, dropout_p=dropout, scale=scaling)
        flat = attended.transpose(1, 2).flatten(0, 1)
        outputs.append(flat if first_tokens or group.places is None else flat.index_select(0, group.places))
    return torch.cat(outputs)[None], None


def _to_rows(tokens: torch.Tensor, group: Group) -> torch.Tensor:
    """Turn a group's (tokens, heads, D) into (rows, heads, length, D)."""
    if group.places is not None:
        empty = tokens.new_zeros(group.rows * group.length, *tokens.shape[1:])
        tokens = empty.index_copy(0, group.places, tokens)
    return tokens.view(group.rows, group.length, *tokens.shape[1:]).transpose(1, 2)


def _no_mask(*_: Any, **__: Any) -> None:
    """Return no mask: the layout is passed in its place."""


AttentionInterface.register(ATTENTION, _attend)
AttentionMaskInterface.register(ATTENTION, _no_mask)
