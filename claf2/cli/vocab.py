"""The commands ``vocab build``, ``vocab bench``, ``vocab study`` and ``vocab trim``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claf2.cli.options import PATH, NumberRange
from claf2.cli.vocab_extend import extend_command
from claf2.errors import ConfigError, RunError

if TYPE_CHECKING:
    from claf2.corpus.sources import TextSource
    from claf2.vocabulary.build import BuiltVocabulary

__all__ = ["vocab_group"]

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
LARGEST_SIZE = 2.0**60
"""More than any bound of a size. A larger number, which may be infinite, is reported like this one."""
SUBWORD_KINDS = click.Choice(["wordpiece", "bpe", "unigram", "character", "byte_bpe"])


def _parse_size(ctx: click.Context, parameter: click.Parameter, text: str) -> int:
    """Return a number of bytes such as ``64MB``, ``1.5G`` or ``1000000``; units are powers of 1000."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)B?", text, re.IGNORECASE)
    if match is None:
        raise click.BadParameter(f"{text!r} is not a size such as 64MB or 1.5GB.", ctx, parameter)
    size = float(match[1]) * UNITS[match[2].upper()]
    return int(min(size, LARGEST_SIZE))


data_dir_option = click.option("--data_dir", type=PATH, help="The folder that relative paths of sources start from.")


def sample_options(command: Any) -> Any:
    """Give a command the options that say how a corpus is cleaned, sampled and made into words."""
    for option in (
        data_dir_option,
        click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Determines the sample."),
        click.option("--character_coverage", type=NumberRange(0.5, 1), default=0.9999, show_default=True,
                     help="The share of the characters of the sample that get entries."),
        click.option("--sample_size", callback=_parse_size, default="64MB", show_default=True,
                     help="The most text to learn from, in bytes of UTF-8."),
        click.option("--rule", "rules", multiple=True, metavar="NAME[:FIELD=VALUE,…]",
                     help="A cleaning rule (repeatable), in place of the default rules; none: no cleaning."),
        click.option("--morphemes", metavar="NAME",
                     help="Let no entry span two morphemes: korean, mecab_ko or japanese."),
        click.option("--word", default="bert_basic", show_default=True, metavar="NAME[:FIELD=VALUE,…]",
                     help="The word tokenizer."),
        click.option("--kind", type=SUBWORD_KINDS, default="wordpiece", show_default=True,
                     help="The subword tokenizer."),
    ):  # fmt: skip
        command = option(command)
    return command


@click.group("vocab")
def vocab_group() -> None:
    """Build vocabularies, measure what they cost, and fit them to a corpus."""


@vocab_group.command("build", epilog="""\b
A source is PATH[,weight=W][,register=NAME][,text_field=KEY]. PATH may be a glob, and its files text, .jsonl or
.parquet, each also .gz or .zst. Cleaning rules: cjk, control, duplicate_documents, duplicate_lines, language, length,
near_duplicates, personal, repeats, unicode, whitespace.

\b
Examples:
  claf2 vocab build 'news/*.jsonl.gz,register=written' talks.txt,weight=2,register=spoken --size 32000 -o vocab/ko
  claf2 vocab build wiki.parquet --kind unigram --rule unicode:form=NFKC --rule control --rule whitespace -o vocab/u
  claf2 vocab build --from vocab/ko/vocabulary.lock.json -o vocab/again
""")  # fmt: skip
@click.argument("sources", nargs=-1, metavar="SOURCE...")
@click.option(
    "--from", "lock_file", type=PATH, metavar="LOCK", help="Repeat a build, and check that it gives the same bytes."
)
@click.option("--size", type=click.IntRange(10, 10**7), default=32_000, show_default=True,
              help="The number of entries, special tokens included.")  # fmt: skip
