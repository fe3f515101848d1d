"""Rows: which tokens of which shards become one input, as arrays of positions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from claf2.corpus.encoding import BEGINS_DOCUMENT, BEGINS_SENTENCE, BEGINS_WORD

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Rows", "Units", "find_units", "pack_units"]


@dataclass(frozen=True)
class Rows:
    """N inputs, each of S segments: one text, or the two texts of a pair."""

    shards: np.ndarray
    """The shard that each segment comes from, (N, S), int32; a shard that is read again has another number."""
    starts: np.ndarray
    """Its first token there, (N, S), int32,"""
    ends: np.ndarray
    """and the one after its last."""
    documents: np.ndarray
    """The document of its first token, (N, S), int64, by a number that is the same for each reading."""
    random_next: np.ndarray
    """Whether the second segment comes from elsewhere, (N,), bool."""

    def __len__(self) -> int:
        return len(self.starts)

    def of_shard(self, number: int, shards: int) -> Rows:
        """Return the rows of one shard with its number.

        Args:
            number: the number of its reading: that of the shard, plus ``shards`` for each reading before.
            shards: the number of shards.
        """
        documents = self.documents + (number % shards) * 2**32
        return replace(self, shards=self.shards * 0 + number, documents=documents)

    def take(self, rows: np.ndarray | slice) -> Rows:
        """Return some of the rows."""
        return Rows(self.shards[rows], self.starts[rows], self.ends[rows], self.documents[rows], self.random_next[rows])

    def lengths(self) -> np.ndarray:
        """Return the number of tokens of the segments, (N, S), special tokens excluded."""
        lengths: np.ndarray = self.ends - self.starts
        return lengths

    @staticmethod
    def of_units(units: Units, firsts: np.ndarray, afters: np.ndarray) -> Rows:
        """Return rows of consecutive units of one shard, whose number is left at 0.

        Args:
            units: K units.
            firsts: the first unit of each segment, (N, S).
            afters: the unit after its last one, (N, S).
        """
        import numpy as np

        starts, ends = units.starts[firsts].astype(np.int32), units.ends[afters - 1].astype(np.int32)
        documents = units.documents[firsts].astype(np.int64)
        return Rows(np.zeros_like(starts), starts, ends, documents, np.zeros(len(starts), bool))

    @staticmethod
    def empty(segments: int) -> Rows:
        """Return no rows, of ``segments`` segments each."""
        import numpy as np

        place, document = np.empty((0, segments), np.int32), np.empty((0, segments), np.int64)
        return Rows(place, place, place, document, np.empty(0, bool))

    @staticmethod
    def concatenate(parts: list[Rows]) -> Rows:
        """Return the rows of several tables, one table after another."""
        import numpy as np

        if len(parts) == 1:
            return parts[0]
        return Rows(
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("shards", "starts", "ends", "documents", "random_next")
            )
        )


@dataclass(frozen=True)
class Units:
    """K pieces of text in a shard that rows do not divide: sentences, and parts of sentences that are too long."""

    starts: np.ndarray
    """The first token of each, (K,)."""
    ends: np.ndarray
    """The token after its last one, (K,)."""
    spans: np.ndarray
    """The number of the span that it lies in, (K,). A row does not leave its span."""
    documents: np.ndarray
    """The number of its document in the shard, (K,)."""

    def __len__(self) -> int:
        return len(self.starts)

    def document_ends(self) -> np.ndarray:
        """Return the first unit of the next document, or of the next span, for each unit, (K,)."""
        import numpy as np

        groups = np.zeros(len(self), np.int64)
        groups[1:] = np.cumsum((self.spans[1:] != self.spans[:-1]) | (self.documents[1:] != self.documents[:-1]))
        return np.searchsorted(groups, groups, side="right")


def find_units(flags: np.ndarray, spans: np.ndarray, room: int) -> Units:
    """Return the units of some spans of a shard.

    A sentence of more than ``room`` tokens is divided where a word begins, or where none does, after ``room`` tokens.

    Args:
        flags: what begins at each token of the shard, (T,).
        spans: the tokens ``[start, end)`` of K spans in ascending order, (K, 2).
        room: the most tokens of a unit.
    """
    import numpy as np

    spans = spans[spans[:, 0] < spans[:, 1]]
    sentences = np.flatnonzero(flags & BEGINS_SENTENCE)
    documents = np.flatnonzero(flags & BEGINS_DOCUMENT)
    if not len(spans):
        empty = np.empty(0, np.int64)
        return Units(empty, empty, empty, empty)
    owners = np.searchsorted(spans[:, 0], sentences, side="right") - 1
    inside = (owners >= 0) & (sentences < spans[np.maximum(owners, 0), 1])
    starts = _merge(spans[:, 0], sentences[inside])
    starts, ends, owners = _ends_of(starts, spans)
    long = np.flatnonzero(ends - starts > room)
    if len(long):
        cuts = [_divide(flags, int(starts[unit]), int(ends[unit]), room) for unit in long]
        starts, ends, owners = _ends_of(_merge(starts, np.concatenate(cuts)), spans)
    return Units(starts, ends, owners, np.searchsorted(documents, starts, side="right") - 1)


def _merge(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the values of two arrays in ascending order, each once."""
    import numpy as np

    merged = np.sort(np.concatenate([one, other]), kind="stable")  # much faster than `np.union1d`
    unique: np.ndarray = merged[np.append(True, merged[1:] != merged[:-1])]
    return unique


def _ends_of(starts: np.ndarray, spans: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    import numpy as np

    owners = np.searchsorted(spans[:, 0], starts, side="right") - 1
    following = np.append(starts[1:], spans[-1, 1])
    return starts, np.minimum(following, spans[owners, 1]), owners


def _divide(flags: np.ndarray, start: int, end: int, room: int) -> np.ndarray:
    """Return where the parts of a sentence that is too long begin, without the first one."""
    import numpy as np

    # A rest that is cut again, for rows of another length, may begin inside a word.
    words = np.append(start, start + np.flatnonzero(flags[start:end] & BEGINS_WORD))
    cuts = []
    while end - start > room:
        word = int(words[np.searchsorted(words, start + room, side="right") - 1])
        start = word if word > start else start + room
        cuts.append(start)
    return np.array(cuts)


def pack_units(
    units: Units,
    rooms: np.ndarray | int,
    limits: np.ndarray,
    *,
    separators: np.ndarray | None = None,
    least: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Fill rows with as many consecutive units as have room in them.

    Args:
        units: K units.
        rooms: the most tokens of a row that begins at each unit, (K,), or of all.
        limits: the first unit that a row which begins at each unit must not contain, (K,).
        separators: how many tokens are inserted before each unit unless it begins a row, (K,).
        least: the units that a row has at least, whatever their size, if its limit allows it.

    Returns:
        The first unit of each row, (N,), and the unit after its last one, (N,).
    """
    import numpy as np

    if not len(units):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    sizes = units.ends - units.starts
    gaps = np.zeros_like(sizes) if separators is None else separators
    # The tokens up to the end of each unit; a row from i to j has reach[j] - reach[i] + sizes[i] of them.
    reach = np.cumsum(sizes + gaps)
    following = np.searchsorted(reach, reach - sizes + rooms, side="right")
    following = np.clip(following, np.minimum(np.arange(len(units)) + least, limits), limits)
    firsts = []
    chain, unit, total = following.tolist(), 0, len(units)
    while unit < total:
        firsts.append(unit)
        unit = chain[unit]
    first_units = np.array(firsts)
    return first_units, following[first_units]
