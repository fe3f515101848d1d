"""Tokenizers: text → ids with character offsets.

A tokenizer comes with its model, or is composed of a word tokenizer and a subword tokenizer (`token` section).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field

from claf2.errors import Claf2Error, ConfigError
from claf2.registry import Component, Registry, UserPath

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer as Backend
    from tokenizers.decoders import Decoder
    from tokenizers.models import Model

    from claf2.tokenizers.template import InputTemplate

__all__ = [
    "BareEncoding",
    "Encoding",
    "FlatEncoding",
    "SubwordTokenizer",
    "Tokenizer",
    "WordTokenizer",
    "register_subword_tokenizer",
    "register_word_tokenizer",
    "subword_tokenizers",
    "word_tokenizers",
]

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""The special tokens of composed tokenizers, which are those of BERT."""

METASPACE = "▁"
"""What SentencePiece writes for a space, and so in front of a word: U+2581, not the underscore."""


class BareEncoding(NamedTuple):
    """The T tokens of a text, without special tokens."""

    ids: list[int]
    """(T,)"""
    offsets: list[tuple[int, int]]
    """See ``Encoding.offsets``, (T,); empty if they were not asked for."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """A model input of L tokens, special tokens included."""

    ids: list[int]
    """(L,)"""
    type_ids: list[int]
    """The segment of each token, (L,)."""
    offsets: list[tuple[int, int]]
    """The characters ``[start, end)`` of the *original* text that each token stands for, (L,): positions in the string,
    not bytes, and before any normalization. ``(0, 0)`` for special tokens. Empty if they were not asked for."""
    sequence: list[int]
    """The text that each token comes from, (L,): 0 the first, 1 the second, -1 for special tokens."""
    dropped: int = 0
    """How many tokens were left out because the input would have been too long. Windows leave none of the last text
    out."""


@dataclass(frozen=True, slots=True)
class FlatEncoding:
    """The bare encodings of N texts in one piece, T tokens in all, for texts that are too many for Python objects."""

    ids: np.ndarray
    """(T,), int32"""
    offsets: np.ndarray
    """The characters ``[start, end)`` of each token in its own text, (T, 2), int32; see ``Encoding.offsets``."""
    begins_word: np.ndarray
    """Whether the token is the first one of a word, as the pre-tokenizer divides the text, (T,)."""
    lengths: np.ndarray
    """The number of tokens of each text, (N,)."""


class Tokenizer(ABC):
    """A tokenizer with its vocabulary. A run has one, which all its tasks share."""

    @property
    @abstractmethod
    def pad_id(self) -> int:
        """The id with which shorter rows of a batch are padded."""

    @property
    @abstractmethod
    def unknown_id(self) -> int | None:
        """The id that stands for text which is not in the vocabulary; ``None`` if there is none."""

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """The number of ids, added tokens included, which is the number of rows that an embedding needs."""

    @property
    @abstractmethod
    def entries(self) -> dict[str, int]:
        """The vocabulary: entry → id, added tokens included. Each access copies it."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """The SHA-256 of everything that determines the ids. Tokenizers with equal digests return equal ids."""

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
        offsets: bool = True,
    ) -> list[list[Encoding]]:
        """Encode N texts, or N pairs, with the model's special tokens.

        Args:
            first: N texts.
            second: N second texts, or ``None``.
            max_length: the length of the longest input, special tokens included.
            max_first: the first text is truncated to this many tokens beforehand.
            step: ``None`` truncates an input that is too long, the longer of two texts first as BERT does. Otherwise
                the *last* text (the second of a pair) is split into windows, each of which starts ``step`` tokens after
                the one before (BERT's ``doc_stride``) or earlier if tokens would be left out. Every window has the
                whole first text.
            keep: which end of the first text stays if it is truncated.
            offsets: whether ``Encoding.offsets`` is needed. Encoding takes a quarter less time without it.

        Returns:
            N lists of inputs, each with at least one.

        Raises:
            Claf2Error: if a first text leaves no room for windows of the second.
        """

    @abstractmethod
    def encode_flat(self, texts: Sequence[str]) -> FlatEncoding:
        """Encode N texts without special tokens around them and without truncation."""

    @property
    @abstractmethod
    def template(self) -> InputTemplate:
        """The special tokens around one or two texts."""

    @property
    @abstractmethod
    def mask_id(self) -> int | None:
        """The id of the token that hides another one; ``None`` if there is none."""

    @property
    @abstractmethod
    def special_ids(self) -> frozenset[int]:
        """The ids of all special tokens, the unknown token included."""

    @abstractmethod
    def tokens_of(self, ids: Sequence[int]) -> list[str]:
        """Return the tokens with these ids as strings, special tokens included."""

    @abstractmethod
    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of a text as strings, without special tokens."""

    @property
    @abstractmethod
    def separator(self) -> str:
        """The token that ends a text, such as ``[SEP]`` or ``</s>``. Written inside a text it is the same token."""

    @property
    @abstractmethod
    def separator_id(self) -> int:
        """The id of ``separator``."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some ids up to the first special token."""

    @abstractmethod
    def byte_lengths(self, ids: Sequence[int]) -> list[int]:
        """Return how many bytes of a text in UTF-8 each id stands for, white space left out; 0 for special tokens, the
        unknown token among them."""

    @property
    def end_id(self) -> int:
        """The id after which a generated text ends; that of the separator where there is none of its own."""
        return self.separator_id

    @property
    def has_chat_template(self) -> bool:
        """Whether it says how a conversation is written."""
        return False

    def render_chat(self, messages: Sequence[Mapping[str, str]], *, opens_answer: bool = False) -> str:
        """Return a conversation as text by the tokenizer's chat template.

        Args:
            messages: the turns, each with ``role`` and ``content``.
            opens_answer: whether to add what comes before the next answer.

        Raises:
            Claf2Error: if there is no template, or it refuses the conversation.
        """
        raise Claf2Error("the tokenizer has no chat template; set layout")

    @abstractmethod
    def add_markers(self, pairs: Sequence[tuple[str, str]]) -> int:
        """Make entity markers single tokens. What follows a closing marker without a space continues its word.

        Args:
            pairs: (opening, closing) markers.

        Returns:
            The number of markers that the vocabulary did not have.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the tokenizer into ``folder`` so that ``AutoTokenizer`` of `transformers` loads it."""


class WordTokenizer(Component, ABC):
    """Splits texts into words: a normalizer and a pre-tokenizer of `tokenizers`."""

    is_serializable: ClassVar[bool] = True
    """Whether `tokenizers` can write it to `tokenizer.json`; it cannot if the splitting runs in Python."""
    alphabet: ClassVar[Callable[[], list[str]] | None] = None
    """Returns the characters in which it writes words, if these are not the characters of the text."""

    @abstractmethod
    def apply(self, backend: Backend) -> None:
        """Set the normalizer and the pre-tokenizer of ``backend``."""


class SubwordTokenizer(Component, ABC):
    """Splits words into pieces: a model of `tokenizers` with its vocabulary, read from files or learned from texts.

    Every kind of vocabulary is derived from byte-pair merges, because the BPE trainer is the only one of `tokenizers`
    that learns the same vocabulary every time. The others depend on the order of a hash table.
    """

    has_metaspace: ClassVar[bool] = False
    """Whether words come with a ``▁`` in front, as in SentencePiece."""
    alphabet: ClassVar[Callable[[], list[str]] | None] = None
    """That of the word tokenizers that it needs: the characters that always get entries. It is learned from words
    without a ``▁`` then."""
    ends_texts: ClassVar[bool] = True
    """Whether a separator follows a single text, which a model that continues texts must not see."""

    vocab_path: Annotated[str | None, UserPath] = None
    """The vocabulary; `null`: learned from the training texts."""
    vocab_size: int = Field(default=8000, ge=10, le=10**7)
    """The size of the vocabulary if it is learned."""

    def check_words(self, words: WordTokenizer) -> None:
        """Check that words are written in the characters that the vocabulary has entries for.

        Raises:
            ConfigError: if they are not, so that every word would be unknown.
        """
        if type(words).alphabet is type(self).alphabet:
            return
        word, subword = word_tokenizers.name_of(type(words)), subword_tokenizers.name_of(type(self))
        fitting = [
            name for name in word_tokenizers.names() if word_tokenizers.get(name).alphabet is type(self).alphabet
        ]
        others = [
            name for name in subword_tokenizers.names() if subword_tokenizers.get(name).alphabet is type(words).alphabet
        ]
        raise ConfigError(
            "word",
            f"{word!r} writes other characters than the subword tokenizer {subword!r} reads",
            hint=f"use {' or '.join(fitting)} with {subword!r}, or {' or '.join(others)} with {word!r}",
        )

    @abstractmethod
    def read(self, vocab_path: str) -> Model:
        """Return the model with the vocabulary of a file.

        Raises:
            ModelError: if the file is missing, or is not a vocabulary of this kind.
        """

    @abstractmethod
    def learn(self, bpe: Backend, texts: Callable[[], Iterable[str]]) -> Model:
        """Return the model with a vocabulary that is derived from byte-pair merges.

        Args:
            bpe: a tokenizer with ``vocab_size`` entries, learned from ``texts`` with a ``▁`` in front of words.
            texts: returns the texts, each time from the start.
        """

    @abstractmethod
    def decoder(self) -> Decoder:
        """Return the decoder that joins pieces into text."""


word_tokenizers: Registry[type[WordTokenizer]] = Registry("word tokenizer", home="claf2.tokenizers.word")
"""The registered word tokenizers."""
register_word_tokenizer = word_tokenizers.register
subword_tokenizers: Registry[type[SubwordTokenizer]] = Registry("subword tokenizer", home="claf2.tokenizers.subword")
"""The registered subword tokenizers."""
register_subword_tokenizer = subword_tokenizers.register
