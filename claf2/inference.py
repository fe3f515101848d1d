"""Asking a finished run: judged anew, requests answered, an official test file answered."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from claf2 import config, ranks
from claf2.build import joined, reopen, splits
from claf2.config import Experiment
from claf2.data import Data
from claf2.errors import RunError
from claf2.features import featurize
from claf2.metrics import Prediction
from claf2.report import Report
from claf2.store import recover, write_json, write_predictions
from claf2.task import Task, tasks

__all__ = ["answer", "evaluate", "predict"]


def evaluate(folder: Path, data_file: Path | None = None, task: str | None = None) -> Report:
    """Judge a run's best checkpoint anew, and write scores and predictions into its folder.

    Args:
        folder: the run.
        data_file: another file; ``None``: the run's own validation data.
        task: one of the run's several tasks, or the task whose format and metrics the file has, where it is not the
            run's own: one with the same head and labels.

    Raises:
        Claf2Error: when there is no such run, or the task does not fit it.
    """
    if ranks.first():
        recover(folder)
    ranks.meet()
    if not (folder / "config.json").is_file():
        raise RunError(f"{folder}: holds no config.json; give the folder of a run (its trainer.log_dir)")
    experiment = config.load(str(folder / "config.json"))
    names = list(experiment.parts) if task is None and data_file is None else [_fitting(experiment, task)]
    reports = []
    for name in names:
        run = reopen(folder, name)
        if task is not None:
            run = dataclasses.replace(run, experiment=_for_task(run.experiment, name, task))
        data = splits(run.experiment)[name] if data_file is None else {"eval": Data(run.experiment.task, data_file)}
        reports.append(run.judge(run.model(), run.sets({name: data})))
    report = joined(experiment, reports)
    if task is not None and task not in experiment.parts:  # what is written bears the name that was asked for
        report = dataclasses.replace(report, tasks={task: next(iter(report.tasks.values()))})
    if ranks.first():
        write_predictions(folder / "predictions", report)
        write_json(folder / ("evaluation.json" if data_file is None else "evaluation-file.json"), report.logs())
    return report


def _fitting(experiment: Experiment, task: str | None) -> str:
    """Return which of a run's tasks is meant: the one of that name, the only one, or the only one of its kind."""
    if task is not None and task in experiment.parts:
        return task
    if task is not None and len(experiment.parts) > 1:
        like = tasks.get(task) if task in tasks.names() else experiment.only(task).task
        parts = experiment.parts.items()
        fitting = [name for name, part in parts if _kind(part.task) == _kind(like)]
        if len(fitting) == 1:
            return fitting[0]
    return next(name for name, part in experiment.parts.items() if part is experiment.part)


def _kind(task: Task) -> tuple[str, frozenset[str]]:
    return task.head, frozenset(task.labels)


def answer(folder: Path, test_file: Path) -> list[Prediction]:
    """Return the answers of a run's best checkpoint to its task's official test file, which has no labels."""
    run = reopen(folder)
    task = run.experiment.task
    data = Data(task.model_copy(update={"reader": task.test_reader or task.reader}), test_file)
    report = run.judge(run.model(), run.sets({task.name: {"test": data}}))
    return list(report.tasks[task.name].predictions)


def _for_task(experiment: Experiment, name: str, other_name: str) -> Experiment:
    """Return the experiment as it stands, but for another task's files, reader and metrics."""
    if name == other_name:
        return experiment
    other, own = tasks.get(other_name), experiment.task
    if _kind(other) != _kind(own):
        raise RunError(
            f"task {other_name!r} cannot be judged by a run of {own.name!r}: it has head {other.head!r} and labels "
            f"{list(other.labels)}, the run {own.head!r} and {list(own.labels)}"
        )
    return dataclasses.replace(experiment, parts={name: dataclasses.replace(experiment.part, task=other)})


def predict(folder: Path, requests: Iterable[Mapping[str, Any]], task: str | None = None) -> Iterator[Prediction]:
    """Answer requests with a run's best checkpoint, of several tasks the one that is named, one prediction each, in
    order.

    A request names what its kind of task asks about: ``text_a`` (and ``text_b``), ``text``, or ``question`` and
    ``context``; an ``id`` is given back.
    """
    run = reopen(folder, task)
    (name,), part, model = run.experiment.parts, run.experiment.part, run.model()
    for request in requests:
        try:
            example = part.head.request(request)
            for text in (example.id, *example.texts()):
                text.encode()
        except (TypeError, ValueError, AttributeError, RecursionError) as error:
            raise RunError(f"request {str(request)[:80]!r}: not of this form: {error}") from error
        with tempfile.TemporaryDirectory() as scratch:
            features = featurize([example], part.featurizer, run.tokenizer, run.labels[name], Path(scratch) / "f")
            yield from run.judge(model, {"predict": {name: (features, [example])}}).tasks[name].predictions
