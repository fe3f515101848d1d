"""The commands ``bench run``, ``bench report``, ``compare`` and ``gate``. Heavy modules are imported when they run."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from claf2.cli.options import PATH, WITH_OVERRIDES, NumberRange, matrix_options, overrides_argument, plugin_option
from claf2.cli.reporting import report_progress, reporting_options
from claf2.errors import RunError

if TYPE_CHECKING:
    from claf2.benchmarking.backends import Backend
    from claf2.benchmarking.cells import CellResult
    from claf2.benchmarking.summary import Summary

__all__ = [
    "SCORE_DROPPED", "bench_group", "compare_command", "gate_command", "parse_seeds", "split_list", "suite_name",
]  # fmt: skip

CELL_FAILED = 2
"""The exit code of a bench in which a cell failed."""
SCORE_DROPPED = 3
"""The exit code of the gate if a score has dropped or is missing: not that of a user's mistake, so that CI can tell
them apart."""


DEFAULT_TOLERANCE = 1.0
"""The number of points by which a score may drop, unless the gate is told another."""

MOST_SEEDS = 1000
"""The most seeds of a bench."""


@click.group("bench")
def bench_group() -> None:
    """Measure models on the tasks of a suite with several seeds, and report the scores with confidence intervals."""


@bench_group.command("run", context_settings=WITH_OVERRIDES, epilog="""\b
Examples:
  claf2 bench run --suite klue --models klue/bert-base klue/roberta-base --seeds 1-5 --data_dir DATA
  claf2 bench run --suite glue --checkpoints 'pretraining/step-*' --tasks rte,mrpc --learning_rate 3e-5
  claf2 bench run --suite glue --models bert-base-cased --tasks rte,mrpc --variants variants.json --latency
""")  # fmt: skip
@matrix_options
@click.option("--models", multiple=True, metavar="A B …", help="Hub ids, folders, archives or URLs.")
@click.option("--checkpoints", multiple=True, metavar="GLOB", help="Checkpoints of a pre-training run: 'dir/step-*'.")
@click.option("--out", type=PATH, help="The folder of the bench.  [default: logs/bench/SUITE]")
@click.option("--keep/--no-keep", default=True, show_default=True, help="Keep the best checkpoint of each cell.")
@click.option("--variants", type=PATH, metavar="FILE",
              help="JSON: name → changed fields, and the arguments of an export.")  # fmt: skip
@click.option("--non-inferior", "margin", type=NumberRange(0), default=1.0, show_default=True, metavar="POINTS",
              help="By how many points a variant may be worse.")  # fmt: skip
@click.option("--latency", is_flag=True, help="Measure the latency of the variants at the end.")
@reporting_options
@plugin_option
@click.option("--sample", is_flag=True, help="Use generated samples of the tasks instead of their data.")
@overrides_argument
def bench_run(name: str, models: tuple[str, ...], checkpoints: tuple[str, ...], tasks: str, seeds: str,
              recipe: str | None, out: Path | None, backend: str, workers: int, cpus: int | None, gpus: float,
              keep: bool, variants: Path | None, margin: float, latency: bool, retries: int, board: str | None,
              notify: bool, plugins: tuple[str, ...], sample: bool, overrides: tuple[str, ...]) -> int:  # fmt: skip
    """Train every model on every task with every seed, and print one table.

    Finished cells are not trained again, and interrupted ones are resumed. Any field of the BaseConfigs can be set, as
    in claf2 train. The exit code is 2 if a cell failed.
    """
    from claf2 import api
    from claf2.benchmarking.variants import read_variants

    if latency and not keep:
        raise click.UsageError("--latency needs the models: leave out --no-keep")
    more_models = list(takewhile(lambda word: not word.startswith("-"), overrides))
    threads = cpus or (max(1, (os.cpu_count() or 1) // workers) if workers > 1 else None)
    results: list[CellResult] = []
    seed_list = parse_seeds(seeds)
    click.echo(f"seeds: {', '.join(map(str, seed_list))}", err=True)
    out = out or Path("logs/bench") / suite_name(name, plugins)
    with report_progress(out, f"bench {out}", board, notify) as reporter:
        summary = api.bench(
            name, split_list((*models, *more_models)), checkpoints=checkpoints, tasks=split_list([tasks]),
            seeds=seed_list, recipe=recipe, out=out, backend=_make_backend(backend, workers, cpus, gpus),
            cpus=threads, keep=keep, retries=retries, plugins=plugins, sample=sample, margin=margin, latency=latency,
            variants=None if variants is None else read_variants(variants),
            argv=overrides[len(more_models) :], on_progress=reporter.on_progress, on_result=results.append,
        )  # fmt: skip
    click.echo(_write_tables(out, summary))
    failed = [result for result in results if not result.scores]
    for result in failed:
        cell, reason = result.cell, result.failure or "not finished: another bench is training it"
        click.echo(f"{cell.model}, {cell.task}, seed {cell.seed}: {reason}", err=True)
    return CELL_FAILED if failed else 0


def suite_name(name: str, plugins: Iterable[str]) -> str:
    """Return the name of a suite that may be given by another one, or be that of a plug-in.

    Raises:
        Claf2Error: if there is no such suite, or a plug-in cannot be loaded.
    """
    from claf2.registry import load_plugin
    from claf2.task import suites

    for plugin in plugins:
        load_plugin(plugin)
    return suites.get(name).name


def split_list(texts: Iterable[str]) -> list[str]:
    """Return the entries of comma-separated lists."""
    return [entry for text in texts for entry in text.split(",") if entry]


def parse_seeds(text: str) -> list[int]:
    """Parse seeds such as ``1,2,5`` or ``1-5``.

    Raises:
        RunError: if the text is neither, or there are too many seeds.
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal() and len(last) < 19 and int(first) <= int(last)):
            raise RunError(f"--seeds {text[:40]}: neither numbers nor a range that rises; write 1,2,3 or 1-3")
        if len(seeds) + int(last) - int(first) >= MOST_SEEDS:
            raise RunError(f"--seeds {text[:40]}: more than {MOST_SEEDS} seeds; name fewer")
        seeds += range(int(first), int(last) + 1)
    return list(dict.fromkeys(seeds))


