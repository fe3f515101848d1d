"""The command line: options around the functions of ``claf2.api``.

Commands import what they need when they run, so that help and listings are fast.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claf2 import __version__
from claf2.cli.bench import bench_group, compare_command, gate_command
from claf2.cli.board import board_group
from claf2.cli.corpus import corpus_group
from claf2.cli.data import data_group
from claf2.cli.export import export_command
from claf2.cli.generate import generate_command
from claf2.cli.init import init_command
from claf2.cli.latency import latency_command
from claf2.cli.listings import config_group, suite_group, tasks_group
from claf2.cli.machine import machine_group
from claf2.cli.notify import notify_command
from claf2.cli.options import PATH, WITH_OVERRIDES, NumberRange, experiment_options, join_values
from claf2.cli.retrieval import index_command, search_command
from claf2.cli.serve import serve_command
from claf2.cli.store import ls_command, pull_command, push_command
from claf2.cli.vocab import vocab_group
from claf2.cli.watch import watch_command
from claf2.errors import Claf2Error, ConfigError, RunError
from claf2.runtime.process import stop_signals_interrupt

if TYPE_CHECKING:
    from claf2.config import Experiment

__all__ = ["evaluate", "main", "train"]


class _ConsoleFormatter(logging.Formatter):
    """Formats messages as plain lines; only warnings and errors carry their level."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        return prefix + super().format(record)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``claf2``. Exit codes: 0 done, 1 a bug, 2 a user's mistake (one line, no traceback), 130 interrupted, by
    Ctrl-C, SIGTERM, SIGHUP or SIGUSR1."""
    logger = logging.getLogger("claf2")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_ConsoleFormatter())
    logger.handlers = [handler]
    words = join_values(claf2, sys.argv[1:] if arguments is None else arguments)
    try:
        with stop_signals_interrupt():
            code = claf2.main(words, prog_name="claf2", standalone_mode=False)
    except Claf2Error as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (OSError, UnicodeError) as error:  # a full disk, a folder instead of a file, bytes that are not text
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort) as error:
        if isinstance(error.__cause__, EOFError):  # click takes any file that ends too early for the end of the input
            raise error.__cause__ from None
        click.echo(str(error.__cause__ or error) or "interrupted", err=True)  # click raises Abort from the interrupt
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


def _load(base_config: str | None, tasks: str, overrides: tuple[str, ...], **options: Any) -> Experiment:
    from claf2 import api

    names = [name.strip() for name in tasks.split(",") if name.strip()]
    return api.load(base_config, tasks=names, argv=overrides, **options)


@claf2.command("train", context_settings=WITH_OVERRIDES, epilog="""\b
Examples:
  claf2 train --base_config klue/korquad_bert --pretrained_model_name klue/bert-base --learning_rate 3e-5
  claf2 train --base_config scratch/nsmc --sample --num_steps 20
  claf2 train --tasks glue/rte_bert,glue/mrpc_bert --data_dir DATA
  claf2 train --from_run logs/klue/korquad --log_dir logs/again
""")  # fmt: skip
@click.option("--from_run", metavar="RUN", type=PATH, help="Repeat a finished run exactly, in a new folder.")
@click.option("--changed", default="", metavar="A,B,…", help="With --from_run: the kinds of change to accept.")
@experiment_options
def train_command(from_run: Path | None, changed: str, resume: bool, overwrite: bool, **given: Any) -> None:
    """Train an experiment.

    Any field of the BaseConfig can be set by its path or a unique suffix of it: --optimizer.learning_rate 3e-5, or
    --learning_rate 3e-5. claf2 config show lists all fields.
    """
    if from_run is None and changed:
        raise ConfigError("changed", "can only be used with --from_run", hint="add --from_run, or leave it out")
    if from_run is not None and any(value for name, value in given.items() if name != "overrides"):
        problem = "cannot be combined with another experiment: it repeats a run unchanged"
        raise ConfigError("from_run", problem, hint="leave out --base_config, --tasks, --plugin and --sample")
    experiment = None if from_run is not None else _load(**given)

    from claf2 import api
    from claf2.runtime import distributed

    with distributed.process_group():
        if from_run is None:
            report = api.train(experiment, resume=resume, overwrite=overwrite)
        else:
            report = api.train(
                from_run=from_run, changed=changed, argv=given["overrides"], resume=resume, overwrite=overwrite
            )
        if distributed.is_main():
            click.echo(report.summary())


@claf2.command("explain", context_settings=WITH_OVERRIDES, epilog="""\b
Examples:
  claf2 explain --base_config scratch/nsmc --sample
  claf2 explain --base_config glue/rte_bert --data_dir DATA --steps 0 --json
  claf2 explain --base_config pretrain/larva_base_ko --sources '[{"path": "corpus/*.txt"}]' --steps 0 --hardware 16xV100
