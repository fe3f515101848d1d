"""No masks: every token predicts the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from claf2.corpus.masks import Effect, Masks, TokenGrid, register_masks

if TYPE_CHECKING:
    import numpy as np

__all__ = ["NextTokens"]


@register_masks("next_token")
class NextTokens(Masks):
    """Every token but the first of a row is predicted from those before it, for the head `clm`; nothing is hidden."""

    effect: ClassVar[Effect] = "predict_next"

    def select(self, grid: TokenGrid, step: int) -> np.ndarray:
        import numpy as np

        return np.zeros(grid.maskable.shape, bool)

    def for_evaluation(self) -> Masks:
        return self
