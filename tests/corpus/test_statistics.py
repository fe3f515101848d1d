"""The loss that the frequencies of tokens alone reach: from some shards, and where special tokens are predicted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from generated_text import make_documents

from claf2.corpus.corpus import Corpus
from claf2.corpus.section import Phase
from claf2.corpus.statistics import frequency_baseline
from claf2.corpus.stream import CorpusStream


def test_a_baseline_of_some_shards_weights_sources_by_their_size(
    open_corpus: Callable[..., Corpus], tmp_path: Path
) -> None:
    """A shard of a large source stands for many, and one of a small source for itself."""
    (tmp_path / "large.txt").write_text("\n\n".join(make_documents(400)), encoding="utf-8")
    (tmp_path / "small.txt").write_text("\n\n".join(["☃ ☃ ☃ ☃ ☃ ☃ ☃ ☃ ☃ ☃"] * 300), encoding="utf-8")
    sources = [{"path": str(tmp_path / name)} for name in ("large.txt", "small.txt")]
    corpus = open_corpus(sources=sources, valid_documents=40)
    assert len(corpus) > 20
    sampled, counted = (frequency_baseline(corpus, 32, shards=shards).nats_per_token for shards in (4, None))
    assert sampled == pytest.approx(counted, rel=0.02)


@pytest.mark.parametrize("masks", ["next_token", "deletion"])
@pytest.mark.parametrize("instances", ["sentence", "full_sentences"])
def test_a_baseline_counts_special_tokens_that_are_predicted(
    masks: str, instances: str, open_corpus: Callable[..., Corpus]
) -> None:
    corpus = open_corpus(valid_documents=40, masks={"name": masks}, instances={"name": instances})
    baseline = frequency_baseline(corpus, 32)
    phases = [Phase(until=1000, batch_size=8, max_seq_length=32)]
    stream = CorpusStream("t", corpus, phases, seed=1, workers=0)
    counts = np.ones(corpus.tokenizer.vocab_size)
    for _, batches in stream.epoch(0):
        for batch in batches:
            labels = batch.arrays["labels"]
            counts += np.bincount(labels[labels >= 0], minlength=len(counts))
    labels = np.concatenate([row["labels"] for row in corpus.valid_rows(32).features])
    expected = -np.log(counts / counts.sum())[labels[labels >= 0]].mean()
    assert baseline.nats_per_token == pytest.approx(expected, abs=0.005)
