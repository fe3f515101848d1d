"""From the sources of a corpus to a cleaned sample of sentences."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate, pairwise
from pathlib import Path

from claf2.corpus.cleaning import Cleaner, CleaningCounts, CleaningRule
from claf2.corpus.sources import Document, TextSource, list_files, read_documents
from claf2.errors import DataError
from claf2.runs.progress import show_progress
from claf2.vocabulary.balanced_sampler import BalancedSampler, split_sentences

__all__ = ["HELD_OUT", "CorpusSample", "SourceShare", "draw_sample", "is_held_out", "list_files"]

logger = logging.getLogger("claf2")

TOLERANCE = 0.02
"""How far the share of a source may be from what its weight asks for, before it is reported."""


HELD_OUT = 20
"""One of so many documents is held out where vocabularies are measured on texts that they were not made from."""


@dataclass(frozen=True)
class SourceShare:
    """What a source contributes to a sample."""

    path: str
    register_name: str | None
    asked: float
    """The share that its weight asks for, 0–1."""
    share: float
    """Its share of the bytes of the sample, 0–1."""
    bytes_read: int
    """The bytes of its cleaned text."""
    bytes_sampled: int
    sentences_read: int
    sentences_sampled: int


@dataclass(frozen=True)
class CorpusSample:
    """A cleaned sample of a corpus."""

    sentences: list[str]
    """All sentences, source after source, each source in random order."""
    shares: list[SourceShare]
    counts: CleaningCounts

    def by_source(self) -> list[list[str]]:
        """Return the sentences of each source."""
        ends = list(accumulate((share.sentences_sampled for share in self.shares), initial=0))
        return [self.sentences[start:end] for start, end in pairwise(ends)]

    @property
    def num_bytes(self) -> int:
        """The bytes of its text in UTF-8."""
        return sum(share.bytes_sampled for share in self.shares)


def draw_sample(
    sources: Sequence[TextSource],
    files: Sequence[Sequence[Path]],
    rules: Sequence[CleaningRule],
    *,
    size: int,
    seed: int,
    keep: Callable[[Document], bool] | None = None,
) -> CorpusSample:
    """Read the documents of a corpus, clean them, and return a sample of their sentences.

    Args:
        sources: the sources with their weights.
        files: the files of each source, from ``list_files``.
        rules: the cleaning rules.
        size: the most bytes of the sample; see ``BalancedSampler``.
        seed: determines the sample.
        keep: which cleaned documents take part; ``None``: all.

    Raises:
        DataError: if a file is damaged, or no text is left.
    """
    cleaner = Cleaner(rules)
    sampler = BalancedSampler([source.weight for source in sources], size, seed)
    sizes = [[path.stat().st_size for path in paths] for paths in files]
    done = 0
    with show_progress("reading", sum(map(sum, sizes)), "B") as progress:
        for number, (source, paths) in enumerate(zip(sources, files, strict=True)):
            for path, file_size in zip(paths, sizes[number], strict=True):
                documents = read_documents(
                    path,
                    text_field=source.text_field,
                    source=number,
                    on_read=lambda position, done=done: progress.update(done + position),  # type: ignore[misc]
                )
                _add_documents(sampler, cleaner.clean_documents(documents), keep)
                done += file_size
    sample = CorpusSample(
        sentences=[text for number in range(len(sources)) for text in sampler.sentences(number)],
        shares=_shares(sources, sampler),
        counts=cleaner.counts,
    )
    if not sample.sentences:
        raise DataError(", ".join(source.path for source in sources), _explain_empty(sources, sampler))
    _report_shares(sample, sampler)
    return sample


def is_held_out(document: Document) -> bool:
    """Return whether a document belongs to the one in twenty that is held out, which depends on its id alone."""
    digest = blake2b(document.id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % HELD_OUT == 0


def _explain_empty(sources: Sequence[TextSource], sampler: BalancedSampler) -> str:
    if not any(source.weight for source in sources):
        return "every source has weight 0, so the sample is empty; raise one"
    if any(size and source.weight for source, size in zip(sources, sampler.seen_bytes, strict=True)):
        return "every sentence is larger than the sample; raise --sample_size"
    return "no text is left after cleaning"


def _add_documents(
    sampler: BalancedSampler, documents: Iterable[Document], keep: Callable[[Document], bool] | None
) -> None:
    for document in documents:
        if keep is None or keep(document):
            for sentence in split_sentences(document.text):
                sampler.add(document.source, sentence)


def _shares(sources: Sequence[TextSource], sampler: BalancedSampler) -> list[SourceShare]:
    weights, kept = sum(source.weight for source in sources), sum(sampler.kept_bytes)
    return [
        SourceShare(
            path=source.path,
            register_name=source.register_name,
            asked=source.weight / weights if weights else 0.0,
            share=sampler.kept_bytes[number] / kept if kept else 0.0,
            bytes_read=sampler.seen_bytes[number],
            bytes_sampled=sampler.kept_bytes[number],
            sentences_read=sampler.seen_sentences[number],
            sentences_sampled=sampler.num_sentences(number),
        )
        for number, source in enumerate(sources)
    ]


def _report_shares(sample: CorpusSample, sampler: BalancedSampler) -> None:
    """Log where a source is too small for its share, and the sample size that would keep the shares."""
    small = [share for share in sample.shares if share.share < share.asked - TOLERANCE]
    if small:
        shares = ", ".join(f"{share.path} {share.share:.1%} instead of {share.asked:.1%}" for share in small)
        logger.warning(
            "too little text for its weight: %s; --sample_size %d keeps the shares", shares, sampler.exact_size()
        )