@click.option("-o", "--output", type=PATH, required=True, help="The new folder of the tokenizer.")
@click.option("--overwrite", is_flag=True, help="Replace a vocabulary that was built into the folder before.")
@sample_options
def build_command(sources: tuple[str, ...], lock_file: Path | None, output: Path, data_dir: Path | None,
                  overwrite: bool, **settings: Any) -> None:  # fmt: skip
    """Build a vocabulary from a corpus.

    The documents are cleaned by rules that count what they drop. From the sentences that stay, a sample is drawn in
    which every source has the share that its weight asks for. The folder can be loaded with AutoTokenizer, and its lock
    file repeats the build.
    """
    from claf2.vocabulary.build import build_vocabulary, rebuild_vocabulary

    if lock_file is not None:
        context = click.get_current_context()
        given = [
            name for name in settings if context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE
        ]
        if sources or given:
            what = f"--{given[0]}" if given else "sources"
            raise RunError(
                f"--from: cannot be used with {what}, since the lock file determines the vocabulary; leave it out"
            )
        built = rebuild_vocabulary(lock_file, output, data_dir=data_dir, overwrite=overwrite)
    else:
        spec = _make_spec(sources, settings)
        built = build_vocabulary(spec, output, data_dir=data_dir, overwrite=overwrite)
    click.echo(_format_built(built), nl=False)


def _make_spec(sources: Sequence[str], settings: dict[str, Any]) -> Any:
    from claf2.corpus.cleaning import DEFAULT_RULES, describe_rule, make_rule
    from claf2.registry import make_component
    from claf2.vocabulary.build import VocabularySpec

    if not sources:
        raise RunError("no sources: name one or more files, or --from LOCK")
    rules = settings.pop("rules") or DEFAULT_RULES
    if "none" in rules and len(rules) > 1:
        raise ConfigError("--rule none", "cannot be combined with other rules", hint="leave it out")
    word = _parse_component(settings.pop("word"), "word")
    described = [describe_rule(make_rule(*_parse_component(rule, "rule"))) for rule in rules if rule != "none"]
    fields = {
        "sources": tuple(map(parse_source, sources)),
        "word": {"name": word[0], **word[1]},
        "rules": tuple(described),
        **settings,
    }
    return make_component(VocabularySpec, fields, prefix="--")


def parse_source(text: str) -> TextSource:
    """Parse a source such as ``news/*.jsonl,weight=2,register=written``.

    Raises:
        ConfigError: if a field does not exist, or has a wrong value.
    """
    from claf2.corpus.sources import TextSource
    from claf2.registry import make_component

    hint = "a source is PATH[,weight=W][,register=NAME][,text_field=KEY]"
    path = text
    fields: dict[str, str] = {}
    # From the end, since the path may contain commas.
    while match := re.fullmatch(r"(.+),(\w+)=([^,]*)", path):
        path, name, value = match.groups()
        if name == "path":
            raise ConfigError(f"source {text}", "its path comes first, and has no name", hint=hint)
        fields["register_name" if name == "register" else name] = value
    if not path:
        raise ConfigError("source ''", "has no path", hint=hint)
    return make_component(TextSource, {"path": path, **fields}, prefix=f"source {text}: ", hint=hint)


def _parse_component(text: str, option: str) -> tuple[str, dict[str, str]]:
    """Parse a component such as ``length:min_characters=5,max_characters=1000``."""
    name, _, rest = text.partition(":")
    fields = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise ConfigError(f"--{option} {text}", f"{part!r} is not FIELD=VALUE")
        fields[key.strip()] = value.strip()
    return name, fields


def _format_built(built: BuiltVocabulary) -> str:
    from claf2.vocabulary.tables import format_table

    lock = built.lock
    cleaning, vocabulary = lock["cleaning"], lock["vocabulary"]
    rules = [
        [
            rule["rule"],
            *(f"{rule[name]:,}" for name in ("documents_dropped", "lines_dropped", "documents_changed")),
            ", ".join(f"{count:,} {kind}" for kind, count in rule["replacements"].items()),
        ]
        for rule in cleaning["rules"]
    ]  # fmt: skip
    shares = [
        [
            share["path"], share["register_name"] or "", f"{share['bytes_read'] / 1e6:,.2f} MB",
            f"{share['bytes_sampled'] / 1e6:,.2f} MB", f"{share['share']:.1%}", f"{share['asked']:.1%}",
        ]
        for share in lock["sample"]
    ]  # fmt: skip
    parts = [
        format_table(["source", "register", "cleaned", "sampled", "share", "asked"], shares, "text"),
        f"{vocabulary['entries']:,} entries for {vocabulary['characters']:,} characters, "
        f"which cover {vocabulary['character_coverage']:.3%} of the sample\n{built.folder}\n",
    ]
    if rules:
        header = ["cleaning rule", "documents dropped", "lines dropped", "documents changed", "replaced"]
        parts.insert(0, format_table(header, rules, "text"))
    return "\n".join(parts)


