"""The commands ``corpus show`` and ``corpus build``."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claf2.cli.corpus_leakage import leakage_command
from claf2.cli.options import PATH, WITH_OVERRIDES
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
        click.option("--tokenizer", "tokenizer_path", metavar="FOLDER",
                     help="The folder of a tokenizer or a model, or an id on the hub."),
        click.option("--sample", is_flag=True, help="With --base_config: use a small generated sample of its text."),
        click.option("--base_config", metavar="NAME",
                     help="Take text, tokenizer, plan and seed from a BaseConfig of a pre-training."),
        click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="SOURCE... | [--FIELD VALUE]..."),
    ):  # fmt: skip
        command = option(command)
    return command


@dataclass(frozen=True)
class CorpusPlan:
    """A corpus, and what a training does with it."""

    corpus: Corpus
    phases: list[Phase]
    seed: int


@click.group("corpus")
def corpus_group() -> None:
    """Look at the text of a pre-training, make its shards, and find rows of benchmarks in it."""


corpus_group.add_command(leakage_command)


@corpus_group.command("show", context_settings=WITH_OVERRIDES, epilog="""\b
A source is PATH[,weight=W][,register=NAME][,text_field=KEY]. A hidden token is shown as {text}, one that is predicted
but kept as {=text}, and one that is replaced as {text>other}.

\b
Examples:
  claf2 corpus show 'news/*.jsonl' talks.txt,weight=2 --tokenizer vocab/ko
  claf2 corpus show wiki.parquet --tokenizer vocab/ko --set instances.name=sentence_pair --set masks.name=word
  claf2 corpus show wiki.txt --tokenizer vocab/ko --phase 128:1024:900000 --phase 512:256:1000000 --step 950000
  claf2 corpus show --base_config scratch/pretrain --sample --masks.name eojeol
""")  # fmt: skip
@corpus_options
@click.option(
    "--phase",
    "phase_texts",
    multiple=True,
    metavar="LENGTH:BATCH:UNTIL",
    help="A phase: length of rows, rows per step, last step (repeatable).  [default: 128:256:10000]",
)
@click.option("--rows", "count", type=click.IntRange(0), default=3, show_default=True, help="How many rows to print.")
@click.option("--step", type=click.IntRange(0), default=0, show_default=True, help="The step that the rows belong to.")
@click.option("--seed", type=click.IntRange(0), help="The seed of the run.  [default: 42]")
@click.option(
    "--shards",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    metavar="N",
    help="Count in at most N shards of each source, and estimate the rest.",
)
@click.option("--all", "count_all", is_flag=True, help="Count in all shards.")
def corpus_show(
    phase_texts: tuple[str, ...], count: int, step: int, seed: int | None, shards: int, count_all: bool, **given: Any
) -> None:  # fmt: skip
    """Print how much text a corpus has, how often a plan reads it, and some masked rows.

    With --base_config, fields of the BaseConfig can be set as for train.
    """
    from claf2.corpus.preview import preview_rows
    from claf2.corpus.statistics import corpus_statistics, frequency_baseline
    from claf2.corpus.stream import CorpusStream
    from claf2.runs.progress import show_progress

    plan = open_plan(**given)
    corpus, phases = plan.corpus, [parse_phase(text) for text in phase_texts] or plan.phases
    stream = CorpusStream("show", corpus, phases, seed=plan.seed if seed is None else seed, workers=0)
    if step >= stream.steps_per_epoch:
        raise ConfigError("step", f"{step} is after the last step", hint=f"the plan has {stream.steps_per_epoch} steps")
    limit = None if count_all else shards
    lengths = sorted({phase.max_seq_length for phase in phases})
    total = len(corpus) if limit is None else min(len(corpus), limit * len(corpus.section.sources))
    with show_progress("reading shards", total, "shards") as progress:
        statistics = corpus_statistics(corpus, lengths, shards=limit, on_open=progress.update)
    click.echo(format_statistics(corpus, statistics, phases))
    if corpus.section.valid_documents:
        baseline = frequency_baseline(corpus, phases[0].max_seq_length, shards=limit)
        kind = "masked tokens" if corpus.masks.effect == "hide" else "tokens"
        click.echo(
            f"held out   {baseline.tokens:>15,} {kind}; the frequencies of the tokens alone predict them at "
            f"{baseline.nats_per_token:.3f} nats each, {baseline.nats_per_byte:.3f} per byte"
        )
    if count:
        share = f"{100 * corpus.masks.rate_at(step):.1f} % of the tokens are"
        effects = {
            "hide": f"{share} predicted", "delete": f"{share} deleted",
            "predict_next": "every token predicts the next one",
        }  # fmt: skip
        click.echo(f"\nstep {step}: {effects[corpus.masks.effect]}")
        for text in preview_rows(corpus, stream, step, count):
            click.echo(f"- {text}")


@corpus_group.command("build", context_settings=WITH_OVERRIDES, epilog="""\b
Examples:
  claf2 corpus build 'news/*.jsonl' talks.txt --tokenizer vocab/ko --workers 8
  claf2 corpus build --base_config pretrain/larva_base_ko --data_dir DATA --pretrained_model_name MODEL
