"""The command ``init``: creates a task and a BaseConfig for the user's own file."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claf2.cli.options import PATH
from claf2.errors import ConfigError, DataError, RunError, nearest

if TYPE_CHECKING:
    from claf2.data.row_file import RowFile

__all__ = ["init_command"]

MODELS = {"en": "bert-base-cased", "ko": "klue/bert-base", "ja": "tohoku-nlp/bert-base-japanese-v3"}
"""Language → the model of the new BaseConfig."""

RECIPE: dict[str, Any] = {
    "iterator": {"batch_size": 32},
    "optimizer": {
        "learning_rate": 2e-5,
        "op_type": "adamw",
        "adamw": {"weight_decay": 0.01},
        "lr_scheduler_type": "warmup_linear",
        "warmup_linear": {"warmup_proportion": 0.1},
    },
    "seed_num": 42,
}
"""BERT's recipe for fine-tuning (Devlin et al., 2019), as in `base_config/_recipe/bert.libsonnet`."""

IMBALANCE = 3
"""Where the largest class has this many times the rows of the smallest, accuracy says little: macro F1 selects."""


@click.command("init", epilog="""\b
Examples:
  claf2 init --data reviews.csv --text review --label sentiment
  claf2 init --data pairs.tsv --text question --text_b answer --label score --valid pairs-dev.tsv --out my_task
""")  # fmt: skip
@click.option("--data", required=True, metavar="FILE", type=PATH,
              help="The training file: delimited text with a header, or JSON rows.")  # fmt: skip
@click.option("--text", metavar="COLUMN", help="The column of the text.")
@click.option("--text_b", metavar="COLUMN", help="The column of the second text, for pairs.")
@click.option("--label", metavar="COLUMN", help="The column of the class or score.")
@click.option("--id", "identity", metavar="COLUMN", help="The column of the id.  [default: the line number]")
@click.option("--valid", metavar="FILE", type=PATH, help="A validation file.  [default: a tenth of the training file]")
@click.option("--delimiter", metavar="CHARACTER", help="The separator of the cells, if it cannot be detected.")
@click.option("--name", metavar="NAME", help="The name of the task.  [default: the name of the file]")
@click.option("--language", metavar="CODE", help="The ISO 639-1 code of the texts, if it cannot be detected.")
@click.option("--out", "folder", default=".", metavar="FOLDER", type=PATH, help="Where to write the two files.")
@click.option("--overwrite", is_flag=True, help="Replace the two files if they exist.")
def init_command(
    data: Path, text: str | None, text_b: str | None, label: str | None, identity: str | None, valid: Path | None,
    delimiter: str | None, name: str | None, language: str | None, folder: Path, overwrite: bool,
) -> None:  # fmt: skip
    """Make a task and a BaseConfig for a file of your own.

    Reads all rows, says what they hold, and writes NAME_task.py (the task) and NAME.json (the BaseConfig). Both are
    yours to edit.
    """
    from claf2.data.row_file import examine, read_row_file

    given = {"id": identity, "text_a": text, "text_b": text_b, "label": label}
    columns = {field: column for field, column in given.items() if column is not None}
    train_file = read_row_file(data, columns, delimiter)
    if language is not None and not re.fullmatch("[a-z]{2,3}", language):
        raise ConfigError("--language", f"{language!r} is not a language code", hint="use one such as en, ko or ja")
    files = [train_file] + ([examine(valid, train_file.reader)] if valid is not None else [])
    _check_labels(files)
    name = name or re.sub(r"\W+", "_", data.name.split(".")[0]).strip("_").lower()
    _check_name(name)
    # A file called after the data, such as random.py, could hide a module of that name.
    plugin = f"{name}_task.py"
    targets = {
        folder / plugin: _task_source(name, language or train_file.language, train_file),
        folder / f"{name}.json": json.dumps(_base_config(name, plugin, train_file, valid), ensure_ascii=False, indent=2)
        + "\n",
    }
    taken = next((path for path in targets if path.exists()), None)
    if taken is not None and not overwrite:
        raise RunError(f"{taken}: exists already; choose another --name or --out, or add --overwrite")
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in targets.items():
        path.write_text(content, encoding="utf-8")
    for row_file in files:
        click.echo("\n".join(row_file.findings()))
    task_path, config_path = targets
    click.echo(
        f"wrote {task_path} and {config_path}\n\n"
        f"what it will do:  claf2 explain --base_config {config_path}\n"
        f"train:            claf2 train --base_config {config_path}\n"
        f"predict a file:   claf2 predict logs/{name} --input FILE"
    )


def _check_name(name: str) -> None:
    from claf2.task import tasks

    if not re.fullmatch(r"[A-Za-z]\w*", name):
        raise ConfigError("--name", f"{name!r} is not a valid name", hint="use letters, digits and _, a letter first")
    if name in tasks.names():
        raise ConfigError("--name", f"{name!r} is already a task of claf2", hint="choose another --name")


def _check_labels(files: list[RowFile]) -> None:
    """Check that the validation file has labels that the training file knows."""
    train_file, *others = files
    for other in others if train_file.kind == "classify" else ():
        for example in other.examples:
            if example.label not in train_file.label_counts:
                problem = f"label {example.label!r} does not occur in {train_file.path}"
                hint = nearest(str(example.label), train_file.label_counts)
                raise DataError(other.path, problem, line=example.line, hint=hint)


def _task_source(name: str, language: str, row_file: RowFile) -> str:
    """Return the plug-in that registers the task."""
    counts = row_file.label_counts
    metrics = ["pearson", "spearman"]
    if row_file.kind == "classify":
        balanced = max(counts.values()) < IMBALANCE * min(counts.values())
        metrics = ["accuracy", "macro_f1"] if balanced else ["macro_f1", "accuracy"]
    reader = row_file.reader
    fields = reader.model_dump(exclude_defaults=True, mode="json")
    arguments = ", ".join(f"{key}={value!r}" for key, value in fields.items())
    labels = f"labels={tuple(counts)!r},\n        " if row_file.kind == "classify" else ""
    return textwrap.dedent(f'''\
        """The task {name}: a start to edit. The fields are those of claf2.Task."""

        from claf2 import Task, register_task
        from claf2.readers import {type(reader).__name__}

        register_task(
            Task(
                name={name!r},
                language={language!r},
                head={row_file.kind!r},
                reader={type(reader).__name__}({arguments}),
                # The first metric selects the best checkpoint.
                metrics={tuple(metrics)!r},
                @LABELS@source="",
                licence="",
            )
        )
        ''').replace("@LABELS@", labels)


def _base_config(name: str, plugin: str, row_file: RowFile, valid: Path | None) -> dict[str, Any]:
    reader: dict[str, Any] = {"dataset": name, "train_file_path": str(row_file.path.absolute())}
    reader |= {"valid_fraction": 0.1} if valid is None else {"valid_file_path": str(valid.absolute())}
    return {
        "plugins": [plugin],
        "data_reader": {**reader, name: {"max_seq_length": row_file.max_seq_length}},
        "model": {"name": "encoder", "encoder": {"pretrained_model_name": MODELS.get(row_file.language, MODELS["en"])}},
        "trainer": {"log_dir": f"logs/{name}", "num_epochs": 3, "grad_max_norm": 1.0},
        **RECIPE,
    }
