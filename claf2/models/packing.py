"""Packing: the layers of an encoder process the real tokens of a batch as one row, so that nothing is computed for
padding.

The embeddings of a batch, (N, L, H), become (1, T, H) before the stack of layers, T being the number of
real tokens, and the stack's outputs become (N, L, H) again, so that embeddings, pooler and heads are unaffected. Inside
the stack everything works on single tokens except attention, which is computed for groups of rows of similar length.
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

__all__ = ["Layout", "Packing", "is_packable"]

STACKS = {
    "albert": "encoder",
    "bert": "encoder",
    "camembert": "encoder",
    "distilbert": "transformer",
    "electra": "encoder",
    "roberta": "encoder",
    "xlm-roberta": "encoder",
    "xlm-roberta-xl": "encoder",
}
"""The architectures that can be packed → the attribute of their stack of layers. In these, positions affect only the
embeddings, and attention is looked up in the registry of `transformers`."""

ATTENTION = "claf2_packed"
"""The name of packed attention in that registry."""

GROUP_OVERHEAD = {"cpu": 2_000, "cuda": 1_000_000}
"""The cost of one more group for attention, in units of rows times squared length. The value for GPUs is a guess."""


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
    """

    def __init__(self, lengths: np.ndarray, width: int, device: torch.device) -> None:
        lengths = np.where(lengths > 0, lengths, 1)  # an empty row keeps one token, so that attention has a key
        overhead = GROUP_OVERHEAD.get(device.type, GROUP_OVERHEAD["cuda"])
        parts = pack_microbatches(lengths, CostModel(overhead, quadratic=1.0))
        order = np.concatenate(parts)
        self.index = _to_device(_places(lengths[order], order * width), device)
        self.groups = [_group(lengths[part], device) for part in parts]

    def pack(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the real tokens of (N, L, H) as one row, (1, T, H)."""
        return hidden.flatten(0, 1).index_select(0, self.index)[None]

    def unpack(self, packed: torch.Tensor, rows: int, width: int) -> torch.Tensor:
        """Return (1, T, H) as (N, L, H), with zeros for padding."""
        empty = packed.new_zeros(rows * width, packed.shape[-1])
        return empty.index_copy(0, self.index, packed[0]).view(rows, width, -1)


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
        stack: nn.Module = getattr(encoder, STACKS[model.config.model_type])
        stack.register_forward_pre_hook(self._before, with_kwargs=True)
        stack.register_forward_hook(self._after)

    @contextmanager
    def packed(self, lengths: torch.Tensor, width: int, device: torch.device) -> Iterator[None]:
        """Pack the forward pass inside the block: rows of these lengths, (N,) or (B, C), padded to ``width``."""
        flat = lengths.flatten().numpy()
        if (flat == width).all() and not torch.is_grad_enabled():
            # Nothing is padded, as in a single request, so packing would only copy. Outputs have the same bits either
            # way, gradients of single rows do not.
            yield
            return
        self._layout, self._shape = Layout(flat, width, device), (len(flat), width)
        try:
            yield
        finally:
            self._layout = None

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._layout is None:
            return None
        hidden = args[0] if args else kwargs.pop("hidden_states")
        # Architectures pass the mask by position or by name. The layout takes its place, and `_attend` gets it.
        if len(args) > 1:
            return (self._layout.pack(hidden), self._layout, *args[2:]), kwargs
        return (self._layout.pack(hidden),), {**kwargs, "attention_mask": self._layout}

    def _after(self, module: nn.Module, args: tuple[Any, ...], outputs: Any) -> Any:
        if self._layout is None:
            return None
        outputs.last_hidden_state = self._layout.unpack(outputs.last_hidden_state, *self._shape)
        return outputs


def is_packable(model: nn.Module) -> bool:
    """Say whether the encoder of a model can be packed."""
    return isinstance(model, PreTrainedModel) and model.config.model_type in STACKS


def _attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Layout | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within the rows of a layout; query, key, value (1, heads, T, D), returned (1, T, heads, D). Without a
    layout the rows are not packed: (N, heads, L, D), returned (N, L, heads, D)."""
    layout = attention_mask
    if layout is None:
        attended = functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout, scale=scaling)
        return attended.transpose(1, 2), None
    # A block mask over one row would cost the square of all tokens, and PyTorch's kernels for variable lengths have no
    # dropout. A few groups of padded rows cost little more than the real tokens.
    sizes = [group.tokens for group in layout.groups]
    # Splitting is cheaper than indexing, whose gradient fills a tensor of full size for each group.
    split = [torch.split(tensor[0].transpose(0, 1), sizes) for tensor in (query, key, value)]
    outputs = []
    for group, *tokens in zip(layout.groups, *split, strict=True):
        rows = [_to_rows(tensor, group) for tensor in tokens]
        attended = functional.scaled_dot_product_attention(
            rows[0], rows[1], rows[2], attn_mask=group.mask, dropout_p=dropout, scale=scaling
        )
        flat = attended.transpose(1, 2).flatten(0, 1)
        outputs.append(flat if group.places is None else flat.index_select(0, group.places))
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
