"""How large a sample must be: vocabularies of growing samples are compared with the one of the whole corpus."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from claf2.corpus.sources import Document
from claf2.errors import DataError
from claf2.runs.progress import show_progress
from claf2.runtime.seed import derive_seed
from claf2.tokenizers import Tokenizer
from claf2.vocabulary.bench import TEXTS_AT_ONCE, encode_bare
from claf2.vocabulary.build import VocabularySpec, learn_tokenizer, mark_morphemes
from claf2.vocabulary.sample import HELD_OUT, CorpusSample, draw_sample, is_held_out, list_files
from claf2.vocabulary.tables import Curve, TableFormat, draw_chart, format_table

__all__ = ["SampleStudy", "StudyPoint", "draw_study", "format_study", "study_samples"]

MAX_HELD_OUT = 5_000_000
"""The most characters of held-out documents."""
ENOUGH_USAGE = 0.98
ENOUGH_LENGTH = 0.01


@dataclass(frozen=True)
class StudyPoint:
    """The vocabulary of one sample, compared with that of the whole corpus."""

    size: int
    """The entries of the vocabularies."""
    fraction: float
    """The share of the corpus in the sample."""
    seed: int
    sample_bytes: int
    entries: int
    """The entries that were learned, which are fewer than ``size`` if the sample is too small."""
    overlap: float
    """The share of the entries of the whole corpus' vocabulary that this one has as well, 0–1."""
    usage: float
    """The share of the tokens of held-out text, by the whole corpus' vocabulary, whose entries this one has, 0–1."""
    length_change: float
    """The relative change of the number of tokens of held-out text; 0.01 is one percent more."""


@dataclass(frozen=True)
class SampleStudy:
    """All points of a study."""

    points: tuple[StudyPoint, ...]
    corpus_bytes: int
    held_out_bytes: int

    def select(self, size: int, fraction: float) -> list[StudyPoint]:
        """Return the points of a size and a fraction, one per seed."""
        return [point for point in self.points if (point.size, point.fraction) == (size, fraction)]

    @property
    def sizes(self) -> list[int]:
        """The sizes of vocabularies, ascending."""
        return sorted({point.size for point in self.points})

    @property
    def fractions(self) -> list[float]:
        """The fractions of the corpus, ascending."""
        return sorted({point.fraction for point in self.points})

    def smallest_sufficient(self, size: int) -> float | None:
        """Return the smallest fraction from which on every sample is enough; ``None`` if none is.

        A sample is enough if its usage is at least 0.98, and it makes texts at most 1 % longer.
        """
        smallest = None
        for fraction in reversed(self.fractions):
            points = self.select(size, fraction)
            if any(point.usage < ENOUGH_USAGE or point.length_change > ENOUGH_LENGTH for point in points):
                break
            smallest = fraction
        return smallest

    def to_json(self) -> dict[str, Any]:
        """Return the study as JSON values."""
        return {
            "corpus_bytes": self.corpus_bytes,
            "held_out_bytes": self.held_out_bytes,
            "smallest_sufficient": {str(size): self.smallest_sufficient(size) for size in self.sizes},
            "points": [asdict(point) for point in self.points],
        }


def study_samples(
    spec: VocabularySpec,
    sizes: Sequence[int],
    fractions: Sequence[float],
    seeds: Sequence[int],
    *,
    data_dir: Path | None = None,
) -> SampleStudy:
    """Build vocabularies from random samples of a corpus, and compare each with that of the whole corpus.

    One document in twenty is held out from all samples, and the vocabularies are measured on these documents.

    Args:
        spec: how vocabularies are built. Its sample size bounds what counts as the whole corpus, and its vocabulary
            size is not used.
        sizes: the sizes of vocabularies.
        fractions: the shares of the corpus to sample, each above 0 and at most 1, which is the whole corpus in
            another order.
        seeds: the seeds of the samples.
        data_dir: the folder that relative paths of sources start from.

    Raises:
        Claf2Error: if a file or a value cannot be used, or no document is held out.
    """
    held_out: list[str] = []
    analyzer = spec.make_segmenter()

    def keep(document: Document) -> bool:
        if not is_held_out(document):
            return True
        if sum(map(len, held_out)) < MAX_HELD_OUT:
            held_out.append(document.text)
        return False

    files = list_files(spec.sources, data_dir)
    sample = draw_sample(spec.sources, files, spec.make_rules(), size=spec.sample_size, seed=spec.seed, keep=keep)
    if not held_out:
        problem = f"too few documents: one in {HELD_OUT} is held out to measure on"
        raise DataError(spec.sources[0].path, problem, hint="in a text file, separate them by blank lines")
    marked = CorpusSample(mark_morphemes(sample.sentences, analyzer), sample.shares, sample.counts)
    points: list[StudyPoint] = []
    with show_progress("learning", _total_cost(sizes, fractions, seeds), "%") as progress:
        done = 0.0
        for size in sizes:
            sized = spec.model_copy(update={"size": size})
            whole = _Measured(learn_tokenizer(sized, marked.sentences)[0], held_out)
            if not whole.tokens:
                raise DataError(spec.sources[0].path, "its held-out documents have no token", hint="give other texts")
            done += 100
            progress.update(round(done))
            for seed in seeds:
                for fraction in fractions:
                    sentences = _subsample(marked, fraction, seed)
                    part = _Measured(learn_tokenizer(sized, sentences)[0], held_out)
                    num_bytes = sum(len(sentence.encode()) for sentence in sentences)
                    points.append(_compare(whole, part, size, fraction, seed, num_bytes))
                    done += 100 * fraction
                    progress.update(round(done))
    held_out_bytes = sum(len(text.encode()) for text in held_out)
    return SampleStudy(tuple(points), sample.num_bytes, held_out_bytes)


