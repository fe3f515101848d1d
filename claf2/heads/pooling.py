"""From the vectors of a text's tokens to one vector of the text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import torch

__all__ = ["Pooling", "pool"]

Pooling: TypeAlias = Literal["mean", "cls", "max"]
"""How the vectors of tokens become one: their mean, the vector of the first token, or the maximum of each number."""


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Return the vectors of texts, (B, H).

    Args:
        hidden: the vectors of tokens, (B, S, H).
        mask: 1 for tokens and 0 for padding, (B, S); each row has a token.
        pooling: how the vectors of a row become one.
    """
    if pooling == "cls":
        return hidden[:, 0]
    weights = mask[..., None].to(hidden.dtype)
    if pooling == "max":
        import torch

        return hidden.masked_fill(weights == 0, torch.finfo(hidden.dtype).min).amax(1)
    return (hidden * weights).sum(1) / weights.sum(1)
