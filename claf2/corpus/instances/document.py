"""Rows of one document each."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from claf2.corpus.instances import Instances, register_instances
from claf2.corpus.rows import Rows, find_units, pack_units

if TYPE_CHECKING:
    import numpy as np

__all__ = ["DocumentRows"]


@register_instances("document")
class DocumentRows(Instances):
    """As many consecutive sentences as have room, of one document (DOC-SENTENCES in Liu et al., 2019,
    https://arxiv.org/abs/1907.11692). No token is left out, but the last row of a document may be short."""

    segments: ClassVar[int] = 1

    def cut(self, flags: np.ndarray, spans: np.ndarray, room: int, rng: np.random.Generator) -> Rows:
        units = find_units(flags, spans, room)
        first, after = pack_units(units, room, units.document_ends())
        return Rows.of_units(units, first[:, None], after[:, None])
