"""Deleted words: their share, that units are deleted as a whole, and that the rows are the same for all processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from claf2.corpus.batches import MaskDraws
from claf2.corpus.corpus import Corpus
from claf2.corpus.encoding import BEGINS_EOJEOL, BEGINS_SENTENCE, BEGINS_WORD, IS_SPECIAL
from claf2.corpus.masks.deletion import Deletion
from claf2.corpus.masks.mixture import MixtureMasks
from claf2.corpus.preview import preview_rows
from claf2.corpus.section import Phase
from claf2.corpus.stream import CorpusStream
from claf2.tokenizers import Tokenizer

PHASES = [Phase(until=12, batch_size=64, max_seq_length=24), Phase(until=20, batch_size=32, max_seq_length=40)]
FLAGS = {"word": BEGINS_WORD, "eojeol": BEGINS_EOJEOL}
Open = Callable[..., Corpus]


def open_damaged(open_corpus: Open, unit: str = "word", rate: float = 0.6, **fields: Any) -> Corpus:
    masks = {"name": "deletion", "deletion": {"unit": unit, "rate": [[0, rate]]}}
    return open_corpus(masks=masks, instances={"name": "sentence"}, **fields)


def all_steps(corpus: Corpus, world_size: int = 1, start: int = 0, **settings: Any) -> list[dict[str, np.ndarray]]:
    """Return the whole batch of each step, put together from the rows of all processes."""
    ranks = [
        CorpusStream("t", corpus, PHASES, seed=3, rank=rank, world_size=world_size, **settings).epoch(0, start)
        for rank in range(world_size)
    ]
    steps = []
    for parts in zip(*ranks, strict=True):
        whole: dict[str, np.ndarray] = {}
        for rank, (_, batches) in enumerate(parts):
            for name in batches[0].arrays:
                rows = np.concatenate([batch.arrays[name] for batch in batches])
                whole.setdefault(name, np.empty((len(rows) * world_size, rows.shape[1]), np.int32))
                whole[name][rank::world_size] = rows
        steps.append(whole)
    return steps


def is_subsequence(part: list[int], whole: list[int]) -> bool:
    remaining = iter(whole)
    return all(token in remaining for token in part)


@pytest.mark.parametrize("unit", ["token", "word", "eojeol"])
def test_what_is_left_is_a_part_of_the_text_and_the_labels_are_the_text(
    open_corpus: Open, tokenizer: Tokenizer, unit: str
) -> None:
    corpus = open_damaged(open_corpus, unit)
    begin, end = tokenizer.template.single[0].ids[0], tokenizer.template.single[-1].ids[0]
    kept = tokens = 0
    for arrays in all_steps(corpus, workers=0):
        for ids, mask, labels in zip(
            *(arrays[name] for name in ("input_ids", "attention_mask", "labels")), strict=True
        ):
            left = ids[mask == 1].tolist()
            whole = [begin, *labels[labels != -100].tolist()]
            assert (left[0], left[-1], whole[-1]) == (begin, end, end)
            assert (labels[len(whole) - 1 :] == -100).all()
            assert (ids[len(left) :] == tokenizer.pad_id).all()
            assert is_subsequence(left, whole)
            assert len(left) >= min(3, len(whole))
            kept, tokens = kept + len(left) - 2, tokens + len(whole) - 2
    assert abs(kept / tokens - 0.4) < 0.03


@pytest.mark.parametrize("unit", ["word", "eojeol"])
def test_a_unit_is_deleted_as_a_whole_and_one_stays(open_corpus: Open, unit: str) -> None:
    """Also where all are to be deleted."""
    for rate in (0.6, 1.0):
        corpus = open_damaged(open_corpus, unit, rate)
        stream = CorpusStream("t", corpus, PHASES, seed=3, workers=0)
        step = stream.step_rows(0)
        _, flags, _, _ = stream.layout.tokens(step.rows, corpus.shard, step.length)
        drawn = MaskDraws.of_step(3, 0, len(step.rows), step.length)
        deleted = stream.layout.select(flags, corpus.masks, drawn, 0)
        units = np.cumsum((flags & FLAGS[unit]) != 0, axis=1)
        maskable = (flags & (128 | IS_SPECIAL)) == 128
        for row in range(len(flags)):
            by_unit = [deleted[row][(units[row] == number) & maskable[row]] for number in np.unique(units[row])]
            states = [bool(unit.all()) for unit in by_unit if len(unit)]
            assert all(unit.all() or not unit.any() for unit in by_unit)
            assert states.count(False) >= (1 if states else 0)
            assert rate < 1 or states.count(False) <= 1


def test_rows_are_sentences(open_corpus: Open) -> None:
    corpus = open_damaged(open_corpus)
    rows = corpus.rows(0, 22)
    flags = corpus.shard(0).flags
    begins = np.flatnonzero(flags & BEGINS_SENTENCE)
    assert set(begins.tolist()) <= set(rows.starts[:, 0].tolist())
    assert int(rows.lengths().sum()) == len(flags)
    assert rows.lengths().max() <= 22
    crossing = [(begins > start) & (begins < end) for start, end in zip(rows.starts, rows.ends, strict=True)]
    assert not np.any(crossing)


@pytest.mark.parametrize("settings", [
    {"world_size": 2, "workers": 0}, {"workers": 2}, {"max_tokens": 100, "workers": 0}, {"start": 13, "workers": 1},
])  # fmt: skip
def test_the_rows_do_not_depend_on_who_reads_them(open_corpus: Open, settings: dict[str, Any]) -> None:
    expected = all_steps(open_damaged(open_corpus), workers=0)[settings.get("start", 0) :]
    for one, other in zip(all_steps(open_damaged(open_corpus), **settings), expected, strict=True):
        for name in other:
            np.testing.assert_array_equal(one[name], other[name])


def test_held_out_rows_do_not_depend_on_the_settings_of_the_training(open_corpus: Open) -> None:
    first = open_damaged(open_corpus, valid_documents=20).valid_rows(24)
    second = open_damaged(open_corpus, "eojeol", 0.3, valid_documents=20).valid_rows(24)
    assert first.features == second.features
    kept = sum(len(row["input_ids"]) - 2 for row in first.features)
    tokens = sum(sum(label != -100 for label in row["labels"]) - 1 for row in first.features)
    assert abs(kept / tokens - 0.4) < 0.05


def test_a_preview_shows_what_is_deleted(open_corpus: Open) -> None:
    corpus = open_damaged(open_corpus, "eojeol")
    lines = preview_rows(corpus, CorpusStream("t", corpus, PHASES, seed=3, workers=0), 0, 5)
    assert all(line.startswith("[CLS]") and line.endswith("[SEP]") for line in lines)
    assert any("{" in line for line in lines)
    assert not any(">" in line or "=" in line for line in lines)


def test_deletions_are_no_part_of_a_mixture() -> None:
    for name in ("deletion", "next_token"):
        with pytest.raises(ValidationError, match=f"'{name}' hides no tokens"):
            MixtureMasks(parts={name: [[0, 1.0]]})
    assert Deletion(rate=[(0, 0.3)]).for_evaluation() == Deletion()
