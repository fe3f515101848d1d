"""Subword tokenizers: WordPiece, characters, BPE and unigram, with a vocabulary from files or learned from texts."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from claf2.errors import ModelError, nearest
from claf2.registry import UserPath
from claf2.runtime.model_files import reading_model
from claf2.tokenizers import METASPACE, SPECIALS, SubwordTokenizer, register_subword_tokenizer
from claf2.tokenizers.pieces import byte_letters

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend
    from tokenizers.decoders import Decoder
    from tokenizers.models import Model


@register_subword_tokenizer("wordpiece")
class WordPiece(SubwordTokenizer):
    """Takes the longest piece of the vocabulary first; pieces inside a word begin with ``##`` (Wu et al., 2016). File:
    `vocab.txt`."""

    def read(self, vocab_path: str) -> Model:
        return _wordpiece(_read_vocab(vocab_path))

    def learn(self, bpe: Backend, texts: Callable[[], Iterable[str]]) -> Model:
        pieces = _pieces_by_id(bpe)
        # Both forms of every character are in the vocabulary, so that no word of known characters is unknown.
        letters = [piece for piece in pieces if len(piece) == 1 and piece != METASPACE]
        words = [piece[1:] if piece.startswith(METASPACE) else f"##{piece}" for piece in pieces if len(piece) > 1]
        return _wordpiece(_number_pieces([*letters, *(f"##{letter}" for letter in letters), *words], self.vocab_size))

    def decoder(self) -> Decoder:
        from tokenizers import decoders

        return decoders.WordPiece()


@register_subword_tokenizer("character")
class CharacterSubword(SubwordTokenizer):
    """Single characters; those inside a word begin with ``##``. File: `vocab.txt`."""

    def read(self, vocab_path: str) -> Model:
        return _wordpiece(_read_vocab(vocab_path))

    def learn(self, bpe: Backend, texts: Callable[[], Iterable[str]]) -> Model:
        letters = [piece for piece in _pieces_by_id(bpe) if len(piece) == 1 and piece != METASPACE]
        return _wordpiece(_number_pieces([*letters, *(f"##{letter}" for letter in letters)], self.vocab_size))

    def decoder(self) -> Decoder:
        from tokenizers import decoders

        return decoders.WordPiece()


@register_subword_tokenizer("bpe")
class BPE(SubwordTokenizer):
    """Byte-pair merges over characters (Sennrich et al., 2016), with a ``▁`` in front of words. Files: `vocab.json` and
    `merges.txt`, or a `tokenizer.json` as `vocab_path` alone."""

    has_metaspace: ClassVar[bool] = True

    merges_path: Annotated[str | None, UserPath] = None
    """The merges that belong to the vocabulary (`merges.txt`)."""

    def read(self, vocab_path: str) -> Model:
        from tokenizers import models

        if self.merges_path is None:
            return _read_tokenizer_json(vocab_path)
        files = [str(_existing_path(path)) for path in (vocab_path, self.merges_path)]
        with reading_model(
            f"vocabulary {' and '.join(files)}", "cannot be read", hint="give files that belong together"
        ):
            return models.BPE.from_file(*files, unk_token="[UNK]")

    def learn(self, bpe: Backend, texts: Callable[[], Iterable[str]]) -> Model:
        model: Model = bpe.model
        return model

    def decoder(self) -> Decoder:
        from tokenizers import decoders

        return decoders.Metaspace()


@register_subword_tokenizer("byte_bpe")
class ByteBPE(BPE):
    """Byte-pair merges over bytes, as GPT-2 has them: no text is unknown. It needs the word tokenizer `byte_level`.
    Files: as those of `bpe`."""

    has_metaspace: ClassVar[bool] = False
    alphabet: ClassVar[Callable[[], list[str]] | None] = byte_letters
    ends_texts: ClassVar[bool] = False

    def decoder(self) -> Decoder:
        from tokenizers import decoders

        return decoders.ByteLevel()