def _total_cost(sizes: Sequence[int], fractions: Sequence[float], seeds: Sequence[int]) -> int:
    """Return the work of a study, where learning from the whole corpus is 100."""
    return round(100 * len(sizes) * (1 + len(seeds) * sum(fractions)))


def _subsample(sample: CorpusSample, fraction: float, seed: int) -> list[str]:
    """Return a random sample with the same fraction of the bytes of each source, and at least one sentence of each.

    Samples with the same seed contain each other.
    """
    chosen = []
    for number, sentences in enumerate(sample.by_source()):
        order = list(range(len(sentences)))
        random.Random(derive_seed(seed, "study", number)).shuffle(order)
        room = fraction * sample.shares[number].bytes_sampled
        for index in order:
            if room <= 0:
                break
            chosen.append(sentences[index])
            room -= len(sentences[index].encode())
    return chosen


class _Measured:
    """A vocabulary and what it makes of held-out texts."""

    def __init__(self, tokenizer: Tokenizer, texts: Sequence[str]) -> None:
        self.entries = tokenizer.entries
        names = {number: entry for entry, number in self.entries.items()}
        self.tokens: Counter[str] = Counter()
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            for ids in encode_bare(tokenizer, texts[start : start + TEXTS_AT_ONCE]):
                self.tokens.update(names[token] for token in ids)


def _compare(whole: _Measured, part: _Measured, size: int, fraction: float, seed: int, sample_bytes: int) -> StudyPoint:
    total = whole.tokens.total()
    return StudyPoint(
        size=size,
        fraction=fraction,
        seed=seed,
        sample_bytes=sample_bytes,
        entries=len(part.entries),
        overlap=len(whole.entries.keys() & part.entries.keys()) / len(whole.entries),
        usage=sum(count for entry, count in whole.tokens.items() if entry in part.entries) / total,
        length_change=part.tokens.total() / total - 1,
    )


def format_study(study: SampleStudy, layout: TableFormat) -> str:
    """Return a study as a table, with the range over the seeds, and the smallest sample that is enough."""
    rows = []
    for size in study.sizes:
        for fraction in study.fractions:
            points = study.select(size, fraction)
            rows.append(
                [
                    f"{size:,}",
                    f"{fraction:.3g}",
                    f"{fmean(point.sample_bytes for point in points) / 1e6:.2f} MB",
                    _with_range([point.overlap for point in points], "{:.3f}"),
                    _with_range([point.usage for point in points], "{:.3f}"),
                    _with_range([point.length_change for point in points], "{:+.1%}"),
                ]
            )
    header = ["entries", "fraction", "sample", "overlap", "usage", "length"]
    lines = [format_table(header, rows, layout)]
    for size in study.sizes:
        enough = study.smallest_sufficient(size)
        if enough is None:
            lines.append(f"{size:,} entries: none of these samples is enough")
        else:
            amount = enough * study.corpus_bytes / 1e6
            lines.append(f"{size:,} entries: a sample of {enough:.3g} of the corpus is enough ({amount:.1f} MB)")
    lines.append(
        f"enough: usage of {ENOUGH_USAGE} or more, and texts at most {ENOUGH_LENGTH:.0%} longer, with every seed; "
        f"measured on {study.held_out_bytes / 1e6:.2f} MB of held-out documents\n"
    )
    return "\n".join(lines)


def _with_range(values: Sequence[float], form: str) -> str:
    mean = form.format(fmean(values))
    return mean if len(values) == 1 else f"{mean} [{form.format(min(values))}, {form.format(max(values))}]"


def draw_study(study: SampleStudy) -> str:
    """Return a chart of overlap and usage over the size of the sample, with bands over the seeds, as SVG."""
    curves = []
    labels: dict[float, str] = {}
    for size in study.sizes:
        for measure in ("usage", "overlap"):
            groups = [study.select(size, fraction) for fraction in study.fractions]
            values = [[getattr(point, measure) for point in points] for points in groups]
            xs = [fmean(point.sample_bytes for point in points) / 1e6 for points in groups]
            labels |= {x: f"{x:.3g}" for x in xs if not any(abs(x - other) < 0.1 * x for other in labels)}
            curves.append(
                Curve(
                    f"{measure}, {size:,}",
                    [(x, fmean(value)) for x, value in zip(xs, values, strict=True)],
                    [(min(value), max(value)) for value in values],
                )
            )
    return draw_chart("Vocabulary of a sample and of the whole corpus", curves, "MB of the sample", "share", labels)