""")  # fmt: skip
@corpus_options
def corpus_build(**given: Any) -> None:
    """Make all shards of a corpus ahead of a training.

    A training makes the shards that it needs, so this is only useful where its machine should not spend time on that.
    The fields instances and masks do not affect shards. With --base_config, fields of the BaseConfig can be set as for
    train.
    """
    from claf2.runs.progress import show_progress

    corpus = open_plan(**given).corpus
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
    from claf2.registry import make_component

    match = re.fullmatch(r"(\d+):(\d+):(\d+)", text, re.ASCII)
    if match is None:
        problem = f"{text!r} is not a length (8 or more), a batch size and a step"
        raise ConfigError("phase", problem, hint="for example 128:1024:900000")
    # The text of a number, since Python refuses to convert one of more than 4300 digits.
    fields = dict(zip(("max_seq_length", "batch_size", "until"), match.groups(), strict=True))
    return make_component(Phase, fields, prefix=f"--phase {text[:40]}: ", hint="it is LENGTH:BATCH:UNTIL")


def open_plan(
    words: tuple[str, ...],
    base_config: str | None,
    sample: bool,
    tokenizer_path: str | None,
    fields: tuple[str, ...],
    data_dir: Path | None,
    cache_dir: Path | None,
    workers: int,
) -> CorpusPlan:
    """Open the corpus that the options describe, or the one of a BaseConfig.

    Raises:
        ConfigError: if a field does not exist or has a wrong value, or options do not go together.
    """
    from claf2.corpus.section import Phase

    if base_config is not None:
        if tokenizer_path is not None or fields:
            problem = "cannot be combined with --base_config, which has a tokenizer and a corpus section"
            raise ConfigError(
                "--tokenizer" if tokenizer_path else "--set", problem, hint="set its fields: --FIELD VALUE"
            )
        folders = {"data_dir": data_dir, "cache_dir": cache_dir}
        extra = [word for name, path in folders.items() if path is not None for word in (f"--{name}", str(path))]
        return _plan_of_config(base_config, [*words, *extra], sample, workers)
    options = [word for word in words if word.startswith("-")]
    if options or sample:
        problem = "needs --base_config" if sample else "no such option"
        raise ConfigError("--sample" if sample else options[0], problem, hint="claf2 corpus show --help lists all")
    if not words or tokenizer_path is None:
        lacking = "SOURCE" if not words else "--tokenizer"
        raise ConfigError(lacking, "is missing", hint="give text files and a tokenizer, or --base_config")
    corpus = open_corpus(words, tokenizer_path, fields, data_dir, cache_dir, workers)
    return CorpusPlan(corpus, [Phase(until=10_000, batch_size=256, max_seq_length=128)], seed=42)


def _plan_of_config(name: str, overrides: list[str], sample: bool, workers: int) -> CorpusPlan:
    from claf2 import api
    from claf2.runs.corpus_splits import CorpusText
    from claf2.runs.resolve import resolve
    from claf2.training.trainers.pretrain import PretrainTrainer

    experiment = api.load(name, argv=overrides, sample=sample)
    trainer = experiment.trainer
    if not isinstance(trainer, PretrainTrainer):
        raise ConfigError("--base_config", f"{name} is no pre-training", hint="for example scratch/pretrain")
    run, data = resolve(experiment)
    ((_, splits),) = data.items()
    text = splits["train"]
    assert isinstance(text, CorpusText)  # what a pre-training trains on
    return CorpusPlan(text.open(run.tokenizer, workers), trainer.all_phases(), experiment.seed)


def open_corpus(
    sources: tuple[str, ...],
    tokenizer_path: str,
    fields: tuple[str, ...],
    data_dir: Path | None,
    cache_dir: Path | None,
    workers: int,
) -> Corpus:
    """Open the corpus of some sources.

    Raises:
        ConfigError: if a field does not exist, has a wrong value, or has no effect.
    """
    from claf2.cli.vocab import parse_source
    from claf2.corpus.corpus import Corpus
    from claf2.corpus.section import CorpusSection
    from claf2.registry import make_component
    from claf2.runtime.files import default_cache_dir
    from claf2.tokenizers.build import load_tokenizer

    values: dict[str, Any] = {"sources": [parse_source(source) for source in sources]}
    for field in fields:
        path, equals, text = field.partition("=")
        if not equals or not all(path.split(".")):
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
    section = make_component(CorpusSection, values)
    for path, problem in section.ignored_blocks().items():
        kind, _, selected = path.partition(".")
        raise ConfigError(f"--set {path}", problem, hint=f"add --set {kind}.name={selected}, or leave it out")
    folder = Path(tokenizer_path)
    tokenizer = load_tokenizer(folder if folder.exists() else tokenizer_path)
    return Corpus(section, tokenizer, cache_dir=cache_dir or default_cache_dir(), data_dir=data_dir, workers=workers)


def format_statistics(corpus: Corpus, statistics: CorpusStatistics, phases: list[Phase]) -> str:
    """Return the size of a corpus, and what a plan does with it, as text."""
    from claf2.corpus.statistics import planned_epochs

    counted = statistics.shards_read == statistics.shards
    width = corpus.id_width + 1
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
        rows_text = f"{rows:,.0f}" if rows >= 10 else f"{rows:.3g}"
        fill = statistics.fill[length]
        tokens = (phase.until - begin) * phase.batch_size * length * fill
        lines.append(
            f"{f'{begin:,}-{phase.until:,}':>19} {length:>7} {phase.batch_size:>6,} {rows_text:>15} {fill:>6.1%} "
            f"{tokens:>17,.0f} {epochs:>8.2f}"
        )
        begin = phase.until
    if corpus.instances.segments == 2 and statistics.documents < 2:
        lines.append("warning: all sentences are from one document, so no second sentence is random")
    if statistics.random_next > 0.5:
        lines.append(
            f"warning: {statistics.random_next:.0%} of the pairs are single sentences from different documents, so "
            "more than half of the second sentences are random"
        )
    return "\n".join(lines)
