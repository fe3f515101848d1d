"""The stream of a pre-training: one sequence for all numbers of processes, workers and interruptions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from claf2.corpus.corpus import Corpus
from claf2.corpus.section import Phase
from claf2.corpus.stream import CorpusStream
from claf2.data.batch import Batch

PHASES = [
    Phase(until=170, batch_size=12, max_seq_length=32),
    Phase(until=180, batch_size=16, max_seq_length=32),
    Phase(until=260, batch_size=6, max_seq_length=64),
    Phase(until=300, batch_size=5, max_seq_length=48),
]
MIXTURE = {
    "name": "mixture",
    "mixture": {
        "parts": {"eojeol": [[0, 1.0], [300, 0.4]], "ngram": [[0, 0.0], [300, 0.6]]},
        "rate": [[0, 0.3], [300, 0.15]],
        "update_every": 50,
    },
}


def stream(corpus: Corpus, **settings: Any) -> CorpusStream:
    return CorpusStream("mlm", corpus, settings.pop("phases", PHASES), **{"seed": 3, "workers": 0, **settings})


def merged(batches: list[Batch]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([batch.arrays[name] for batch in batches]) for name in batches[0].arrays}


def steps(
    corpus: Corpus, world_size: int, workers: int, start: int, **settings: Any
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the whole batch of each step, put together from the rows of all processes."""
    ranks = [
        stream(corpus, rank=rank, world_size=world_size, workers=workers, **settings).epoch(0, start)
        for rank in range(world_size)
    ]
    while True:
        try:
            parts = [merged([batch for batch in next(rank)[1] if batch.has_loss]) for rank in ranks]
        except StopIteration:
            return
        whole = {}
        for name in parts[0]:
            whole[name] = np.empty((sum(len(part[name]) for part in parts), *parts[0][name].shape[1:]), np.int32)
            for rank, part in enumerate(parts):
                whole[name][rank::world_size] = part[name]
        yield whole


def add_step(digest: Any, arrays: dict[str, np.ndarray]) -> None:
    for name in ("input_ids", "labels"):
        digest.update(arrays[name].astype("<i4").tobytes())


@pytest.mark.parametrize("instances", ["full_sentences", "sentence_pair"])
def test_one_digest_for_all_ranks_workers_and_resumes(open_corpus: Callable[..., Corpus], instances: str) -> None:
    def corpus() -> Corpus:
        return open_corpus(instances={"name": instances}, masks=MIXTURE, valid_documents=20)

    whole = hashlib.sha256()
    for arrays in steps(corpus(), 1, 0, 0):
        add_step(whole, arrays)
    rng = np.random.default_rng(0)
    for world_size in (1, 2, 4):
        for workers in (0, 1, 4):
            # Interrupted 20 times, among others at each change of phase, by a process that knows nothing but the step.
            stops = sorted({0, 170, 180, 260, 300, *rng.choice(np.arange(1, 300), 17, replace=False).tolist()})
            digest = hashlib.sha256()
            for start, end in pairwise(stops):
                for _, arrays in zip(range(start, end), steps(corpus(), world_size, workers, start), strict=False):
                    add_step(digest, arrays)
            assert digest.hexdigest() == whole.hexdigest(), (world_size, workers, stops)
