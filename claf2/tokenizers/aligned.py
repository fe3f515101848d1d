"""Tokenizers that run in Python and give no offsets: the characters of each piece are searched for in the text."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from claf2.tokenizers import BareEncoding, Encoding, FlatEncoding
from claf2.tokenizers.pieces import count_bytes
from claf2.tokenizers.template import InputTemplate
from claf2.tokenizers.wrapped import WrappedTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizer

AFFIXES = ("##", "▁", "Ġ", "</w>")
"""What tokenizers add to a piece to tell whether it begins, continues or ends a word: WordPiece, SentencePiece,
byte-level BPE, and BPE as in GPT."""

BEGINNINGS = ("▁", "Ġ")
"""What marks the first piece of a word; other tokenizers mark those that continue it."""

REACH = 64
"""How many characters beyond its expected place a piece is searched for. Without a limit, a piece that was normalised
beyond recognition could match a much later occurrence, and so misplace all pieces after it."""


class AlignedTokenizer(WrappedTokenizer):
    """A `transformers` tokenizer without a `tokenizers` backend, e.g. the Japanese ones with MeCab."""

    def __init__(self, wrapped: PreTrainedTokenizer) -> None:
        super().__init__(wrapped)
        token = self._to_ids(wrapped.tokenize("1") or [str(wrapped.unk_token)])[0]
        self._template = InputTemplate.from_probes(self._probe([token], None), self._probe([token], [token]))

    def _to_ids(self, pieces: list[str]) -> list[int]:
        ids: Any = self._wrapped.convert_tokens_to_ids(pieces)
        return list(ids)

    def _probe(self, first: list[int], second: list[int] | None) -> Encoding:
        """Return the input of a text of one token, or of two such texts, with the model's special tokens."""
        ids = self._wrapped.build_inputs_with_special_tokens(first, second)
        types = self._wrapped.create_token_type_ids_from_sequences(first, second)
        specials = self._wrapped.get_special_tokens_mask(first, second)
        numbers = iter((0, 1))
        sequence = [-1 if special else next(numbers) for special in specials]
        return Encoding(ids, types, [(0, 0)] * len(ids), sequence)

    @property
    def unknown_id(self) -> int | None:
        token: Any = self._wrapped.unk_token_id
        return None if token is None else int(token)

    @property
    def digest(self) -> str:
        # Paths are left out: the content of vocabulary files is in the vocabulary, and a moved model is the same one.
        settings = {
            name: repr(value)
            for name, value in self._wrapped.init_kwargs.items()
            if "file" not in name and name not in ("name_or_path", "is_local")
        }
        state = [type(self._wrapped).__name__, sorted(self._wrapped.get_vocab().items()), sorted(settings.items())]
        if self._wrapped.chat_template:
            state.append(self._wrapped.chat_template)
        return hashlib.sha256(json.dumps(state).encode()).hexdigest()

    @property
    def _is_wordpiece(self) -> bool:
        return not self._marks_beginnings

    def _encode_bare(self, texts: Sequence[str], offsets: bool) -> list[BareEncoding]:
        pieces = [self._wrapped.tokenize(text) for text in texts]
        if not (offsets or self._markers.closing):
            return [BareEncoding(self._to_ids(parts), []) for parts in pieces]
        unknown = str(self._wrapped.unk_token or "")
        return [
            self._markers.rejoin_words(BareEncoding(self._to_ids(parts), align(text, parts, unknown)))
            for text, parts in zip(texts, pieces, strict=True)
        ]

    def encode_flat(self, texts: Sequence[str]) -> FlatEncoding:
        import numpy as np

        pieces = [self._wrapped.tokenize(text) for text in texts]
        unknown = str(self._wrapped.unk_token or "")
        spans = [align(text, parts, unknown) for text, parts in zip(texts, pieces, strict=True)]
        flat = [piece for parts in pieces for piece in parts]
        lengths = np.array([len(parts) for parts in pieces], np.int64)
        # The pieces alone say what a word is: those that continue one are marked, or those that begin one.
        begins_word = np.array(
            [piece.startswith(BEGINNINGS) if self._marks_beginnings else not piece.startswith("##") for piece in flat],
            bool,
        )
        begins_word[(np.cumsum(lengths) - lengths)[lengths > 0]] = True
        offsets = np.array([span for part in spans for span in part], np.int32).reshape(len(flat), 2)
        return FlatEncoding(np.array(self._to_ids(flat), np.int32), offsets, begins_word, lengths)

    @cached_property
    def _marks_beginnings(self) -> bool:
        """Whether the pieces that begin a word are marked. The vocabulary says so, since some texts have no such piece.

        A marker alone may be a character of the text, as in a vocabulary of characters.
        """
        pieces = [piece for piece in self._wrapped.get_vocab() if len(piece) > 1]
        return sum(piece.startswith(BEGINNINGS) for piece in pieces) > sum(piece.startswith("##") for piece in pieces)

    def tokens_of(self, ids: Sequence[int]) -> list[str]:
        return [str(token) for token in self._wrapped.convert_ids_to_tokens(list(map(int, ids)))]

    def tokenize(self, text: str) -> list[str]:
        return list(self._wrapped.tokenize(text))

    def byte_lengths(self, ids: Sequence[int]) -> list[int]:
        return count_bytes(self._wrapped, ids)


