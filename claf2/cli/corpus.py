"""The commands ``corpus show`` and ``corpus build``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claf2.cli.options import PATH
from claf2.errors import ConfigError

if TYPE_CHECKING:
    from claf2.corpus.corpus import Corpus
    from claf2.corpus.section import Phase
    from claf2.corpus.statistics import CorpusStatistics

__all__ = ["corpus_group"]


def corpus_options(command: Any) -> Any:
    """Give a command the options that say what a corpus consists of."""
    for option in (
        click.option("--workers", type=click.IntRange(1), default=2, show_default=True,
                     help="How many shards are made at a time."),
        click.option("--cache_dir", type=PATH,
                     help="The folder of the shards.  [default: $CLAF2_CACHE, or ~/.cache/claf2]"),
        click.option("--data_dir", type=PATH, help="The folder that relative paths of sources start from."),
        click.option("--set", "fields", multiple=True, metavar="FIELD=VALUE",
                     help="A field of the corpus section (repeatable), such as masks.name=ngram or window=32."),
        click.option("--tokenizer", "tokenizer_path", required=True, metavar="FOLDER",
                     help="The folder of a tokenizer or a model, or an id on the hub."),
        click.argument("sources", nargs=-1, required=True, metavar="SOURCE..."),
    ):  # fmt: skip
        command = option(command)
    return command


@click.group("corpus")
def corpus_group() -> None:
    """Look at the text of a pre-training, and make its shards."""


@corpus_group.command("show", epilog="""\b
A source is PATH[,weight=W][,register=NAME][,text_field=KEY]. A hidden token is shown as {text}, one that is predicted
but kept as {=text}, and one that is replaced as {text>other}.

\b
Examples:
  claf2 corpus show 'news/*.jsonl' talks.txt,weight=2 --tokenizer vocab/ko
  claf2 corpus show wiki.parquet --tokenizer vocab/ko --set instances.name=sentence_pair --set masks.name=word
  claf2 corpus show wiki.txt --tokenizer vocab/ko --phase 128:1024:900000 --phase 512:256:1000000 --step 950000
""")  # fmt: skip
@corpus_options
@click.option("--phase", "phase_texts", multiple=True, metavar="LENGTH:BATCH:UNTIL", default=("128:256:10000",),
              show_default=True, help="A phase: length of rows, rows per step, last step (repeatable).")  # fmt: skip
@click.option("--rows", "count", type=click.IntRange(0), default=3, show_default=True, help="How many rows to print.")
@click.option("--step", type=click.IntRange(0), default=0, show_default=True, help="The step that the rows belong to.")
@click.option("--seed", type=click.IntRange(0), default=42, show_default=True, help="The seed of the run.")
@click.option("--shards", type=click.IntRange(1), default=4, show_default=True, metavar="N",
              help="Count in at most N shards of each source, and estimate the rest.")  # fmt: skip
@click.option("--all", "count_all", is_flag=True, help="Count in all shards.")
def corpus_show(
    sources: tuple[str, ...], tokenizer_path: str, fields: tuple[str, ...], data_dir: Path | None,
    cache_dir: Path | None, workers: int, phase_texts: tuple[str, ...], count: int, step: int, seed: int, shards: int,
    count_all: bool,
) -> None:  # fmt: skip
    """Print how much text a corpus has, how often a plan reads it, and some masked rows."""
    from claf2.corpus.preview import preview_rows
    from claf2.corpus.statistics import corpus_statistics
    from claf2.corpus.stream import CorpusStream
    from claf2.vocabulary.progress import show_progress

    phases = [parse_phase(text) for text in phase_texts]
    corpus = open_corpus(sources, tokenizer_path, fields, data_dir, cache_dir, workers)
    stream = CorpusStream("show", corpus, phases, seed=seed, workers=0)
    if step >= stream.steps_per_epoch:
        raise ConfigError("step", f"{step} is after the last step", hint=f"the plan has {stream.steps_per_epoch} steps")
    limit = None if count_all else shards
    lengths = sorted({phase.max_seq_length for phase in phases})
    total = len(corpus) if limit is None else min(len(corpus), limit * len(sources))
    with show_progress("reading shards", total, "shards") as progress:
        statistics = corpus_statistics(corpus, lengths, shards=limit, on_open=progress.update)
    click.echo(format_statistics(corpus, statistics, phases))
    if count:
        click.echo(f"\nstep {step}: {100 * corpus.masks.rate_at(step):.1f} % of the tokens are predicted")
        for text in preview_rows(corpus, stream, step, count):
            click.echo(f"- {text}")


@corpus_group.command("build", epilog="""\b
Examples:
  claf2 corpus build 'news/*.jsonl' talks.txt --tokenizer vocab/ko --workers 8
