"""Tokenizers: text → ids with character offsets. The model's own, or word × subword built on `tokenizers`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Encoding", "Tokenizer"]


@dataclass(frozen=True, slots=True)
class Encoding:
    """One model input of length L, special tokens included; all four lists have length L.

    ``offsets`` are the characters ``[start, end)`` of the *original* text (before any normalisation) that a
    token stands for, ``(0, 0)`` for special tokens; ``sequence`` says which text: 0 the first, 1 the second,
    -1 a special token.
    """

    ids: list[int]
    type_ids: list[int]
    offsets: list[tuple[int, int]]
    sequence: list[int]


class Tokenizer(ABC):
    """A ready tokenizer: one per run, shared by all its tasks."""

    @property
    @abstractmethod
    def pad_id(self) -> int:
        """The id that fills a batch's shorter rows."""

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """The number of ids, added tokens included: the rows that an embedding needs."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """SHA-256 of everything that determines the ids: two tokenizers with one digest give the same ids."""

    @abstractmethod
    def encode(
        self,
        first: Sequence[str],
        second: Sequence[str] | None = None,
        *,
        max_length: int,
        max_first: int | None = None,
        step: int | None = None,
    ) -> list[list[Encoding]]:
        """Encode a batch of texts, or of pairs, with the model's special tokens.

        Args:
            first: N texts.
            second: N second texts, or ``None``.
            max_length: the longest input, special tokens included.
            max_first: cut the first text to this many tokens beforehand.
            step: ``None`` cuts what is too long (the longer of the two texts first, as BERT does) and gives one
                window each; otherwise the *last* text (the second of a pair) is laid out in windows of at most ``max_length``,
                each starting ``step`` tokens after the one before (BERT's ``doc_stride``), the first text repeated in each.

        Returns:
            N lists, each with at least one window.
        """

    @abstractmethod
    def tokenize(self, text: str) -> list[str]:
        """Return the surface of the tokens of ``text``, without special tokens, for messages."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the tokenizer into ``folder`` as `transformers` stores one, so that ``AutoTokenizer`` loads it."""
