"""Masks: which tokens are hidden from the model and predicted, one registered class per file.

A kind of masks divides each row into units (tokens, words, …). A unit is chosen as a whole, with the same probability
for each. Of the chosen tokens, 80 % are replaced by the mask token, 10 % by a random one, and 10 % are kept (Devlin et
al., 2019, https://arxiv.org/abs/1810.04805). Special tokens are neither chosen nor drawn.

All randomness is passed in as 32-bit numbers, so the masks of a row are a function of the numbers at its place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, Field

from claf2.registry import LARGEST, Component, Registry

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "DRAWS", "Effect", "Masks", "StepSchedule", "TokenGrid", "UnitMasks", "is_below", "masks", "register_masks",
    "value_at",
]  # fmt: skip

Effect: TypeAlias = Literal["hide", "predict_next", "delete"]
"""What becomes of a row: chosen tokens are hidden and predicted; nothing is chosen, and every token predicts the next
one; or chosen tokens are deleted, and the whole row is predicted."""

DRAWS = 4
"""The random numbers per token: which units are chosen, what replaces a token, by which token, and how long a unit
is."""

TWO_32 = 2**32


def _check_schedule(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    steps = [step for step, _ in points]
    if steps != sorted(set(steps)):
        raise ValueError("the steps of a schedule must ascend")
    return points


Point = tuple[Annotated[int, Field(ge=0, le=LARGEST)], Annotated[float, Field(ge=0, le=1)]]
StepSchedule = Annotated[list[Point], Field(min_length=1), AfterValidator(_check_schedule)]
"""A share that changes with the step: points ``[step, share]`` with straight lines between them, constant before the
first point and after the last one."""


def value_at(schedule: list[tuple[int, float]], step: int) -> float:
    """Return the value of a schedule at a step."""
    last_step, last = schedule[0]
    for point, value in schedule:
        if step < point:
            return last if point == last_step else last + (value - last) * (step - last_step) / (point - last_step)
        last_step, last = point, value
    return last


def is_below(chance: np.ndarray, share: float) -> np.ndarray:
    """Return which 32-bit random numbers are among the lowest of this share."""
    below: np.ndarray = chance < int(share * TWO_32)
    return below


@dataclass(frozen=True)
class TokenGrid:
    """The tokens of B rows of L tokens, special tokens and padding included."""

    flags: np.ndarray
    """What begins at each token, (B, L), uint8; 0 for special tokens and padding."""
    maskable: np.ndarray
    """Whether the token may be hidden, (B, L)."""
    draws: np.ndarray
    """Independent random numbers, (``DRAWS``, B, L), uint32."""
    order: np.ndarray
    """A random place of each row among the rows of the whole batch: in [0, 1), evenly spaced, (B,)."""

    def take(self, rows: np.ndarray) -> TokenGrid:
        """Return some of the rows."""
        return TokenGrid(self.flags[rows], self.maskable[rows], self.draws[:, rows], self.order[rows])


class Masks(Component, ABC):
    """A way to choose the tokens that are predicted; its fields are the block of section `masks` with its name."""

    effect: ClassVar[Effect] = "hide"

    rate: StepSchedule = Field(default=[(0, 0.15)])
    """The share of tokens that are chosen: `[[step, share], …]`."""
    update_every: int = Field(default=1, ge=1, le=LARGEST)
    """The steps between two updates of what follows a schedule."""

    @abstractmethod
    def select(self, grid: TokenGrid, step: int) -> np.ndarray:
        """Return which tokens are chosen at a step, (B, L).

        Args:
            grid: the rows.
            step: the number of the optimizer step, from 0.
        """

    def for_evaluation(self) -> Masks:
        """Return the masks of held-out text. They are the same whatever the settings of the training are, so that
        losses can be compared."""
        return masks.get("token")()

    def rate_at(self, step: int) -> float:
        """Return the share of tokens that are chosen at a step."""
        return value_at(self.rate, self.updated(step))

    def updated(self, step: int) -> int:
        """Return the step of the last update of what follows a schedule."""
        return step - step % self.update_every


class UnitMasks(Masks, ABC):
    """Masks that divide a row into units, which are chosen as a whole."""

    def select(self, grid: TokenGrid, step: int) -> np.ndarray:
        selected: np.ndarray = is_below(self.unit_chances(grid), self.rate_at(step)) & grid.maskable
        return selected

    def unit_chances(self, grid: TokenGrid) -> np.ndarray:
        """Return the random number of each token's unit, (B, L), uint32."""
        import numpy as np

        begins = self.unit_starts(grid)
        chances: np.ndarray = grid.draws[0]
        if begins is not None:
            # Every token of a unit reads the random number at the place that is the number of its unit in the row.
            units = np.cumsum(begins, axis=1, dtype=np.int64) - begins[:, :1]
            chances = np.take_along_axis(chances, units, axis=1)
        return chances

    @abstractmethod
    def unit_starts(self, grid: TokenGrid) -> np.ndarray | None:
        """Return where a unit begins, (B, L); ``None``: at every token."""


masks: Registry[type[Masks]] = Registry("kind of masks", home="claf2.corpus.masks")
"""The registered kinds of masks."""
register_masks = masks.register
