"""Entity markers as tokens, and the repair of words that a closing marker cuts off from their beginning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from claf2.tokenizers import METASPACE, BareEncoding

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FIRST_SYLLABLE, LAST_SYLLABLE = "가", "힣"
"""The range of the 11,172 Hangul syllables in Unicode. Only Hangul is rejoined: English words are spaced."""


@dataclass(frozen=True)
class Markers:
    """The closing markers of a tokenizer, and access to its vocabulary."""

    closing: frozenset[int] = frozenset()
    """The ids of the closing markers."""
    id_to_piece: Callable[[int], str] = str
    piece_to_id: Callable[[str], int] = int
    """Returns the id of the unknown token for a piece that is not in the vocabulary."""

    def rejoin_words(self, encoding: BareEncoding) -> BareEncoding:
        """Return an encoding in which words continue after closing markers.

        A marker is a token of its own, so the tokenizer takes what follows it for a new word. Korean particles follow
        entities without a space: of ``<obj>서울</obj>에서`` the piece ``에서`` belongs to the word ``서울``. As in
        KLUE-baseline, such a piece becomes ``##에서`` in WordPiece, and loses its ``▁`` in SentencePiece.

        Args:
            encoding: with its offsets, if there are markers.
        """
        if self.closing.isdisjoint(encoding.ids):
            return encoding
        kept = []
        ids = list(encoding.ids)
        for index, token in enumerate(ids):
            is_attached = (
                index > 0
                and ids[index - 1] in self.closing
                and encoding.offsets[index][0] == encoding.offsets[index - 1][1]
            )
            piece = self.id_to_piece(token) if is_attached else ""
            if piece == METASPACE:
                continue  # it only announced a word
            if piece.startswith(METASPACE):
                ids[index] = self._continuation(piece[1:], token)
            elif piece and FIRST_SYLLABLE <= piece[0] <= LAST_SYLLABLE:
                ids[index] = self._continuation(f"##{piece}", token)
            kept.append(index)
        return BareEncoding([ids[index] for index in kept], [encoding.offsets[index] for index in kept])

    def _continuation(self, piece: str, token: int) -> int:
        """Return the id of a piece, or where the vocabulary lacks it, ``token``."""
        found = self.piece_to_id(piece)
        return found if self.id_to_piece(found) == piece else token


def add_marker_tokens(wrapped: PreTrainedTokenizerBase, pairs: Sequence[tuple[str, str]]) -> tuple[int, Markers]:
    """Add markers to the vocabulary of a `transformers` tokenizer.

    Args:
        wrapped: the tokenizer, which is changed in place.
        pairs: (opening, closing) markers.

    Returns:
        The number of markers that were not in the vocabulary, and the markers.
    """
    if not pairs:
        return 0, Markers()
    size = len(wrapped)
    # Special tokens are matched before the text is normalised, and never split.
    wrapped.add_tokens([marker for pair in pairs for marker in pair], special_tokens=True)

    def id_to_piece(token: int) -> str:
        return str(wrapped.convert_ids_to_tokens(token))

    def piece_to_id(piece: str) -> int:
        token: Any = wrapped.convert_tokens_to_ids(piece)
        return int(token)

    closing = frozenset(piece_to_id(marker) for _, marker in pairs)
    return len(wrapped) - size, Markers(closing, id_to_piece, piece_to_id)


def decode_ids(wrapped: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """Return the text of some ids up to the first special token."""
    special = set(wrapped.all_special_ids)
    end = next((index for index, token in enumerate(ids) if token in special), len(ids))
    text: Any = wrapped.decode(list(ids[:end]))
    return str(text).strip()
