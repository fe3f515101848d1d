"""Tokenizers: text → ids with character offsets. The model's own, or word × subword built on `tokenizers`."""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from claf2.registry import Component, Registry

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend
    from tokenizers.decoders import Decoder
    from tokenizers.models import Model

__all__ = ["Encoding", "Subword", "Tokenizer", "Word", "language_warning", "subwords", "words"]

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""The special tokens of tokenizers put together here, BERT's."""


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

    def covered(self, which: int) -> int:
        """Return the character behind the last one of a text, 0 the first, 1 the second, that is there."""
        for index in range(len(self.sequence) - 1, -1, -1):
            if self.sequence[index] == which:
                return self.offsets[index][1]
        return 0


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
        keep: Literal["start", "end"] = "start",
    ) -> list[list[Encoding]]:
        """Encode a batch of texts, or of pairs, with the model's special tokens.

        Args:
            first: N texts.
            second: N second texts, or ``None``.
            max_length: the longest input, special tokens included.
            max_first: cut the first text to this many tokens beforehand.
            step: ``None`` cuts what is too long (the longer of the two texts first, as BERT does) and gives one
                window each; otherwise the *last* text (the second of a pair) is laid out in windows of at most
                ``max_length``, each starting ``step`` tokens after the one before (BERT's ``doc_stride``; never so far
                that a token is left out), the first text repeated in each.
            keep: which side of a single text stays when it is cut.

        Returns:
            N lists, each with at least one window.
        """

    @abstractmethod
    def tokenize(self, text: str) -> list[str]:
        """Return the surface of the tokens of ``text``, without special tokens, for messages."""

    @property
    @abstractmethod
    def separator(self) -> str:
        """What ends a text, as it may be written inside one: ``[SEP]``, ``</s>`` …"""

    @property
    @abstractmethod
    def separator_id(self) -> int:
        """The id of ``separator``."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some ids up to the first special token."""

    @abstractmethod
    def mark(self, pairs: Sequence[tuple[str, str]]) -> int:
        """Make (opening, closing) marks tokens of their own, and return how many the tokenizer did not have.

        What stands right behind a closing mark goes on with the word before it, as KLUE-baseline repairs it: of a
        WordPiece tokenizer a piece of Hangul becomes a ``##`` piece, of a SentencePiece one the ``▁`` goes away.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the tokenizer into ``folder`` as `transformers` stores one, so that ``AutoTokenizer`` loads it."""


class Word(Component, ABC):
    """How a text is cut into words: a normaliser and a pre-tokeniser."""

    stored: ClassVar[bool] = True
    """Whether `tokenizers` can write it into a file; what runs in Python it cannot."""

    @abstractmethod
    def apply(self, backend: Backend) -> None:
        """Set the normaliser and the pre-tokeniser of ``backend``."""


class Subword(Component, ABC):
    """How a word is cut into pieces: a model with its vocabulary, read from files or learnt from texts.

    Every vocabulary is learnt through byte-pair merges of words with a ``▁`` in front, because that is the one trainer
    of `tokenizers` that gives the same vocabulary every time (its others depend on the order of a hash table).
    """

    marked: ClassVar[bool] = False
    """Whether words come with a ``▁`` in front, as in SentencePiece."""

    vocab_path: str | None = None
    """The vocabulary; `null`: learnt from the training texts."""
    vocab_size: int = Field(default=8000, ge=10)
    """The size of a vocabulary that is learnt."""

    @abstractmethod
    def read(self, vocab_path: str) -> Model:
        """Return the model with the vocabulary of its files."""

    @abstractmethod
    def learn(self, merged: Backend, texts: Callable[[], Iterable[str]]) -> Model:
        """Return the model with a vocabulary made from ``merged``, byte-pair merges learnt from ``texts``."""

    @abstractmethod
    def decoder(self) -> Decoder:
        """Return what puts pieces together to a text again."""


words: Registry[type[Word]] = Registry("word tokenizer", home="claf2.tokenizers.word")
subwords: Registry[type[Subword]] = Registry("subword tokenizer", home="claf2.tokenizers.subword")


def language_warning(tokenizer: Tokenizer, language: str, texts: Iterable[str]) -> str | None:
    """Return a warning, with an example, where the tokenizer takes the letters of a Korean or Japanese text apart.

    Lower-casing tokenizers strip accents by decomposing characters: Hangul falls into jamo, and kana lose their voicing
    marks. It is seen from what comes out, not from what the tokenizer is called.
    """
    if language not in ("ko", "ja"):
        return None
    for text in texts:
        for word in text.split():
            pieces = tokenizer.tokenize(word)
            surface = "".join(pieces)
            for letter in word:
                parts = unicodedata.normalize("NFD", letter)
                if len(parts) > 1 and ord(letter) > 0x3000 and letter not in surface and parts[0] in surface:
                    return (
                        f"the tokenizer takes the letters of this language apart: {word} becomes {' '.join(pieces)}; "
                        "use one that neither lower-cases nor strips accents (do_lower_case: false)"
                    )
    return None
