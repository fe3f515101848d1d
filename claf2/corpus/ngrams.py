"""An index of the n-grams of some texts, in which those of a corpus are looked up.

N-grams are represented by 64 bits. The memory depends on the indexed texts alone, however large the corpus is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import numpy as np

__all__ = ["NgramIndex", "SplitText", "letter_table", "normalize", "split_characters", "split_words", "word_number"]

NGRAM_SIZES = {"words": 13, "characters": 26}
"""The length of an n-gram. 13 words are the practice since GPT-3 (Brown et al., 2020, appendix C); in Japanese, a word
has about two characters."""
SHORTEST_TEXT = {"words": 5, "characters": 10}
"""The shortest text that is looked up, as a whole. A shorter one occurs anywhere by chance."""

WORD = re.compile(r"[^\W_]+")
REMEMBERED = 2**20
"""How many words are remembered with their numbers, which bounds the memory."""
FILTER_BITS = 5
"""There are 2 ** 5 places of a filter per n-gram, so that 3 % of all others pass it."""


@dataclass(frozen=True)
class SplitText:
    """The units of a text, words or characters, as numbers of 64 bits."""

    units: np.ndarray
    lines: np.ndarray
    """The line of each unit, from 0."""


def normalize(text: str) -> str:
    """Return a text in which differences of width and case are gone. It has the same lines."""
    return unicodedata.normalize("NFKC", text).casefold()


def split_words(text: str) -> SplitText:
    """Return the words of a text, without punctuation."""
    lines = [WORD.findall(line) for line in normalize(text).split("\n")]
    counts = [len(line) for line in lines]
    units = np.fromiter((_numbers[word] for line in lines for word in line), np.uint64, sum(counts))
    return SplitText(units, np.repeat(np.arange(len(lines), dtype=np.int32), counts))


def split_characters(text: str) -> SplitText:
    """Return the letters and digits of a text."""
    codes = np.frombuffer(normalize(text).encode("utf-32-le", "surrogatepass"), "<u4")
    kept = letter_table()[codes]
    lines = np.cumsum(codes == ord("\n"), dtype=np.int32)[kept]
    return SplitText(_mix(codes[kept].astype(np.uint64)), lines)


SPLITTERS = {"words": split_words, "characters": split_characters}


class _WordNumbers(dict[str, int]):
    """Word → 64 bits of its digest. Not ``hash``, which differs between processes."""

    def __missing__(self, word: str) -> int:
        if len(self) >= REMEMBERED:
            self.clear()
        digest = blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        number = self[word] = int.from_bytes(digest, "little")
        return number


_numbers = _WordNumbers()


def word_number(word: str) -> int:
    """Return the 64 bits that stand for a word."""
    return _numbers[word]


@lru_cache(maxsize=1)
def letter_table() -> np.ndarray:
    """Return for every code point whether it is a letter or a digit."""
    return np.fromiter((chr(code).isalnum() for code in range(0x110000)), bool, 0x110000)


def _mix(numbers: np.ndarray) -> np.ndarray:
    """Return numbers of 64 bits in which all bits depend on all bits of others: splitmix64 (Steele et al., 2014)."""
    mixed = numbers * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


class NgramIndex:
    """The n-grams of texts, in words or in characters.

    Args:
        unit: ``words`` or ``characters``.
    """

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self._split = SPLITTERS[unit]
        self._size, self._shortest = NGRAM_SIZES[unit], SHORTEST_TEXT[unit]
        multiplier = 0xD1342543DE82EF95  # odd; from Steele & Vigna (2021)
        self._powers = [np.uint64(pow(multiplier, exponent, 2**64)) for exponent in range(self._size)]
        self._parts: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
        self._tables: dict[int, _Table] = {}

    def add(self, number: int, text: str) -> bool:
        """Add the n-grams of a text under a number, and return ``False`` if it is too short to be looked up."""
        units = self._split(text).units
        if len(units) < self._shortest:
            return False
        length = min(self._size, len(units))
        *_, (_, hashes) = self._hashes(units, {length})
        owners = np.full(len(hashes), number, np.int32)
        self._parts.setdefault(length, []).append((hashes, owners))
        return True

    def freeze(self) -> None:
        """Make the tables, after the last text."""
        self._tables = {length: _Table(parts) for length, parts in sorted(self._parts.items())}
        self._parts = {}

    def __len__(self) -> int:
        return sum(len(table.hashes) for table in self._tables.values())

    def find(self, units: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int]]]:
        """Look up the n-grams of several documents at once.

        Args:
            units: the units of the documents, one after another.
            owners: the document of each unit, ascending.

        Returns:
            Which units belong to an n-gram of the index, and for each n-gram that was not found before a text that it
            belongs to and the document.
        """
        edges = np.zeros(len(units) + 1, np.int32)
        news: list[tuple[int, int]] = []
        for length, hashes in self._hashes(units, set(self._tables)):
            last = len(hashes) + length - 1
            places, entries = self._tables[length].look_up(hashes)
            # No n-gram crosses the border between two documents.
            inside = owners[places] == owners[places + length - 1]
            places, entries = places[inside], entries[inside]
            assert last == len(units)
            np.add.at(edges, places, 1)
            np.add.at(edges, places + length, -1)
            news += self._tables[length].mark(entries, owners[places])
        return np.cumsum(edges[:-1]) > 0, news

    def found(self) -> set[int]:
        """Return the numbers of the texts of which an n-gram was found."""
        return {number for table in self._tables.values() for number in table.found_owners()}

    def _hashes(self, units: np.ndarray, lengths: set[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the hashes of all n-grams of each length, in ascending order of the lengths."""
        total: np.ndarray = np.zeros(len(units), np.uint64)
        for length in range(1, min(max(lengths, default=0), len(units)) + 1):
            shifted = units[length - 1 :]
            total = total[: len(shifted)] + shifted * self._powers[length - 1]
            if length in lengths:
                yield length, _mix(total)


class _Table:
    """The n-grams of one length, sorted."""

    def __init__(self, parts: list[tuple[np.ndarray, np.ndarray]]) -> None:
        hashes = np.concatenate([part for part, _ in parts])
        self._owners = np.concatenate([owners for _, owners in parts])
        self.hashes, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        self._first_owner = self._owners[first]
        self._entries = inverse.astype(np.int32)
        self._found = np.zeros(len(self.hashes), bool)
        bits = max(10, (len(self.hashes) << FILTER_BITS).bit_length())
        self._shift = np.uint64(64 - bits)
        self._filter = np.zeros(2**bits, bool)
        self._filter[self.hashes >> self._shift] = True

    def look_up(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the positions of those hashes that are in the table, and their entries."""
        places = np.flatnonzero(self._filter[hashes >> self._shift])
        entries = np.searchsorted(self.hashes, hashes[places])
        entries[entries == len(self.hashes)] = 0
        equal = self.hashes[entries] == hashes[places]
        return places[equal], entries[equal]

    def mark(self, entries: np.ndarray, documents: np.ndarray) -> list[tuple[int, int]]:
        """Take note of entries that were found, and return (text, document) of those that are new."""
        is_new = ~self._found[entries]
        self._found[entries] = True
        new, first = np.unique(entries[is_new], return_index=True)
        return list(zip(self._first_owner[new].tolist(), documents[is_new][first].tolist(), strict=True))

    def found_owners(self) -> list[int]:
        """Return the texts of the entries that were found."""
        owners: list[int] = np.unique(self._owners[self._found[self._entries]]).tolist()
        return owners
