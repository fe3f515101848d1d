"""Packing: the layers of an encoder see the real tokens of a batch as one row, so that nothing is computed for padding.

The embeddings of a batch, (N, L, H), become (1, T, H) before the stack of layers, T being its real tokens, and the
stack's outputs become (N, L, H) again, so that embeddings, pooler and heads need not know. Inside, everything works
token by token but attention, which is made group by group over rows of about one length.
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

from claf2.split import Costs, cut

__all__ = ["Layout", "Packing", "packable"]

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
"""The architectures that can be packed, and what each calls its stack of layers: those in which positions matter to the
embeddings alone, and which take their attention from `transformers`' registry."""

ATTENTION = "claf2_packed"
"""The name of packed attention in that registry."""

GROUP_OVERHEAD = {"cpu": 2_000, "cuda": 1_000_000}
"""What a further group costs attention besides its rows times the square of their length. The GPU's is a guess."""


@dataclass(frozen=True)
class Group:
    """Rows of about one length: n rows, filled up to ``length``."""

    rows: int
    length: int
    tokens: int
    places: torch.Tensor | None
    """Where its tokens are among rows * length places, (tokens,); ``None`` where no row is filled up."""
    mask: torch.Tensor | None
    """Which places hold tokens, (rows, 1, 1, length)."""


class Layout:
    """Where the real tokens of N rows of width L are, the longest rows first.

    Args:
        lengths: the tokens of each row, on the host, (N,); a row's tokens come before its padding.
        width: L.
        device: where the indices are needed.
    """

    def __init__(self, lengths: np.ndarray, width: int, device: torch.device) -> None:
        lengths = np.where(lengths > 0, lengths, 1)
        overhead = GROUP_OVERHEAD.get(device.type, GROUP_OVERHEAD["cuda"])
        parts = cut(lengths, Costs(overhead, quadratic=1.0))
        order = np.concatenate(parts)
        self.index = _placed(_places(lengths[order], order * width), device)
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
    places = _placed(_places(lengths, np.arange(rows) * length), device)
    mask = _placed(np.arange(length)[None, :] < lengths[:, None], device)
    return Group(rows, length, tokens, places, mask[:, None, None, :])


def _places(lengths: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """Return the place of every token where that of each row's first one is given."""
    before = np.cumsum(lengths) - lengths
    return np.asarray(np.repeat(begins - before, lengths) + np.arange(int(lengths.sum())))


def _placed(array: np.ndarray, device: torch.device) -> torch.Tensor:
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class Packing:
    """Packs what goes through one encoder's stack of layers.

    Args:
        model: a model with the encoder inside; its attention is replaced.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._layout: Layout | None = None
        self._shape = (0, 0)
        model.set_attn_implementation(ATTENTION)
        stack: nn.Module = getattr(model.base_model, STACKS[model.config.model_type])
        stack.register_forward_pre_hook(self._before, with_kwargs=True)
        stack.register_forward_hook(self._after)

    @contextmanager
    def of(self, lengths: torch.Tensor, width: int, device: torch.device) -> Iterator[None]:
        """Pack the forward pass that is made inside: rows of these lengths, (N,) or (B, C), filled up to ``width``."""
        flat = lengths.flatten().numpy()
        self._layout, self._shape = Layout(flat, width, device), (len(flat), width)
        try:
            yield
        finally:
            self._layout = None

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        assert self._layout is not None, "a packed encoder is called by its EncoderWithHeads alone"
        hidden = args[0] if args else kwargs.pop("hidden_states")
        if len(args) > 1:
            return (self._layout.pack(hidden), self._layout, *args[2:]), kwargs
        return (self._layout.pack(hidden),), {**kwargs, "attention_mask": self._layout}

    def _after(self, module: nn.Module, args: tuple[Any, ...], outputs: Any) -> Any:
        assert self._layout is not None
        outputs.last_hidden_state = self._layout.unpack(outputs.last_hidden_state, *self._shape)
        return outputs


def packable(model: nn.Module) -> bool:
    """Say whether the encoder of a model can be packed."""
    return isinstance(model, PreTrainedModel) and model.config.model_type in STACKS


def _attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Layout,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within the rows of a layout; query, key, value (1, heads, T, D), returned (1, T, heads, D)."""
    layout = attention_mask
    sizes = [group.tokens for group in layout.groups]
    split = [torch.split(each[0].transpose(0, 1), sizes) for each in (query, key, value)]
    outputs = []
    for group, *tokens in zip(layout.groups, *split, strict=True):
        rows = [_rows(each, group) for each in tokens]
        done = functional.scaled_dot_product_attention(
            rows[0], rows[1], rows[2], attn_mask=group.mask, dropout_p=dropout, scale=scaling
        )
        flat = done.transpose(1, 2).flatten(0, 1)
        outputs.append(flat if group.places is None else flat.index_select(0, group.places))
    return torch.cat(outputs)[None], None


def _rows(tokens: torch.Tensor, group: Group) -> torch.Tensor:
    """Turn a group's (tokens, heads, D) into (rows, heads, length, D)."""
    if group.places is not None:
        empty = tokens.new_zeros(group.rows * group.length, *tokens.shape[1:])
        tokens = empty.index_copy(0, group.places, tokens)
    return tokens.view(group.rows, group.length, *tokens.shape[1:]).transpose(1, 2)


def _no_mask(*_: Any, **__: Any) -> None:
    """The layout stands for the mask."""


AttentionInterface.register(ATTENTION, _attend)
AttentionMaskInterface.register(ATTENTION, _no_mask)
