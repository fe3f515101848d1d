"""From a body to answers: which model is asked what, and how errors become answers of HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException

from claf2.errors import Claf2Error, RunError
from claf2.heads.pooling import Pooling
from claf2.serving.kinds import RequestKind, question_kind, task_kind, tasks_kind, understanding_kind, vector_kind
from claf2.serving.limits import LateError, OverloadError, RequestLimits, TooLargeError
from claf2.serving.models import ModelSet, Outcome, ServedModel
from claf2.serving.telemetry import Telemetry

__all__ = [
    "PostedRequests", "RequestTarget", "Service", "answer_form", "answer_requests", "choose_prediction",
    "choose_question", "choose_understanding", "choose_vector", "parse_body", "to_item", "to_problem",
]  # fmt: skip

logger = logging.getLogger("claf2")

ERROR_STATUSES: Mapping[type[Exception], int] = {
    TooLargeError: 413,
    OverloadError: 503,
    LateError: 504,
    Claf2Error: 422,
}
"""The status of an answer to each kind of error; 500 for the others, which are mistakes of claf2."""


@dataclass(frozen=True)
class Service:
    """What a server answers with."""

    models: ModelSet
    descriptions: Mapping[str, Mapping[str, Any]]
    """Model → what ``/info`` says about it."""
    limits: RequestLimits
    telemetry: Telemetry
    token: str | None = None
    """What clients must send, if anything."""
    seconds: float = 30.0
    """How long a client may take to send a body."""

    def close(self) -> None:
        """End the threads of the models. What is in progress is answered first."""
        for model in self.models.models.values():
            model.close()


def find_status(error: Exception) -> int:
    """Return the HTTP status of an error."""
    return next((status for kind, status in ERROR_STATUSES.items() if isinstance(error, kind)), 500)


def to_problem(error: Exception) -> HTTPException:
    """Return an error as an answer."""
    status = find_status(error)
    if status == 500:
        logger.error("a request has failed", exc_info=error)
    detail = str(error) if status != 500 else "the model could not answer this request; the log of the server says why"
    headers = {"Retry-After": str(error.retry_after)} if isinstance(error, OverloadError) else None
    return HTTPException(status, _to_text(detail), headers)


def _to_text(text: str) -> str:
    """Return what a client has sent as text that an answer can hold: without halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode()


def to_item(outcome: Outcome, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an item of a list: the answer, or what is wrong with the request."""
    if not isinstance(outcome, Exception):
        return outcome
    problem = to_problem(outcome)
    return {"id": _to_text(str(request["id"])), "status": problem.status_code, "detail": problem.detail}


@dataclass(frozen=True)
class PostedRequests:
    """The requests of a body."""

    requests: Sequence[dict[str, Any]]
    """Each has an id: its own, or its number in a list."""
    keys: Sequence[str]
    """What the choice of a model depends on, for each request: its own id, or that of the body."""
    is_list: bool


def parse_body(service: Service, body: bytes, id: str) -> PostedRequests:
    """Return the requests of a body. Too many are counted.

    Args:
        service: how many requests it accepts.
        body: JSON.
        id: the id of the body; those of its requests may be ``null``, or absent.

    Raises:
        HTTPException: 413 for too many requests, 422 for anything but a JSON object or a list of them.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, f"the body is not JSON: {str(error)[:200]}") from error
    values = value if isinstance(value, list) else [value]
    if len(values) > service.limits.max_requests:
        service.telemetry.rejected.labels("size").inc(len(values))
        problem = f"{len(values)} requests in one body, of at most {service.limits.max_requests}; send several bodies"
        raise HTTPException(413, problem)
    if not values or not all(isinstance(item, dict) for item in values):
        raise HTTPException(422, 'expected a request such as {"text": "…"}, or a list of requests')
    is_list = isinstance(value, list)
    values = [{name: field for name, field in item.items() if name != "id" or field is not None} for item in values]
    requests = [{"id": str(number if is_list else 0), **item} for number, item in enumerate(values, start=1)]
    # The number of a request says nothing about who asks.
    keys = [str(item["id"]) if "id" in item else id for item in values]
    return PostedRequests(requests, keys, is_list)


def check_size(request: Mapping[str, Any], limits: RequestLimits) -> None:
    """Check that the texts of a request are not too long. Its id does not count.

    Raises:
        TooLargeError: if they are.
    """
    values = [value for name, value in request.items() if name != "id"]
    texts = [text for value in values for text in (value if isinstance(value, list) else [value])]
    size = sum(len(text) for text in texts if isinstance(text, str))
    if size > limits.max_characters:
        raise TooLargeError(f"{size} characters, of at most {limits.max_characters}; shorten the text")


@dataclass(frozen=True)
class RequestTarget:
    """What requests ask of a model."""

    kind: RequestKind
    tasks: Sequence[str]
    """The tasks that count the requests."""


