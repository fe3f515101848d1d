"""Terms: the units by which passages and questions are compared. Each is a number of 48 bits.

Korean particles and Japanese text without spaces hide words, so that bigrams of characters find more there than words
do. A whole text is split at once, without a loop over its characters.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from claf2.corpus.ngrams import letter_table, normalize, split_words, word_number
from claf2.corpus.scripts import SCRIPTS
from claf2.errors import ConfigError, nearest
from claf2.tokenizers import word_tokenizers

__all__ = ["TERM_BITS", "Terms", "check_terms", "choose_terms", "find_splitter", "term_kinds"]

logger = logging.getLogger("claf2")

Terms: TypeAlias = tuple[NDArray[np.uint64], NDArray[np.int64]]
"""The terms of several texts, one after another, and how many each text has."""

TERM_BITS = 48
"""The number of bits of a term. Two code points need 42; the digests of words are truncated."""
CHARACTER_BITS = 21
EAST_ASIAN = re.compile(f"[{SCRIPTS['ko']}{SCRIPTS['ja']}]")
EAST_ASIAN_SHARE = 0.2
"""The minimum share of East Asian letters for a collection to be split into bigrams."""


def choose_terms(texts: Sequence[str]) -> str:
    """Return the kind of terms for some texts: ``bigrams`` for Korean, Japanese and Chinese, else ``words``."""
    east_asian = sum(len(EAST_ASIAN.findall(text)) for text in texts)
    letters = sum(map(str.isalpha, "".join(texts)))
    return "bigrams" if east_asian > EAST_ASIAN_SHARE * letters else "words"


def check_terms(kind: str, texts: Sequence[str], name: str) -> None:
    """Warn if texts that are added to an index call for other terms than it has.

    Args:
        kind: the terms of the index.
        texts: some of the texts that are added.
        name: what the warning calls the index.
    """
    fitting = choose_terms(texts)
    if kind in ("bigrams", "words") and kind != fitting:
        way_out = f"if a search misses them, make the index again from all texts, with --terms {fitting} --overwrite"
        logger.warning("%s: its terms are %s, and the added texts call for %s; %s", name, kind, fitting, way_out)


def term_kinds() -> list[str]:
    """Return the names of all kinds: ``bigrams``, ``words``, and the word tokenizers that find morphemes."""
    return ["bigrams", "words", *(name for name in word_tokenizers.names() if _finds_morphemes(name))]


def find_splitter(kind: str) -> Callable[[Sequence[str]], Terms]:
    """Return the function that splits texts into terms.

    Args:
        kind: ``bigrams``: pairs of neighboring letters or digits, and words of one; ``words``; or the name of a word
            tokenizer that finds morphemes, such as ``korean``, whose package an extra installs.

    Raises:
        ConfigError: if there is no such kind.
        ModelError: if its package is not installed.
    """
    if kind == "bigrams":
        return _split_bigrams
    if kind == "words":
        return _split_words
    if kind not in term_kinds():
        raise ConfigError("terms", f"there is no kind {kind!r}", hint=nearest(kind, term_kinds()))
    return _morpheme_splitter(kind)


def _finds_morphemes(name: str) -> bool:
    return hasattr(word_tokenizers.get(name), "build_segmenter")


def _split_bigrams(texts: Sequence[str]) -> Terms:
    # Lines end texts as well as words, so that no pair crosses the border between two texts.
    joined = [normalize(text) for text in texts]
    codes = np.frombuffer("\n".join([*joined, ""]).encode("utf-32-le", "surrogatepass"), "<u4")
    is_letter = letter_table()[codes]
    after = np.zeros_like(is_letter)
    after[:-1] = is_letter[1:]
    before = np.zeros_like(is_letter)
    before[1:] = is_letter[:-1]
    starts = np.flatnonzero(is_letter & (after | ~before))
    first = codes[starts].astype(np.uint64) << np.uint64(CHARACTER_BITS)
    second = np.where(after[starts], codes[np.minimum(starts + 1, len(codes) - 1)], 0).astype(np.uint64)
    ends = np.cumsum([len(text) + 1 for text in joined])
    counts = np.diff(np.searchsorted(starts, ends), prepend=0)
    return first | second, counts


def _split_words(texts: Sequence[str]) -> Terms:
    parts = [split_words(text).units for text in texts]
    return _shorten(np.concatenate(parts)), np.array([len(part) for part in parts])


@lru_cache(maxsize=4)
def _morpheme_splitter(kind: str) -> Callable[[Sequence[str]], Terms]:
    segment = word_tokenizers.get(kind)().build_segmenter()  # type: ignore[attr-defined]

    def split(texts: Sequence[str]) -> Terms:
        parts = []
        for text in map(normalize, texts):
            starts = sorted({0, *segment(text)})
            pieces = [text[start:end].strip() for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]
            words = [word_number(piece) for piece in pieces if any(map(str.isalnum, piece))]
            parts.append(np.array(words, np.uint64))
        return _shorten(np.concatenate(parts)), np.array([len(part) for part in parts])

    return split


def _shorten(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return numbers >> np.uint64(64 - TERM_BITS)