@vocab_group.command("bench", epilog="""\b
TEXTS is a source as in claf2 vocab build, or a .json file in SQuAD's format, whose paragraphs are measured.

\b
Examples:
  claf2 vocab bench vocab/8k vocab/32k klue/bert-base --texts KorQuAD_v1.0_dev.json
  claf2 vocab bench vocab/* --texts 'news/*.jsonl,register=written' --texts talks.txt --format markdown --chart size.svg
""")  # fmt: skip
@click.argument("tokenizers", nargs=-1, required=True, metavar="TOKENIZER...")
@click.option(
    "--texts", "sources", multiple=True, required=True, metavar="TEXTS", help="Texts to measure on (repeatable)."
)
@data_dir_option
@click.option("--limit", type=click.IntRange(1), metavar="N", help="The most documents of each source.  [default: all]")
@click.option("--language", type=click.Choice(["ko", "ja", "en"]),
              help="The language whose script is counted among the entries.  [default: that of the texts]")  # fmt: skip
@click.option("--format", "layout", type=click.Choice(["text", "markdown", "json"]), default="text", show_default=True,
              help="How the table is printed.")  # fmt: skip
@click.option("--chart", type=PATH, metavar="FILE", help="Write a chart of bytes per token by size, as SVG.")
def bench_command(tokenizers: tuple[str, ...], sources: tuple[str, ...], data_dir: Path | None, limit: int | None,
                  language: Any, layout: Any, chart: Path | None) -> None:  # fmt: skip
    """Measure what vocabularies cost on the same texts.

    TOKENIZER is the folder of a tokenizer or a model, or a hub id. The columns: the share of entries in the script of
    the language, the average length of a text in tokens, the share of unknown tokens, bytes per token, tokens per word,
    and what a BERT-base would need to see 1 GB of such texts once: steps of 256 × 512 tokens, and compute relative to
    the first vocabulary.
    """
    from claf2.runtime.files import format_json, write_text
    from claf2.tokenizers.build import load_tokenizer
    from claf2.vocabulary.bench import guess_language, measure_vocabulary, read_texts
    from claf2.vocabulary.tables import draw_measures, format_measures

    parsed = [parse_source(source) for source in sources]
    names = _shorten([source.path for source in parsed])
    texts = {name: read_texts(source, data_dir, limit) for name, source in zip(names, parsed, strict=True)}
    registers = {name: source.register_name for name, source in zip(names, parsed, strict=True)}
    spoken = language or guess_language([text for documents in texts.values() for text in documents])
    folders = [Path(name) if Path(name).is_dir() else name for name in tokenizers]
    measures = [
        measure_vocabulary(name, load_tokenizer(folder), texts, language=spoken, registers=registers)
        for name, folder in zip(_shorten(tokenizers), folders, strict=True)
    ]
    if chart is not None:
        write_text(chart, draw_measures(measures))
    if layout == "json":
        click.echo(format_json([vocabulary.to_json() for vocabulary in measures], indent=2))
    else:
        click.echo(format_measures(measures, layout), nl=False)


def _shorten(paths: Sequence[str]) -> list[str]:
    """Return the last part of each path, or the whole paths if these are not distinct.

    Raises:
        RunError: if a path is given twice.
    """
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise RunError(f"{twice}: named twice; leave one out")
    names = [Path(path).name if Path(path).exists() or "/" not in path else path for path in paths]
    return names if len(set(names)) == len(names) else list(paths)


