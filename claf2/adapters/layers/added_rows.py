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
    """An embedding of which only the last rows are trained; they are a separate parameter.

    Args:
        embedding: the embedding, (V, H), frozen.
        count: the number of the last rows.
    """

    def __init__(self, embedding: nn.Embedding, count: int) -> None:
        nn.Module.__init__(self)
        self.num_embeddings, self.embedding_dim = embedding.num_embeddings, embedding.embedding_dim
        self.padding_idx, self.max_norm, self.norm_type = embedding.padding_idx, None, 2.0
        self.scale_grad_by_freq, self.sparse = False, False
        self.weight = embedding.weight
        self.added = nn.Parameter(embedding.weight.detach()[-count:].clone())

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        first = self.num_embeddings - len(self.added)
        added = functional.embedding((input - first).clamp(min=0), self.added)
        return torch.where((input >= first)[..., None], added, functional.embedding(input, self.weight))

    def merge(self) -> nn.Embedding:
        """Return a plain embedding with the same rows, and the same hooks."""
        weight = gathered(self.weight).clone()
        added = gathered(self.added)
        weight[-len(added) :] = added
        plain = nn.Embedding(self.num_embeddings, self.embedding_dim, self.padding_idx, _weight=weight).requires_grad_(
            False
        )
        plain._forward_hooks.update(self._forward_hooks)
        return plain


def train_added_rows(encoder: Any, count: int) -> Replacement:
    """Train the last rows of a frozen encoder's word embeddings, which the checkpoint lacks.

    Args:
        encoder: a model of `transformers`.
        count: the number of the rows.
    """
    embedding = encoder.get_input_embeddings()
    parent, last = parent_of(encoder, next(name for name, module in encoder.named_modules() if module is embedding))
    rows = AddedRows(embedding, count)
    setattr(parent, last, rows)
    return Replacement(parent, last, rows.merge)
