"""The command line. It imports what is heavy inside a command only, so that help and listings answer at once."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from claf2 import __version__
from claf2.bench.commands import bench, compare_command, gate_command
from claf2.errors import Claf2Error, ConfigError, RunError

__all__ = ["evaluate", "main", "train"]

FREE = {"ignore_unknown_options": True, "allow_extra_args": True}
"""Overrides are any option that a command does not know."""


class _Console(logging.Formatter):
    """What is said to people: plain lines, warnings marked as such."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        return prefix + super().format(record)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``claf2``. Exit codes: 0 done, 1 a bug, 2 a user's mistake (one line, no traceback), 130 interrupted."""
    logger = logging.getLogger("claf2")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Console())
    logger.handlers = [handler]
    try:
        code = claf2.main(arguments, prog_name="claf2", standalone_mode=False)
    except Claf2Error as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (OSError, UnicodeError) as error:  # a full disk, a folder where a file is due, bytes that are no text
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


def train() -> None:
    """Run ``claf2 train``: what `train.py` does."""
    main(["train", *sys.argv[1:]])


def evaluate() -> None:
    """Run ``claf2 evaluate``: what `evaluate.py` does."""
    main(["evaluate", *sys.argv[1:]])


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def claf2() -> None:
    """Fine-tune language encoders with fixed, published recipes, and get scores that can be trusted."""


def _experiment_options(command: Any) -> Any:
    """Give a command the options that say what is trained, and where."""
    for option in (
        click.argument("overrides", nargs=-1, type=click.UNPROCESSED),
        click.option("--overwrite", is_flag=True, help="Replace the run in the folder, if there is one."),
        click.option("--resume", is_flag=True, help="Go on with the run in the folder, if there is one."),
        click.option("--sample", is_flag=True, help="Take a small generated sample of the task instead of its data."),
        click.option("--plugin", "plugins", multiple=True, metavar="FILE|MODULE", help="Components of your own."),
        click.option("--tasks", metavar="A,B,…", help="BaseConfigs trained together: glue/rte_bert,glue/mrpc_bert."),
        click.option("--base_config", metavar="NAME", help="A BaseConfig by name (klue/korquad_bert) or path."),
    ):
        command = option(command)
    return command


def _experiment(
    base_config: str | None, tasks: str | None, plugins: tuple[str, ...], sample: bool, overrides: tuple[str, ...]
) -> Any:
    if base_config is None and tasks is None:
        raise ConfigError("base_config", "is missing", hint="--base_config NAME; see claf2 config list")

    from claf2 import config

    words = [
        *overrides,
        *(["--tasks", tasks] if tasks else []),
        *(["--data_reader.source", "sample"] if sample else []),
    ]
    return config.load(base_config or "multi_task/mtdnn", words, plugins)


@claf2.command("train", context_settings=FREE)
@click.option("--from_run", metavar="RUN", type=click.Path(path_type=Path), help="Repeat a run as its run.json says.")
@click.option("--changed", default="", metavar="A,B,…", help="With --from_run: what may be other than it was.")
@_experiment_options
def train_command(from_run: Path | None, changed: str, resume: bool, overwrite: bool, **given: Any) -> None:
    """Train an experiment; any field of it can be set: --section.field VALUE, or a unique end of that path."""
    if from_run is None and changed:
        raise ConfigError("changed", "is of --from_run")
    if from_run is not None and any(value for name, value in given.items() if name != "overrides"):
        problem = "repeats a run as it was"
        raise ConfigError("from_run", problem, hint="leave out --base_config, --tasks, --plugin and --sample")
    experiment: Any = None if from_run is not None else _experiment(**given)

    from claf2 import ranks, run

    with ranks.joined():
        if from_run is None:
            report = run.train(experiment, resume=resume, overwrite=overwrite)
        else:
            kinds = [each for each in changed.split(",") if each]
            report = run.repeat(from_run, given["overrides"], changed=kinds, resume=resume, overwrite=overwrite)
        if ranks.first():
            click.echo(report.summary())


