"""The commands of a bench: run, report, compare, gate. They import the heavy parts only when they are run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from claf2.errors import RunError

__all__ = ["bench", "compare_command", "gate_command"]

FREE = {"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": True}
FOLDER = click.Path(path_type=Path)
GATE_FAILED = 3


@click.group()
def bench() -> None:
    """Measure models on the tasks of a suite with several seeds, and report them with honest bands."""


@bench.command("run", context_settings=FREE)
@click.option("--suite", "name", required=True, help="Whose tasks: glue, klue, …; see claf2 suite list.")
@click.option("--models", multiple=True, metavar="A B …", help="Hub ids, folders, archives or URLs.")
@click.option("--checkpoints", multiple=True, metavar="GLOB", help="Checkpoints of a pre-training: 'dir/step-*'.")
@click.option("--tasks", default="", metavar="A,B,…", help="Some of the suite's tasks; all unless given.")
@click.option("--seeds", default="1-3", show_default=True, metavar="1-5|1,2,…", help="The seeds.")
@click.option("--recipe", metavar="NAME", help="Which of the suite's recipes; its first unless given.")
@click.option("--out", type=FOLDER, help="The folder; logs/bench/SUITE unless given.")
@click.option("--backend", type=click.Choice(["local", "ray"]), default="local", show_default=True)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes (local).")
@click.option("--cpus", type=click.IntRange(1), help="Threads of a cell; the cores shared among workers unless given.")
@click.option("--gpus", type=float, default=0.0, help="Local: how many there are; ray: a cell's share of one.")
@click.option("--keep/--no-keep", default=True, show_default=True, help="Keep the best checkpoint of each cell.")
@click.option("--retries", type=click.IntRange(0), default=1, show_default=True, help="Of a cell that fails.")
@click.option("--plugin", "plugins", multiple=True, metavar="FILE|MODULE", help="Components of your own.")
@click.option("--sample", is_flag=True, help="Take generated samples of the tasks instead of their data.")
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED)
def bench_run(name: str, models: tuple[str, ...], checkpoints: tuple[str, ...], tasks: str, seeds: str,
              recipe: str | None, out: Path | None, backend: str, workers: int, cpus: int | None, gpus: float,
              keep: bool, retries: int, plugins: tuple[str, ...], sample: bool,
              overrides: tuple[str, ...]) -> int:  # fmt: skip
    """Train every model on every task with every seed, and print one table.

    What is finished in the folder is not trained again, and what was interrupted goes on. Any field of the BaseConfigs
    can be set, as in train. Exits with 2 when a cell failed.
    """
    from claf2.registry import load_plugin
    from claf2.task import suites

    for plugin in plugins:
        load_plugin(plugin)
    suite = suites.get(name)

    from claf2.bench import matrix

    more = [word for word in _leading(overrides) for word in word.split(",")]
    given = [matrix.Model(each, each) for each in (*(one for all_ in models for one in all_.split(",")), *more)]
    found = [*given, *(each for pattern in checkpoints for each in matrix.checkpoints(pattern))]
    if not found:
        raise RunError("nothing to measure: give --models A B … or --checkpoints 'dir/step-*'")
    words = [*overrides[len(_leading(overrides)) :], *(["--data_reader.source", "sample"] if sample else [])]
    wanted = matrix.cells(
        suite, found, tasks=[each for each in tasks.split(",") if each], seeds=read_seeds(seeds),
        recipe=recipe or suite.recipes[0], overrides=words, plugins=plugins,
    )  # fmt: skip
    folder = out or Path("logs/bench") / suite.name
    measured = matrix.run(
        wanted, folder, backend=_backend(backend, workers, cpus, gpus), cpus=_threads(workers, cpus), keep=keep,
        retries=retries,
        tell=lambda progress: click.echo(progress.line(), err=True),
    )  # fmt: skip
    click.echo(_write(folder))
    lost = [each for each in measured if not each.scores]
    for each in lost:
        reason = each.failure or "not finished: another bench is at it"
        click.echo(f"{each.cell.model}, {each.cell.task}, seed {each.cell.seed}: {reason}", err=True)
    return 2 if lost else 0


def _leading(words: tuple[str, ...]) -> list[str]:
    """Return the words before the first option: further models."""
    found = []
    for word in words:
        if word.startswith("-"):
            break
        found.append(word)
    return found


def _threads(workers: int, cpus: int | None) -> int | None:
    import os

    return cpus or (max(1, (os.cpu_count() or 1) // workers) if workers > 1 else None)


def _backend(name: str, workers: int, cpus: int | None, gpus: float) -> Any:
    from claf2.bench import backends

    if name == "ray":
        return backends.RayCluster(cpus or 1, gpus)
    return backends.Processes(workers, int(gpus)) if workers > 1 else backends.Here()


def _write(folder: Path) -> str:
    """Write the table of a bench into its folder, as Markdown and JSON, and return it."""
    from dataclasses import asdict

    from claf2.bench import collect
    from claf2.store import write_json, write_text

    _, summary = collect.summarize(folder)
    table = collect.markdown(summary)
    write_text(folder / "bench.md", table)
    write_json(folder / "bench.json", asdict(summary))
    return table


@bench.command("report")
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("-o", "--output", type=FOLDER, default="report.html", show_default=True)
def bench_report(folder: Path, output: Path) -> None:
    """Write a bench as one HTML file that works offline; and bench.md and bench.json into its folder."""
    from claf2.bench import collect, html
    from claf2.store import write_text

    _write(folder)
    _, summary = collect.summarize(folder)
    write_text(output, html.render(summary))
    click.echo(str(output))


@click.command("compare")
@click.argument("first", metavar="A", type=FOLDER)
@click.argument("second", metavar="B", type=FOLDER)
@click.option("--force", is_flag=True, help="Compare scores of different recipes, and say so.")
@click.option("--level", type=click.FloatRange(0.5, 0.9999), default=0.95, show_default=True)
@click.option("--margin", type=click.FloatRange(0), default=2.0, show_default=True, help="Points worth finding.")
@click.option("--examples", type=click.IntRange(0), default=3, show_default=True, help="Shown of each side.")
def compare_command(first: Path, second: Path, force: bool, level: float, margin: float, examples: int) -> None:
    """Say whether B differs from A: each a run, or a folder with the runs of one model."""
    from claf2.bench import comparison

    found = comparison.compare(first, second, force=force, level=level, margin=margin)
    click.echo(comparison.markdown(found, examples=examples), nl=False)


@click.command("gate")
@click.argument("folder", metavar="RUNS", type=FOLDER)
@click.option("--baseline", type=FOLDER, required=True, help="The file that scores are held against.")
@click.option("--tolerance", type=click.FloatRange(0), default=1.0, show_default=True, help="Points a score may drop.")
@click.option("--alpha", type=click.FloatRange(1e-6, 0.5), default=0.05, show_default=True, help="False alarms.")
@click.option("--sequential", is_flag=True, help="Train further seeds until every task is decided.")
@click.option("--budget", type=click.IntRange(2), default=5, show_default=True, help="Seeds a task, when sequential.")
@click.option("--update", is_flag=True, help="Record the runs as the new baseline.")
@click.option("--reason", default="", help="Why, with --update.")
@click.option("--markdown", "markdown_file", type=FOLDER, help="Append the table, e.g. to $GITHUB_STEP_SUMMARY.")
@click.option("--junit", "junit_file", type=FOLDER, help="Write JUnit XML.")
@click.option("--json", "json_file", type=FOLDER, help="Write JSON.")
def gate_command(folder: Path, baseline: Path, tolerance: float, alpha: float, sequential: bool, budget: int,
                 update: bool, reason: str, markdown_file: Path | None, junit_file: Path | None,
                 json_file: Path | None) -> int:  # fmt: skip
    """Hold the runs in a folder against a baseline: exits with 3 only where a score has really dropped."""
    from claf2.bench import gate
    from claf2.store import write_json, write_text

    if update:
        tasks = gate.record(folder, baseline, reason)
        click.echo(f"{baseline}: {', '.join(tasks)}")
        return 0
    found = gate.check(
        baseline, folder, tolerance=tolerance, alpha=alpha, budget=budget if sequential else None,
        more=gate.another_seed if sequential else None,
    )  # fmt: skip
    table = gate.markdown(found)
    click.echo(table, nl=False)
    if markdown_file:
        markdown_file.parent.mkdir(parents=True, exist_ok=True)
        with markdown_file.open("a", encoding="utf-8") as file:
            file.write(table)
    if junit_file:
        write_text(junit_file, gate.junit(found))
    if json_file:
        write_json(json_file, gate.as_json(found))
    return GATE_FAILED if found.failed else 0


def read_seeds(text: str) -> list[int]:
    """Read seeds: ``1,2,5`` or ``1-5``.

    Raises:
        RunError: where it is neither.
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        last = last or first
        if not (first.isdecimal() and last.isdecimal() and len(last) < 19 and int(first) <= int(last)):
            raise RunError(f"--seeds {text[:40]}: not numbers; write 1,2,3 or 1-3")
        seeds += range(int(first), int(last) + 1)
    return list(dict.fromkeys(seeds))
