"""Rows of one sentence each."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from claf2.corpus.instances import Instances, register_instances
from claf2.corpus.rows import Rows, find_units

if TYPE_CHECKING:
    import numpy as np

__all__ = ["SentenceRows"]


@register_instances("sentence")
class SentenceRows(Instances):
    """One sentence, or a part of one that is too long, for sentence encoders. No token is left out."""

    segments: ClassVar[int] = 1

    def cut(self, flags: np.ndarray, spans: np.ndarray, room: int, rng: np.random.Generator) -> Rows:
        import numpy as np

        units = find_units(flags, spans, room)
        firsts = np.arange(len(units))[:, None]
        return Rows.of_units(units, firsts, firsts + 1)
