"""Pairs of texts for next sentence prediction."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from claf2.corpus.instances import Instances, register_instances
from claf2.corpus.rows import Rows, find_units, pack_units

if TYPE_CHECKING:
    import numpy as np

__all__ = ["SentencePairs"]

ATTEMPTS = 20
"""How often partners are sought for rows whose neighbors come from the same document."""


@register_instances("sentence_pair")
class SentencePairs(Instances):
    """Two consecutive parts of a document, each of one sentence or more (NSP in Devlin et al., 2019,
    https://arxiv.org/abs/1810.04805).

    In half of the rows of a window, the second parts are exchanged between two rows from different documents whose
    second parts have about the same length. So no text is used twice, and the length says nothing about the label. The
    few rows of a window for which there is no such partner keep their true second part. A sentence of more than half a
    row is divided. Single sentences that remain at the ends of documents are paired with each other, as random pairs.
    """

    segments: ClassVar[int] = 2
    short_probability: float = Field(default=0.1, ge=0, le=1)
    """The share of rows that are shorter than they could be: their length is drawn from all lengths."""

    def cut(self, flags: np.ndarray, spans: np.ndarray, room: int, rng: np.random.Generator) -> Rows:
        import numpy as np

        units = find_units(flags, spans, room // 2)
        limits = units.document_ends()
        short = rng.random(len(units)) < self.short_probability
        rooms = np.where(short, rng.integers(2, room + 1, len(units)), room)
        first, after = pack_units(units, rooms, limits, least=2)
        # A single sentence at the end of a document takes one from the row before it, if that has enough.
        single = np.flatnonzero(after - first == 1)
        before = single[single > 0] - 1
        takes = before[(after[before] == limits[first[before]] - 1) & (after[before] - first[before] > 2)]
        after[takes] -= 1
        first[takes + 1] -= 1

        count = after - first
        middle = first + 1 + (rng.random(len(count)) * np.maximum(count - 1, 0)).astype(np.int64)
        pairs = count > 1
        rows = Rows.of_units(units, np.stack([first, middle], 1)[pairs], np.stack([middle, after], 1)[pairs])
        left, right = _halves(first[~pairs])
        other = units.documents[left] != units.documents[right]
        remains = np.stack([left, right], 1)[other]
        joined = Rows.of_units(units, remains, remains + 1)
        return Rows.concatenate([rows, replace(joined, random_next=~joined.random_next)])

    def arrange(self, rows: Rows, rng: np.random.Generator) -> Rows:
        import numpy as np

        starts, ends, random_next = rows.starts.copy(), rows.ends.copy(), rows.random_next.copy()
        shards, documents = rows.shards.copy(), rows.documents.copy()
        room = int(rows.lengths().sum(1).max(initial=0))
        true_next = rng.permutation(np.flatnonzero(~random_next))
        chosen = true_next[: max(0, round(len(rows) / 2) - int(random_next.sum()))]
        chosen = chosen[np.argsort((ends - starts)[chosen, 1], kind="stable")]
        for _ in range(ATTEMPTS):
            left, right = chosen[0 : len(chosen) - 1 : 2], chosen[1::2]
            other = documents[left, 0] != documents[right, 0]
            left, right = left[other], right[other]
            for array in (shards, starts, ends, documents):
                array[left, 1], array[right, 1] = array[right, 1], array[left, 1]
            random_next[left] = random_next[right] = True
            chosen = rng.permutation(np.setdiff1d(chosen, np.concatenate([left, right])))
        # An exchanged part may be a little too long; the longer part of the two gives way.
        sizes = ends - starts
        excess = np.maximum(0, sizes.sum(1) - room)
        longer = (sizes[:, 1] > sizes[:, 0]).astype(np.int64)
        ends[np.arange(len(rows)), longer] -= excess.astype(ends.dtype)
        return Rows(shards, starts, ends, documents, random_next)


def _halves(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the second half of some values, without the last one if their number is odd."""
    half = len(values) // 2
    return values[:half], values[half : 2 * half]
