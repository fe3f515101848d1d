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
"""How often partners are sought for rows that do not fit their neighbors."""


@register_instances("sentence_pair")
class SentencePairs(Instances):
    """Two consecutive parts of a document, each of one sentence or more (NSP in Devlin et al., 2019,
    https://arxiv.org/abs/1810.04805).

    In half of the rows of a window, the second parts are exchanged between two rows from different documents whose
    second parts have about the same length, if both fit. So no text is used twice, and no part ends inside a sentence
    to make room. Lengths say nothing about the label, except in windows of a few rows, in which random pairs are
    shorter. Rows without such a partner keep their true second part. A sentence of more than half a row is divided.
    Single sentences that remain at the ends of documents are paired with each other, as random pairs.
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
        lengths = rows.lengths()
        room = int(lengths.sum(1).max(initial=0))
        # Two rows are exchanged at a time. An odd number is rounded up or down by chance.
        wanted = (len(rows) // 2 - int(random_next.sum()) + int(rng.integers(2))) // 2
        for _ in range(ATTEMPTS):
            if wanted <= 0:
                break
            # All rows that remain, and not only as many as are wanted: neighbors are then of about the same length.
            remain = rng.permutation(np.flatnonzero(~random_next))
            remain = remain[np.argsort(lengths[remain, 1], kind="stable")][int(rng.integers(2)) :]
            left, right = remain[0 : len(remain) - 1 : 2], remain[1::2]
            fits = np.maximum(lengths[left, 0] + lengths[right, 1], lengths[right, 0] + lengths[left, 1]) <= room
            partners = np.flatnonzero(fits & (documents[left, 0] != documents[right, 0]))
            partners = rng.permutation(partners)[:wanted]
            left, right = left[partners], right[partners]
            for array in (shards, starts, ends, documents):
                array[left, 1], array[right, 1] = array[right, 1], array[left, 1]
            random_next[left] = random_next[right] = True
            wanted -= len(left)
        return Rows(shards, starts, ends, documents, random_next)


def _halves(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the second half of some values, without the last one if their number is odd."""
    half = len(values) // 2
    return values[:half], values[half : 2 * half]
