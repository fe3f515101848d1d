"""What a student learns from a teacher besides the right answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["SoftAnswer"]


@dataclass(frozen=True)
class SoftAnswer:
    """A soft label: the logits of distributions, (B, …, C), or numbers, (B, 1)."""

    logits: torch.Tensor
    mask: torch.Tensor | None = None
    """Which of the logits belong to a distribution that is learned, in a shape that broadcasts to theirs. ``None``: all
    of them, one distribution for each input, whatever its tokens are."""

    def masked(self) -> torch.Tensor:
        """Return the logits in single precision, with minus infinity for those that do not count."""
        logits = self.logits.float()
        return logits if self.mask is None else logits.masked_fill(~self.mask, float("-inf"))
