"""Rules that drop duplicates: equal documents, equal lines, and documents that are nearly equal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from pydantic import Field

from claf2.corpus.cleaning import CleaningRule, TextFilter, register_cleaning_rule
from claf2.errors import Claf2Error
from claf2.registry import LARGEST

NUM_HASHES = 128
"""How many hash functions a MinHash has, with which a similarity is known to about ±0.04."""


@register_cleaning_rule("duplicate_documents")
class DuplicateDocuments(CleaningRule):
    """Drops documents that are equal to an earlier one."""

    memory: int = Field(default=200_000, ge=1, le=LARGEST)
    """How many of the latest distinct documents are remembered at least, and up to twice as many; about 130 bytes
    each."""

    def make_filter(self, replacements: Counter[str]) -> TextFilter:
        is_new = _RecentTexts(self.memory).add

        def drop(text: str) -> str:
            return text if is_new(text) else ""

        return drop


@register_cleaning_rule("duplicate_lines")
class DuplicateLines(CleaningRule):
    """Drops lines that are equal to an earlier line of any document, except short ones."""

    min_characters: int = Field(default=20, ge=0)
    """The least characters of a line that may be dropped. Short lines, such as greetings, are often equal by chance."""
    memory: int = Field(default=300_000, ge=1, le=LARGEST)
    """How many of the latest distinct lines are remembered at least, and up to twice as many; about 130 bytes each."""

    def make_filter(self, replacements: Counter[str]) -> TextFilter:
        is_new, least = _RecentTexts(self.memory).add, self.min_characters

        def drop(text: str) -> str:
            lines = text.split("\n")
            kept = [line for line in lines if len(line) < least or is_new(line)]
            return text if len(kept) == len(lines) else "\n".join(kept)

        return drop


@register_cleaning_rule("near_duplicates")
class NearDuplicates(CleaningRule):
    """Drops documents that are similar to an earlier one by MinHash (Broder, 1997); package `datasketch`, extra
    `corpus`.

    Two documents are similar if the sets of their character n-grams overlap: the Jaccard index, which MinHash
    estimates.
    """

    threshold: float = Field(default=0.8, gt=0, lt=1)
    """The least Jaccard index of similar documents."""
    ngram: int = Field(default=5, ge=1)
    """The characters of an n-gram, blanks included."""
    memory: int = Field(default=10_000, ge=1, le=LARGEST)
    """How many of the latest distinct documents are remembered at least, and up to twice as many; about 16 kB each."""

    def make_filter(self, replacements: Counter[str]) -> TextFilter:
        is_new = _RecentSketches(self.threshold, self.ngram, self.memory).add

        def drop(text: str) -> str:
            return text if is_new(text) else ""

        return drop


class _RecentTexts:
    """The digests of the latest texts, in two generations, so that memory is bounded whatever the length of the corpus.

    A text that is seen again is remembered anew, so frequent ones are never forgotten.
    """

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._young: set[int] = set()
        self._old: set[int] = set()

    def add(self, text: str) -> bool:
        """Remember a text, and return whether it is new."""
        # Not hash(), which differs between processes, so that a collision would depend on the process.
        # As a number of 56 bits, it takes 32 bytes instead of 48.
        digest = int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=7).digest(), "big")
        if digest in self._young:
            return False
        is_new = digest not in self._old
        if len(self._young) >= self._memory:
            self._old, self._young = self._young, set()
        self._young.add(digest)
        return is_new


class _RecentSketches:
    """The MinHashes of the latest documents, in two generations."""

    def __init__(self, threshold: float, ngram: int, memory: int) -> None:
        try:
            from datasketch import MinHash, MinHashLSH
        except ImportError as error:
            raise Claf2Error("the rule 'near_duplicates' needs datasketch: pip install 'claf2[corpus]'") from error
        self._sketch: Callable[..., Any] = MinHash
        self._make_index: Callable[[], Any] = lambda: MinHashLSH(threshold=threshold, num_perm=NUM_HASHES)
        self._threshold, self._ngram, self._memory = threshold, ngram, memory
        self._young, self._old = self._make_index(), self._make_index()
        self._young_sketches: list[Any] = []
        self._old_sketches: list[Any] = []

    def add(self, text: str) -> bool:
        """Remember a document, and return whether it is new."""
        size = self._ngram
        grams = {text[start : start + size] for start in range(max(1, len(text) - size + 1))}
        sketch = self._sketch(num_perm=NUM_HASHES, seed=1)
        sketch.update_batch([gram.encode("utf-8", "surrogatepass") for gram in grams])
        for index, sketches in ((self._young, self._young_sketches), (self._old, self._old_sketches)):
            # The index finds candidates, some of which are less similar.
            if any(sketches[number].jaccard(sketch) >= self._threshold for number in index.query(sketch)):
                return False
        if len(self._young_sketches) >= self._memory:
            self._old, self._old_sketches = self._young, self._young_sketches
            self._young, self._young_sketches = self._make_index(), []
        self._young.insert(len(self._young_sketches), sketch)
        self._young_sketches.append(sketch)
        return True
