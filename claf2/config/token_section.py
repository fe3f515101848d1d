"""Section `token`, with what CLaF's configs say of it besides."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from claf2.registry import Component

__all__ = ["SubwordSection", "TokenSection", "WordSection"]


class WordSection(Component):
    """Section `token.tokenizer.word`."""

    name: str = "bert_basic"


class SubwordSection(Component):
    """Section `token.tokenizer.subword`."""

    name: str = "wordpiece"


class LegacyVocab(Component):
    """CLaF's `token.feature.vocab`, with the only meaning that it can have here."""

    pretrained_path: str | None = None
    """The same path as the subword tokenizer's `vocab_path`."""
    pretrained_token: Literal["all"] = "all"


class LegacyIndexer(Component):
    """CLaF's `token.feature.indexer`."""

    do_tokenize: Literal[False] = False


class LegacyFeature(Component):
    """CLaF's `token.feature`."""

    vocab: LegacyVocab = LegacyVocab()
    indexer: LegacyIndexer = LegacyIndexer()


class TokenSection(Component):
    """Section `token`: a tokenizer made of two parts; without the section the model's own is used."""

    names: list[Literal["feature"]] = Field(["feature"], min_length=1, max_length=1)
    types: list[Literal["feature"]] = Field(["feature"], min_length=1, max_length=1)
    feature: LegacyFeature = LegacyFeature()
