"""How much text a corpus has, and how well it fills rows: counted, or estimated from some of its shards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from claf2.corpus.batches import InputLayout
from claf2.corpus.corpus import Corpus
from claf2.corpus.section import Phase
from claf2.errors import DataError

__all__ = ["CorpusStatistics", "corpus_statistics", "planned_epochs"]


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
    specials = InputLayout(corpus.tokenizer, corpus.instances).special_tokens
    totals = dict.fromkeys(("text_bytes", "documents", "sentences", "tokens"), 0.0)
    rows, row_tokens = dict.fromkeys(lengths, 0.0), dict.fromkeys(lengths, 0.0)
    random_rows = 0.0
    read = 0
    for number, source in enumerate(corpus.section.sources):
        members = [index for index, block in enumerate(corpus.blocks) if block.source == number]
        count = len(members) if shards is None else min(shards, len(members))
        chosen = [members[place * len(members) // count] for place in range(count)]
        stored = sum(corpus.blocks[index].stored_bytes for index in members)
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


def planned_epochs(statistics: CorpusStatistics, phases: Sequence[Phase]) -> list[float]:
    """Return how many times each phase of a plan reads the corpus."""
    begins = [0, *(phase.until for phase in phases)]
    return [
        (phase.until - begin) * phase.batch_size / statistics.rows[phase.max_seq_length]
        for phase, begin in zip(phases, begins, strict=False)
    ]