def _make_backend(name: str, workers: int, cpus: int | None, gpus: float) -> Backend:
    from claf2.benchmarking import backends

    if name == "ray":
        return backends.RayBackend(cpus or 1, gpus)
    return backends.ProcessBackend(workers, int(gpus)) if workers > 1 else backends.SerialBackend()


def _write_tables(folder: Path, summary: Summary) -> str:
    """Write bench.md and bench.json into the folder of a bench, and return the Markdown table."""
    from dataclasses import asdict

    from claf2.benchmarking.summary import format_summary
    from claf2.runtime.files import write_json, write_text

    table = format_summary(summary)
    write_text(folder / "bench.md", table)
    write_json(folder / "bench.json", asdict(summary))
    return table


@bench_group.command("report", epilog="""\b
Example:
  claf2 bench report logs/bench/klue -o report.html
""")  # fmt: skip
@click.argument("folder", metavar="DIR", type=PATH)
@click.option("-o", "--output", type=PATH, default="report.html", show_default=True, help="The HTML file.")
@click.option("--non-inferior", "margin", type=NumberRange(0), default=1.0, show_default=True, metavar="POINTS",
              help="By how many points a variant may be worse than the recipe itself.")  # fmt: skip
def bench_report(folder: Path, output: Path, margin: float) -> None:
    """Write the bench in DIR as one HTML file that works offline.

    bench.md and bench.json in DIR are rewritten as well.
    """
    from claf2.benchmarking.aggregation import summarize_bench
    from claf2.board.pages.folder import export_bench
    from claf2.runtime.files import write_text

    summary = summarize_bench(folder, margin=margin)
    _write_tables(folder, summary)
    write_text(output, export_bench(folder, summary))
    click.echo(str(output))


@click.command("compare", epilog="""\b
Example:
  claf2 compare logs/bench/klue/klue_bert-base-* logs/bench/klue/klue_roberta-base-*
""")  # fmt: skip
@click.argument("first", metavar="A", type=PATH)
@click.argument("second", metavar="B", type=PATH)
@click.option("--force", is_flag=True, help="Compare scores of different recipes; the output says so.")
@click.option("--level", type=NumberRange(0.5, 0.9999), default=0.95, show_default=True,
              help="Confidence level of the intervals.")  # fmt: skip
@click.option("--margin", type=NumberRange(0), default=2.0, show_default=True,
              help="Smallest difference of interest, in points.")  # fmt: skip
