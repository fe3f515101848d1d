"""Whether a tokenizer knows the characters of the texts that it is used for."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from claf2.errors import ModelError
from claf2.tokenizers import Encoding, Tokenizer

logger = logging.getLogger("claf2")

CHECKED_TEXTS = 100
"""How many texts of a file are checked."""

CHECKED_CHARACTERS = 10_000
"""How many characters of each text are checked. A document of a corpus may have a million."""

WARNED = 0.05
"""The share of unknown characters that draws a warning; rare symbols stay below it."""

MAX_UNKNOWN = 0.8
"""The largest share of unknown characters in texts to train on. Punctuation and digits are known in any script."""

EVERYTHING = 10**9
"""The length of inputs that are not truncated, in tokens."""

SHOWN = 30
"""How many characters of a word an example shows."""


@dataclass(frozen=True)
class Coverage:
    """What a tokenizer keeps of some texts."""

    unknown: float
    """The share of the characters, white space left out, that no token of the vocabulary stands for, 0–1."""
    problem: str | None
    """What is lost, with an example and a remedy; ``None`` if it is little."""


def check_coverage(
    tokenizer: Tokenizer, language: str, texts: Iterable[str], path: Path, max_unknown: float = 1.0
) -> None:
    """Warn if a tokenizer does not fit the first texts of a file.

    Args:
        tokenizer: the tokenizer.
        language: the ISO 639-1 code of the texts.
        texts: the texts.
        path: the file that they come from.
        max_unknown: the largest share of unknown characters that is accepted, 0–1.

    Raises:
        ModelError: if more characters are unknown.
    """
    checked = (text[:CHECKED_CHARACTERS] for text in islice(texts, CHECKED_TEXTS))
    coverage = measure_coverage(tokenizer, language, checked)
    if coverage.unknown > max_unknown:
        raise ModelError(f"{path}: {coverage.problem}")
    if coverage.problem is not None:
        logger.warning("%s: %s", path, coverage.problem)


def measure_coverage(tokenizer: Tokenizer, language: str, texts: Iterable[str]) -> Coverage:
    """Return how much of some texts a tokenizer turns into unknown tokens, or loses in another way.

    Lower-casing tokenizers usually strip accents too, by Unicode decomposition (NFD). That turns a Hangul syllable into
    its jamo, and a kana such as が into か. If the vocabulary has the parts, nothing is unknown, but the letters are
    taken apart all the same; this is reported for Korean and Japanese.

    Args:
        tokenizer: the tokenizer.
        language: the ISO 639-1 code of the texts.
        texts: some texts.
    """
    total = unknown = 0
    lost_word = split_word = None
    for text in texts:
        ((encoding,),) = tokenizer.encode([text], max_length=EVERYTHING)
        known = _known_characters(encoding, len(text), tokenizer.unknown_id)
        for match in re.finditer(r"\S+", text):
            word = match.group()
            missing = known[match.start() : match.end()].count(0)
            total += len(word)
            unknown += missing
            if missing:
                lost_word = lost_word or word
            elif language in ("ko", "ja") and split_word is None and _takes_apart(tokenizer, word):
                split_word = word
    share = unknown / total if total else 0.0
    no_stripping = "one that neither lower-cases nor strips accents (do_lower_case: false)"
    problem = None
    if lost_word is not None and share >= WARNED:
        remedy = f"use a tokenizer for them{f', or {no_stripping}' if any(map(_parts, lost_word)) else ''}"
        problem = f"{share:.0%} of the characters of the first texts are unknown to the tokenizer"
        problem = f"{problem}: {_example(tokenizer, lost_word)}; {remedy}"
    elif split_word is not None:
        problem = f"the tokenizer decomposes the characters of this language: {_example(tokenizer, split_word)}"
        problem = f"{problem}; use {no_stripping}"
    return Coverage(share, problem)


def _known_characters(encoding: Encoding, length: int, unknown_id: int | None) -> bytearray:
    """Return 1 for each character of a text of this length that a known token stands for, and 0 for the others."""
    known = bytearray(length)
    tokens = list(zip(encoding.ids, encoding.offsets, encoding.sequence, strict=True))
    # Unknown tokens come last, since a known one may stand for the same character, such as the "▁" before a word.
    for is_known in (True, False):
        for token, (start, end), sequence in tokens:
            if sequence == 0 and (token != unknown_id) == is_known:
                known[start:end] = bytes([is_known]) * (end - start)
    return known


def _example(tokenizer: Tokenizer, word: str) -> str:
    """Return what becomes of the beginning of a word."""
    word = word[:SHOWN]
    ((encoding,),) = tokenizer.encode([word], max_length=EVERYTHING)
    ids = [token for token, sequence in zip(encoding.ids, encoding.sequence, strict=True) if sequence == 0]
    # Some tokenizers return the text of an unknown token instead of its name.
    pieces = zip(ids, tokenizer.tokenize(word), strict=False)
    shown = " ".join("[UNK]" if token == tokenizer.unknown_id else piece for token, piece in pieces)
    return f"{word} becomes {shown or 'nothing'}"


def _takes_apart(tokenizer: Tokenizer, word: str) -> bool:
    """Return whether the parts of a letter are in the tokens of a word, and the letter is not."""
    surface = "".join(tokenizer.tokenize(word))
    return any(letter not in surface and bool(_parts(letter)) and _parts(letter)[0] in surface for letter in word)


def _parts(letter: str) -> str:
    """Return the parts of a kana or a Hangul syllable (from U+3000 on); of other letters, which may lose their accents,
    none."""
    parts = unicodedata.normalize("NFD", letter)
    return parts if len(parts) > 1 and ord(letter) > 0x3000 else ""