@vocab_group.command("study", epilog="""\b
Example:
  claf2 vocab study 'news/*.jsonl.gz' --sizes 8000,32000 --fractions 0.01,0.05,0.1,0.3 --seeds 1-3
""")  # fmt: skip
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--sizes", default="8000,32000", show_default=True, metavar="N,…", help="Sizes of vocabularies.")
@click.option(
    "--fractions", default="0.01,0.05,0.1,0.3", show_default=True, metavar="F,…", help="Shares of the corpus."
)
@click.option("--seeds", default="1-3", show_default=True, metavar="1-5|1,2,…", help="The seeds of the samples.")
@click.option("--format", "layout", type=click.Choice(["text", "markdown", "json"]), default="text", show_default=True,
              help="How the table is printed.")  # fmt: skip
@click.option("--chart", type=PATH, metavar="FILE", help="Write a chart of overlap and usage, as SVG.")
@sample_options
def study_command(sources: tuple[str, ...], sizes: str, fractions: str, seeds: str, layout: Any, chart: Path | None,
                  data_dir: Path | None, **settings: Any) -> None:  # fmt: skip
    """Find the smallest sample that gives as good a vocabulary as the whole corpus.

    For each fraction and seed, a vocabulary is learned from a random sample and compared with that of the whole corpus.
    Overlap is the share of its entries that the sample finds. Usage is the share of the tokens of held-out text whose
    entries it finds. Length is how much longer held-out text becomes.
    """
    from claf2.cli.bench import parse_seeds
    from claf2.runtime.files import format_json, write_text
    from claf2.vocabulary.study import draw_study, format_study, study_samples

    study = study_samples(
        _make_spec(sources, settings),
        [int(number) for number in _parse_numbers(sizes, "sizes", 10, 10**7, whole=True)],
        _parse_numbers(fractions, "fractions", 1e-6, 1),
        parse_seeds(seeds),
        data_dir=data_dir,
    )
    if chart is not None:
        write_text(chart, draw_study(study))
    if layout == "json":
        click.echo(format_json(study.to_json(), indent=2))
    else:
        click.echo(format_study(study, layout), nl=False)


def _parse_numbers(text: str, option: str, least: float, most: float, *, whole: bool = False) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    if not numbers or not all(least <= number <= most and (number.is_integer() or not whole) for number in numbers):
        kind = "whole numbers" if whole else "numbers"
        raise RunError(f"--{option} {text[:40]}: expected {kind} from {least:g} to {most:g}, separated by commas")
    return sorted(set(numbers))


@vocab_group.command("trim", epilog="""\b
Examples:
  claf2 vocab trim intfloat/multilingual-e5-small --texts 'news/*.jsonl.gz' -o models/e5-small-ko
  claf2 vocab trim models/large --texts news.txt --size 32000 -o models/small
""")  # fmt: skip
@click.argument("model", metavar="MODEL")
@click.option("--texts", "sources", multiple=True, required=True, metavar="TEXTS",
              help="Texts whose entries are kept: a source as in claf2 vocab build (repeatable).")  # fmt: skip
@click.option("-o", "--output", type=PATH, required=True, help="The new folder of the model.")
@data_dir_option
@click.option("--min_count", type=click.IntRange(1), default=1, show_default=True,
              help="How often an entry must occur in the texts to be kept.")  # fmt: skip
@click.option(
    "--size", type=click.IntRange(1), metavar="N", help="Keep the N most frequent entries.  [default: all that occur]"
)
def trim_command(model: str, sources: tuple[str, ...], output: Path, data_dir: Path | None, min_count: int,
                 size: int | None) -> None:  # fmt: skip
    """Remove the entries that texts do not use from the vocabulary and the weights of a model.

    Special tokens and the characters of the texts are kept as well. For every text whose tokens were all kept, the new
    model gives the same outputs. The command compares both models on documents that it did not count, and fails if
    outputs differ.
    """
    from claf2.vocabulary.tables import format_trim
    from claf2.vocabulary.trim import trim_model

    parsed = [parse_source(source) for source in sources]
    result = trim_model(model, parsed, output, data_dir=data_dir, min_count=min_count, size=size)
    click.echo(f"{format_trim(result)}{output}")


vocab_group.add_command(extend_command)