@click.option("--examples", type=click.IntRange(0), default=3, show_default=True,
              help="Number of gained and lost examples to show per task.")  # fmt: skip
def compare_command(first: Path, second: Path, force: bool, level: float, margin: float, examples: int) -> None:
    """Test whether model B scores differently from model A.

    A and B are each a run, or a folder with the runs of one model.
    """
    from claf2 import api
    from claf2.benchmarking.comparison import format_comparison

    comparison = api.compare(first, second, force=force, level=level, margin=margin)
    click.echo(format_comparison(comparison, examples=examples), nl=False)


@click.command("gate", epilog="""\b
Examples:
  claf2 gate logs/bench/klue/model --baseline baseline.json --update --reason "first baseline"
  claf2 gate logs/bench/klue/model --baseline baseline.json --tolerance 1 --junit gate.xml
  claf2 gate logs/bench/klue/smaller --baseline baseline.json --non-inferior 1
""")  # fmt: skip
@click.argument("folder", metavar="RUNS", type=PATH)
@click.option("--baseline", type=PATH, required=True, help="The baseline file.")
@click.option("--tolerance", type=NumberRange(0), help="Number of points by which a score may drop.  [default: 1]")
@click.option("--non-inferior", type=NumberRange(0), metavar="POINTS",
              help="Instead of --tolerance: pass only if it is shown that no score dropped by more.")  # fmt: skip
@click.option("--alpha", type=NumberRange(1e-6, 0.5), default=0.05, show_default=True,
              help="Probability of a false alarm over all tasks; with --non-inferior, of a false pass.")  # fmt: skip
@click.option("--sequential", is_flag=True, help="Train more seeds until every task is decided.")
@click.option("--budget", type=click.IntRange(2), default=5, show_default=True,
              help="Largest number of seeds per task, with --sequential.")  # fmt: skip
@click.option("--waive", multiple=True, metavar="TASK",
              help="A task that may lack runs (repeatable); with --update, it may leave the baseline.")  # fmt: skip
@click.option("--update", is_flag=True, help="Record the runs as the new baseline.")
@click.option("--reason", default="", help="Why the baseline is updated, with --update.")
@click.option("--markdown", "markdown_file", type=PATH, help="Append the table to a file, e.g. $GITHUB_STEP_SUMMARY.")
@click.option("--junit", "junit_file", type=PATH, help="Write the result as JUnit XML.")
@click.option("--json", "json_file", type=PATH, help="Write the result as JSON.")
def gate_command(folder: Path, baseline: Path, tolerance: float | None, non_inferior: float | None, alpha: float,
                 sequential: bool, budget: int, waive: tuple[str, ...], update: bool, reason: str,
                 markdown_file: Path | None, junit_file: Path | None, json_file: Path | None) -> int:  # fmt: skip
    """Compare the runs in a folder with a baseline.

    The exit code is 3 only if a score has dropped by more than the tolerance and chance cannot explain it, or if a task
    of the baseline was not measured. With --non-inferior, it is 3 unless every task is shown to have dropped by less.
    """
    from claf2.benchmarking import gate, gate_report
    from claf2.runtime.files import write_json, write_text

    if update:
        tasks = gate.record_baseline(folder, baseline, reason, waive=waive)
        click.echo(f"{baseline}: {', '.join(tasks)}")
        return 0
    if tolerance is not None and non_inferior is not None:
        raise click.UsageError("--tolerance cannot be combined with --non-inferior: give one of them")
    points = non_inferior if non_inferior is not None else DEFAULT_TOLERANCE if tolerance is None else tolerance
    result = gate.run_gate(
        baseline, folder, tolerance=points, alpha=alpha,
        budget=budget if sequential else None, train_seed=gate.train_next_seed if sequential else None, waive=waive,
        needs_evidence=non_inferior is not None,
    )  # fmt: skip
    table = gate_report.format_gate(result)
    click.echo(table, nl=False)
    if markdown_file:
        markdown_file.parent.mkdir(parents=True, exist_ok=True)
        with markdown_file.open("a", encoding="utf-8") as file:
            file.write(table)
    if junit_file:
        write_text(junit_file, gate_report.format_junit(result))
    if json_file:
        write_json(json_file, gate_report.gate_to_dict(result))
    return SCORE_DROPPED if result.failed else 0
