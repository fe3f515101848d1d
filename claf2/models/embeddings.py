"""Word embeddings of which only the rows that the training data use are trained.

Multilingual vocabularies are large: of the 250,000 rows of XLM-R, a task in one language uses a few thousand. The
others get no gradient, but a dense optimizer step, the norm of the gradients and their exchange between processes pay
for them. All that happens to such a row is weight decay, which is one factor for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

__all__ = ["TrainedRows", "restrict_embeddings", "trained_rows"]


class TrainedRows(nn.Embedding):
    """An embedding whose ``weight`` holds the trained rows alone, (R, H), although its ids are those of all V rows.

    The other rows are ``factor`` times what they were. They can be looked up in evaluations, and ``state_dict`` has the
    whole table. In training, an id without a trained row is an error.

    Args:
        embedding: the embedding to restrict, (V, H).
        ids: the rows to train, (R,), ascending.
    """

    factor: torch.Tensor

    def __init__(self, embedding: nn.Embedding, ids: torch.Tensor) -> None:
        nn.Module.__init__(self)
        self.num_embeddings, self.embedding_dim = embedding.num_embeddings, embedding.embedding_dim
        self.padding_idx, self.max_norm, self.norm_type = embedding.padding_idx, None, 2.0
        self.scale_grad_by_freq, self.sparse = False, False
        table = embedding.weight.detach()
        self.weight = nn.Parameter(table.index_select(0, ids))
        self.register_buffer("factor", torch.ones((), dtype=torch.float64))
        # No buffers: `last/` need not hold them, and they need not be sent to other processes.
        self._table, self._ids = table, ids
        self._places = torch.full((len(table),), -1).index_copy(0, ids, torch.arange(len(ids)))
        padding = -1 if self.padding_idx is None else int(self._places[self.padding_idx])
        # PyTorch would take -1 for the last row, which then gets no gradient.
        self._padding = padding if padding >= 0 else None
        self.train(embedding.training)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        places = self._places[input]
        if self.training:
            return functional.embedding(places, self.weight, self._padding)
        embedded = functional.embedding(places.clamp(min=0), self.weight)
        return torch.where((places < 0)[..., None], self._table[input] * self.factor, embedded)

    @property
    def num_idle(self) -> int:
        """The number of weights in the rows that are not trained."""
        return (self.num_embeddings - len(self.weight)) * self.embedding_dim

    @property
    def table_bytes(self) -> int:
        """The memory of what it holds besides its trained rows."""
        return self._table.nbytes + self._places.nbytes

    def select(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the trained ones of all rows, (V, …) → (R, …)."""
        return rows.index_select(0, self._ids)

    def expand(self, rows: torch.Tensor) -> torch.Tensor:
        """Return what belongs to the trained rows, (R, …), with zeros for the others, (V, …)."""
        return rows.new_zeros(self.num_embeddings, *rows.shape[1:]).index_copy_(0, self._ids, rows)

    def full_weight(self) -> torch.Tensor:
        """Return the whole table, (V, H)."""
        return (self._table * self.factor).index_copy_(0, self._ids, self.weight.detach())

    def replace_weight(self, table: torch.Tensor) -> None:
        """Replace the whole table, (V, H), as one that has not decayed yet."""
        self._table.copy_(table)
        self.weight.data.copy_(self.select(table))
        self.factor.fill_(1.0)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        destination[f"{prefix}weight"] = self.full_weight()

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> TrainedRows:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._table, self._ids, self._places = fn(self._table), fn(self._ids), fn(self._places)
        return self


def restrict_embeddings(encoder: Any, ids: torch.Tensor) -> None:
    """Train only some rows of an encoder's word embeddings, if they are trained at all.

    Args:
        encoder: a model of `transformers`.
        ids: the rows to train, (R,), ascending.
    """
    embedding = encoder.get_input_embeddings()
    # A frozen embedding costs nothing; a parametrized one is of another class.
    if type(embedding) is nn.Embedding and embedding.weight.requires_grad:
        encoder.set_input_embeddings(TrainedRows(embedding, ids))


def trained_rows(model: nn.Module) -> tuple[str, TrainedRows] | None:
    """Return the restricted word embeddings of a model and their name, if there are any."""
    return next(((name, module) for name, module in model.named_modules() if isinstance(module, TrainedRows)), None)
