"""The commands that show what there is: BaseConfigs, tasks and suites; and the archive of a suite's submission."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from claf2.cli.options import PATH, WITH_OVERRIDES, overrides_argument, plugin_option
from claf2.errors import Claf2Error, ConfigError

if TYPE_CHECKING:
    from claf2.metrics import Metric
    from claf2.task import Suite, Task

__all__ = ["config_group", "suite_group", "tasks_group"]


@click.group("config")
def config_group() -> None:
    """List, show, check and compare BaseConfigs."""


@config_group.command("list", epilog="""\b
Example:
  claf2 config list
""")  # fmt: skip
def config_list() -> None:
    """Print the name of every BaseConfig."""
    from claf2.config import source

    click.echo("\n".join(source.list_configs()))


@config_group.command("show", context_settings=WITH_OVERRIDES, epilog="""\b
Examples:
  claf2 config show glue/rte_bert --learning_rate 3e-5
  claf2 config show klue/korquad_bert --json > my_korquad.json
""")  # fmt: skip
@click.argument("name")
@plugin_option
@click.option("--json", "as_json", is_flag=True, help="Print a BaseConfig, without origins.")
@overrides_argument
def config_show(name: str, plugins: tuple[str, ...], as_json: bool, overrides: tuple[str, ...]) -> None:
    """Print every field of a BaseConfig and the origin of its value."""
    from claf2 import config
    from claf2.config import source

    filled = config.fill(name, overrides, plugins)
    config.validate(filled)
    if as_json:
        click.echo(json.dumps(filled.values, ensure_ascii=False, indent=2))
        return
    lines = [
        (f"{path} = {json.dumps(value, ensure_ascii=False)}", path) for path, value in source.iter_leaves(filled.values)
    ]
    width = min(90, max(len(line) for line, _ in lines))
    for line, path in lines:
        click.echo(f"{line:<{width}}  # {filled.origins.get(path, 'default')}")


@config_group.command("validate", epilog="""\b
Example:
  claf2 config validate my_configs/*.json
""")  # fmt: skip
@click.argument("files", nargs=-1, required=True)
@plugin_option
def config_validate(files: tuple[str, ...], plugins: tuple[str, ...]) -> None:
    """Check BaseConfigs, and print one line for each.

    The exit code is 2 if any of them is invalid.
    """
    from claf2 import api

    wrong = 0
    for file in files:
        try:
            api.load(file, plugins=plugins)
            click.echo(f"{file}: ok")
        except Claf2Error as error:
            wrong += 1
            click.echo(f"{file}: {error}", err=True)
    if wrong:
        raise ConfigError("config validate", f"{wrong} of {len(files)} BaseConfigs are invalid", hint="see above")


@config_group.command("diff", epilog="""\b
Example:
  claf2 config diff glue/rte_bert glue/mrpc_bert
""")  # fmt: skip
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
def config_diff(first: str, second: str) -> None:
    """Print the fields in which two BaseConfigs differ, defaults included."""
    from claf2 import config

    for path, here, there in config.diff(config.fill(first), config.fill(second)):
        click.echo(f"{path}: {json.dumps(here, ensure_ascii=False)} -> {json.dumps(there, ensure_ascii=False)}")


@config_group.command("schema", epilog="""\b
Example:
  claf2 config schema > base_config.schema.json
""")  # fmt: skip
def config_schema() -> None:
    """Print the JSON Schema of a BaseConfig, for editors."""
    from claf2 import config

    click.echo(json.dumps(config.json_schema(), ensure_ascii=False, indent=2))


@click.group("tasks")
def tasks_group() -> None:
    """List and show tasks."""


@tasks_group.command("list", epilog="""\b
Example:
  claf2 tasks list
""")  # fmt: skip
@plugin_option
def tasks_list(plugins: tuple[str, ...]) -> None:
    """Print every task with its language, head and metrics."""
    for task in _load_tasks(plugins):
        names = ", ".join(_metric_name(metric) for metric in task.metrics)
        click.echo(f"{task.name:<16} {task.language:<3} {task.head:<9} {names}")


@tasks_group.command("show", epilog="""\b
Example:
  claf2 tasks show korquad
""")  # fmt: skip
@click.argument("name")
@plugin_option
def tasks_show(name: str, plugins: tuple[str, ...]) -> None:
    """Print one task: its files, reader, labels, metrics, source and licence."""
    from claf2.readers import readers
    from claf2.task import tasks

    _load_tasks(plugins)
    task = tasks.get(name)
    row = task.model_dump(mode="json")
    row["reader"] = {readers.name_of(type(task.reader)): task.reader.model_dump(mode="json")}
    row["metrics"] = {_metric_name(metric): metric.model_dump(mode="json") for metric in task.metrics}
    click.echo(json.dumps(row, ensure_ascii=False, indent=2))


@tasks_group.command("handbook", epilog="""\b
Example:
  claf2 tasks handbook > docs/tasks.md
""")  # fmt: skip
def tasks_handbook() -> None:
    """Print a page of Markdown on all tasks and suites: formats, metrics, recipes, published scores, errata."""
    from claf2 import config
    from claf2.cli.handbook import format_handbook
    from claf2.config import source
    from claf2.task import tasks

    configs: dict[str, list[str]] = {}
    for name in source.list_configs():
        if name.startswith("multi_task/"):
            continue
        reader = config.fill(name).values.get("data_reader")
        if reader is not None:  # else it trains several tasks
            configs.setdefault(tasks.get(reader["dataset"]).name, []).append(name)
    click.echo(format_handbook(_load_tasks(()), _load_suites(), configs), nl=False)


def _load_tasks(plugins: tuple[str, ...]) -> list[Task]:
    """Return all tasks by name, each once."""
    from claf2.registry import load_plugin
    from claf2.task import tasks

    for plugin in plugins:
        load_plugin(plugin)
    by_name = {task.name: task for task in map(tasks.get, tasks.names())}
    return [by_name[name] for name in sorted(by_name)]


def _load_suites() -> list[Suite]:
    """Return all suites by name, each once."""
    from claf2.task import suites

    by_name = {suite.name: suite for suite in map(suites.get, suites.names())}
    return [by_name[name] for name in sorted(by_name)]


def _metric_name(metric: Metric) -> str:
    from claf2.metrics import metrics

    return metrics.name_of(type(metric))


@click.group("suite")
def suite_group() -> None:
    """List suites, which are benchmarks of several tasks, and prepare submissions."""


@suite_group.command("list", epilog="""\b
Example:
  claf2 suite list
""")  # fmt: skip
def suite_list() -> None:
    """Print every suite with its recipes and tasks."""
    for suite in _load_suites():
        click.echo(f"{suite.name:12} {', '.join(suite.recipes):40} {' '.join(suite.columns)}")


@suite_group.command("submit", epilog="""\b
Example:
  claf2 suite submit glue --out logs/bench/glue --archive submission.zip
""")  # fmt: skip
@click.argument("name")
@click.option("--out", type=PATH, help="The folder of the bench.  [default: logs/bench/NAME]")
@click.option("--archive", type=PATH, default="submission.zip", show_default=True, help="The file to write.")
def suite_submit(name: str, out: Path | None, archive: Path) -> None:
    """Predict the official test files of a suite with the best run of each task, and zip the predictions in the format
    that the benchmark expects."""
    from claf2.benchmarking.submission import write_submission
    from claf2.task import suites

    suite = suites.get(name)
    for problem in write_submission(suite, out or Path("logs/bench") / suite.name, archive):
        click.echo(f"not in {archive}: {problem}", err=True)
    click.echo(str(archive))
