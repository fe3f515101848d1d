"""Masks: their statistics over a million tokens, and that nothing is masked in part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from claf2.corpus.batches import MaskDraws
from claf2.corpus.corpus import Corpus
from claf2.corpus.encoding import BEGINS_EOJEOL, BEGINS_WORD, IS_SPECIAL
from claf2.corpus.masks import DRAWS, TokenGrid, value_at
from claf2.corpus.masks.mixture import MixtureMasks
from claf2.corpus.masks.ngram import NgramMasks
from claf2.corpus.section import MasksSection, Phase
from claf2.corpus.stream import CorpusStream
from claf2.errors import ModelError
from claf2.tokenizers import Tokenizer

KINDS = ("token", "word", "eojeol", "ngram")
FLAGS = {"word": BEGINS_WORD, "eojeol": BEGINS_EOJEOL, "ngram": BEGINS_WORD}


def batches(corpus: Corpus, steps: int = 21, rows: int = 512, length: int = 128) -> Iterator[dict[str, np.ndarray]]:
    phases = [Phase(until=steps, batch_size=rows, max_seq_length=length)]
    for _, (batch,) in CorpusStream("t", corpus, phases, seed=5, workers=0).epoch(0):
        yield dict(batch.arrays)


def grid(rows: int, length: int, seed: int = 0, word_length: float = 1.5) -> TokenGrid:
    """Rows of words of random lengths, three words to an eojeol."""
    rng = np.random.default_rng(seed)
    words = rng.random((rows, length)) < 1 / word_length
    words[:, 0], words[:, 1] = False, True
    eojeols = words & (np.cumsum(words, 1) % 3 == 1)
    flags = np.where(words, BEGINS_WORD, 0) | np.where(eojeols, BEGINS_EOJEOL, 0)
    flags[:, 0] = 0
    maskable = np.ones((rows, length), bool)
    maskable[:, 0] = False
    drawn = MaskDraws.of_step(seed, 0, rows, length)
    return TokenGrid(flags.astype(np.uint8), maskable, drawn.draws, drawn.order)


@pytest.mark.parametrize("kind", KINDS)
def test_rate_and_replacements_over_a_million_tokens(
    open_corpus: Callable[..., Corpus], tokenizer: Tokenizer, kind: str
) -> None:
    corpus = open_corpus(masks={"name": kind})
    specials = sorted(tokenizer.special_ids)
    counts = dict.fromkeys(("tokens", "chosen", "masked", "kept", "random"), 0)
    for arrays in batches(corpus):
        ids, labels = arrays["input_ids"], arrays["labels"]
        chosen = labels != -100
        text = np.where(chosen, labels, ids)
        assert not np.isin(text[chosen], specials).any()
        new = ids[chosen]
        assert not np.isin(new[new != tokenizer.mask_id], specials).any()
        counts["tokens"] += int((~np.isin(text, specials)).sum())
        counts["chosen"] += int(chosen.sum())
        counts["masked"] += int((new == tokenizer.mask_id).sum())
        counts["kept"] += int((new == labels[chosen]).sum())
        counts["random"] += int(((new != labels[chosen]) & (new != tokenizer.mask_id)).sum())
    assert counts["tokens"] > 1e6
    assert abs(counts["chosen"] / counts["tokens"] - 0.15) < 0.002
    # A random token is the token itself once in the size of the vocabulary.
    same = 0.1 / (tokenizer.vocab_size - len(specials))
    for name, share in (("masked", 0.8), ("random", 0.1 - same), ("kept", 0.1 + same)):
        assert abs(counts[name] / counts["chosen"] - share) < 0.003, name


@pytest.mark.parametrize("kind", ["word", "eojeol", "ngram"])
def test_no_unit_is_masked_in_part(open_corpus: Callable[..., Corpus], tokenizer: Tokenizer, kind: str) -> None:
    corpus = open_corpus(masks={"name": kind, "eojeol": {"rate": [[0, 0.3]]}})
    stream = CorpusStream("t", corpus, [Phase(until=3, batch_size=200, max_seq_length=64)], seed=5, workers=0)
    masks = corpus.masks.model_copy(update={"rate": [(0, 0.3)]})
    units = 0
    for step in stream._steps(0, _windows(corpus), None):
        _, flags, _, _ = stream.layout.tokens(step.rows, corpus.shard, 64)
        drawn = MaskDraws.of_step(5, step.step, 200, 64)
        maskable = (flags & (128 | IS_SPECIAL)) == 128
        chosen = masks.select(TokenGrid(flags, maskable, drawn.draws, drawn.order), step.step)
        unit = np.cumsum((flags & FLAGS[kind]) != 0, axis=1) + 1000 * np.arange(200)[:, None]
        for number in np.unique(unit[maskable]):
            members = chosen[(unit == number) & maskable]
            assert members.all() or not members.any()
            units += len(members) > 1
        assert not chosen[~maskable].any()
        assert chosen.any()
    assert units > 1000


def _windows(corpus: Corpus) -> Any:
    from claf2.corpus.windows import Windows

    return Windows(corpus, seed=5, special_tokens=2)


@pytest.mark.parametrize("kind", KINDS)
def test_all_or_nothing_without_special_tokens_around_a_row(kind: str) -> None:
    drawn = MaskDraws.of_step(0, 0, 8, 16)
    everywhere = np.full((8, 16), BEGINS_WORD | BEGINS_EOJEOL, np.uint8)
    tokens = TokenGrid(everywhere, np.ones((8, 16), bool), drawn.draws, drawn.order)
    for rate in (0.0, 1.0):
        masks = MasksSection(name=kind, **{kind: {"rate": [[0, rate]]}}).chosen()
        assert (masks.select(tokens, 0) == bool(rate)).all()


def test_a_word_of_many_tokens_is_chosen_as_often_as_one_of_few() -> None:
    tokens = grid(4000, 64)
    chosen = MasksSection(name="word").chosen().select(tokens, 0)
    words = np.cumsum(tokens.flags & BEGINS_WORD, axis=1)
    lengths = np.take_along_axis(
        np.stack([np.bincount(row, minlength=65) for row in words]), words.astype(np.int64), axis=1
    )
    inside = tokens.maskable
    for length in (1, 2, 3):
        assert abs(chosen[inside & (lengths == length)].mean() - 0.15) < 0.01


@pytest.mark.parametrize("unit", ["word", "eojeol"])
def test_lengths_of_ngrams(unit: str) -> None:
    tokens = grid(2000, 512)
    masks = NgramMasks(max_words=3, unit=unit)
    starts = masks.unit_starts(tokens)
    words = (tokens.flags & FLAGS[unit]) != 0
    assert starts is not None
    assert not (starts & ~words).any()
    assert starts[:, 1].all()
    # The words of each n-gram, without the last one of a row, which its end may cut.
    gram, row = np.cumsum(starts, axis=1), np.arange(2000)[:, None]
    sizes = np.zeros((2000, 513), int)
    np.add.at(sizes, (np.broadcast_to(row, words.shape)[words], gram[words]), 1)
    last = gram[:, -1]
    valid = (np.arange(513) >= 1) & (np.arange(513) < last[:, None])
    histogram = np.bincount(sizes[valid], minlength=5) / valid.sum()
    assert histogram[0] == histogram[4:].sum() == 0
    assert np.abs(histogram[1:4] - np.array([6, 3, 2]) / 11).max() < 0.02
    # Those that are chosen have the same lengths: they are chosen as a whole, whatever their length is.
    draws = np.take_along_axis(tokens.draws[0], gram, axis=1)
    chosen = masks.select(tokens, 0)
    assert np.array_equal(chosen, (draws < int(0.15 * 2**32)) & tokens.maskable)
    first = starts & chosen
    histogram = np.bincount(sizes[np.nonzero(first)[0], gram[first]], minlength=4)[1:4] / first.sum()
    assert np.abs(histogram - np.array([6, 3, 2]) / 11).max() < 0.02


def test_shares_of_a_mixture_follow_their_schedule() -> None:
    parts = {"eojeol": [[0, 1.0], [1000, 0.6]], "ngram": [[0, 0.0], [1000, 0.4]]}
    masks = MixtureMasks(parts=parts, rate=[[0, 0.3], [1000, 0.15]], update_every=100)
    for step in (0, 99, 100, 550, 599, 999, 1000, 5000):
        updated = min(1000, step - step % 100)
        shares, masked, total, rate = {"eojeol": 0, "ngram": 0}, 0, 0, 0.3 - 0.15 * updated / 1000
        for batch in range(10):
            tokens = grid(1024, 96, seed=batch)
            chosen = masks.select(tokens, step)
            alone = {name: masks._member(name).select(tokens, step) for name in parts}
            owners = [np.array_equal(chosen[row], alone["ngram"][row]) for row in range(1024)]
            both = [np.array_equal(alone["eojeol"][row], alone["ngram"][row]) for row in range(1024)]
            shares["ngram"] += sum(owner and not same for owner, same in zip(owners, both, strict=True))
            shares["eojeol"] += sum(not owner for owner in owners)
            masked, total = masked + int(chosen.sum()), total + int(tokens.maskable.sum())
        assert abs(shares["ngram"] / sum(shares.values()) - 0.4 * updated / 1000) < 0.005, step
        assert abs(masked / total - rate) < 0.004, step


def test_a_batch_is_divided_into_shares_exactly() -> None:
    order = MaskDraws.of_step(3, 17, 640, 8).order
    assert len(np.unique(order)) == 640
    assert order.min() >= 0
    assert order.max() < 1
    assert abs((order < 0.25).sum() - 160) <= 1
    assert MaskDraws.of_step(3, 17, 640, 8).draws.shape == (DRAWS, 640, 8)


def test_schedules() -> None:
    schedule = [(100, 0.3), (200, 0.1), (300, 0.1)]
    assert [value_at(schedule, step) for step in (0, 100, 150, 200, 300, 999)] == pytest.approx(
        [0.3, 0.3, 0.2, 0.1, 0.1, 0.1]
    )
    assert value_at([(0, 0.15)], 5) == 0.15


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        ({"parts": {"word": [[0, 0.5]], "token": [[0, 0.4]]}}, "must sum to 1, but sum to 0.9 at step 0"),
        ({"parts": {"word": [[0, 1], [10, 0.5]], "token": [[0, 0], [20, 0.5]]}}, "sum to 0.75 at step 10"),
        ({"parts": {"words": [[0, 1]]}}, "'words' is not registered; did you mean 'word'"),
        ({"parts": {"mixture": [[0, 1]]}}, "a mixture cannot be part of a mixture"),
        ({"blocks": {"ngram": {}}}, "the block 'ngram' belongs to no part"),
        ({"rate": [[10, 0.1], [0, 0.2]]}, "must ascend"),
        ({"rate": [[0, 1.5]]}, "less than or equal to 1"),
    ],
)
def test_wrong_masks_are_refused(block: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        MixtureMasks(**block)


def test_evaluation_has_the_same_masks_each_time(open_corpus: Callable[..., Corpus], tokenizer: Tokenizer) -> None:
    one = open_corpus(valid_documents=200, masks={"name": "eojeol", "eojeol": {"rate": [[0, 0.5]]}})
    other = open_corpus(valid_documents=200)
    features = one.valid_rows(64).features
    assert features == one.valid_rows(64).features == other.valid_rows(64).features
    labels = np.concatenate([row["labels"] for row in features])
    ids = np.concatenate([row["input_ids"] for row in features])
    maskable = (labels != -100) | ~np.isin(ids, sorted(tokenizer.special_ids))
    assert abs((labels != -100).sum() / maskable.sum() - 0.15) < 0.01


def test_a_tokenizer_without_a_mask_token_is_refused(
    open_corpus: Callable[..., Corpus], monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = open_corpus()
    monkeypatch.setattr(type(corpus.tokenizer), "mask_id", None)
    with pytest.raises(ModelError, match="has no mask token"):
        CorpusStream("t", corpus, [Phase(until=3, batch_size=4, max_seq_length=32)], seed=1)
