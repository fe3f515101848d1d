"""Tokenizers that run in Python and give no offsets: each piece's characters are found again in the text."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from claf2.tokenizers import Encoding, Tokenizer
from claf2.tokenizers.frame import Frame, windows
from claf2.tokenizers.marks import Marks, decoded, marked

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizer

MARKS = ("##", "▁", "Ġ", "</w>")
"""What tokenizers write into a piece that is not of the text."""

REACH = 64
"""How many characters further a piece is looked for."""


class AlignedTokenizer(Tokenizer):
    """A `transformers` tokenizer without a `tokenizers` backend, e.g. the Japanese ones with MeCab."""

    def __init__(self, wrapped: PreTrainedTokenizer) -> None:
        self._wrapped = wrapped
        self._marks = Marks()
        piece = self._ids(wrapped.tokenize("1") or [str(wrapped.unk_token)])[0]
        self._frame = Frame.of(self._probe([piece], None), self._probe([piece], [piece]))

    def _ids(self, pieces: list[str]) -> list[int]:
        ids: Any = self._wrapped.convert_tokens_to_ids(pieces)
        return list(ids)

    def _probe(self, first: list[int], second: list[int] | None) -> Encoding:
        """Return what the tokenizer puts around one piece, or two."""
        ids = self._wrapped.build_inputs_with_special_tokens(first, second)
        types = self._wrapped.create_token_type_ids_from_sequences(first, second)
        specials = self._wrapped.get_special_tokens_mask(first, second)
        texts = iter((0, 1))
        sequence = [-1 if special else next(texts) for special in specials]
        return Encoding(ids, types, [(0, 0)] * len(ids), sequence)

    @property
    def pad_id(self) -> int:
        return int(self._wrapped.pad_token_id or 0)

    @property
    def vocab_size(self) -> int:
        return len(self._wrapped)

    @property
    def digest(self) -> str:
        settings = {name: repr(value) for name, value in self._wrapped.init_kwargs.items() if "file" not in name}
        state = [type(self._wrapped).__name__, sorted(self._wrapped.get_vocab().items()), sorted(settings.items())]
        return hashlib.sha256(json.dumps(state).encode()).hexdigest()

    def encode(
        self,
        first: Sequence[str],
        second: Sequence[str] | None = None,
        *,
        max_length: int,
        max_first: int | None = None,
        step: int | None = None,
        keep: Literal["start", "end"] = "start",
    ) -> list[list[Encoding]]:
        heads = [self._bare(text) for text in first]
        tails = None if second is None else [self._bare(text) for text in second]
        return windows(self._frame, heads, tails, max_length=max_length, max_first=max_first, step=step, keep=keep)

    def _bare(self, text: str) -> Encoding:
        pieces = self._wrapped.tokenize(text)
        ids = self._ids(pieces)
        offsets = align(text, pieces, str(self._wrapped.unk_token))
        return self._marks.repaired(Encoding(ids, [0] * len(ids), offsets, [0] * len(ids)))

    def tokenize(self, text: str) -> list[str]:
        return list(self._wrapped.tokenize(text))

    @property
    def separator(self) -> str:
        return str(self._wrapped.sep_token)

    @property
    def separator_id(self) -> int:
        return int(self._wrapped.sep_token_id or 0)

    def decode(self, ids: Sequence[int]) -> str:
        return decoded(self._wrapped, ids)

    def mark(self, pairs: Sequence[tuple[str, str]]) -> int:
        added, self._marks = marked(self._wrapped, pairs)
        return added

    def save(self, folder: Path) -> None:
        self._wrapped.save_pretrained(folder)


def align(text: str, pieces: Sequence[str], unknown: str) -> list[tuple[int, int]]:
    """Return the characters ``[start, end)`` of ``text`` that each piece stands for.

    Text and pieces are compared in a folded form (compatibility decomposition, no case, no accents), so that
    tokenizers which normalise are followed. A piece that is not found, the unknown one above all, stands for what lies
    between its neighbours.
    """
    folded, places = _fold(text)
    found: list[tuple[int, int] | None] = []
    position = 0
    for piece in pieces:
        wanted = "" if piece == unknown else _fold(_bare_form(piece))[0]
        start = folded.find(wanted, position, position + len(wanted) + REACH) if wanted else -1
        if start < 0:
            found.append(None)
            continue
        position = start + len(wanted)
        found.append((places[start], places[position - 1] + 1))
    return _fill(text, found)


def _bare_form(piece: str) -> str:
    for mark in MARKS:
        piece = piece.removeprefix(mark) if mark != "</w>" else piece.removesuffix(mark)
    return piece


def _fold(text: str) -> tuple[str, list[int]]:
    """Return the folded text without blanks, and for each of its characters the one of ``text`` it comes from."""
    folded, places = [], []
    for index, character in enumerate(text):
        for part in unicodedata.normalize("NFKD", character).lower():
            if unicodedata.category(part) != "Mn" and not part.isspace():
                folded.append(part)
                places.append(index)
    return "".join(folded), places


def _fill(text: str, found: Sequence[tuple[int, int] | None]) -> list[tuple[int, int]]:
    """Give each run of pieces that were not found the text between its neighbours."""
    filled: list[tuple[int, int]] = []
    index = 0
    while index < len(found):
        here = found[index]
        if here is not None:
            filled.append(here)
            index += 1
            continue
        run = next((k for k, each in enumerate(found[index:]) if each is not None), len(found) - index)
        after = found[index + run] if index + run < len(found) else None
        filled += _share(text, filled[-1][1] if filled else 0, len(text) if after is None else after[0], run)
        index += run
    return filled


def _share(text: str, start: int, end: int, count: int) -> list[tuple[int, int]]:
    """Share ``text[start:end]`` out among ``count`` pieces: a character each, or a word each, as it comes out even;
    else the last one gets what is left over."""
    letters = [(place, place + 1) for place in range(start, end) if not text[place].isspace()]
    words = [(start + match.start(), start + match.end()) for match in re.finditer(r"\S+", text[start:end])]
    if len(letters) == count:
        return letters
    shares = [*words[: count - 1], (words[count - 1][0], words[-1][1])] if len(words) >= count else words
    return shares + [(end, end)] * (count - len(shares))
