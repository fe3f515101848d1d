"""Text → token ids, and one byte per token that says what begins there.

A word is what the tokenizer's pre-tokenizer separates, and an eojeol is what white space separates. A sentence ends
with ``.``, ``?``, ``!`` or ``…`` before white space, with ``。``, ``？`` or ``！`` wherever it stands, each with the
closing quotes and brackets after it, and at the end of each line. The rule is the same for all languages.

The lines of a document are encoded one by one, so that no token spans a line break and none stands for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING

from claf2.corpus.sources import Document
from claf2.tokenizers import FlatEncoding, Tokenizer

if TYPE_CHECKING:
    import numpy as np

__all__ = ["BEGINS_DOCUMENT", "BEGINS_EOJEOL", "BEGINS_SENTENCE", "BEGINS_WORD", "IS_SPECIAL", "encode_documents"]

BEGINS_WORD = 1
"""The flag of a token that begins a word,"""
BEGINS_EOJEOL = 2
"""an eojeol,"""
BEGINS_SENTENCE = 4
"""a sentence,"""
BEGINS_DOCUMENT = 8
"""or a document; the first token of a document begins all of them."""
IS_SPECIAL = 16
"""The flag of a special token that the text itself contains, the unknown token included."""

END_OF_SENTENCE = re.compile("[.?!…]+[\"'”’)\\]]*(?=\\s)|[。？！｡]+[\"'”’)\\]」』】）]*|\n")
SPACE = re.compile(r"\s")
BATCH_CHARACTERS = 2**19
"""How many characters are encoded at a time."""
LONGEST_ENCODED = 2**16
"""A longer line is divided at white space, because some tokenizers take much longer for a long text than for its
parts."""
LAST_SPACE = 0x3000
"""The highest code point that is white space."""


def encode_documents(
    documents: Iterable[Document], tokenizer: Tokenizer
) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Yield the ids (T,), the flags (T,), uint8, and the number of UTF-8 bytes of one block of lines after another.

    A document without tokens leaves no trace.
    """
    specials = sorted(tokenizer.special_ids)
    open_document = -1
    for lines, owners in _line_blocks(documents):
        encoding = tokenizer.encode_flat(lines)
        numbers = _repeat(owners, encoding.lengths)
        flags = _flags(lines, encoding, numbers, open_document, specials)
        open_document = int(numbers[-1]) if len(numbers) else open_document
        yield encoding.ids, flags, sum(len(line.encode()) for line in lines)


def _line_blocks(documents: Iterable[Document]) -> Iterator[tuple[list[str], list[int]]]:
    """Yield lines, and the number of the document that each belongs to, in blocks of bounded size."""
    lines: list[str] = []
    owners: list[int] = []
    size = 0
    for number, document in enumerate(documents):
        for line in _divide_lines(document.text):
            lines.append(line)
            owners.append(number)
            size += len(line)
            if size >= BATCH_CHARACTERS:
                yield lines, owners
                lines, owners, size = [], [], 0
    if lines:
        yield lines, owners


def _divide_lines(text: str) -> Iterator[str]:
    """Yield the lines of a text that are not blank, the longest ones in parts."""
    for line in text.split("\n"):
        while len(line) > LONGEST_ENCODED:
            space = next((match.start() for match in SPACE.finditer(line, LONGEST_ENCODED)), len(line))
            yield line[:space]
            line = line[space:]
        if line and not line.isspace():
            yield line


def _flags(
    lines: list[str], encoding: FlatEncoding, numbers: np.ndarray, open_document: int, specials: list[int]
) -> np.ndarray:
    """Return the flags of the tokens of some lines, (T,).

    Args:
        lines: N lines.
        encoding: their T tokens.
        numbers: the document of each token, (T,).
        open_document: the document of the token before the first one.
        specials: the ids of special tokens.
    """
    import numpy as np

    text = "\n".join(lines)
    # Positions in the joined text: each line begins one character after the end of the one before.
    sizes = np.fromiter(map(len, lines), np.int64, len(lines)) + 1
    offsets = encoding.offsets + _repeat(np.cumsum(sizes) - sizes, encoding.lengths)[:, None]
    starts, ends = offsets[:, 0], offsets[:, 1]
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    spaces = np.zeros(len(codes) + 2, np.int32)
    # One entry more than there are characters, so that a token at the very end has a place.
    spaces[1:-1] = np.cumsum(_is_space()[np.minimum(codes, LAST_SPACE + 1)])
    spaces[-1] = spaces[-2]
    # White space between two tokens, or at the start of the second one, which then stands for it as in SentencePiece.
    eojeol = np.ones(len(starts), bool)
    eojeol[1:] = spaces[starts[1:] + 1] > spaces[ends[:-1]]
    # A token of white space alone belongs to the eojeol before it, unless it stands for the space of the next one.
    is_blank = spaces[ends] - spaces[starts] == ends - starts
    eojeol[:-1] &= ~(is_blank[:-1] & eojeol[1:])
    sentence_ends = np.fromiter((match.end() for match in END_OF_SENTENCE.finditer(text)), np.int64)
    sentence = np.ones(len(starts), bool)
    sentence[1:] = np.diff(np.searchsorted(sentence_ends, starts, side="right")) > 0
    document = np.ones(len(starts), bool)
    document[1:] = numbers[1:] != numbers[:-1]
    if len(document):
        document[0] = numbers[0] != open_document
    # Tokens of a new line begin a new eojeol and a new sentence, since the line break is white space and ends one.
    flags = np.where(encoding.begins_word | eojeol | sentence, BEGINS_WORD, 0).astype(np.uint8)
    flags[eojeol | document] |= BEGINS_EOJEOL
    flags[sentence | document] |= BEGINS_SENTENCE
    flags[document] |= BEGINS_DOCUMENT
    flags[np.isin(encoding.ids, specials)] |= IS_SPECIAL
    return flags


def _repeat(values: np.ndarray | list[int], counts: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.repeat(np.asarray(values, np.int64), counts)


@cache
def _is_space() -> np.ndarray:
    """Return whether each code point up to the last white space, and the one after it, is white space."""
    import numpy as np

    return np.array([chr(code).isspace() for code in range(LAST_SPACE + 1)] + [False])
