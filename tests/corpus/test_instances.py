"""Rows: no token twice, none lost, pairs that are what their label says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generated_text import byte_level

from claf2.corpus.corpus import Corpus
from claf2.corpus.encoding import BEGINS_DOCUMENT, BEGINS_SENTENCE, BEGINS_WORD
from claf2.corpus.instances.full_sentences import FullSentences
from claf2.corpus.rows import Rows, find_units
from claf2.corpus.section import InstancesSection, MasksSection, Phase
from claf2.corpus.stream import CorpusStream
from claf2.corpus.windows import Windows
from claf2.runtime.seed import generator
from claf2.tokenizers import Tokenizer

LARVA = [
    # A text of our own about a caterpillar with a mechanical name.
    "라바는 작은 애벌레이다. 라바는 아침마다 잎을 먹는다. 라바는 밤이 되면 잎 아래에서 잔다. 라바는 곧 나비가 된다.",
    "서버는 모델을 학습한다. 모델은 문장을 읽는다. 모델은 가려진 단어를 맞힌다. 학습은 열흘 동안 계속된다.",
]


def epoch_rows(corpus: Corpus, *, seed: int = 1, length: int = 32, specials: int = 2, epoch: int = 0) -> list[Rows]:
    windows = Windows(corpus, seed=seed, special_tokens=specials)
    return [windows.rows(epoch, window, length, None) for window in range(windows.count(epoch))]


def coverage(corpus: Corpus, rows: list[Rows]) -> np.ndarray:
    """Return how often each token of the corpus is in a row."""
    counts = [np.zeros(len(corpus.shard(number)), int) for number in range(len(corpus))]
    for part in rows:
        for shard, start, end in zip(part.shards.ravel(), part.starts.ravel(), part.ends.ravel(), strict=True):
            counts[shard % len(corpus)][start:end] += 1
    return np.concatenate(counts)


@pytest.mark.parametrize("name", ["full_sentences", "document"])
@pytest.mark.parametrize("length", [16, 32, 128])
def test_every_token_is_in_one_row(open_corpus: Callable[..., Corpus], name: str, length: int) -> None:
    corpus = open_corpus(instances={"name": name})
    rows = epoch_rows(corpus, length=length)
    assert (coverage(corpus, rows) == 1).all()
    assert max(part.lengths().max() for part in rows) <= length - 2


def test_rows_begin_with_a_sentence_or_in_one_that_is_too_long(open_corpus: Callable[..., Corpus]) -> None:
    corpus = open_corpus()
    for number in range(5):
        flags = corpus.shard(number).flags
        rows = corpus.rows(number, 30)
        starts = rows.starts[:, 0]
        assert (flags[starts] & BEGINS_WORD).all()
        inside = starts[flags[starts] & BEGINS_SENTENCE == 0]
        sentences = np.append(np.flatnonzero(flags & BEGINS_SENTENCE), len(flags))
        place = np.searchsorted(sentences, inside)
        assert (sentences[place] - sentences[place - 1] > 30).all()


def test_rows_are_filled_as_by_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    flags = np.where(rng.random(4000) < 0.5, BEGINS_WORD, 0)
    flags[rng.choice(4000, 250, replace=False)] = BEGINS_WORD | BEGINS_SENTENCE
    flags[rng.choice(4000, 40, replace=False)] = BEGINS_WORD | BEGINS_SENTENCE | BEGINS_DOCUMENT
    flags[0] = BEGINS_WORD | BEGINS_SENTENCE | BEGINS_DOCUMENT
    rows = FullSentences().cut(flags, np.array([[0, 4000]]), 50, generator(0))
    units = find_units(flags, np.array([[0, 4000]]), 50)
    expected: list[list[int]] = []
    size = 51
    for start, end in zip(units.starts.tolist(), units.ends.tolist(), strict=True):
        gap = 1 if flags[start] & BEGINS_DOCUMENT else 0
        if size + gap + end - start > 50:
            expected.append([start, end])
            size = end - start
        else:
            expected[-1][1] = end
            size += gap + end - start
    assert np.concatenate([rows.starts, rows.ends], 1).tolist() == expected


def test_a_rest_that_begins_inside_a_word_is_cut_to_the_room() -> None:
    flags = np.zeros(1700, np.uint8)
    flags[0] = BEGINS_WORD | BEGINS_SENTENCE | BEGINS_DOCUMENT
    flags[[1500, 1600]] = BEGINS_WORD
    units = find_units(flags, np.array([[300, 1700]]), 200)
    assert (units.ends - units.starts).tolist() == [200] * 7
    assert units.starts[0] == 300


def test_separators_stand_between_documents_only(open_corpus: Callable[..., Corpus], tokenizer: Tokenizer) -> None:
    corpus = open_corpus()
    stream = CorpusStream("t", corpus, [Phase(until=1, batch_size=200, max_seq_length=64)], seed=1, workers=0)
    ((_, (batch,)),) = stream.epoch(0)
    rows = epoch_rows(corpus, length=64)
    rows_of_step = Rows.concatenate(rows).take(slice(0, 200))
    unmasked = np.where(batch.arrays["labels"] == -100, batch.arrays["input_ids"], batch.arrays["labels"])
    inside = 0
    for number in range(200):
        shard = corpus.shard(int(rows_of_step.shards[number, 0]))
        expected = [tokenizer.template.single[0].ids[0]]
        for token in range(int(rows_of_step.starts[number, 0]), int(rows_of_step.ends[number, 0])):
            if len(expected) > 1 and shard.flags[token] & BEGINS_DOCUMENT:
                expected.append(tokenizer.separator_id)
                inside += 1
            expected.append(int(shard.ids[token]))
        expected.append(tokenizer.separator_id)
        assert batch.arrays["attention_mask"][number].sum() == len(expected)
        assert unmasked[number, : len(expected)].tolist() == expected
        assert (unmasked[number, len(expected) :] == tokenizer.pad_id).all()
    assert inside > 50


@pytest.mark.parametrize("name", ["full_sentences", "sentence_pair"])
def test_no_token_twice_an_epoch_across_a_change_of_length(open_corpus: Callable[..., Corpus], name: str) -> None:
    corpus = open_corpus(instances={"name": name}, window=6)
    phases = [(60, 10, 32), (130, 4, 64), (10**6, 6, 48)]
    stream = CorpusStream(
        "t", corpus, [Phase(until=u, batch_size=b, max_seq_length=n) for u, b, n in phases], seed=1, workers=0
    )
    windows = Windows(corpus, seed=1, special_tokens=stream.layout.special_tokens)
    last = windows.count(0)
    # The rows of each window of the first epoch, from the stream's own reader.
    from claf2.corpus.stream import _Reader

    reader, rows, position = _Reader(windows, None), [], 0
    for until, batch, length in phases:
        reader.skip(0, length)
        while position < until and reader._epoch == 0:
            # The last batch of the epoch is cut at its end.
            left = reader._size() - reader._offset if reader._window == last - 1 else batch
            if not left:
                break
            rows.append(reader.take(min(batch, left)))
            position += 1
    counts = coverage(corpus, rows)
    assert position > 150
    assert counts.max() == 1
    assert (counts == 1).mean() > (0.999 if name == "full_sentences" else 0.95)


def pairs(corpus: Corpus, **settings: Any) -> Rows:
    return Rows.concatenate(epoch_rows(corpus, specials=3, **settings))


def test_half_of_the_pairs_are_random_and_never_of_one_document(open_corpus: Callable[..., Corpus]) -> None:
    corpus = open_corpus(instances={"name": "sentence_pair"}, window=16)
    random_next = []
    for seed in range(4):
        rows = pairs(corpus, seed=seed)
        random_next.append(rows.random_next)
        same_document = rows.documents[:, 0] == rows.documents[:, 1]
        assert (same_document != rows.random_next).all()
        true_next = ~rows.random_next
        assert (rows.ends[true_next, 0] == rows.starts[true_next, 1]).all()
        assert (rows.shards[true_next, 0] == rows.shards[true_next, 1]).all()
        counts = coverage(corpus, [rows])
        assert counts.max() == 1
        assert (counts == 0).mean() < 0.01
        lengths = rows.lengths()
        assert lengths.min() >= 1
        assert lengths.sum(1).max() <= 29
        # The length says nothing about the label.
        means = [lengths[rows.random_next == flag, 1].mean() for flag in (False, True)]
        assert abs(means[0] - means[1]) < 0.1 * means[0]
    assert 0.49 <= np.concatenate(random_next).mean() <= 0.51
    assert (random_next[0][: len(random_next[1])] != random_next[1][: len(random_next[0])]).any()


@pytest.mark.parametrize("window", [1, 2, 16])
def test_where_a_part_ends_says_nothing_about_the_label(open_corpus: Callable[..., Corpus], window: int) -> None:
    corpus = open_corpus(instances={"name": "sentence_pair"}, window=window)
    rows = pairs(corpus, length=64)
    assert rows.random_next.mean() > 0.4
    for number in range(len(corpus)):
        flags = corpus.shard(number).flags
        # No sentence of this text is longer than half a row, so all parts end where a sentence ends.
        units = find_units(flags, np.array([[0, len(flags)]]), 30)
        sentences = np.append(np.flatnonzero(flags & BEGINS_SENTENCE), len(flags))
        own = rows.shards == number
        assert set(units.starts) >= set(rows.starts[own])
        assert set(units.ends) >= set(rows.ends[own])
        assert len(units) < 1.1 * len(sentences)


def test_pairs_of_the_larva_text(tmp_path: Path, open_corpus: Callable[..., Corpus], tokenizer: Tokenizer) -> None:
    path = tmp_path / "larva.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in LARVA))
    corpus = open_corpus(
        sources=[{"path": str(path)}],
        cache_dir=tmp_path,
        instances={"name": "sentence_pair", "sentence_pair": {"short_probability": 0}},
    )
    seen = Counter()
    sentences = [[sentence.strip() for sentence in text.rstrip(".").split(".")] for text in LARVA]
    for seed in range(30):
        rows = pairs(corpus, seed=seed, length=63)
        assert len(rows) == 2
        for number in range(2):
            documents = rows.documents[number] % 2**32
            seen[tuple(documents), bool(rows.random_next[number])] += 1
    # Both pairs are random, or neither: one document alone has no partner.
    assert set(seen) <= {((0, 0), False), ((1, 1), False), ((0, 1), True), ((1, 0), True)}
    assert len(sentences[0]) == len(sentences[1]) == 4


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_type_ids_and_special_tokens_are_those_of_the_tokenizer(
    open_corpus: Callable[..., Corpus], tokenizer: Tokenizer, tmp_path: Path, kind: str
) -> None:
    tokenizer = byte_level() if kind == "roberta" else tokenizer
    section = open_corpus().section.model_copy(
        update={
            "instances": InstancesSection(name="sentence_pair"),
            "masks": MasksSection(name="token", token={"rate": [[0, 0.0]]}),
        }
    )
    corpus = Corpus(section, tokenizer, cache_dir=tmp_path)
    specials, second_type = (3, 1) if kind == "bert" else (4, 0)
    stream = CorpusStream("t", corpus, [Phase(until=1, batch_size=50, max_seq_length=64)], seed=1, workers=0)
    ((_, (batch,)),) = stream.epoch(0)
    rows = Rows.concatenate(epoch_rows(corpus, length=64, specials=specials)).take(slice(0, 50))
    before, between, after = (part.ids for part in tokenizer.template.pair)
    for number in range(50):
        first, second = (
            corpus.shard(int(rows.shards[number, part]))
            .ids[rows.starts[number, part] : rows.ends[number, part]]
            .tolist()
            for part in (0, 1)
        )
        expected = [*before, *first, *between, *second, *after]
        length = len(expected)
        assert batch.arrays["input_ids"][number, :length].tolist() == expected
        types = [0] * (len(before) + len(first) + len(between)) + [second_type] * (len(second) + len(after))
        assert batch.arrays["token_type_ids"][number].tolist() == types + [0] * (64 - length)
        assert batch.arrays["attention_mask"][number].tolist() == [1] * length + [0] * (64 - length)
        assert batch.arrays["next_sentence_label"][number] == rows.random_next[number]
    assert (batch.arrays["labels"] == -100).all()


def test_weights_read_a_source_twice_or_in_every_second_epoch(
    tmp_path: Path, corpus_file: Path, open_corpus: Callable[..., Corpus]
) -> None:
    other = tmp_path / "other.jsonl"
    other.write_bytes(corpus_file.read_bytes())
    corpus = open_corpus(sources=[{"path": str(corpus_file), "weight": 2}, {"path": str(other), "weight": 0.5}])
    half = len(corpus) // 2
    counts = [coverage(corpus, epoch_rows(corpus, epoch=epoch)) for epoch in (0, 1)]
    tokens = sum(len(corpus.shard(number)) for number in range(half))
    assert (counts[0][:tokens] == 2).all()
    assert (counts[1][:tokens] == 2).all()
    assert (counts[0][tokens:] + counts[1][tokens:] == 1).all()
    assert 0.4 < counts[0][tokens:].mean() < 0.6
