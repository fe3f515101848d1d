"""The command ``corpus leakage``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claf2.cli.options import PATH, plugin_option
from claf2.errors import ConfigError

if TYPE_CHECKING:
    from claf2.task import Task

__all__ = ["leakage_command"]


@click.command("leakage", epilog="""\b
A source is PATH[,text_field=KEY], as for claf2 corpus show.

\b
Examples:
  claf2 corpus leakage 'wiki/*.jsonl' --suite larva_klue --data_dir DATA
  claf2 corpus leakage wiki.txt --task korquad=KorQuAD_v1.0_dev.json --remove clean/wiki
""")  # fmt: skip
@click.argument("sources", nargs=-1, metavar="SOURCE...", required=True)
@click.option("--suite", "suite_names", multiple=True, metavar="NAME", help="All tasks of a suite (repeatable).")
@click.option("--task", "task_names", multiple=True, metavar="NAME[=FILE]",
              help="A task, or one file of its rows (repeatable).")  # fmt: skip
@click.option("--data_dir", type=PATH, metavar="FOLDER",
              help="The folder of the benchmark's data.  [default: $CLAF2_DATA_DIR, or .]")  # fmt: skip
@click.option("--remove", "remove_to", type=PATH, metavar="FOLDER",
              help="Write the corpus without the lines that leak into a folder, as JSON Lines.")  # fmt: skip
@click.option("--record", is_flag=True,
              help="Write leakage.json beside the corpus, which pre-trainings on it then record.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@plugin_option
def leakage_command(
    sources: tuple[str, ...], suite_names: tuple[str, ...], task_names: tuple[str, ...], data_dir: Path | None,
    remove_to: Path | None, record: bool, as_json: bool, plugins: tuple[str, ...],
) -> None:  # fmt: skip
    """Count the rows of benchmarks that occur in a corpus.

    A row leaks if 13 consecutive words of one of its texts occur in a document; of a shorter text, all of its words, if
    there are 5 or more. In Japanese, these are 26 and 10 characters. Training data of the benchmarks are not looked up.
    """
    from claf2.cli.vocab import parse_source
    from claf2.corpus import leakage
    from claf2.corpus.sources import list_files
    from claf2.registry import load_plugin
    from claf2.runs.progress import show_progress
    from claf2.runtime.files import format_json

    for plugin in plugins:
        load_plugin(plugin)
    parsed = [parse_source(source) for source in sources]
    files = [path for paths in list_files(parsed) for path in paths]
    tasks, own_files = _find_tasks(suite_names, task_names)
    folder = data_dir or Path(os.environ.get("CLAF2_DATA_DIR") or ".").expanduser()
    with show_progress("reading benchmarks", len(tasks), "tasks") as progress:
        benchmark = leakage.read_benchmark(tasks, folder, own_files, progress.update)
    with show_progress("reading the corpus", sum(path.stat().st_size for path in files), "B") as progress:
        counts = leakage.find_leakage(benchmark, parsed, remove_to=remove_to, on_read=progress.update)
    if not counts.documents:
        # Nothing was looked at: a report would say that the corpus is clean.
        raise ConfigError("SOURCE", "holds no documents", hint="check the files and their text_field")
    report = leakage.report_leakage(benchmark, counts, files)
    if remove_to is not None:
        leakage.write_report(remove_to, leakage.report_removal(report, counts.written))
    if record:
        for place in sorted({path.parent for path in files}):
            leakage.write_report(place, report)
    click.echo(format_json(report, indent=2) if as_json else format_report(report, remove_to))


def _find_tasks(suite_names: tuple[str, ...], task_names: tuple[str, ...]) -> tuple[list[Task], dict[str, Path]]:
    """Return the tasks that are named, each once, and the files that are named for them.

    Raises:
        ConfigError: if none is named.
        RegistryError: if there is no suite or task of a name.
    """
    from claf2.task import suites, tasks

    found: dict[str, Task] = {}
    files: dict[str, Path] = {}
    for suite in suite_names:
        found |= {tasks.get(name).name: tasks.get(name) for name in suites.get(suite).columns}
    for text in task_names:
        name, equals, file = text.partition("=")
        task = tasks.get(name)
        found[task.name] = task
        if equals:
            files[task.name] = Path(file).expanduser()
    if not found:
        raise ConfigError(
            "--suite", "is missing", hint="name a suite, or tasks with --task; claf2 suite list lists them"
        )
    return list(found.values()), files


def format_report(report: dict[str, Any], remove_to: Path | None) -> str:
    """Return a report as text."""
    corpus = report["corpus"]
    lines = [f"{'task':<20} {'split':<16} {'rows':>9} {'too short':>10} {'leaked':>9} {'share':>8} {'all texts':>10}"]
    for entry in report["splits"]:
        checked = entry["rows"] - entry["too_short"]
        share = f"{entry['leaked'] / checked:.2%}" if checked else "–"
        lines.append(
            f"{entry['task']:<20} {entry['split']:<16} {entry['rows']:>9,} {entry['too_short']:>10,} "
            f"{entry['leaked']:>9,} {share:>8} {entry['whole']:>10,}"
        )
        lines += [f"  row {example['row']} is in {example['document']}" for example in entry["examples"]]
    if report["not_checked"]:
        lines.append(f"not checked, since there is no file: {', '.join(report['not_checked'])}")
    lines.append(
        f"corpus: {corpus['leaked_documents']:,} of {corpus['documents']:,} documents and "
        f"{corpus['leaked_lines']:,} of {corpus['lines']:,} lines leak"
    )
    if remove_to is not None:
        lines.append(
            f"{remove_to}: the corpus without these lines; {corpus['emptied_documents']:,} documents had no others"
        )
    return "\n".join(lines)
