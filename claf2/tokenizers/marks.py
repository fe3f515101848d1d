"""Marks around spans of a text: what is glued to a closing mark goes on with the word before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from claf2.tokenizers import Encoding

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Marks:
    """The closing marks among a tokenizer's ids, and how its vocabulary is looked up."""

    closing: frozenset[int] = frozenset()
    piece: Callable[[int], str] = str
    """The piece of an id."""
    id: Callable[[str], int] = int
    """The id of a piece, the unknown one's where there is none."""

    def repaired(self, encoding: Encoding) -> Encoding:
        """Return a bare encoding whose words go on behind closing marks."""
        if self.closing.isdisjoint(encoding.ids):
            return encoding
        kept = []
        ids = list(encoding.ids)
        for index, token in enumerate(ids):
            glued = (
                index > 0
                and ids[index - 1] in self.closing
                and encoding.offsets[index][0] == encoding.offsets[index - 1][1]
            )
            piece = self.piece(token) if glued else ""
            if piece == "▁":
                continue
            if piece.startswith("▁"):
                ids[index] = self.id(piece[1:])
            elif piece and "가" <= piece[0] <= "힣" and self.piece(self.id(f"##{piece}")) == f"##{piece}":
                ids[index] = self.id(f"##{piece}")
            kept.append(index)
        return Encoding(
            [ids[index] for index in kept],
            [encoding.type_ids[index] for index in kept],
            [encoding.offsets[index] for index in kept],
            [encoding.sequence[index] for index in kept],
        )


def marked(wrapped: PreTrainedTokenizerBase, pairs: Sequence[tuple[str, str]]) -> tuple[int, Marks]:
    """Make marks tokens of a `transformers` tokenizer, and return how many are new to it."""
    if not pairs:
        return 0, Marks()
    before = len(wrapped)
    wrapped.add_tokens([mark for pair in pairs for mark in pair], special_tokens=True)

    def piece(token: int) -> str:
        return str(wrapped.convert_ids_to_tokens(token))

    def number(text: str) -> int:
        found: Any = wrapped.convert_tokens_to_ids(text)
        return int(found)

    closing = frozenset(number(close) for _, close in pairs)
    return len(wrapped) - before, Marks(closing, piece, number)


def decoded(wrapped: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """Return the text of some ids up to the first special token."""
    special = set(wrapped.all_special_ids)
    end = next((index for index, token in enumerate(ids) if token in special), len(ids))
    text: Any = wrapped.decode(list(ids[:end]))
    return str(text).replace("##", "").strip()
