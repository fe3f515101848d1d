"""Answers in memory: requests → features → one batch of an engine → predictions."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from claf2.data.features import FeatureList
from claf2.errors import Claf2Error, RunError
from claf2.evaluation.engine import Batching
from claf2.evaluation.evaluate import evaluate_model
from claf2.heads import Feature, Request
from claf2.metrics import Prediction
from claf2.readers import Example
from claf2.runs.model_folder import LoadedModel, ModelFolder, TrainedFolder
from claf2.runs.requests import RequestLike
from claf2.runtime.device import preserve_backends
from claf2.task import Task

__all__ = ["Answerer", "EncodedRequest", "SharedRequest"]


@dataclass(frozen=True)
class EncodedRequest:
    """A request as the engine reads it."""

    example: Example
    features: Sequence[Feature]
    """Its rows, in order: several where a long text is divided into windows."""
    truncated: bool
    """Whether a text was cut to the longest input, as it would have been in training."""

    @property
    def tokens(self) -> int:
        """The length of all rows, in tokens."""
        return sum(_length(feature) for feature in self.features)


@dataclass(frozen=True)
class SharedRequest:
    """A request that several tasks answer, as the engine reads it for each of them."""

    by_task: Mapping[str, EncodedRequest]

    @property
    def tokens(self) -> int:
        """The length of its rows for the task that reads the most, in tokens: tasks that read the same share a pass."""
        return max(encoded.tokens for encoded in self.by_task.values())

    @property
    def truncated(self) -> bool:
        """Whether a text was cut to the longest input of a task."""
        return any(encoded.truncated for encoded in self.by_task.values())


class Answerer:
    """A finished model, loaded once, that answers requests in memory. It writes nothing.

    Args:
        folder: the folder of the model.
        tasks: the tasks to load; ``None``: all of them.

    Raises:
        RunError: when the folder is damaged, or has no such task.
    """

    def __init__(self, folder: ModelFolder, tasks: Sequence[str] | None = None) -> None:
        with preserve_backends():
            names = list(folder.experiment.tasks) if tasks is None else tasks
            self._models: dict[str, LoadedModel] = folder.load_models(names)
        self._lock = nullcontext() if self.is_thread_safe else threading.Lock()

    @classmethod
    def open(cls, folder: Path, *, tasks: Sequence[str] | None = None) -> Answerer:
        """Open the best checkpoint of a run. ``claf2.export.open_answerer`` opens exports as well."""
        return cls(TrainedFolder(folder), tasks)

    @property
    def tasks(self) -> list[str]:
        """The names of the tasks."""
        return list(self._models)

    @property
    def exact_batching(self) -> bool:
        """Whether requests can be answered together without changing an answer by a bit. With PyTorch, the last digits
        of scores may change. Engines that compute each row alone gain nothing from being given several."""
        return all(model.engine.batching == "exact" for model in self._models.values())

    @property
    def batching(self) -> Batching:
        """What becomes of an answer if the request is answered together with others, for all tasks. Passes in half
        precision count as ``single``: neighbors change more than their last digits."""
        kinds = {_batching(model) for model in self._models.values()}
        return "single" if "single" in kinds else "close" if "close" in kinds else "exact"

    @property
    def is_thread_safe(self) -> bool:
        """Whether several threads may ask at the same time without waiting for each other."""
        return all(model.engine.is_thread_safe for model in self._models.values())

    def labels(self, task: str) -> list[str]:
        """Return the labels of a task, in its published order; none for tasks without classes."""
        return list(self.model(task).run.labels[task])

    def model(self, task: str) -> LoadedModel:
        """Return the model of a task: its run and its engine.

        Raises:
            RunError: when there is no such task.
        """
        if task not in self._models:
            raise RunError(f"there is no task {task!r}; it is one of {', '.join(self._models)}")
        return self._models[task]

    def task(self, task: str) -> Task:
        """Return the description of a task."""
        return self.model(task).run.experiment.only_task.task

    def encode(self, task: str, requests: Sequence[RequestLike]) -> list[EncodedRequest]:
        """Turn requests into what the engine reads, in order.

        Args:
            task: the task.
            requests: each names what the task asks about, as in ``Predictor.predict``; an example is also a request,
                and its labels are ignored.

        Raises:
            Claf2Error: when a request cannot be read.
        """
        examples = [self.example(task, request) for request in requests]
        try:
            return self._encode(task, examples)
        except Claf2Error:
            # One at a time: the requests of a batch need not have the same fields.
            return [encoded for example in examples for encoded in self._encode(task, [example])]

    def example(self, task: str, request: RequestLike) -> Example:
        """Return a request as an example without labels.

        Raises:
            Claf2Error: when it cannot be read.
        """
        task_config = self.model(task).run.experiment.only_task
        if isinstance(request, Example):
            return request.unlabelled()
        try:
            example = task_config.head.request(Request(task_config.task, request))
            for text in (example.id, *example.texts()):
                text.encode()  # a lone surrogate is not text
        except (TypeError, ValueError, AttributeError, RecursionError) as error:
            raise RunError(f"malformed: {error}") from error
        return example

    def answer(self, task: str, encoded: Sequence[EncodedRequest]) -> list[Prediction]:
        """Return one prediction per request, in order. All rows are one batch, the longest first, unless a single
        request has more rows than a batch of an evaluation: then they are divided as in an evaluation.

        Args:
            task: the task.
            encoded: what ``encode`` returned for this task.
        """
        with self._lock:
            return self._answer(task, encoded, as_one_batch=True)

    def encode_all(self, tasks: Sequence[str], requests: Sequence[RequestLike]) -> list[SharedRequest]:
        """Turn requests that several tasks answer into what the engine reads, in order.

        Raises:
            Claf2Error: when a task cannot read a request.
        """
        encoded = {task: self.encode(task, requests) for task in tasks}
        return [SharedRequest({task: encoded[task][place] for task in tasks}) for place in range(len(requests))]

    def answer_all(self, requests: Sequence[SharedRequest]) -> list[dict[str, Prediction]]:
        """Return the prediction of each task for each request, in order. Heads with one encoder share its pass where
        their rows are the same.

        Args:
            requests: what ``encode_all`` returned, for the same tasks.
        """
        if not requests:
            return []
        by_task = {task: [request.by_task[task] for request in requests] for task in requests[0].by_task}
        with ExitStack() as stack:
            stack.enter_context(self._lock)
            for engine in {id(self.model(task).engine): self.model(task).engine for task in by_task}.values():
                stack.enter_context(engine.shared_pass())
            predictions = {task: self._answer(task, items, as_one_batch=True) for task, items in by_task.items()}
        return [{task: predictions[task][place] for task in by_task} for place in range(len(requests))]

    def answer_by_length(self, task: str, encoded: Sequence[EncodedRequest]) -> list[Prediction]:
        """Return one prediction per request, in order, in the batches of an evaluation."""
        with self._lock:
            return self._answer(task, encoded, as_one_batch=False)

    def _answer(self, task: str, encoded: Sequence[EncodedRequest], *, as_one_batch: bool) -> list[Prediction]:
        if not encoded:
            return []
        model = self.model(task)
        features = [
            {**feature, "example": position} for position, request in enumerate(encoded) for feature in request.features
        ]
        data = model.run.evaluation_data(task, FeatureList(features), [request.example for request in encoded])
        # A text of many windows would need any amount of memory in one batch.
        if as_one_batch and max(len(request.features) for request in encoded) <= data.batch_size:
            data = replace(data, batch_size=len(features))
        report = evaluate_model(model.engine, {task: data}, split="predict", precision=model.run.precision())
        return list(report.tasks[task].predictions)

    def _encode(self, task: str, examples: Sequence[Example]) -> list[EncodedRequest]:
        run = self.model(task).run
        featurizer, counts = run.experiment.only_task.featurizer, Counter[str]()
        rows: list[list[Feature]] = [[] for _ in examples]
        for feature in featurizer.features(examples, run.tokenizer, run.labels[task], counts):
            rows[feature["example"]].append(feature)
        if counts["truncated"] and len(examples) > 1:  # the counts say how many, but not which ones
            return [encoded for example in examples for encoded in self._encode(task, [example])]
        is_truncated = bool(counts["truncated"])
        return [EncodedRequest(example, own, is_truncated) for example, own in zip(examples, rows, strict=True)]


def _batching(model: LoadedModel) -> Batching:
    is_rounded = model.run.experiment.runtime.precision != "fp32" and model.engine.batching == "close"
    return "single" if is_rounded else model.engine.batching


def _length(feature: Feature) -> int:
    """Return the number of tokens of a row; of all its texts where it has several."""
    ids = feature["input_ids"]
    return sum(map(len, ids)) if ids and isinstance(ids[0], list) else len(ids)
