"""How much text a corpus has, and how well it fills rows: counted, or estimated from some of its shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from claf2.corpus.batches import InputLayout
from claf2.corpus.corpus import Corpus
from claf2.corpus.section import Phase
from claf2.errors import DataError

__all__ = ["CorpusStatistics", "FrequencyBaseline", "corpus_statistics", "frequency_baseline", "planned_epochs"]

COUNTED_ROWS = 4096
"""How many rows are counted at a time, in memory as arrays."""


@dataclass(frozen=True)
class CorpusStatistics:
    """The size of a corpus, without held-out documents where rows are counted."""

    shards: int
    """How many shards there are,"""
    shards_read: int
    """and of how many of them the other numbers are. Where these are fewer, the numbers are scaled up."""
    text_bytes: int
    """UTF-8 bytes of text, without line breaks."""
    documents: int
    sentences: int
    tokens: int
    rows: dict[int, float]
    """Length of a row in tokens → the rows of an epoch, as often as the weights of their sources say: a mean over
    epochs, which may be less than one row."""
    fill: dict[int, float]
    """Length of a row in tokens → the share of it that the rows fill."""
    random_next: float
    """The share of pairs whose second text is random before any are exchanged, or 0."""


@dataclass(frozen=True)
class FrequencyBaseline:
    """The loss on the masked tokens of the held-out documents of a model that knows only how often each token occurs.

    A pre-training whose loss is not below this one has learned nothing from the context of a token.
    """

    tokens: int
    """The number of masked tokens."""
    nats_per_token: float
    nats_per_byte: float


def corpus_statistics(
    corpus: Corpus,
    lengths: Sequence[int],
    *,
    shards: int | None = None,
    on_open: Callable[[int], None] | None = None,
) -> CorpusStatistics:
    """Count, or estimate, how much text a corpus has.

    Args:
        corpus: the corpus.
        lengths: lengths of rows in tokens, special tokens included.
        shards: the most shards to read of each source, which are spread over it; ``None``: all.
        on_open: is called with the number of shards that have been read, after each of them.

    Raises:
        DataError: if a text cannot be read, or there are no rows.
    """
    specials = InputLayout(corpus.tokenizer, corpus.instances, hides=False).special_tokens
    totals = dict.fromkeys(("text_bytes", "documents", "sentences", "tokens"), 0.0)
    rows, row_tokens = dict.fromkeys(lengths, 0.0), dict.fromkeys(lengths, 0.0)
    random_rows = 0.0
    read = 0
    for index, scale in _sample_shards(corpus, shards):
        shard = corpus.shard(index)
        counts = (shard.text_bytes, shard.documents, shard.sentences, len(shard))
        for name, value in zip(totals, counts, strict=True):
            totals[name] += scale * value
        weight = corpus.section.sources[corpus.blocks[index].source].weight
        for length in lengths:
            cut = corpus.rows(index, length - specials)
            rows[length] += scale * weight * len(cut)
            row_tokens[length] += scale * weight * (float(cut.lengths().sum()) + specials * len(cut))
            random_rows += scale * weight * float(cut.random_next.sum())
        read += 1
        if on_open is not None:
            on_open(read)
    if not all(rows.values()):
        raise DataError("corpus", "contains no rows", hint="check the files and the weights of its sources")
    return CorpusStatistics(
        shards=len(corpus),
        shards_read=read,
        **{name: round(value) for name, value in totals.items()},
        rows=rows,
        fill={length: row_tokens[length] / (length * rows[length]) for length in lengths},
        random_next=random_rows / sum(rows.values()),
    )


def _sample_shards(corpus: Corpus, shards: int | None) -> Iterator[tuple[int, float]]:
    """Yield the shards of each source, or as many of them as allowed, which are spread over it, and the factor by which
    their numbers are scaled up."""
    for source in range(len(corpus.section.sources)):
        members = [index for index, block in enumerate(corpus.blocks) if block.source == source]
        count = len(members) if shards is None else min(shards, len(members))
        chosen = [members[place * len(members) // count] for place in range(count)]
        stored, read = (sum(corpus.blocks[index].stored_bytes for index in group) for group in (members, chosen))
        for index in chosen:
            yield index, stored / max(1, read)


def planned_epochs(statistics: CorpusStatistics, phases: Sequence[Phase]) -> list[float]:
    """Return how many times each phase of a plan reads the corpus."""
    begins = [0, *(phase.until for phase in phases)]
    return [
        (phase.until - begin) * phase.batch_size / statistics.rows[phase.max_seq_length]
        for phase, begin in zip(phases, begins, strict=False)
    ]


def frequency_baseline(corpus: Corpus, max_seq_length: int, *, shards: int | None = None) -> FrequencyBaseline:
    """Compute the loss of the token frequencies on the rows that a pre-training is evaluated on.

    Args:
        corpus: the corpus.
        max_seq_length: the length of the held-out rows in tokens, special tokens included.
        shards: the most shards of each source to count tokens in; ``None``: all.

    Raises:
        ConfigError: if no documents are held out.
        DataError: if a text cannot be read.
    """
    rows = corpus.valid_rows(max_seq_length)
    labels = np.concatenate([np.asarray(row["labels"]) for row in rows.features])
    masked = labels[labels >= 0]
    # One is added to each count, so that a token that the training text lacks costs a finite number of nats.
    counts = np.ones(corpus.tokenizer.vocab_size)
    for index, scale in _sample_shards(corpus, shards):
        weight = corpus.section.sources[corpus.blocks[index].source].weight
        for ids in _target_ids(corpus, index, max_seq_length):
            counts += scale * weight * np.bincount(ids, minlength=len(counts))
    nats = float(-np.log(counts / counts.sum())[masked].sum())
    known, frequency = np.unique(masked, return_counts=True)
    size = int(np.dot(corpus.tokenizer.byte_lengths(known.tolist()), frequency))
    return FrequencyBaseline(len(masked), nats / len(masked), nats / size)


def _target_ids(corpus: Corpus, index: int, max_seq_length: int) -> Iterator[NDArray[np.integer]]:
    """Yield the ids in a shard that a training may have to predict: those of its text and, where whole rows are
    predicted, the special tokens after the first one."""
    if corpus.masks.effect == "hide":
        yield corpus.shard(index).ids[corpus.held_out_tokens(index) :]
        return
    layout = InputLayout(corpus.tokenizer, corpus.instances, hides=False)
    rows = corpus.rows(index, max_seq_length - layout.special_tokens).of_shard(index, len(corpus))
    for start in range(0, len(rows), COUNTED_ROWS):
        part = rows.take(slice(start, start + COUNTED_ROWS))
        ids, _, _, lengths = layout.tokens(part, corpus.shard, max_seq_length)
        yield ids[:, 1:][np.arange(1, max_seq_length) < lengths[:, None]]