@claf2.command("explain", context_settings=FREE)
@click.option("--steps", default=3, type=click.IntRange(0), metavar="N", help="Steps to measure; 0: none.")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@_experiment_options
def explain_command(steps: int, as_json: bool, resume: bool, overwrite: bool, **given: Any) -> None:
    """Say what train would do with the same words, and what it would cost; nothing is trained or left behind."""
    experiment = _experiment(**given)

    from claf2.explain import explain, show

    found = explain(experiment, steps=steps, resume=resume, overwrite=overwrite)
    click.echo(json.dumps(found, ensure_ascii=False, indent=2) if as_json else show(found))


@claf2.command("evaluate")
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("data_file", required=False, type=click.Path(path_type=Path))
@click.option("--task", metavar="NAME", help="Which of several tasks, or the task that DATA_FILE is of.")
def evaluate_command(folder: Path, data_file: Path | None, task: str | None) -> None:
    """Judge the best checkpoint of a run on its validation data, or on DATA_FILE, and write the predictions."""
    from claf2 import inference, ranks

    with ranks.joined():
        report = inference.evaluate(folder, data_file, task)
        if ranks.first():
            click.echo(report.summary() or f"no labels to score by; predictions are in {folder / 'predictions'}")


@claf2.command("predict", context_settings=FREE)
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--input", "file", type=click.File(encoding="utf-8"), help="Requests, a line each; - is standard input.")
@click.option("--task", metavar="NAME", help="Which of the run's several tasks.")
@click.argument("fields", nargs=-1, type=click.UNPROCESSED)
def predict_command(folder: Path, file: Any, task: str | None, fields: tuple[str, ...]) -> None:
    """Answer one request (--text "…", --text_a … --text_b …, --question … --context …), or one a line, as JSON objects
    or plain texts, from a file or standard input. A line of JSON comes back for each."""
    from claf2 import inference
    from claf2.store import prediction_line

    requests = [_request(fields)] if fields else _requests(file or sys.stdin)
    for prediction in inference.predict(folder, requests, task):
        click.echo(prediction_line(prediction))


def _request(fields: tuple[str, ...]) -> dict[str, str]:
    from claf2.overrides import parse_arguments

    return {each.key: each.text or "" for each in parse_arguments(fields)}


def _requests(lines: Any) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if not line.lstrip().startswith("{"):
            yield {"id": str(number), "text": line.strip()}
            continue
        try:
            yield {"id": str(number), **json.loads(line)}
        except (ValueError, RecursionError) as error:
            raise RunError(f"request {number}: not JSON: {error}") from None


@claf2.group("config")
def config_group() -> None:
    """List, show, check and compare BaseConfigs."""


@config_group.command("list")
def config_list() -> None:
    """Name every BaseConfig."""
    from claf2 import overrides

    click.echo("\n".join(overrides.names()))


