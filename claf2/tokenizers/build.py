"""Tokenizers from files: the one of a model, or the one that a run has saved."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from claf2.errors import ModelError
from claf2.registry import digest
from claf2.runtime.files import create_dir_atomic, is_intact
from claf2.runtime.model_files import reading_model
from claf2.tokenizers import SubwordTokenizer, Tokenizer, WordTokenizer
from claf2.tokenizers.aligned import AlignedTokenizer
from claf2.tokenizers.fast import FastTokenizer, LearningOptions, PreTokenization, compose_tokenizer

__all__ = ["LearningOptions", "compose_cached", "compose_tokenizer", "load_tokenizer"]

VOCABULARY_FORMAT = 1
"""The version of how vocabularies are learned, which the keys of those in the cache contain."""

FILES = ("tokenizer.json", "*.model", "vocab.*", "merges.txt", "*token*.json", "config.json")
"""The files that a tokenizer may be read from."""


def load_tokenizer(
    source: Path | str, *, revision: str | None = None, markers: Sequence[tuple[str, str]] = ()
) -> Tokenizer:
    """Load the tokenizer of a model through `transformers`.

    Args:
        source: the folder of a model or of a run's checkpoint, or a model id on the hub.
        revision: the commit, tag or branch on the hub; ``None``: the default branch.
        markers: entity markers to make single tokens; see ``Tokenizer.add_markers``.

    Raises:
        ModelError: if there is no tokenizer, or it cannot be read.
    """
    from transformers import PreTrainedTokenizerFast

    hint = "add its files, or give a token section"
    with reading_model(source, "no usable tokenizer there", *FILES, hint=hint):
        wrapped = _load_wrapped(source, revision)
        tokenizer: Tokenizer = (
            FastTokenizer(wrapped, PreTokenization.from_folder(Path(source)))
            if isinstance(wrapped, PreTrainedTokenizerFast)
            else AlignedTokenizer(wrapped)
        )
    if markers:
        tokenizer.add_markers(markers)
    return tokenizer


def compose_cached(
    word: WordTokenizer,
    subword: SubwordTokenizer,
    texts: Callable[[], Iterable[str]],
    longest: int,
    *,
    identity: str,
    cache: Path,
) -> Tokenizer:
    """Compose a tokenizer as ``compose_tokenizer`` does, and learn the vocabulary of the same texts only once.

    Args:
        word: cuts texts into words.
        subword: cuts words into pieces.
        texts: returns the texts, which are read where the vocabulary is not known.
        longest: the longest input, in tokens.
        identity: what distinguishes the texts from any others.
        cache: the folder of the vocabularies that were learned before.
    """
    subword.check_words(word)  # vocabularies that do not fit may lie in the cache
    parts = [[type(part).__name__, part.model_dump(mode="json")] for part in (word, subword)]
    versions = [VOCABULARY_FORMAT, importlib.metadata.version("tokenizers")]
    folder = cache / digest([identity, *parts, longest, *versions])
    if not is_intact(folder):
        create_dir_atomic(folder, compose_tokenizer(word, subword, texts, longest).save)
    return load_tokenizer(folder)


def _load_wrapped(source: Path | str, revision: str | None) -> Any:
    from transformers import AutoTokenizer
    from transformers.utils.import_utils import is_protobuf_available, is_sentencepiece_available

    try:
        wrapped: Any = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
    except Exception as error:
        # `transformers` reads a SentencePiece model as one of tiktoken if it cannot read it, and reports that.
        if isinstance(source, Path):
            is_sentencepiece = any(source.glob("*.model")) and not (source / "tokenizer.json").is_file()
        else:
            is_sentencepiece = "to read a `tiktoken` file" in str(error)
        if not is_sentencepiece:
            raise
        if not (is_sentencepiece_available() and is_protobuf_available()):
            raise ModelError(
                f"{source}: its tokenizer needs the package sentencepiece: pip install 'claf2[sentencepiece]'"
            ) from error
        raise ValueError("its SentencePiece model is damaged, or none") from error
    # Where no file is found, `transformers` makes a tokenizer that knows its special tokens only.
    learnt = wrapped.get_vocab().keys() - set(wrapped.all_special_tokens)
    if not any(character.isalnum() for token in learnt for character in token):
        raise ValueError("its vocabulary holds special tokens only")
    return wrapped
