"""Word embeddings of which only some rows are trained; runs with them are in `tests/runs`."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from claf2.models.embeddings import TrainedRows


@pytest.mark.parametrize("padding", [None, 0, 3, 7])
def test_every_trained_row_but_that_of_padding_has_a_gradient(padding: int | None) -> None:
    """The model's padding id, here 7, need not occur in the data: the tokenizer may pad with another one."""
    plain = nn.Embedding(10, 4, padding_idx=padding)
    rows = torch.tensor([0, 2, 3, 5])
    trained = TrainedRows(plain, rows)
    ids = torch.tensor([[2, 3, 5, 0]])
    for embedding in (plain, trained):
        embedding(ids).sum().backward()
    assert plain.weight.grad is not None
    assert trained.weight.grad is not None
    assert torch.equal(trained.weight.grad, plain.weight.grad[rows])
