"""The text that the pieces of a vocabulary stand for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from claf2.tokenizers import METASPACE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BYTE = re.compile(r"<0x[0-9A-F]{2}>")
"""A piece of SentencePiece that stands for one byte."""

WHITE_SPACE_BYTES = "ĠĊĉč"
"""How byte-level vocabularies write the space, the line feed, the tab and the carriage return."""


def byte_letters() -> list[str]:
    """Return the letters of byte-level vocabularies: one for each byte."""
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())


def count_bytes(wrapped: PreTrainedTokenizerBase, ids: Sequence[int], *, is_byte_level: bool = False) -> list[int]:
    """Return how many bytes of a text in UTF-8 each id stands for, white space left out; 0 for special tokens.

    Args:
        wrapped: a `transformers` tokenizer.
        ids: the ids.
        is_byte_level: whether each character of a piece stands for a byte, as in GPT-2's vocabulary.
    """
    special = set(wrapped.all_special_ids)
    pieces: Any = wrapped.convert_ids_to_tokens(list(ids))
    return [0 if id_ in special else _length(piece, is_byte_level) for id_, piece in zip(ids, pieces, strict=True)]


def _length(piece: str, is_byte_level: bool) -> int:
    if is_byte_level:
        return sum(character not in WHITE_SPACE_BYTES for character in piece)
    if BYTE.fullmatch(piece):
        return 1
    text = piece.removeprefix("##").removesuffix("</w>").replace(METASPACE, "")
    return len("".join(text.split()).encode())