""")  # fmt: skip
@corpus_options
def corpus_build(
    sources: tuple[str, ...], tokenizer_path: str, fields: tuple[str, ...], data_dir: Path | None,
    cache_dir: Path | None, workers: int,
) -> None:  # fmt: skip
    """Make all shards of a corpus ahead of a training.

    A training makes the shards that it needs, so this is only useful where its machine should not spend time on that.
    The fields instances and masks do not affect shards.
    """
    from claf2.vocabulary.progress import show_progress

    corpus = open_corpus(sources, tokenizer_path, fields, data_dir, cache_dir, workers)
    with show_progress("making shards", len(corpus), "shards") as progress:
        totals = corpus.build(progress.update)
    click.echo(
        f"{len(corpus):,} shards: {totals.documents:,} documents, {totals.tokens:,} tokens, "
        f"{totals.stored_bytes / 1e6:,.1f} MB in {corpus.folder}"
    )


def parse_phase(text: str) -> Phase:
    """Parse a phase such as ``128:1024:900000``.

    Raises:
        ConfigError: if it is not a length, a batch size and a step.
    """
    from claf2.corpus.section import Phase

    match = re.fullmatch(r"(\d+):(\d+):(\d+)", text)
    if match is None or int(match[1]) < 8 or int(match[2]) < 1 or int(match[3]) < 1:
        problem = f"{text!r} is not a length (8 or more), a batch size and a step"
        raise ConfigError("phase", problem, hint="for example 128:1024:900000")
    return Phase(max_seq_length=int(match[1]), batch_size=int(match[2]), until=int(match[3]))


def open_corpus(
    sources: tuple[str, ...],
    tokenizer_path: str,
    fields: tuple[str, ...],
    data_dir: Path | None,
    cache_dir: Path | None,
    workers: int,
) -> Corpus:
    """Open the corpus that the options describe.

    Raises:
        ConfigError: if a field does not exist, or has a wrong value.
    """
    from pydantic import ValidationError

    from claf2.cli.vocab import parse_source
    from claf2.corpus.corpus import Corpus
    from claf2.corpus.section import CorpusSection
    from claf2.runtime.files import default_cache_dir
    from claf2.tokenizers.build import load_tokenizer

    values: dict[str, Any] = {"sources": [parse_source(source) for source in sources]}
    for field in fields:
        path, equals, text = field.partition("=")
        if not equals:
            raise ConfigError(f"--set {field}", "is not FIELD=VALUE", hint="for example masks.name=word")
        *parents, name = path.split(".")
        block = values
        for parent in parents:
            block = block.setdefault(parent, {})
            if not isinstance(block, dict):
                raise ConfigError(f"--set {field}", f"{parent!r} is not a section", hint="for example masks.name=word")
        try:
            block[name] = json.loads(text)
        except ValueError:
            block[name] = text
    try:
        section = CorpusSection(**values)
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfigError(".".join(map(str, problem["loc"])), problem["msg"].removeprefix("Value error, ")) from error
    folder = Path(tokenizer_path)
    tokenizer = load_tokenizer(folder if folder.exists() else tokenizer_path)
    return Corpus(section, tokenizer, cache_dir=cache_dir or default_cache_dir(), data_dir=data_dir, workers=workers)


def format_statistics(corpus: Corpus, statistics: CorpusStatistics, phases: list[Phase]) -> str:
    """Return the size of a corpus, and what a plan does with it, as text."""
    from claf2.corpus.statistics import planned_epochs

    counted = statistics.shards_read == statistics.shards
    width = 3 if corpus.tokenizer.vocab_size <= 2**16 else 5
    lines = [
        f"{statistics.shards:,} shard{'' if statistics.shards == 1 else 's'}, "
        + ("all counted" if counted else f"estimated from {statistics.shards_read} of them (--all counts all)"),
        f"text       {statistics.text_bytes:>15,} bytes",
        f"documents  {statistics.documents:>15,}",
        f"sentences  {statistics.sentences:>15,}",
        f"tokens     {statistics.tokens:>15,}, {statistics.text_bytes / max(1, statistics.tokens):.2f} bytes each; "
        f"{width * statistics.tokens / 1e6:,.1f} MB of shards",
        "",
        f"{'steps':>19} {'length':>7} {'batch':>6} {'rows per epoch':>15} {'fill':>6} {'tokens':>17} {'epochs':>8}",
    ]
    begin = 0
    for phase, epochs in zip(phases, planned_epochs(statistics, phases), strict=True):
        length, rows = phase.max_seq_length, statistics.rows[phase.max_seq_length]
        fill = statistics.fill[length]
        tokens = (phase.until - begin) * phase.batch_size * length * fill
        lines.append(
            f"{f'{begin:,}-{phase.until:,}':>19} {length:>7} {phase.batch_size:>6,} {rows:>15,} {fill:>6.1%} "
            f"{tokens:>17,.0f} {epochs:>8.2f}"
        )
        begin = phase.until
    if statistics.random_next > 0.5:
        lines.append(
            f"warning: {statistics.random_next:.0%} of the pairs are single sentences from different documents, so "
            "more than half of the second sentences are random"
        )
    return "\n".join(lines)