async def answer_requests(
    service: Service, posted: PostedRequests, model: str | None, choose: Callable[[ServedModel], RequestTarget]
) -> list[Outcome]:
    """Answer requests by the models that they are meant for, in order, and count them.

    Args:
        service: the models.
        posted: the requests.
        model: the model that the client names, if any.
        choose: says what a model is asked.

    Raises:
        HTTPException: 413 if they are too many, 422 if no model or task is meant, 429 if there is no room.
    """
    requests = posted.requests
    outcomes: list[Outcome] = [AssertionError("not answered")] * len(requests)
    by_model: dict[str, list[int]] = {}
    for position, (request, key) in enumerate(zip(requests, posted.keys, strict=True)):
        try:
            check_size(request, service.limits)
        except TooLargeError as error:
            service.telemetry.rejected.labels("size").inc()
            outcomes[position] = error
            continue
        try:
            by_model.setdefault(service.models.choose(model, key).name, []).append(position)
        except Claf2Error as error:
            raise HTTPException(422, str(error)) from error

    async def ask_one(name: str, positions: Sequence[int]) -> None:
        served = service.models.models[name]
        asked = choose(served)
        answers = await served.ask(asked.kind, [requests[position] for position in positions])
        for position, answer in zip(positions, answers, strict=True):
            outcomes[position] = answer
            status = find_status(answer) if isinstance(answer, Exception) else 200
            for task in asked.tasks:
                service.telemetry.requests.labels(name, task, status).inc()

    try:
        await asyncio.gather(*(ask_one(name, positions) for name, positions in by_model.items()))
    except OverloadError as error:
        service.telemetry.rejected.labels("queue").inc(sum(map(len, by_model.values())))
        raise HTTPException(429, str(error), {"Retry-After": str(error.retry_after)}) from error
    except Claf2Error as error:
        if isinstance(error, TooLargeError):
            service.telemetry.rejected.labels("size").inc(sum(map(len, by_model.values())))
        raise to_problem(error) from error
    return outcomes


def choose_prediction(model: ServedModel, task: str | None, tasks: str | None) -> RequestTarget:
    """Return what asks one task of a model, or several in one pass.

    Args:
        model: the model.
        task: the task that the client names, if any.
        tasks: the names of several tasks, with commas between them.

    Raises:
        RunError: if the client must name a task, or names another one.
    """
    names = model.answerer.tasks
    if tasks is not None:
        if task is not None:
            raise RunError("?task= and ?tasks= cannot be used together; leave out one of them")
        several = _split_names(model, tasks, names)
        return RequestTarget(tasks_kind(model.answerer, several), several)
    if task is None and len(names) == 1:
        (task,) = names
    if task is None or task not in names:
        problem = "name a task" if task is None else f"model {model.name} has no task {task[:80]!r}"
        raise RunError(f"{problem}: ?task= one of {', '.join(names)}")
    return RequestTarget(task_kind(model.answerer, task), [task])


def choose_understanding(model: ServedModel, tasks: str | None) -> RequestTarget:
    """Return what asks the tasks of a model about a text, by default all that ask about nothing else.

    Raises:
        RunError: if there is no such task.
    """
    if model.nlu is None:
        problem = "has no task that asks about a single text"
        raise RunError(f"model {model.name} {problem}; its tasks are {', '.join(model.answerer.tasks)}")
    names = model.nlu.tasks if tasks is None else _split_names(model, tasks, model.nlu.tasks)
    return RequestTarget(understanding_kind(model.nlu, names), names)


def choose_question(model: ServedModel, limits: RequestLimits) -> RequestTarget:
    """Return what asks a model about its collection.

    Raises:
        RunError: if it has none.
    """
    if model.qa is None:
        raise RunError(f"model {model.name} has no passages to read; serve it with --index {model.name}=INDEX")
    return RequestTarget(question_kind(model.qa, limits.max_passages), [model.qa.task])


def choose_vector(model: ServedModel, pooling: Pooling | None) -> RequestTarget:
    """Return what asks a model for the vectors of texts.

    Args:
        model: the model.
        pooling: how the vectors of tokens become one; ``None``: as the model was trained.

    Raises:
        RunError: if it has none.
    """
    model.embedder.check()
    return RequestTarget(vector_kind(model.embedder, pooling or model.embedder.pooling), [model.embedder.task])


def _split_names(model: ServedModel, text: str, names: Sequence[str]) -> list[str]:
    """Return the tasks that a client names, each once."""
    given = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    wrong = next((name for name in given if name not in names), None)
    if wrong is not None or not given:
        problem = "name tasks" if wrong is None else f"model {model.name} has no such task {wrong[:80]!r}"
        raise RunError(f"{problem}: ?tasks= some of {','.join(names)}")
    return given


async def answer_form(
    service: Service, request: Mapping[str, Any], model: str, task: str
) -> Mapping[str, Any] | HTTPException:
    """Return the answer to what was typed into the page, or what is wrong with it. Without a task, it is a question
    about the collection of the model."""
    posted = PostedRequests([{"id": "0", **request}], ["page"], is_list=False)

    def choose(served: ServedModel) -> RequestTarget:
        return choose_prediction(served, task, None) if task else choose_question(served, service.limits)

    try:
        (outcome,) = await answer_requests(service, posted, model, choose)
    except HTTPException as error:
        return error
    return to_problem(outcome) if isinstance(outcome, Exception) else outcome
