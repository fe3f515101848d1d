"""Masks of several consecutive words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from claf2.corpus.encoding import BEGINS_DOCUMENT, BEGINS_EOJEOL, BEGINS_WORD
from claf2.corpus.masks import TWO_32, TokenGrid, UnitMasks, register_masks

if TYPE_CHECKING:
    import numpy as np

__all__ = ["NgramMasks"]


@register_masks("ngram")
class NgramMasks(UnitMasks):
    """Each row is divided into n-grams of whole words, whose lengths are drawn with p(n) ∝ 1/n, and n-grams are chosen
    as a whole (as in Megatron-LM and ALBERT, https://arxiv.org/abs/1909.11942, §3.1). An n-gram ends with its row or
    document at the latest."""

    max_words: int = Field(default=3, ge=1, le=64)
    """The most words of an n-gram."""
    unit: Literal["word", "eojeol"] = "word"
    """What n-grams consist of."""

    def unit_starts(self, grid: TokenGrid) -> np.ndarray | None:
        import numpy as np

        words = (grid.flags & (BEGINS_WORD if self.unit == "word" else BEGINS_EOJEOL)) != 0
        size, length = words.shape
        # The j-th n-gram of a row begins at the word whose number is the sum of the lengths before it.
        limits = np.cumsum(1 / np.arange(1, self.max_words + 1))
        thresholds = (limits[:-1] / limits[-1] * TWO_32).astype(np.uint32)
        lengths = np.ones((size, length), np.int32)
        for threshold in thresholds:
            lengths += grid.draws[3] >= threshold
        begins = np.cumsum(lengths, axis=1, dtype=np.int32)
        first_words = np.zeros((size, length), bool)
        first_words[:, 0] = True
        rows, places = np.nonzero(begins < length)
        first_words[rows, begins[rows, places]] = True
        number = np.cumsum(words, axis=1, dtype=np.int64) - 1
        starts: np.ndarray = words & np.take_along_axis(first_words, np.maximum(number, 0), axis=1)
        starts |= (grid.flags & BEGINS_DOCUMENT) != 0
        return starts
