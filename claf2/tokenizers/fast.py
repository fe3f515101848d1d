"""Tokenizers with a `tokenizers` backend: those of models, and those composed of a word and a subword tokenizer."""

from __future__ import annotations

import hashlib
import json
import logging
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claf2.errors import Claf2Error
from claf2.tokenizers import (
    METASPACE,
    SPECIALS,
    BareEncoding,
    Encoding,
    FlatEncoding,
    SubwordTokenizer,
    WordTokenizer,
    subword_tokenizers,
    word_tokenizers,
)
from claf2.tokenizers.pieces import count_bytes
from claf2.tokenizers.template import InputTemplate
from claf2.tokenizers.word import Whitespace
from claf2.tokenizers.wrapped import WrappedTokenizer

if TYPE_CHECKING:
    from tokenizers import Encoding as BackendEncoding
    from tokenizers import Tokenizer as Backend
    from transformers import PreTrainedTokenizerFast

logger = logging.getLogger("claf2")

SECOND_JAMO, LAST_JAMO = "\u1160", "\u11ff"
"""The range of the jamo that follow the first one of a syllable."""

SPEC = "claf2_tokenizer.json"
"""The file that describes a pre-tokenization in Python, which `tokenizer.json` cannot hold."""


class FastTokenizer(WrappedTokenizer):
    """A `transformers` tokenizer with a backend in Rust, which gives the character offsets.

    Args:
        wrapped: the tokenizer.
        pretokenization: a pre-tokenization that runs in Python, which is lost whenever the backend is saved or copied;
            ``None`` if the backend does it all.
    """

    def __init__(self, wrapped: PreTrainedTokenizerFast, pretokenization: PreTokenization | None = None) -> None:
        super().__init__(wrapped)
        self._pretokenization = pretokenization
        self._backend: Backend = wrapped.backend_tokenizer
        if pretokenization is not None:
            pretokenization.apply(self._backend)
        # `build_inputs` truncates; settings that the model's tokenizer.json may bring would do it before.
        self._backend.no_truncation()
        self._backend.no_padding()
        self._template = InputTemplate.from_probes(
            _to_encoding(self._backend.encode("a")), _to_encoding(self._backend.encode("a", "a"))
        )

    @property
    def unknown_id(self) -> int | None:
        token = self._wrapped.unk_token
        return None if token is None else self._backend.token_to_id(str(token))

    @property
    def digest(self) -> str:
        state = _serialize(self._backend, self._pretokenization)
        template, end = self._wrapped.chat_template, self._wrapped.eos_token
        if template or end not in (None, self._wrapped.sep_token):
            state += json.dumps([template, end])  # ids depend on them, and the backend does not know them
        return hashlib.sha256(state.encode()).hexdigest()

    @property
    def _is_wordpiece(self) -> bool:
        return type(self._backend.decoder).__name__ == "WordPiece"

    def _encode_bare(self, texts: Sequence[str], offsets: bool) -> list[BareEncoding]:
        # Each access to a field of an encoding copies a list out of the backend.
        if not (offsets or self._markers.closing):
            encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
            return [BareEncoding(encoding.ids, []) for encoding in encodings]
        encodings = self._backend.encode_batch(list(texts), add_special_tokens=False)
        return [
            self._markers.rejoin_words(BareEncoding(encoding.ids, _whole_characters(text, encoding.offsets)))
            for text, encoding in zip(texts, encodings, strict=True)
        ]

    def encode_flat(self, texts: Sequence[str]) -> FlatEncoding:
        import numpy as np

        encodings = self._backend.encode_batch(list(texts), add_special_tokens=False)
        lengths = np.fromiter(map(len, encodings), np.int64, len(encodings))
        total = int(lengths.sum())
        ids = np.fromiter(chain.from_iterable(encoding.ids for encoding in encodings), np.int32, total)
        spans = chain.from_iterable(map(_whole_characters, texts, (encoding.offsets for encoding in encodings)))
        offsets = np.fromiter(chain.from_iterable(spans), np.int32, 2 * total).reshape(total, 2)
        words: list[int | None] = list(chain.from_iterable(encoding.word_ids for encoding in encodings))
        # A token outside all words, such as a special token that is written in the text, is a word of its own.
        numbers = np.fromiter((-1 if word is None else word for word in words), np.int32, total)
        begins_word = np.ones(total, bool)
        begins_word[1:] = (numbers[1:] != numbers[:-1]) | (numbers[1:] < 0)
        begins_word[(np.cumsum(lengths) - lengths)[lengths > 0]] = True
        return FlatEncoding(ids, offsets, begins_word, lengths)

    def tokens_of(self, ids: Sequence[int]) -> list[str]:
        return [self._backend.id_to_token(int(token)) or str(self._wrapped.unk_token or "") for token in ids]

    def tokenize(self, text: str) -> list[str]:
        return list(self._backend.encode(text, add_special_tokens=False).tokens)

    def byte_lengths(self, ids: Sequence[int]) -> list[int]:
        return count_bytes(self._wrapped, ids, is_byte_level="ByteLevel" in str(self._backend.decoder))

    def save(self, folder: Path) -> None:
        if self._pretokenization is None:
            super().save(folder)
            return
        name = word_tokenizers.name_of(type(self._pretokenization.word_tokenizer))
        logger.warning("%s: without claf2, this tokenizer splits words at whitespace only, not by %s", folder, name)
        self._pretokenization.without_python().apply(self._backend)
        self._wrapped.save_pretrained(folder)
        self._pretokenization.apply(self._backend)
        (folder / SPEC).write_text(json.dumps(self._pretokenization.to_json()), encoding="utf-8")


