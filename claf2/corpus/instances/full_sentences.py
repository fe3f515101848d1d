"""Rows of full sentences that may come from several documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from claf2.corpus.instances import Instances, register_instances
from claf2.corpus.rows import Rows, find_units, pack_units

if TYPE_CHECKING:
    import numpy as np

__all__ = ["FullSentences"]


@register_instances("full_sentences")
class FullSentences(Instances):
    """As many consecutive sentences as have room, across the ends of documents, with a separator between documents
    (FULL-SENTENCES in Liu et al., 2019, https://arxiv.org/abs/1907.11692). No token is left out."""

    segments: ClassVar[int] = 1
    inserts_separators: ClassVar[bool] = True

    def cut(self, flags: np.ndarray, spans: np.ndarray, room: int, rng: np.random.Generator) -> Rows:
        import numpy as np

        units = find_units(flags, spans, room)
        limits = np.searchsorted(units.spans, units.spans, side="right")
        separators = np.zeros(len(units), np.int64)
        separators[1:] = units.documents[1:] != units.documents[:-1]
        first, after = pack_units(units, room, limits, separators=separators)
        return Rows.of_units(units, first[:, None], after[:, None])