@register_subword_tokenizer("unigram")
class Unigram(SubwordTokenizer):
    """The most likely pieces under a unigram language model (Kudo, 2018), with a ``▁`` in front of words. File:
    `tokenizer.json`. If learned, the pieces come from byte-pair merges, and their probabilities from counts."""

    has_metaspace: ClassVar[bool] = True

    def read(self, vocab_path: str) -> Model:
        return _read_tokenizer_json(vocab_path)

    def learn(self, bpe: Backend, texts: Callable[[], Iterable[str]]) -> Model:
        from tokenizers import models

        counts: Counter[str] = Counter()
        for text in texts():
            counts.update(bpe.encode(text, add_special_tokens=False).tokens)
        total = sum(counts.values()) + len(SPECIALS)
        vocabulary = [*SPECIALS, *(piece for piece in _pieces_by_id(bpe) if piece not in SPECIALS)]
        # Half a count for pieces that only served to build longer ones: they stay possible, but less likely.
        scores = [(piece, math.log((counts[piece] or 0.5) / total)) for piece in vocabulary]
        return models.Unigram(vocab=scores, unk_id=SPECIALS.index("[UNK]"))

    def decoder(self) -> Decoder:
        from tokenizers import decoders

        return decoders.Metaspace()


def _wordpiece(vocabulary: dict[str, int]) -> Model:
    from tokenizers import models

    return models.WordPiece(vocab=vocabulary, unk_token="[UNK]", max_input_chars_per_word=100)


def _number_pieces(pieces: Iterable[str], size: int) -> dict[str, int]:
    """Return piece → id of the special tokens and then the pieces, without duplicates, for the first ``size``."""
    return {piece: index for index, piece in enumerate([*SPECIALS, *dict.fromkeys(pieces)][:size])}


def _pieces_by_id(bpe: Backend) -> list[str]:
    """Return the pieces in the order in which they were learned, without special tokens."""
    vocabulary = bpe.get_vocab()
    return [piece for piece in sorted(vocabulary, key=lambda piece: vocabulary[piece]) if piece not in SPECIALS]


def _existing_path(path: str) -> Path:
    file = Path(path)
    if path.startswith(("http://", "https://")):
        hint = "download it, and give its path; or use the model's own tokenizer: --token null"
        raise ModelError(f"vocabulary {path}: is not downloaded; {hint}")
    if not file.is_file():
        siblings = [sibling.name for sibling in file.parent.iterdir()] if file.parent.is_dir() else []
        raise ModelError(f"vocabulary {path}: no such file; {nearest(file.name, siblings)}")
    return file


def _read_text(path: str) -> str:
    file = _existing_path(path)
    with reading_model(f"vocabulary {path}", "is not in UTF-8", hint="convert it, for example with iconv"):
        return file.read_text(encoding="utf-8-sig")


def _read_vocab(path: str) -> dict[str, int]:
    """Read a vocabulary with one token per line, the special tokens except [MASK] among them."""
    vocabulary: dict[str, int] = {}
    for index, line in enumerate(_read_text(path).rstrip("\r\n").split("\n")):
        token = line.rstrip("\r")
        if token in vocabulary:
            # Without an entry for the line, some ids would be larger than the number of entries.
            raise ModelError(
                f"vocabulary {path}: line {index + 1} repeats {token!r} of line {vocabulary[token] + 1}; "
                f"write another token there, such as [unused{index + 1}]"
            )
        vocabulary[token] = index
    missing = [token for token in SPECIALS[:4] if token not in vocabulary]
    if missing:
        raise ModelError(f"vocabulary {path}: add the special tokens {', '.join(missing)}, one per line")
    return vocabulary


def _read_tokenizer_json(path: str) -> Model:
    """Return the model inside a `tokenizer.json`."""
    from tokenizers import Tokenizer as Backend

    text = _read_text(path)
    try:
        json.loads(text)["model"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ModelError(f"vocabulary {path}: not a tokenizer.json: it has no object 'model'") from error
    with reading_model(f"vocabulary {path}", "not a tokenizer.json", hint="give one that `tokenizers` can read"):
        model: Model = Backend.from_str(text).model
    return model
