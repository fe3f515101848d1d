"""A small generated corpus of Korean-like documents, and a tokenizer for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claf2.corpus.corpus import Corpus
from claf2.corpus.section import CorpusSection
from claf2.runtime.seed import generator
from claf2.tokenizers import Tokenizer
from claf2.tokenizers.fast import compose_tokenizer
from claf2.tokenizers.subword import WordPiece
from claf2.tokenizers.word import BertBasic

SYLLABLES = "가나다라마바사아자차카타파하거너더러머버서어저처커터퍼허고노도로모보소오조초코토포호"
PARTICLES = ("은", "를", "에서", "이다", "하고", "")


def make_documents(count: int, *, name: str = "text", sentences: int = 12) -> list[str]:
    """Return documents of one sentence or more, in one paragraph or several."""
    rng = generator(7, name)
    words = ["".join(rng.choice(list(SYLLABLES), rng.integers(1, 4))) for _ in range(400)]
    documents = []
    for _ in range(count):
        text = ""
        for _ in range(int(rng.integers(1, sentences + 1))):
            chosen = [words[min(399, int(rng.exponential(60)))] for _ in range(int(rng.integers(2, 15)))]
            text += " ".join(word + PARTICLES[int(rng.integers(len(PARTICLES)))] for word in chosen)
            text += ". " if rng.random() < 0.8 else "?\n"
        documents.append(text.strip())
    return documents


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """A WordPiece tokenizer learned from such documents."""
    texts = make_documents(200)
    return compose_tokenizer(BertBasic(), WordPiece(vocab_size=600), lambda: iter(texts), 512)


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JSON Lines file of 500 documents."""
    path = tmp_path_factory.mktemp("corpus") / "news.jsonl"
    rows = [json.dumps({"text": text}, ensure_ascii=False) for text in make_documents(500)]
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
