"""Word embeddings that are frozen, except for the rows of tokens that a task has added."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from claf2.adapters.layers.adapted import Replacement, gathered
from claf2.adapters.layers.parts import parent_of

__all__ = ["AddedRows", "train_added_rows"]


class AddedRows(nn.Embedding):
    """An embedding of which only some consecutive rows are trained; they are a separate parameter.

    Args:
        embedding: the embedding, (V, H), frozen.
        ids: those of the rows. They need not be the last ones: a table may have more rows than the tokenizer has ids.
    """

    def __init__(self, embedding: nn.Embedding, ids: range) -> None:
        nn.Module.__init__(self)
        self.num_embeddings, self.embedding_dim = embedding.num_embeddings, embedding.embedding_dim
        self.padding_idx, self.max_norm, self.norm_type = embedding.padding_idx, None, 2.0
        self.scale_grad_by_freq, self.sparse = False, False
        self.weight = embedding.weight
        self.ids = ids
        self.added = nn.Parameter(embedding.weight.detach()[ids.start : ids.stop].clone())

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        added = functional.embedding((input - self.ids.start).clamp(0, len(self.ids) - 1), self.added)
        is_added = (input >= self.ids.start) & (input < self.ids.stop)
        return torch.where(is_added[..., None], added, functional.embedding(input, self.weight))

    def merge(self) -> nn.Embedding:
        """Return a plain embedding with the same rows, and the same hooks."""
        weight = gathered(self.weight).clone()
        added = gathered(self.added)
        weight[self.ids.start : self.ids.stop] = added
        plain = nn.Embedding(self.num_embeddings, self.embedding_dim, self.padding_idx, _weight=weight).requires_grad_(
            False
        )
        plain._forward_hooks.update(self._forward_hooks)
        return plain


def train_added_rows(encoder: Any, ids: range) -> Replacement:
    """Train the rows of a frozen encoder's word embeddings that no pre-training has seen.

    Args:
        encoder: a model of `transformers`.
        ids: those of the rows.
    """
    embedding = encoder.get_input_embeddings()
    parent, last = parent_of(encoder, next(name for name, module in encoder.named_modules() if module is embedding))
    rows = AddedRows(embedding, ids)
    setattr(parent, last, rows)
    return Replacement(parent, last, rows.merge)
