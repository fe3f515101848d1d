"""What can be asked of a model: a task, several tasks in one pass, a vector, or a question about a collection."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from claf2.errors import Claf2Error, RunError
from claf2.heads.pooling import Pooling
from claf2.heads.request import read_request_text
from claf2.machine.nlu import NluMachine
from claf2.machine.qa import EncodedQuestion, QaMachine
from claf2.metrics import Prediction
from claf2.runs.answerer import Answerer
from claf2.runs.embedding import Embedder

__all__ = [
    "RequestKind", "find_text_tasks", "prediction_fields", "question_kind", "task_kind", "tasks_kind",
    "understanding_kind", "vector_kind",
]  # fmt: skip


@dataclass(frozen=True)
class RequestKind:
    """What requests ask of a model. Requests of equal kinds are answered together."""

    name: tuple[str, ...]
    """What two kinds are compared by, such as the task."""
    encode: Callable[[Sequence[Mapping[str, Any]]], Sequence[Any]] = field(compare=False)
    """Turns requests into what the model reads, in order; each result has a number of ``tokens``."""
    answer: Callable[[Sequence[Any]], Sequence[Any]] = field(compare=False)
    """Answers what ``encode`` returned, in order, in a thread."""
    to_fields: Callable[[Any, Any], Mapping[str, Any]] = field(compare=False)
    """What was encoded, and its answer → what the client gets."""


def prediction_fields(prediction: Prediction) -> dict[str, Any]:
    """Return what a line of a prediction file holds, without the gold answer, which a request does not have."""
    return {
        "id": prediction.id, "prediction": prediction.prediction, "score": prediction.score,
        "details": prediction.details,
    }  # fmt: skip


def task_kind(answerer: Answerer, task: str) -> RequestKind:
    """Return what asks one task."""
    return RequestKind(
        ("task", task), partial(answerer.encode, task), partial(answerer.answer, task),
        lambda encoded, answer: {**prediction_fields(answer), "truncated": encoded.truncated, "task": task},
    )  # fmt: skip


def tasks_kind(answerer: Answerer, tasks: Sequence[str]) -> RequestKind:
    """Return what asks several tasks about the same request. Heads with one encoder share its pass."""

    def to_fields(encoded: Any, answers: Mapping[str, Prediction]) -> Mapping[str, Any]:
        by_task = {task: prediction_fields(answer) for task, answer in answers.items()}
        ids = [fields.pop("id") for fields in by_task.values()]
        return {"id": ids[0], "tasks": by_task, "truncated": encoded.truncated}

    return RequestKind(("tasks", *tasks), partial(answerer.encode_all, tasks), answerer.answer_all, to_fields)


def vector_kind(embedder: Embedder, pooling: Pooling) -> RequestKind:
    """Return what asks for the vector of a text."""
    return RequestKind(
        ("vector", pooling), embedder.encode, partial(embedder.embed, pooling),
        lambda encoded, vector: {
            "id": encoded.id, "vector": vector, "truncated": encoded.truncated, "pooling": pooling,
        },
    )  # fmt: skip


def find_text_tasks(answerer: Answerer) -> list[str]:
    """Return the tasks that ask about a single text."""

    def reads_text(task: str) -> bool:
        try:
            answerer.encode(task, [{"id": "0", "text": "a"}])
        except Claf2Error:
            return False
        return True

    return [task for task in answerer.tasks if reads_text(task)]


def understanding_kind(machine: NluMachine, tasks: Sequence[str]) -> RequestKind:
    """Return what asks some tasks of a machine about a text, with the slots that their tags name."""
    return RequestKind(
        ("understanding", *tasks), partial(machine.encode, tasks=tasks), machine.answer_encoded,
        lambda encoded, answer: {"id": encoded.by_task[tasks[0]].example.id, **answer.to_json()},
    )  # fmt: skip


@dataclass(frozen=True)
class _Question:
    """A question of a client, with the passages that were found."""

    id: str
    found: EncodedQuestion

    @property
    def tokens(self) -> int:
        return self.found.tokens


def question_kind(machine: QaMachine, max_passages: int) -> RequestKind:
    """Return what asks a question about the collection of a machine.

    Args:
        machine: the machine.
        max_passages: the most passages that a client may let it read.
    """

    def encode(requests: Sequence[Mapping[str, Any]]) -> list[_Question]:
        asked = [_read_question(request, machine.k, max_passages) for request in requests]
        found: dict[int, EncodedQuestion] = {}
        for k in {k for _, k in asked}:
            places = [place for place, (_, other) in enumerate(asked) if other == k]
            found |= zip(places, machine.encode([asked[place][0] for place in places], k), strict=True)
        return [_Question(str(request.get("id", "0")), found[place]) for place, request in enumerate(requests)]

    def answer(questions: Sequence[_Question]) -> Sequence[Any]:
        return machine.answer_encoded([question.found for question in questions], as_one_batch=len(questions) == 1)

    return RequestKind(("question",), encode, answer, lambda encoded, answer: {"id": encoded.id, **answer.to_json()})


def _read_question(request: Mapping[str, Any], k: int, max_passages: int) -> tuple[str, int]:
    """Return the question of a request, and how many passages are read for it.

    Raises:
        Claf2Error: if the request is anything but ``question`` and, if wanted, ``k`` and ``id``.
    """
    if not {"question"} <= request.keys() <= {"id", "k", "question"}:
        raise RunError(f"a request needs question, and may have k; got: {', '.join(request) or 'nothing'}")
    k = request.get("k", min(k, max_passages))
    if type(k) is not int or not 1 <= k <= max_passages:
        raise RunError(f"k is {str(k)[:80]}; write a whole number from 1 to {max_passages}")
    return read_request_text(request, "question"), k
