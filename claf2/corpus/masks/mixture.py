"""Several kinds of masks side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from claf2.corpus.masks import Masks, StepSchedule, TokenGrid, masks, register_masks, value_at
from claf2.errors import Claf2Error

if TYPE_CHECKING:
    import numpy as np

__all__ = ["MixtureMasks"]


@register_masks("mixture")
class MixtureMasks(Masks):
    """Each row gets masks of one kind. The shares of the kinds follow schedules, e.g. n-grams that rise from 0 to 0.4
    every 100,000 steps: `{"parts": {"eojeol": [[0, 1.0], [1000000, 0.6]], "ngram": [[0, 0.0], [1000000, 0.4]]},
    "update_every": 100000}`. A batch is divided into these shares exactly, up to one row."""

    parts: dict[str, StepSchedule] = Field(default={"word": [(0, 1.0)]}, min_length=1)
    """Kind of masks → its share of the rows; the shares must sum to 1 at every step."""
    blocks: dict[str, dict[str, Any]] = Field(default={})
    """Kind of masks → fields that differ from their defaults, e.g. `{"ngram": {"max_words": 4}}`. Its `rate` is that of
    the mixture."""

    @model_validator(mode="after")
    def _check_parts(self) -> MixtureMasks:
        for step in sorted({step for schedule in self.parts.values() for step, _ in schedule}):
            total = sum(value_at(schedule, step) for schedule in self.parts.values())
            if abs(total - 1) > 1e-6:
                raise ValueError(f"the shares of the parts must sum to 1, but sum to {total:.6g} at step {step}")
        for name in self.blocks:
            if name not in self.parts:
                raise ValueError(f"the block {name!r} belongs to no part")
        for name in self.parts:
            if name == "mixture":
                raise ValueError("a mixture cannot be part of a mixture")
            try:
                member = masks.get(name)(**self.blocks.get(name, {}))
            except Claf2Error as error:
                raise ValueError(str(error)) from error
            if member.effect != self.effect:
                raise ValueError(f"{name!r} hides no tokens, so it cannot be part of a mixture")
        return self

    def _member(self, name: str) -> Masks:
        fields = {**self.blocks.get(name, {}), "rate": self.rate, "update_every": self.update_every}
        return masks.get(name)(**fields)

    def select(self, grid: TokenGrid, step: int) -> np.ndarray:
        import numpy as np

        selected = np.zeros(grid.maskable.shape, bool)
        limits = np.cumsum([value_at(schedule, self.updated(step)) for schedule in self.parts.values()])
        limits[-1] = np.inf  # whatever rounding leaves
        owners = np.searchsorted(limits, grid.order, side="right")
        for number, name in enumerate(self.parts):
            rows = np.flatnonzero(owners == number)
            if len(rows):
                selected[rows] = self._member(name).select(grid.take(rows), step)
        return selected