@dataclass(frozen=True)
class PreTokenization:
    """How a text is split before the subword model: by a word tokenizer, with or without a ``▁`` in front of words."""

    word_tokenizer: WordTokenizer
    has_metaspace: bool

    def apply(self, backend: Backend) -> None:
        """Set the normalizer and the pre-tokenizer of ``backend``."""
        from tokenizers import pre_tokenizers

        self.word_tokenizer.apply(backend)
        if self.has_metaspace:
            # split=False: the words are already split, so that this step only adds the "▁".
            metaspace = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
            backend.pre_tokenizer = pre_tokenizers.Sequence([backend.pre_tokenizer, metaspace])

    def without_python(self) -> PreTokenization:
        """Return the nearest pre-tokenization that `tokenizers` can write to a file."""
        return PreTokenization(Whitespace(), self.has_metaspace)

    def to_json(self) -> dict[str, Any]:
        """Return what ``from_folder`` reads. The tokenizer's digest, and so each key of cached
        features, depends on it."""
        name = word_tokenizers.name_of(type(self.word_tokenizer))
        spec = self.word_tokenizer.model_dump(mode="json")
        return {"word": {"name": name, name: spec}, "marked": self.has_metaspace}

    @classmethod
    def from_folder(cls, folder: Path) -> PreTokenization | None:
        """Return the pre-tokenization that was saved in a folder, or ``None`` if its `tokenizer.json` holds it all."""
        if not (folder / SPEC).is_file():
            return None
        spec = json.loads((folder / SPEC).read_text(encoding="utf-8"))
        name = spec["word"]["name"]
        return cls(word_tokenizers.get(name)(**spec["word"][name]), spec["marked"])


def _serialize(backend: Backend, pretokenization: PreTokenization | None) -> str:
    """Return everything that determines the ids, as text."""
    if pretokenization is None:
        return str(backend.to_str())
    # A backend with a pre-tokeniser in Python cannot be serialized, so another one takes its place for the moment.
    pretokenization.without_python().apply(backend)
    state = str(backend.to_str())
    pretokenization.apply(backend)
    return state + json.dumps(pretokenization.to_json(), sort_keys=True)


