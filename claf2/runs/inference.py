"""Using a finished run: evaluate it again, predict single requests, or predict an official test file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from claf2 import config
from claf2.config import Experiment
from claf2.data.features import featurize_in_memory
from claf2.data.splits import SplitData
from claf2.errors import Claf2Error, RunError
from claf2.evaluation.evaluate import evaluate_model
from claf2.evaluation.predictions import write_predictions
from claf2.evaluation.report import Report
from claf2.heads import Request
from claf2.metrics import Prediction
from claf2.readers import Example
from claf2.runs.folder import check_openable, lock_run_dir
from claf2.runs.locate import locate_splits
from claf2.runs.requests import RequestLike, read_requests
from claf2.runs.resolve import merge_evaluations, open_run
from claf2.runtime import distributed
from claf2.runtime.device import preserve_backends
from claf2.runtime.files import write_json
from claf2.task import Task, tasks

__all__ = ["Predictor", "evaluate_run", "predict_file"]


def evaluate_run(folder: Path, data_file: Path | None = None, task: str | None = None) -> Report:
    """Evaluate a run's best checkpoint again, and write scores and predictions into its folder.

    Evaluating the validation data of the run writes the same prediction files as the training, byte for byte.

    Args:
        folder: the run.
        data_file: another file; ``None``: the run's own validation data.
        task: one of the run's tasks, or another task with the same head and labels whose format and metrics fit the
            file.

    Raises:
        Claf2Error: when there is no such run, it is in use, or the task does not fit it.
    """
    check_openable(folder, is_restored=True)
    with ExitStack() as stack:
        # It writes into the folder, so it must not do so during a training, or another evaluation.
        distributed.call_on_main(lambda: stack.enter_context(lock_run_dir(folder)))
        return _evaluate(folder, data_file, task)


def _evaluate(folder: Path, data_file: Path | None, task: str | None) -> Report:
    experiment = config.load(str(folder / "config.json"))
    names = list(experiment.tasks) if task is None and data_file is None else [_matching_task(experiment, task)]
    reports = []
    for name in names:
        run = open_run(folder, name)
        if task is not None:
            run = dataclasses.replace(run, experiment=_for_task(run.experiment, name, task))
        if data_file is None:
            data = locate_splits(run.experiment)[name]
        else:
            data = {"eval": SplitData(run.experiment.only_task.task, data_file)}
        reports.append(run.evaluate_sets(run.model(), run.evaluation_sets({name: data})))
    report = merge_evaluations(experiment, reports)
    if task is not None and task not in experiment.tasks:  # files and scores carry the name that was asked for
        report = dataclasses.replace(report, tasks={task: next(iter(report.tasks.values()))})
    if distributed.is_main():
        write_predictions(folder, report)
        write_json(folder / ("evaluation.json" if data_file is None else "evaluation-file.json"), report.logs())
    return report


def _matching_task(experiment: Experiment, task: str | None) -> str:
    """Return the task of a run that is meant: the one of that name, the only one, or the only one of its kind."""
    if task is not None and task in experiment.tasks:
        return task
    if task is not None and len(experiment.tasks) > 1:
        wanted = tasks.get(task) if task in tasks.names() else experiment.select_task(task).only_task.task
        matching = [name for name, config in experiment.tasks.items() if _kind(config.task) == _kind(wanted)]
        if len(matching) == 1:
            return matching[0]
    only_task = experiment.only_task
    return next(name for name, task_config in experiment.tasks.items() if task_config is only_task)


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


class Predictor:
    """The best checkpoint of a run, loaded once, for predictions in memory.

    Args:
        folder: the folder of the run.
        task: one of the run's tasks; ``None`` where it has only one.

    Raises:
        RunError: when the folder holds no complete run, or the run has no such task.

    Examples:
        >>> predictor = claf2.Predictor("logs/scratch/nsmc")
        >>> predictor(text="재미있다").prediction
        '1'
    """

    def __init__(self, folder: str | Path, task: str | None = None) -> None:
        with preserve_backends():
            self._run = open_run(Path(folder), task)
            self._model = self._run.model().eval()
        (self._name,) = self._run.experiment.tasks
        self._task_config = self._run.experiment.only_task
        self._precision = self._run.precision()

    @property
    def labels(self) -> list[str]:
        """The labels of the task, in its published order; empty for tasks without classes."""
        return list(self._run.labels[self._name])

    def __call__(self, **request: Any) -> Prediction:
        """Return the prediction for one request, e.g. ``predictor(text_a="…", text_b="…")``; see ``predict``."""
        return self._predict([self._example(request)])[0]

    def predict(self, requests: Iterable[RequestLike]) -> list[Prediction]:
        """Return one prediction per request, in order. The requests are batched together by length.

        Args:
            requests: each names what its kind of task asks about: ``text_a`` (and ``text_b``), ``text``, ``tokens``,
                or ``question`` and ``context``; an ``id`` is returned with the prediction. An example of a reader is
                also a request, and its labels are ignored.

        Raises:
            RunError: naming the request that cannot be read.
        """
        return self._predict(list(self._examples(requests)))

    def stream(self, requests: Iterable[RequestLike]) -> Iterator[Prediction]:
        """Yield one prediction per request, each as soon as its request arrives."""
        for example in self._examples(requests):
            yield from self._predict([example])

    def read(self, path: Path) -> list[Example]:
        """Read all requests of a file: JSON, plain text, or a file in the task's own format; see ``read_requests``.

        Raises:
            Claf2Error: if the file or one of its requests cannot be read.
        """
        return list(self._examples(read_requests(path, self._task_config.task)))

    def _examples(self, requests: Iterable[RequestLike]) -> Iterator[Example]:
        for number, request in enumerate(requests, start=1):
            try:
                yield self._example(request if isinstance(request, Example) else {"id": str(number), **request})
            except Claf2Error as error:
                raise RunError(f"request {number}: {error}") from error

    def _example(self, request: RequestLike) -> Example:
        if isinstance(request, Example):
            return request.unlabelled()
        try:
            example = self._task_config.head.request(Request(self._task_config.task, request))
            for text in (example.id, *example.texts()):
                text.encode()  # a lone surrogate is not text
        except (TypeError, ValueError, AttributeError, RecursionError) as error:
            raise RunError(f"malformed: {error}") from error
        return example

    def _predict(self, examples: Sequence[Example]) -> list[Prediction]:
        if not examples:
            return []
        run, name = self._run, self._name
        features = featurize_in_memory(examples, self._task_config.featurizer, run.tokenizer, run.labels[name])
        data = run.evaluation_data(name, features, examples)
        report = evaluate_model(self._model, {name: data}, split="predict", precision=self._precision)
        return list(report.tasks[name].predictions)
