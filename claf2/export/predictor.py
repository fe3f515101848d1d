"""Predictions in memory, for programs: the public face of an ``Answerer``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from claf2.errors import Claf2Error, RunError
from claf2.export.opening import open_model_folder
from claf2.metrics import Prediction
from claf2.readers import Example
from claf2.runs.answerer import Answerer, EncodedRequest
from claf2.runs.requests import RequestLike, read_requests, with_id

__all__ = ["Predictor"]

CALL_HINT = 'write predictor.predict([{"text": "…"}]), or of one request predictor(text="…")'


class Predictor:
    """The best checkpoint of a run, or an export, loaded once, for predictions in memory.

    If a text was cut to the longest input, as it would have been in training, the ``details`` of its prediction say so:
    ``truncated`` is true.

    Args:
        folder: the folder of the run or of the export.
        task: one of its tasks; ``None`` where it has only one.

    Raises:
        RunError: when the folder holds no complete run or export, or it has no such task.

    Examples:
        >>> predictor = claf2.Predictor("logs/scratch/nsmc")
        >>> predictor(text="재미있다").prediction
        '1'
    """

    def __init__(self, folder: str | Path, task: str | None = None) -> None:
        opened = open_model_folder(Path(folder))
        self._task = opened.experiment.task_name(task)
        self._answerer = Answerer(opened, [self._task])

    @property
    def labels(self) -> list[str]:
        """The labels of the task, in its published order; empty for tasks without classes."""
        return self._answerer.labels(self._task)

    def __call__(self, **request: Any) -> Prediction:
        """Return the prediction for one request, e.g. ``predictor(text_a="…", text_b="…")``; see ``predict``."""
        return self._answer(self._answerer.encode(self._task, [with_id(request, "0")]))[0]

    def predict(self, requests: Iterable[RequestLike]) -> list[Prediction]:
        """Return one prediction per request, in order. The requests are batched together by length.

        Args:
            requests: each names what its kind of task asks about: ``text_a`` (and ``text_b``), ``text``, ``tokens``,
                or ``question`` and ``context``; an ``id`` is returned with the prediction. An example of a reader is
                also a request, and its labels are ignored.

        Raises:
            RunError: naming the request that cannot be read.
        """
        return self._answer(self._answerer.encode(self._task, list(self._examples(requests))))

    def stream(self, requests: Iterable[RequestLike]) -> Iterator[Prediction]:
        """Yield one prediction per request, each as soon as its request arrives."""
        for example in self._examples(requests):
            yield from self._answer(self._answerer.encode(self._task, [example]))

    def read(self, path: Path) -> list[Example]:
        """Read all requests of a file: JSON, plain text, or a file in the task's own format; see ``read_requests``.

        Raises:
            Claf2Error: if the file or one of its requests cannot be read.
        """
        return list(self._examples(read_requests(path, self._answerer.task(self._task))))

    def _examples(self, requests: Iterable[RequestLike]) -> Iterator[Example]:
        if isinstance(requests, str | Mapping | Example) or not isinstance(requests, Iterable):
            raise RunError(f"expected a list of requests, got {requests!r:.80}; {CALL_HINT}")
        for number, request in enumerate(requests, start=1):
            if not isinstance(request, Mapping | Example):
                raise RunError(f"request {number}: expected its fields, got {request!r:.80}; {CALL_HINT}")
            try:
                named = request if isinstance(request, Example) else with_id(request, str(number))
                yield self._answerer.example(self._task, named)
            except Claf2Error as error:
                raise RunError(f"request {number}: {error}") from error

    def _answer(self, encoded: list[EncodedRequest]) -> list[Prediction]:
        predictions = self._answerer.answer_by_length(self._task, encoded)
        return [
            _say_truncated(prediction) if request.truncated else prediction
            for request, prediction in zip(encoded, predictions, strict=True)
        ]


def _say_truncated(prediction: Prediction) -> Prediction:
    return dataclasses.replace(prediction, details={**(prediction.details or {}), "truncated": True})