def _whole_characters(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the spans of tokens with the marks and jamo that belong to the last character of each.

    A normalizer that composes characters says of a composed one only where its first part is. Where nothing was
    composed, the spans are returned as they are.
    """
    if text.isascii() or unicodedata.is_normalized("NFC", text):
        return spans
    starts = {start for start, _ in spans}
    whole = []
    for start, end in spans:
        while end < len(text) and end not in starts and _continues_character(text[end]):
            end += 1
        whole.append((start, end))
    return whole


def _continues_character(letter: str) -> bool:
    """Return whether a letter is a combining mark, or a vowel or a final consonant of a Hangul syllable."""
    return unicodedata.category(letter).startswith("M") or SECOND_JAMO <= letter <= LAST_JAMO


def _to_encoding(encoding: BackendEncoding) -> Encoding:
    sequence = [-1 if number is None else number for number in encoding.sequence_ids]
    return Encoding(ids=encoding.ids, type_ids=encoding.type_ids, offsets=encoding.offsets, sequence=sequence)


@dataclass(frozen=True)
class LearningOptions:
    """How a vocabulary is learned from texts."""

    alphabet: tuple[str, ...] | None = None
    """The characters that get entries; ``None``: all of the texts."""
    boundary: str | None = None
    """A character that no entry may span, and which is removed from the texts; ``None``: there is none. It marks
    boundaries inside words, such as those of morphemes, that are unknown when the tokenizer is used."""
    show_progress: bool = False
    """Show a progress bar."""


def compose_tokenizer(
    word_tokenizer: WordTokenizer,
    subword_tokenizer: SubwordTokenizer,
    texts: Callable[[], Iterable[str]] | None,
    max_length: int,
    learning: LearningOptions | None = None,
) -> FastTokenizer:
    """Compose a word and a subword tokenizer, with BERT's special tokens around the text.

    Args:
        word_tokenizer: splits texts into words.
        subword_tokenizer: splits words into pieces.
        texts: returns the texts to learn a vocabulary from, if ``subword_tokenizer`` names no file.
        max_length: the ``model_max_length`` of the `transformers` tokenizer, in tokens.
        learning: how a vocabulary is learned; ``None``: from all characters of the texts.

    Raises:
        Claf2Error: if there is neither a vocabulary nor a text to learn one from, or the two do not fit.
        ModelError: if the vocabulary cannot be read.
    """
    from tokenizers import Tokenizer as Backend
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    subword_tokenizer.check_words(word_tokenizer)
    if subword_tokenizer.vocab_path is not None:
        model = subword_tokenizer.read(subword_tokenizer.vocab_path)
    elif texts is not None:
        alphabet, size = type(subword_tokenizer).alphabet, subword_tokenizer.vocab_size
        learning = learning or LearningOptions()
        learning = learning if alphabet is None else replace(learning, alphabet=tuple(alphabet()))
        bpe = _learn_bpe(PreTokenization(word_tokenizer, alphabet is None), size, texts, learning)
        model = subword_tokenizer.learn(bpe, texts)
    else:
        name = subword_tokenizers.name_of(type(subword_tokenizer))
        raise Claf2Error(f"the subword tokenizer {name!r} needs a vocab_path: there are no texts to learn one from")
    pretokenization = PreTokenization(word_tokenizer, subword_tokenizer.has_metaspace)
    backend = Backend(model)
    # `transformers` copies the backend through its file format. What that cannot hold is applied by FastTokenizer.
    copied = pretokenization if word_tokenizer.is_serializable else pretokenization.without_python()
    copied.apply(backend)
    backend.decoder = subword_tokenizer.decoder()
    ids = {token: backend.token_to_id(token) for token in SPECIALS if backend.token_to_id(token) is not None}
    backend.add_special_tokens(list(ids))
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]" if subword_tokenizer.ends_texts else "[CLS] $A",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, ids[token]) for token in ("[CLS]", "[SEP]")],
    )
    # "[CLS]" → cls_token="[CLS]"; a vocabulary from a file may lack [MASK].
    names = {f"{token[1:-1].lower()}_token": token for token in ids}
    wrapped = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        model_max_length=max_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **names,
    )
    return FastTokenizer(wrapped, None if word_tokenizer.is_serializable else pretokenization)


def _learn_bpe(
    pretokenization: PreTokenization, size: int, texts: Callable[[], Iterable[str]], learning: LearningOptions
) -> Backend:
    """Return a tokenizer of ``size`` entries with byte-pair merges learned from texts."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers, trainers

    backend = Backend(models.BPE(unk_token="[UNK]"))
    pretokenization.apply(backend)
    if learning.boundary is not None:
        # After the "▁", so that it stands in front of words only, and not of what follows a boundary.
        split = pre_tokenizers.Split(learning.boundary, "removed")
        backend.pre_tokenizer = pre_tokenizers.Sequence([backend.pre_tokenizer, split])
    settings: dict[str, Any] = {}
    if learning.alphabet is not None:
        # The trainer breaks ties among rare characters at random, so the limit only says that no others are added.
        letters = sorted({*learning.alphabet, *([METASPACE] if pretokenization.has_metaspace else [])})
        settings = {"initial_alphabet": letters, "limit_alphabet": len(letters)}
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(SPECIALS), show_progress=learning.show_progress, **settings
    )
    backend.train_from_iterator(texts(), trainer)
    return backend
