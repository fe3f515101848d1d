"""Masks of single tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claf2.corpus.masks import TokenGrid, UnitMasks, register_masks

if TYPE_CHECKING:
    import numpy as np

__all__ = ["TokenMasks"]


@register_masks("token")
class TokenMasks(UnitMasks):
    """Each token is chosen on its own."""

    def unit_starts(self, grid: TokenGrid) -> np.ndarray | None:
        return None
