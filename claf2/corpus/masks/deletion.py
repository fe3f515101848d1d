"""Deleted words, from which a sentence encoder learns."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from claf2.corpus.masks import Effect, Masks, StepSchedule, TokenGrid, UnitMasks, is_below, masks, register_masks

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Deletion"]


@register_masks("deletion")
class Deletion(Masks):
    """The chosen units are deleted, and the whole text is predicted from what is left, for the head `tsdae` (Wang et
    al., 2021, https://arxiv.org/abs/2104.06979). At least one unit of each row stays."""

    effect: ClassVar[Effect] = "delete"

    rate: StepSchedule = Field(default=[(0, 0.6)])
    """The share of units that are deleted: `[[step, share], …]`."""
    unit: Literal["token", "word", "eojeol"] = "word"
    """What is deleted as a whole, as the masks of this name divide a row."""

    def select(self, grid: TokenGrid, step: int) -> np.ndarray:
        import numpy as np

        kind = masks.get(self.unit)
        assert issubclass(kind, UnitMasks)
        chance = kind().unit_chances(grid)
        deleted: np.ndarray = is_below(chance, self.rate_at(step)) & grid.maskable
        emptied = (deleted == grid.maskable).all(1)
        last = np.where(grid.maskable, chance, 0).max(1, keepdims=True)
        deleted[emptied] &= (chance != last)[emptied]
        return deleted

    def for_evaluation(self) -> Masks:
        return type(self)()
