"""The stream of a pre-training: one sequence for all numbers of processes, workers and interruptions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from claf2.corpus.corpus import Corpus
from claf2.corpus.section import Phase
from claf2.corpus.stream import CorpusStream, _Reader
from claf2.corpus.windows import Windows
from claf2.data.batch import Batch
from claf2.errors import ConfigError, DataError

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
    """Return the rows of all micro-batches, without those whose loss does not count."""
    return {
        name: np.concatenate([batch.arrays[name][: len(batch) * batch.has_loss] for batch in batches])
        for name in batches[0].arrays
    }


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
            parts = [merged(next(rank)[1]) for rank in ranks]
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


@pytest.mark.parametrize("instances", [pytest.param("full_sentences", marks=pytest.mark.slow), "sentence_pair"])
def test_one_digest_for_all_ranks_workers_and_resumes(open_corpus: Callable[..., Corpus], instances: str) -> None:
    def corpus() -> Corpus:
        return open_corpus(instances={"name": instances}, masks=MIXTURE, valid_documents=20)

    whole = hashlib.sha256()
    for arrays in steps(corpus(), 1, 0, 0):
        add_step(whole, arrays)
    rng = np.random.default_rng(0)
    for world_size in (1, 2, 4):
        for workers in (0, 1, 4) if instances == "full_sentences" else (4 - world_size,):
            # Interrupted 20 times, among others at each change of phase, by a process that knows nothing but the step.
            stops = sorted({0, 170, 180, 260, 300, *rng.choice(np.arange(1, 300), 17, replace=False).tolist()})
            digest = hashlib.sha256()
            for start, end in pairwise(stops):
                for _, arrays in zip(range(start, end), steps(corpus(), world_size, workers, start), strict=False):
                    add_step(digest, arrays)
            assert digest.hexdigest() == whole.hexdigest(), (world_size, workers, stops)


def test_a_resume_opens_the_shards_of_its_window_only(
    open_corpus: Callable[..., Corpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phases = [Phase(until=10**6, batch_size=12, max_seq_length=32)]
    for _ in zip(range(400), stream(open_corpus(cache_dir=tmp_path, window=4), phases=phases).epoch(0), strict=False):
        pass
    opened = []
    make = Corpus._make

    def noted(corpus: Corpus, number: int, *rest: Any) -> Any:
        opened.append(number)
        return make(corpus, number, *rest)

    monkeypatch.setattr(Corpus, "_make", noted)
    corpus = open_corpus(cache_dir=tmp_path, window=4)
    next(stream(corpus, phases=phases).epoch(0, start=390))
    assert len(corpus) > 20
    assert 0 < len(opened) <= 8


def test_rows_of_a_process_are_cut_into_micro_batches(open_corpus: Callable[..., Corpus]) -> None:
    corpus = open_corpus()
    whole = next(steps(corpus, 1, 0, 0))
    _, batches = next(stream(corpus, max_tokens=100).epoch(0))
    assert [len(batch) for batch in batches] == [3, 3, 3, 3]
    assert all(np.array_equal(array, whole[name]) for name, array in merged(batches).items())
    _, batches = next(stream(corpus, max_tokens=10).epoch(0))
    assert [len(batch) for batch in batches] == [1] * 12


def test_a_process_without_rows_joins_with_a_dummy(open_corpus: Callable[..., Corpus]) -> None:
    phases = [Phase(until=1, batch_size=3, max_seq_length=32)]
    corpus = open_corpus()
    _, (batch,) = next(stream(corpus, phases=phases, rank=3, world_size=4).epoch(0))
    assert not batch.has_loss
    assert len(batch) == 1
    assert len(next(steps(corpus, 4, 0, 0, phases=phases))["labels"]) == 3


def test_other_batches_of_the_same_length_read_the_same_rows(open_corpus: Callable[..., Corpus]) -> None:
    def rows(*sizes: tuple[int, int]) -> np.ndarray:
        phases = [Phase(until=until, batch_size=size, max_seq_length=32) for until, size in sizes]
        parts = steps(open_corpus(masks={"name": "token", "token": {"rate": [[0, 0.0]]}}), 1, 0, 0, phases=phases)
        return np.concatenate([part["input_ids"] for part in parts])

    assert np.array_equal(rows((40, 12)), rows((20, 8), (40, 16)))


def test_the_future_may_change(open_corpus: Callable[..., Corpus]) -> None:
    corpus = open_corpus()
    changed = [PHASES[0], Phase(until=200, batch_size=3, max_seq_length=128)]
    for one, other, _ in zip(
        steps(corpus, 1, 0, 160), steps(corpus, 1, 0, 160, phases=changed), range(10), strict=False
    ):
        assert all(np.array_equal(array, other[name]) for name, array in one.items())
    assert next(steps(corpus, 1, 0, 170, phases=changed))["input_ids"].shape == (3, 128)


def test_another_seed_reads_in_another_order(open_corpus: Callable[..., Corpus]) -> None:
    for shard_bytes in (8192, 2**20):  # many shards, and a single one
        corpus = open_corpus(shard_bytes=shard_bytes, masks={"name": "token", "token": {"rate": [[0, 0.0]]}})
        one, other = next(steps(corpus, 1, 0, 0)), next(steps(corpus, 1, 0, 0, seed=4))
        assert not np.array_equal(one["input_ids"], other["input_ids"])


def test_masks_differ_between_epochs_and_are_gone_with_the_labels(open_corpus: Callable[..., Corpus]) -> None:
    corpus = open_corpus()
    seen: dict[bytes, set[bytes]] = {}
    for arrays in steps(corpus, 1, 0, 0, phases=[Phase(until=500, batch_size=16, max_seq_length=32)]):
        text = np.where(arrays["labels"] == -100, arrays["input_ids"], arrays["labels"])
        for row, labels in zip(text, arrays["labels"], strict=True):
            seen.setdefault(row.tobytes(), set()).add(labels.tobytes())
    repeated = [masks for masks in seen.values() if len(masks) > 1]
    assert len(repeated) > 0.9 * len(seen)


def test_a_stream_that_is_left_stops_making_shards(
    open_corpus: Callable[..., Corpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = open_corpus(cache_dir=tmp_path, workers=1)
    make, made = Corpus._make, []

    def slow(corpus: Corpus, number: int, stopped: Event) -> Any:
        made.append(number)
        if len(made) > 20:
            stopped.wait(0.1)
        return make(corpus, number, stopped)

    monkeypatch.setattr(Corpus, "_make", slow)
    # Windows that do not grow, so that there is much to make after the first one.
    monkeypatch.setattr("claf2.corpus.windows.window_bounds", lambda *_: [(0, 20), (20, 38)])
    batches = stream(corpus, workers=1, phases=[Phase(until=9, batch_size=4, max_seq_length=32)]).epoch(0)
    next(batches)
    batches.close()
    assert 20 <= len(made) < 30
    assert len(corpus) >= 38


@pytest.mark.parametrize("ends", [[], [10, 10], [20, 10]])
def test_phases_follow_each_other(open_corpus: Callable[..., Corpus], ends: list[int]) -> None:
    phases = [Phase(until=end, batch_size=4, max_seq_length=32) for end in ends]
    with pytest.raises(ConfigError, match="phases: must end one after another"):
        stream(open_corpus(), phases=phases)


@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_without_a_shard_are_passed_over(
    open_corpus: Callable[..., Corpus], corpus_file: Path, tmp_path: Path, workers: int
) -> None:
    sources = [{"path": str(corpus_file), "weight": 0.3}]
    corpus = open_corpus(sources=sources, shard_bytes=2**20, cache_dir=tmp_path)
    assert len(corpus) == 1
    phases = [Phase(until=40, batch_size=300, max_seq_length=32)]
    assert len(list(stream(corpus, phases=phases, workers=workers).epoch(0))) == 40


def test_a_corpus_without_rows_is_refused(
    open_corpus: Callable[..., Corpus], tmp_path: Path, corpus_file: Path
) -> None:
    (tmp_path / "blank.txt").write_text("\n \n" * 100)
    for sources in ([{"path": str(tmp_path / "blank.txt")}], [{"path": str(corpus_file), "weight": 0}]):
        with pytest.raises(DataError, match="contains no rows"):
            next(stream(open_corpus(sources=sources)).epoch(0))


@pytest.mark.parametrize("weight", [1, 2])
def test_whole_epochs_are_skipped_at_once(
    open_corpus: Callable[..., Corpus], corpus_file: Path, monkeypatch: pytest.MonkeyPatch, weight: int
) -> None:
    corpus = open_corpus(sources=[{"path": str(corpus_file), "weight": weight}], shard_bytes=2**16)
    # A place in the middle of an epoch, at the end of one, and at the start of one.
    windows = Windows(corpus, seed=3, special_tokens=2)
    rows = windows.epoch_rows(32)
    assert rows is not None
    places = {}
    for skips in (True, False):
        if not skips:
            monkeypatch.setattr(Windows, "epoch_rows", lambda *_: None)
        for count in (rows - 1, rows, rows + 1, 3 * rows, 3 * rows + 1, 5 * rows - 7):
            reader = _Reader(Windows(corpus, seed=3, special_tokens=2), None)
            reader.skip(17, 48)
            reader.skip(count, 32)
            taken = reader.take(rows)
            places[skips, count] = [array.tolist() for array in (taken.shards, taken.starts, taken.ends)]
    assert all(places[True, count] == places[False, count] for _, count in places)


def test_a_far_step_is_found_at_once(open_corpus: Callable[..., Corpus], monkeypatch: pytest.MonkeyPatch) -> None:
    entered = []
    enter = _Reader._enter_next_window
    monkeypatch.setattr(_Reader, "_enter_next_window", lambda reader: (entered.append(1), enter(reader)))
    phases = [Phase(until=10**9, batch_size=10**4, max_seq_length=32)]
    assert len(stream(open_corpus(), phases=phases).step_rows(10**8).rows) == 10**4
    assert len(entered) < 100
