"""How much text a corpus has, and how well it fills rows: counted, or estimated from some of its shards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from claf2.corpus.batches import InputLayout
from claf2.corpus.corpus import Corpus
from claf2.corpus.section import Phase
from claf2.errors import DataError

__all__ = ["CorpusStatistics", "FrequencyBaseline", "corpus_statistics", "frequency_baseline", "planned_epochs"]


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
    for number, source in enumerate(corpus.section.sources):
        chosen = _spread_shards(corpus, number, shards)
        stored = sum(block.stored_bytes for block in corpus.blocks if block.source == number)
        scale = stored / max(1, sum(corpus.blocks[index].stored_bytes for index in chosen))
        for index in chosen:
            shard = corpus.shard(index)
            counts = (shard.text_bytes, shard.documents, shard.sentences, len(shard))
            for name, value in zip(totals, counts, strict=True):
                totals[name] += scale * value
            for length in lengths:
                cut = corpus.rows(index, length - specials)
                rows[length] += scale * source.weight * len(cut)
                row_tokens[length] += scale * source.weight * (float(cut.lengths().sum()) + specials * len(cut))
                random_rows += scale * source.weight * float(cut.random_next.sum())
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


def _spread_shards(corpus: Corpus, source: int, shards: int | None) -> list[int]:
    """Return the shards of a source, or as many of them as allowed, which are spread over it."""
    members = [index for index, block in enumerate(corpus.blocks) if block.source == source]
    count = len(members) if shards is None else min(shards, len(members))
    return [members[place * len(members) // count] for place in range(count)]


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
    for number, source in enumerate(corpus.section.sources):
        for index in _spread_shards(corpus, number, shards):
            ids = corpus.shard(index).ids[corpus.held_out_tokens(index) :]
            counts += source.weight * np.bincount(ids, minlength=len(counts))
    nats = float(-np.log(counts / counts.sum())[masked].sum())
    known, frequency = np.unique(masked, return_counts=True)
    size = int(np.dot(corpus.tokenizer.byte_lengths(known.tolist()), frequency))
    return FrequencyBaseline(len(masked), nats / len(masked), nats / size)
