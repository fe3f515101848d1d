"""Subword tokenizers: a model with its vocabulary each, from files or learnt from texts."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from claf2.errors import ModelError, nearest
from claf2.tokenizers import SPECIALS, Subword, subwords

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend
    from tokenizers.decoders import Decoder
    from tokenizers.models import Model

MARK = "▁"


@subwords.register("wordpiece")
class WordPiece(Subword):
    """The longest piece of the vocabulary first, pieces inside a word marked with ``##``. Files: `vocab.txt`."""

    def read(self, vocab_path: str) -> Model:
        return _wordpiece(_lines(vocab_path))

    def learn(self, merged: Backend, texts: Callable[[], Iterable[str]]) -> Model:
        pieces = _by_id(merged)
        letters = [piece for piece in pieces if len(piece) == 1 and piece != MARK]
        words = [piece[1:] if piece.startswith(MARK) else f"##{piece}" for piece in pieces if len(piece) > 1]
        return _wordpiece(_numbered([*letters, *(f"##{letter}" for letter in letters), *words], self.vocab_size))

    def decoder(self) -> Decoder:
        from tokenizers import decoders

        return decoders.WordPiece()


@subwords.register("character")
class Characters(Subword):
    """Single characters, those inside a word marked with ``##``. Files: `vocab.txt`."""

    def read(self, vocab_path: str) -> Model:
        return _wordpiece(_lines(vocab_path))

    def learn(self, merged: Backend, texts: Callable[[], Iterable[str]]) -> Model:
        letters = [piece for piece in _by_id(merged) if len(piece) == 1 and piece != MARK]
        return _wordpiece(_numbered([*letters, *(f"##{letter}" for letter in letters)], self.vocab_size))

    def decoder(self) -> Decoder:
        from tokenizers import decoders

        return decoders.WordPiece()


@subwords.register("bpe")
class BPE(Subword):
    """Byte-pair merges over characters, words marked with ``▁``. Files: `vocab.json` and `merges.txt`, or a
    `tokenizer.json` as ``vocab_path`` alone."""

    marked: ClassVar[bool] = True

    merges_path: str | None = None
    """The merges that belong to the vocabulary."""

    def read(self, vocab_path: str) -> Model:
        from tokenizers import models

        if self.merges_path is None:
            return _stored(vocab_path)
        return models.BPE.from_file(str(_file(vocab_path)), str(_file(self.merges_path)), unk_token="[UNK]")

    def learn(self, merged: Backend, texts: Callable[[], Iterable[str]]) -> Model:
        model: Model = merged.model
        return model

    def decoder(self) -> Decoder:
        from tokenizers import decoders

        return decoders.Metaspace()


@subwords.register("unigram")
class Unigram(Subword):
    """The most likely pieces under a unigram language model (Kudo, 2018), words marked with ``▁``. Files: a
    `tokenizer.json`. A learnt one takes its pieces from byte-pair merges and their probabilities from counts."""

    marked: ClassVar[bool] = True

    def read(self, vocab_path: str) -> Model:
        return _stored(vocab_path)

    def learn(self, merged: Backend, texts: Callable[[], Iterable[str]]) -> Model:
        from tokenizers import models

        counts: Counter[str] = Counter()
        for text in texts():
            counts.update(merged.encode(text, add_special_tokens=False).tokens)
        total = sum(counts.values()) + len(SPECIALS)
        vocabulary = [*SPECIALS, *(piece for piece in _by_id(merged) if piece not in SPECIALS)]
        scores = [(piece, math.log((counts[piece] or 0.5) / total)) for piece in vocabulary]
        return models.Unigram(vocab=scores, unk_id=SPECIALS.index("[UNK]"))

    def decoder(self) -> Decoder:
        from tokenizers import decoders

        return decoders.Metaspace()


def _wordpiece(vocabulary: dict[str, int]) -> Model:
    from tokenizers import models

    return models.WordPiece(vocab=vocabulary, unk_token="[UNK]", max_input_chars_per_word=100)


def _numbered(pieces: Iterable[str], size: int) -> dict[str, int]:
    """Number the special tokens and then the pieces, each once, as far as they fit."""
    return {piece: index for index, piece in enumerate([*SPECIALS, *dict.fromkeys(pieces)][:size])}


def _by_id(merged: Backend) -> list[str]:
    vocabulary = merged.get_vocab()
    return [piece for piece in sorted(vocabulary, key=lambda piece: vocabulary[piece]) if piece not in SPECIALS]


def _file(path: str) -> Path:
    found = Path(path)
    if not found.is_file():
        siblings = [each.name for each in found.parent.iterdir()] if found.parent.is_dir() else []
        raise ModelError(f"vocabulary {path}: no such file; {nearest(found.name, siblings)}")
    return found


def _lines(path: str) -> dict[str, int]:
    """Read a vocabulary with a token a line; its special tokens must be among them."""
    tokens = _file(path).read_text(encoding="utf-8").rstrip("\n").split("\n")
    vocabulary = {token.rstrip("\r"): index for index, token in enumerate(tokens)}
    missing = [token for token in SPECIALS[:4] if token not in vocabulary]
    if missing:
        raise ModelError(f"vocabulary {path}: lacks {', '.join(missing)}")
    return vocabulary


def _stored(path: str) -> Model:
    """Return the model of a `tokenizer.json`."""
    from tokenizers import Tokenizer as Backend

    text = _file(path).read_text(encoding="utf-8")
    try:
        json.loads(text)["model"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ModelError(f"vocabulary {path}: no tokenizer.json") from error
    model: Model = Backend.from_str(text).model
    return model
