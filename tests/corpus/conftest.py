"""A small generated corpus of Korean-like documents, and a tokenizer for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from generated_text import make_documents

from claf2.corpus.corpus import Corpus
from claf2.corpus.section import CorpusSection
from claf2.tokenizers import Tokenizer
from claf2.tokenizers.fast import compose_tokenizer
from claf2.tokenizers.subword import WordPiece
from claf2.tokenizers.word import BertBasic


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """A WordPiece tokenizer learned from such documents."""
    texts = make_documents(200)
    return compose_tokenizer(BertBasic(), WordPiece(vocab_size=600), lambda: iter(texts), 512)


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JSON Lines file of 500 documents, some of which contain unknown characters and special tokens."""
    path = tmp_path_factory.mktemp("corpus") / "news.jsonl"
    texts = [f"{text} ☃ 가나[SEP]다라." if number % 7 == 0 else text for number, text in enumerate(make_documents(500))]
    rows = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def open_corpus(
    tokenizer: Tokenizer, corpus_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Corpus]:
    """Open the corpus with some settings; shards are shared by all tests."""
    cache = tmp_path_factory.mktemp("shards")

    def open_(sources: Any = None, cache_dir: Path = cache, workers: int = 2, **fields: Any) -> Corpus:
        fields = {"sources": sources or [{"path": str(corpus_file)}], "shard_bytes": 8192, "window": 8, **fields}
        return Corpus(CorpusSection(**fields), tokenizer, cache_dir=cache_dir, workers=workers)

    return open_