@config_group.command("show", context_settings=FREE)
@click.argument("name")
@click.option("--plugin", "plugins", multiple=True)
@click.option("--json", "as_json", is_flag=True, help="As a BaseConfig, without origins.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def config_show(name: str, plugins: tuple[str, ...], as_json: bool, words: tuple[str, ...]) -> None:
    """Print a BaseConfig filled in, each value with where it came from."""
    from claf2 import config, overrides

    filled = config.fill(name, words, plugins)
    config.validate(filled)
    if as_json:
        click.echo(json.dumps(filled.values, ensure_ascii=False, indent=2))
        return
    lines = [
        (f"{path} = {json.dumps(value, ensure_ascii=False)}", path) for path, value in overrides.leaves(filled.values)
    ]
    width = min(90, max(len(line) for line, _ in lines))
    for line, path in lines:
        click.echo(f"{line:<{width}}  # {filled.origins.get(path, 'default')}")


@config_group.command("validate")
@click.argument("files", nargs=-1, required=True)
@click.option("--plugin", "plugins", multiple=True)
def config_validate(files: tuple[str, ...], plugins: tuple[str, ...]) -> None:
    """Check BaseConfigs: exit code 2 and a line for each that is wrong."""
    from claf2 import config

    wrong = 0
    for file in files:
        try:
            config.load(file, plugins=plugins)
            click.echo(f"{file}: ok")
        except Claf2Error as error:
            wrong += 1
            click.echo(f"{file}: {error}", err=True)
    if wrong:
        raise ConfigError("config validate", f"{wrong} of {len(files)} are wrong")


@config_group.command("diff")
@click.argument("first")
@click.argument("second")
def config_diff(first: str, second: str) -> None:
    """Print the fields in which two filled BaseConfigs differ."""
    from claf2 import config

    for path, here, there in config.diff(config.fill(first), config.fill(second)):
        click.echo(f"{path}: {json.dumps(here, ensure_ascii=False)} -> {json.dumps(there, ensure_ascii=False)}")


@config_group.command("schema")
def config_schema() -> None:
    """Print the JSON Schema of a BaseConfig, for editors."""
    from claf2 import config

    click.echo(json.dumps(config.json_schema(), ensure_ascii=False, indent=2))


@claf2.group("tasks")
def tasks_group() -> None:
    """List and show tasks."""


@tasks_group.command("list")
@click.option("--plugin", "plugins", multiple=True)
def tasks_list(plugins: tuple[str, ...]) -> None:
    """Name every task with its language, head and metrics."""
    for task in _tasks(plugins):
        names = ", ".join(_metric_name(metric) for metric in task.metrics)
        click.echo(f"{task.name:<16} {task.language:<3} {task.head:<9} {names}")


@tasks_group.command("show")
@click.argument("name")
@click.option("--plugin", "plugins", multiple=True)
def tasks_show(name: str, plugins: tuple[str, ...]) -> None:
    """Print one task: files, reader, labels, metrics, source, licence."""
    from claf2.readers import readers
    from claf2.task import tasks

    _tasks(plugins)
    task = tasks.get(name)
    row = task.model_dump(mode="json")
    row["reader"] = {readers.name_of(type(task.reader)): task.reader.model_dump(mode="json")}
    row["metrics"] = {_metric_name(metric): metric.model_dump(mode="json") for metric in task.metrics}
    click.echo(json.dumps(row, ensure_ascii=False, indent=2))


@tasks_group.command("handbook")
def tasks_handbook() -> None:
    """Print the page on all tasks and suites: formats, metrics, recipes, published scores, errata."""
    from claf2 import config, overrides
    from claf2.handbook import handbook
    from claf2.task import suites, tasks

    configs: dict[str, list[str]] = {}
    for name in overrides.names():
        if name.startswith("multi_task/"):
            continue
        dataset = config.fill(name).values["data_reader"]["dataset"]
        configs.setdefault(tasks.get(dataset).name, []).append(name)
    found = {id(suites.get(name)): suites.get(name) for name in suites.names()}
    click.echo(handbook(_tasks(()), sorted(found.values(), key=lambda suite: suite.name), configs), nl=False)


def _tasks(plugins: tuple[str, ...]) -> list[Any]:
    from claf2.registry import load_plugin
    from claf2.task import tasks

    for plugin in plugins:
        load_plugin(plugin)
    found = {id(tasks.get(name)): tasks.get(name) for name in tasks.names()}
    return sorted(found.values(), key=lambda task: task.name)


def _metric_name(metric: Any) -> str:
    from claf2.metrics import metrics

    return metrics.name_of(type(metric))


@claf2.group("suite")
def suite_group() -> None:
    """The tasks of a benchmark that are reported together."""


@suite_group.command("list")
def suite_list() -> None:
    """Name every suite, its recipes and its tasks."""
    from claf2.task import suites

    found = {id(suites.get(name)): suites.get(name) for name in suites.names()}
    for suite in sorted(found.values(), key=lambda each: each.name):
        click.echo(f"{suite.name:12} {', '.join(suite.recipes):40} {' '.join(suite.columns)}")


@suite_group.command("submit")
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), help="The folder of bench run; logs/bench/NAME unless given.")
@click.option("--archive", type=click.Path(path_type=Path), default="submission.zip", show_default=True)
def suite_submit(name: str, out: Path | None, archive: Path) -> None:
    """Answer the official test files with the best run of each task, and zip the answers as the benchmark wants
    them."""
    from claf2.task import suites

    suite = suites.get(name)

    from claf2.bench.submission import submit

    for problem in submit(suite, out or Path("logs/bench") / suite.name, archive):
        click.echo(f"not in {archive}: {problem}", err=True)
    click.echo(str(archive))


for command in (bench, compare_command, gate_command):
    claf2.add_command(command)
