"""Masks of whole words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claf2.corpus.encoding import BEGINS_WORD
from claf2.corpus.masks import TokenGrid, UnitMasks, register_masks

if TYPE_CHECKING:
    import numpy as np

__all__ = ["WordMasks"]


@register_masks("word")
class WordMasks(UnitMasks):
    """All tokens of a word are chosen together. A word is what the tokenizer's pre-tokenizer separates."""

    def unit_starts(self, grid: TokenGrid) -> np.ndarray | None:
        starts: np.ndarray = (grid.flags & BEGINS_WORD) != 0
        return starts