""")  # fmt: skip
@click.option("--steps", default=3, show_default=True, type=click.IntRange(0), metavar="N",
              help="Steps to measure; with 0, time and memory are not estimated.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--hardware", metavar="NxNAME", help="Of a pre-training: the devices to plan for, e.g. 16xV100.")
@click.option("--utilization", type=NumberRange(0, 1, min_open=True),
              help="The share of their peak that the devices reach.  [default: 0.3]")  # fmt: skip
@click.option("--price", type=NumberRange(0), metavar="X", help="The price of a device for an hour.")
@experiment_options
def explain_command(
    steps: int,
    as_json: bool,
    hardware: str | None,
    utilization: float | None,
    price: float | None,
    resume: bool,
    overwrite: bool,
    **given: Any,
) -> None:
    """Describe what train would do with the same options and what it would cost.

    Nothing is trained, and no run is created.
    """
    experiment = _load(**given)

    from claf2 import api
    from claf2.runs.explanation_text import format_explanation

    explanation = api.explain(
        experiment,
        steps=steps,
        resume=resume,
        overwrite=overwrite,
        hardware=hardware,
        utilization=utilization,
        price=price,
    )
    click.echo(json.dumps(explanation, ensure_ascii=False, indent=2) if as_json else format_explanation(explanation))


@claf2.command("evaluate", epilog="""\b
Examples:
  claf2 evaluate logs/klue/korquad
  claf2 evaluate logs/glue/mnli DATA/diagnostic.tsv --task ax
  claf2 evaluate exports/korquad
  torchrun --nproc_per_node 8 -m claf2 evaluate logs/klue/korquad
""")  # fmt: skip
@click.argument("folder", metavar="RUN|EXPORT", type=PATH)
@click.argument("data_file", metavar="[DATA_FILE]", required=False, type=PATH)
@click.option("--task", metavar="NAME", help="One of the run's tasks, or the task that DATA_FILE belongs to.")
def evaluate_command(folder: Path, data_file: Path | None, task: str | None) -> None:
    """Evaluate the best checkpoint of a run, or an export of it.

    Without DATA_FILE, it is evaluated on the run's own validation data. Scores and predictions are written into the
    folder of the run or of the export.
    """
    from claf2 import api
    from claf2.runtime import distributed

    with distributed.process_group():
        report = api.evaluate(folder, data_file, task)
        if distributed.is_main():
            unscored = f"the data has no labels; predictions are in {folder / 'predictions'}"
            click.echo(report.summary() or (unscored if data_file is None else f"{data_file}: {unscored}"))


@claf2.command("predict", context_settings=WITH_OVERRIDES, epilog="""\b
Examples:
  claf2 predict logs/scratch/nsmc --text "영화 훌륭하다"
  claf2 predict logs/glue/rte --text_a "A dog runs." --text_b "An animal moves."
  claf2 predict logs/klue/korquad --question "수도는 어디인가?" --context "대한민국의 수도는 서울이다."
  claf2 predict logs/scratch/nsmc --input requests.jsonl
  claf2 predict logs/scratch/nsmc --input reviews.tsv
""")  # fmt: skip
@click.argument("folder", metavar="RUN|EXPORT", type=PATH)
@click.option("--input", "file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
              help="Read requests from a file; - is standard input.")  # fmt: skip
@click.option("--task", metavar="NAME", help="One of the run's tasks, if it has several.")
@click.argument("fields", metavar="[--FIELD TEXT]...", nargs=-1, type=click.UNPROCESSED)
def predict_command(folder: Path, file: Path | None, task: str | None, fields: tuple[str, ...]) -> None:
    """Predict with the best checkpoint of a run, or with an export of it.

    A request is given by its fields, or one per line as a JSON object or plain text; a JSON list of objects is read as
    well. A file with another ending than .json, .jsonl, .ndjson or .txt, such as .csv or .tsv, is in the format of the
    task's own files, and its labels may be absent. Each prediction is printed as one line of JSON. Without fields and
    --input, requests are read from standard input.
    """
    from claf2.evaluation.predictions import to_json_line
    from claf2.export.predictor import Predictor
    from claf2.readers import decode_text
    from claf2.runs.requests import parse_requests
    from claf2.task import report_damage

    if fields and file is not None:
        raise RunError("--input: cannot be used with the fields of a request; leave out one of them")
    predictor = Predictor(folder, task)
    if fields:
        predictions = iter([predictor(**_request(fields))])
    elif file is not None and str(file) != "-":
        # The whole file is read first, so that a mistake in it is found before anything is printed.
        predictions = predictor.stream(predictor.read(file))
    else:
        predictions = predictor.stream(parse_requests(decode_text(sys.stdin.buffer, "standard input")))
    with report_damage(Path("standard input")):
        for prediction in predictions:
            click.echo(to_json_line(prediction))


def _request(fields: tuple[str, ...]) -> dict[str, str]:
    from claf2.config.source import parse_overrides

    request: dict[str, str] = {}
    for override in parse_overrides(fields):
        if override.key in request:
            hint = "give several requests with --input, one per line"
            raise ConfigError(override.key, "is given twice, but this is one request", hint=hint)
        if override.text is None:
            hint = f"write --{override.key} TEXT, or --{override.key}=TEXT for a text such as --"
            raise ConfigError(override.key, "has no value", hint=hint)
        request[override.key] = override.text
    return request


COMMANDS = (
    init_command, config_group, tasks_group, suite_group, bench_group, compare_command, gate_command, vocab_group,
    corpus_group, push_command, pull_command, ls_command, watch_command, board_group, notify_command,
    export_command, latency_command, serve_command, generate_command, index_command, search_command, data_group,
    machine_group,
)  # fmt: skip
for command in COMMANDS:
    claf2.add_command(command)
