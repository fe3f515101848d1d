"""The commands ``data …``. Heavy modules are imported when they run."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from claf2.cli.options import PATH, WITH_OVERRIDES, plugin_option
from claf2.errors import ConfigError, RunError

if TYPE_CHECKING:
    from claf2.hygiene.rows import RowSplit

__all__ = ["data_group"]


@click.group("data")
def data_group() -> None:
    """Check the data of a task before a model is trained on it."""


@data_group.command("check", context_settings=WITH_OVERRIDES, epilog="""\b
Examples:
  claf2 data check train.tsv dev.tsv
  claf2 data check train.jsonl test.jsonl --text question,answer --label grade --html report.html
  claf2 data check --base_config klue/nsmc_bert --data_dir DATA --fix clean
  claf2 data check --base_config glue/rte_bert --data_dir DATA --corpus 'wiki/*.jsonl' --json
""")  # fmt: skip
@click.option("--base_config", metavar="NAME", help="Check the files of a BaseConfig, by the reader of its task.")
@click.option("--task", "task_name", metavar="NAME", help="Read FILES by the reader of a task.")
@click.option("--text", "texts", default="", metavar="A,B", help="The columns with text, in FILES of no task.")
@click.option("--label", metavar="COLUMN", help="The column of the label, in FILES of no task.")
@click.option("--corpus", multiple=True, metavar="SOURCE",
              help="Look for held-out rows in a corpus: PATH[,text_field=KEY] (repeatable).")  # fmt: skip
@click.option("--fix", type=PATH, metavar="FOLDER",
              help="Write cleaned copies of the files, and the list of changes, into a folder.")  # fmt: skip
@click.option("--html", type=PATH, metavar="FILE", help="Write the report as one HTML file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--no-labels", "no_labels", is_flag=True, help="Do not look for suspicious labels, which takes longest.")
@plugin_option
@click.argument("files", metavar="[FILES]... [--FIELD VALUE]...", nargs=-1, type=click.UNPROCESSED)
def check_command(
    base_config: str | None, task_name: str | None, texts: str, label: str | None, corpus: tuple[str, ...],
    fix: Path | None, html: Path | None, as_json: bool, no_labels: bool, plugins: tuple[str, ...],
    files: tuple[str, ...],
) -> None:  # fmt: skip
    """Check a data set: duplicates within and across splits, leakage, conflicting and suspicious labels, personal data,
    damaged text, and tables of lengths and labels.

    FILES are .jsonl, .json, .tsv or .csv with named columns, in SQuAD's format, or one text per line. Their names say
    which split they are: train, valid or dev, test. With --base_config, fields such as --data_dir say where the files
    of the task are.
    """
    from claf2.cli.vocab import parse_source
    from claf2.hygiene.check import check_data, join_reports
    from claf2.hygiene.fix import clean_copies, list_targets
    from claf2.hygiene.report import format_findings, render_findings
    from claf2.registry import load_plugin
    from claf2.runtime.files import write_text

    for plugin in plugins:
        load_plugin(plugin)
    given = {"--base_config": base_config, "--task": task_name, "--text": texts, "--label": label}
    _check_formats([option for option, value in given.items() if value])
    if base_config is not None:
        by_task = _read_configured(base_config, files, plugins)
    else:
        by_task = {"": _read_files(files, task_name, [name for name in texts.split(",") if name], label)}
    folders = {task: fix / task if len(by_task) > 1 else fix for task in by_task} if fix is not None else {}
    for task, folder in folders.items():  # before the check, which may take minutes
        list_targets(by_task[task], folder)
    if html is not None:
        _check_page(html, [split.path for splits in by_task.values() for split in splits])
    sources = [parse_source(source) for source in corpus]
    reports = {task: check_data(splits, sources, labels=not no_labels) for task, splits in by_task.items()}
    report = join_reports(reports) if len(reports) > 1 else next(iter(reports.values()))
    if fix is not None:
        changes = Counter[str]()
        for task, folder in folders.items():
            changes.update(clean_copies(by_task[task], folder))
        report["fixed"] = dict(changes)
    if html is not None:
        write_text(html, render_findings(report))
    if as_json:
        click.echo(json.dumps(report, ensure_ascii=False))
        return
    click.echo(format_findings(report))
    for change, count in report.get("fixed", {}).items():
        click.echo(f"{fix}: {count:,} {'row' if count == 1 else 'rows'} {change}")


def _check_formats(given: list[str]) -> None:
    """Check that not two of the options say how files are read, except that --text and --label go together."""
    for option in ("--base_config", "--task"):
        other = next((name for name in given if name != option), None)
        if option in given and other is not None:
            raise ConfigError(
                other, f"cannot be used with {option}, which says how files are read", hint="leave it out"
            )


def _check_page(html: Path, checked: list[Path]) -> None:
    """Check that a report can be written, and replaces no data."""
    existing = next(path for path in html.absolute().parents if path.exists())
    if html.is_dir() or not existing.is_dir():
        problem = f"{html}: is a folder" if html.is_dir() else f"{existing}: is a file"
        raise RunError(f"{problem}; give a file in a folder with --html")
    if html.resolve() in [path.resolve() for path in checked]:
        raise RunError(f"{html}: is one of the checked files; give another name with --html")


def _read_configured(
    base_config: str, overrides: tuple[str, ...], plugins: tuple[str, ...]
) -> dict[str, list[RowSplit]]:
    """Read the files of a BaseConfig: training and validation data, and the test file if it is there.

    Returns:
        Task → its splits.
    """
    from claf2 import config
    from claf2.data.splits import SplitData
    from claf2.hygiene.rows import read_task_split
    from claf2.runs.locate import data_dir, locate_splits

    experiment = config.load(base_config, overrides, plugins)
    by_task: dict[str, list[RowSplit]] = {}
    for name, located in locate_splits(experiment).items():
        task = experiment.tasks[name].task
        paths = {split: data.path for split, data in located.items() if isinstance(data, SplitData)}
        if "test" in task.files:
            paths["test"] = data_dir(experiment.tasks[name].data) / task.files["test"]
        # A validation split that is a part of the training file is read once, as train.
        seen: set[Path] = set()
        for split, path in paths.items():
            if path not in seen and (split != "test" or path.is_file()):
                by_task.setdefault(name, []).append(read_task_split(split, path, task))
            seen.add(path)
    if not by_task:
        raise ConfigError("base_config", "has no files of rows", hint="for a pre-training: claf2 corpus leakage")
    return by_task


def _read_files(files: tuple[str, ...], task_name: str | None, texts: list[str], label: str | None) -> list[RowSplit]:
    from claf2.hygiene.rows import guess_split, read_task_split, read_untyped_split
    from claf2.task import tasks

    if not files or any(file.startswith("-") for file in files):
        option = next((file for file in files if file.startswith("-")), "FILES")
        problem = "is missing" if option == "FILES" else "is not an option without --base_config"
        raise ConfigError(option, problem, hint="claf2 data check --help shows examples")
    paths = [Path(file).expanduser() for file in files]
    if task_name is not None:
        return [read_task_split(guess_split(path), path, tasks.get(task_name)) for path in paths]
    return [read_untyped_split(path, texts, label) for path in paths]
