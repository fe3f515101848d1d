"""Masks of what white space separates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claf2.corpus.encoding import BEGINS_EOJEOL
from claf2.corpus.masks import TokenGrid, UnitMasks, register_masks

if TYPE_CHECKING:
    import numpy as np

__all__ = ["EojeolMasks"]


@register_masks("eojeol")
class EojeolMasks(UnitMasks):
    """All tokens between two white spaces are chosen together: in Korean an eojeol, a word with its particles and the
    punctuation beside it."""

    def unit_starts(self, grid: TokenGrid) -> np.ndarray | None:
        starts: np.ndarray = (grid.flags & BEGINS_EOJEOL) != 0
        return starts