def align(text: str, pieces: Sequence[str], unknown: str) -> list[tuple[int, int]]:
    """Return the characters ``[start, end)`` of ``text`` that each piece stands for.

    Text and pieces are compared in a folded form (compatibility decomposition, lower case, no accents, no whitespace),
    because tokenizers normalise in different ways. A piece that is not found, such as the unknown token, gets the text
    between its neighbours.

    Args:
        text: the original text.
        pieces: N pieces, as the tokenizer writes them.
        unknown: the piece that stands for anything that is not in the vocabulary.

    Returns:
        N spans in the order of the text. Positions count characters, not bytes.
    """
    folded, origins = _fold(text)
    spans: list[tuple[int, int] | None] = []
    position = 0
    for piece in pieces:
        target = "" if piece == unknown else _fold(_strip_affixes(piece))[0]
        start = folded.find(target, position, position + len(target) + REACH) if target else -1
        if start < 0:
            spans.append(None)
            continue
        position = start + len(target)
        # From folded characters back to original ones: several may come from one, such as two jamo from a syllable.
        spans.append((origins[start], origins[position - 1] + 1))
    return _fill_gaps(text, spans)


def _strip_affixes(piece: str) -> str:
    for affix in AFFIXES:
        piece = piece.removeprefix(affix) if affix != "</w>" else piece.removesuffix(affix)
    return piece


def _fold(text: str) -> tuple[str, list[int]]:
    """Return the folded text, and for each of its characters the position in ``text`` that it comes from."""
    folded, origins = [], []
    for index, character in enumerate(text):
        # One character may become several: NFKD turns the ligature "ﬁ" into "fi", and "서" into two jamo.
        for part in unicodedata.normalize("NFKD", character).lower():
            if unicodedata.category(part) != "Mn" and not part.isspace():  # Mn: combining marks, such as accents
                folded.append(part)
                origins.append(index)
    return "".join(folded), origins


def _fill_gaps(text: str, spans: Sequence[tuple[int, int] | None]) -> list[tuple[int, int]]:
    """Divide the text between two known spans among the pieces between them that were not found."""
    filled: list[tuple[int, int]] = []
    index = 0
    while index < len(spans):
        span = spans[index]
        if span is not None:
            filled.append(span)
            index += 1
            continue
        # A run of unknown pieces is divided at once, since their number says how.
        run = next((length for length, span in enumerate(spans[index:]) if span is not None), len(spans) - index)
        following = spans[index + run] if index + run < len(spans) else None
        start, end = filled[-1][1] if filled else 0, len(text) if following is None else following[0]
        filled += _divide(text, start, end, run)
        index += run
    return filled


def _divide(text: str, start: int, end: int, count: int) -> list[tuple[int, int]]:
    """Divide ``text[start:end]`` into ``count`` spans.

    With as many characters as pieces, each gets one. Otherwise each gets a word, and the last one the remaining words;
    pieces for which no word is left get an empty span at the end.
    """
    characters = [(index, index + 1) for index in range(start, end) if not text[index].isspace()]
    words = [(start + match.start(), start + match.end()) for match in re.finditer(r"\S+", text[start:end])]
    if len(characters) == count:
        return characters
    spans = [*words[: count - 1], (words[count - 1][0], words[-1][1])] if len(words) >= count else words
    return spans + [(end, end)] * (count - len(spans))
