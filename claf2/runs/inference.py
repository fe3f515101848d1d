"""Using a finished model: evaluate it again, or predict an official test file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from claf2.config import Experiment
from claf2.data.splits import SplitData
from claf2.errors import RunError
from claf2.evaluation.predictions import write_predictions
from claf2.evaluation.report import Report
from claf2.metrics import Prediction
from claf2.runs.corpus_splits import AnySplit
from claf2.runs.folder import check_openable, lock_run_dir
from claf2.runs.locate import locate_splits
from claf2.runs.model_folder import ModelFolder, TrainedFolder
from claf2.runs.resolve import merge_evaluations, open_run
from claf2.runtime import distributed
from claf2.runtime.files import write_json
from claf2.task import Task, tasks

__all__ = ["evaluate_folder", "evaluate_run", "predict_file"]


def evaluate_run(folder: Path, data_file: Path | None = None, task: str | None = None) -> Report:
    """Evaluate a run's best checkpoint again, and write scores and predictions into its folder.

    Evaluating the validation data of the run writes the same prediction files as the training, byte for byte.

    Args:
        folder: the run.
        data_file: another file; ``None``: the run's own validation data.
        task: one of the run's tasks, or another task with the same head and labels whose format and metrics fit the
            file.

    Raises:
        Claf2Error: when there is no such run, it is in use, its validation data have changed, or the task does not
            fit it.
    """
    check_openable(folder, is_restored=True)
    return evaluate_folder(folder, TrainedFolder, data_file, task)


def evaluate_folder(
    path: Path, open_model_folder: Callable[[Path], ModelFolder], data_file: Path | None = None, task: str | None = None
) -> Report:
    """Evaluate a finished model, and write scores and predictions into its folder.

    Args:
        path: the folder, which exists.
        open_model_folder: opens it, after its lock is held.
        data_file: see ``evaluate_run``.
        task: see ``evaluate_run``.

    Raises:
        Claf2Error: when the folder is in use or damaged, or the task does not fit it.
    """
    with ExitStack() as stack:
        # It writes into the folder, so it must not do so during a training, or another evaluation.
        try:
            distributed.call_on_main(lambda: stack.enter_context(lock_run_dir(path)))
        except OSError as error:
            hint = "copy the folder, or use claf2 predict, which writes nothing there"
            raise RunError(f"{path}: cannot be written: {error.strerror}; {hint}") from error
        return _evaluate(open_model_folder(path), data_file, task)


def _evaluate(folder: ModelFolder, data_file: Path | None, task: str | None) -> Report:
    experiment = folder.experiment
    names = list(experiment.tasks) if task is None and data_file is None else [_matching_task(experiment, task)]
    reports = []
    for name in names:
        model = folder.load_model(name)
        run = model.run
        if task is not None:
            run = dataclasses.replace(run, experiment=_for_task(run.experiment, name, task))
        if data_file is None:
            data = locate_splits(run.experiment)[name]
            if task is None or task in experiment.tasks:
                _check_unchanged(folder, name, data)
        else:
            data = {"eval": SplitData(run.experiment.only_task.task, data_file)}
        reports.append(run.evaluate_sets(model.engine, run.evaluation_sets({name: data})))
    report = merge_evaluations(experiment, reports)
    if task is not None and task not in experiment.tasks:  # files and scores carry the name that was asked for
        report = dataclasses.replace(report, tasks={task: next(iter(report.tasks.values()))})
    if distributed.is_main():
        write_predictions(folder.path, report)
        write_json(folder.path / ("evaluation.json" if data_file is None else "evaluation-file.json"), report.logs())
    return report


def _check_unchanged(folder: ModelFolder, task: str, data: Mapping[str, AnySplit]) -> None:
    """Refuse validation data that differ from those of the training, whose predictions would be replaced.

    Raises:
        RunError: naming the split.
    """
    digests = folder.split_digests
    for split, split_data in data.items():
        # The experiment of an export has one task, but the names are those of its run, which may have had several.
        recorded = digests.get(f"{task}/{split}", digests.get(split))
        if split != "train" and recorded and recorded != split_data.data_digest():
            raise RunError(
                f"{folder.path}: the {split} data of {task} have changed since the training; restore them, or evaluate "
                f"the new ones as another file: claf2 evaluate {folder.path} DATA_FILE"
            )


def _matching_task(experiment: Experiment, task: str | None) -> str:
    """Return the task of a run that is meant: the one of that name, the only one, or the only one of its kind."""
    if task is not None and task in experiment.tasks:
        return task
    if task is not None and len(experiment.tasks) > 1:
        wanted = tasks.get(task) if task in tasks.names() else experiment.select_task(task).only_task.task
        matching = [name for name, config in experiment.tasks.items() if _kind(config.task) == _kind(wanted)]
        if len(matching) == 1:
            return matching[0]
    return experiment.task_name()


def _kind(task: Task) -> tuple[str, frozenset[str]]:
    return task.head, frozenset(task.labels)


def _for_task(experiment: Experiment, name: str, other_name: str) -> Experiment:
    """Return the experiment with another task's files, reader and metrics."""
    if name == other_name:
        return experiment
    other, task = tasks.get(other_name), experiment.only_task.task
    if _kind(other) != _kind(task):
        raise RunError(
            f"a run of {task.name!r} cannot be evaluated on task {other_name!r}: the task has head {other.head!r} and "
            f"labels {list(other.labels)}, the run {task.head!r} and {list(task.labels)}"
        )
    return dataclasses.replace(experiment, tasks={name: dataclasses.replace(experiment.only_task, task=other)})


def predict_file(folder: Path, test_file: Path) -> list[Prediction]:
    """Return the predictions of a run's best checkpoint for its task's official test file, which has no labels."""
    run = open_run(folder)
    task = run.experiment.only_task.task
    data = SplitData(task.model_copy(update={"reader": task.test_reader or task.reader}), test_file)
    report = run.evaluate_sets(run.model(), run.evaluation_sets({task.name: {"test": data}}))
    return list(report.tasks[task.name].predictions)
