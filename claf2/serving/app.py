"""The web application of a service: its routes, with OpenAPI at ``/openapi.json``."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from claf2 import __version__
from claf2.errors import Claf2Error
from claf2.runs.embedding import Pooling
from claf2.runtime.process import freeze_heap
from claf2.runtime.web import AddSecurityHeaders, describe_problems, json_response, read_body, read_token
from claf2.serving.limits import LateError, OverloadError, RequestLimits, TooLargeError
from claf2.serving.models import ModelSet, Outcome, ServedModel
from claf2.serving.pages import add_service_pages
from claf2.serving.telemetry import METRICS_TYPE, Telemetry

__all__ = ["Service", "create_service_app"]

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


class Answered(BaseModel):
    """The answer to a request. An item of a list without an answer has ``id``, ``status`` and ``detail`` instead."""

    id: str
    prediction: Any
    score: float | None
    details: dict[str, Any] | None
    truncated: bool
    task: str
    model: str


class Vector(BaseModel):
    """The vector of a text. An item of a list without one has ``id``, ``status`` and ``detail`` instead."""

    id: str
    vector: list[float]
    truncated: bool
    pooling: str
    model: str


def create_service_app(service: Service) -> FastAPI:
    """Return the application of a service."""

    @asynccontextmanager
    async def close_at_end(_: FastAPI) -> AsyncIterator[None]:
        with freeze_heap():  # a full collection of garbage would let every request wait for a tenth of a second
            yield
        await asyncio.to_thread(service.close)

    # The pages with which FastAPI shows the interface load scripts from elsewhere.
    app = FastAPI(
        title="claf2 serve", version=__version__, openapi_url=None, docs_url=None, redoc_url=None,
        lifespan=close_at_end,
    )  # fmt: skip
    app.state.service = service
    app.add_middleware(AddSecurityHeaders)
    app.openapi = partial(_describe_interface, app)  # type: ignore[method-assign]
    _add_answer_routes(app, service)
    _add_status_routes(app, service)
    add_service_pages(app, service.descriptions, partial(answer_form, service), check_token)
    return app


async def check_token(request: Request) -> None:
    """Refuse a request without the token of the service, if it has one."""
    expected = request.app.state.service.token
    if expected is None:
        return
    # As bytes, and of any length: how long it takes does not depend on how much is right.
    if not hmac.compare_digest((read_token(request) or "").encode("utf-8", "replace"), expected.encode()):
        service = request.app.state.service
        service.telemetry.rejected.labels("token").inc()
        hint = "this service needs its token: Authorization: Bearer TOKEN"
        raise HTTPException(401, hint, {"WWW-Authenticate": 'Basic realm="claf2 serve"'})


def find_status(error: Exception) -> int:
    """Return the HTTP status of an error."""
    return next((status for kind, status in ERROR_STATUSES.items() if isinstance(error, kind)), 500)


def _to_problem(error: Exception) -> HTTPException:
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


def _to_item(outcome: Outcome, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an item of a list: the answer, or what is wrong with the request."""
    if not isinstance(outcome, Exception):
        return outcome
    problem = _to_problem(outcome)
    return {"id": _to_text(str(request["id"])), "status": problem.status_code, "detail": problem.detail}


@dataclass(frozen=True)
class PostedRequests:
    """The requests of a body."""

    requests: Sequence[dict[str, Any]]
    """Each has an id: its own, or its number in a list."""
    keys: Sequence[str]
    """What the choice of a model depends on, for each request: its own id, or that of the body."""
    is_list: bool


def parse_body(body: bytes, id: str, limits: RequestLimits) -> PostedRequests:
    """Return the requests of a body.

    Args:
        body: JSON.
        id: the id of the body.
        limits: how many requests it may hold.

    Raises:
        HTTPException: 413 for too many requests, 422 for anything but a JSON object or a list of them.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, f"the body is not JSON: {str(error)[:200]}") from error
    values = value if isinstance(value, list) else [value]
    if len(values) > limits.max_requests:
        problem = f"{len(values)} requests in one body, of at most {limits.max_requests}; send several bodies"
        raise HTTPException(413, problem)
    if not values or not all(isinstance(item, dict) for item in values):
        raise HTTPException(422, 'expected a request such as {"text": "…"}, or a list of requests')
    is_list = isinstance(value, list)
    requests = [{"id": str(number if is_list else 0), **item} for number, item in enumerate(values, start=1)]
    # The number of a request says nothing about who asks.
    keys = [str(item["id"]) if "id" in item else id for item in values]
    return PostedRequests(requests, keys, is_list)


def check_size(request: Mapping[str, Any], limits: RequestLimits) -> None:
    """Check that the texts of a request are not too long.

    Raises:
        TooLargeError: if they are.
    """
    texts = [text for value in request.values() for text in (value if isinstance(value, list) else [value])]
    size = sum(len(text) for text in texts if isinstance(text, str))
    if size > limits.max_characters:
        raise TooLargeError(f"{size} characters, of at most {limits.max_characters}; shorten the text")


Ask = Callable[[ServedModel, Sequence[Mapping[str, Any]]], Awaitable[Sequence[Outcome]]]


async def answer_requests(service: Service, posted: PostedRequests, model: str | None, ask: Ask) -> list[Outcome]:
    """Answer requests by the models that they are meant for, in order.

    Args:
        service: the models.
        posted: the requests.
        model: the model that the client names, if any.
        ask: asks one model.

    Raises:
        HTTPException: 422 if no model is meant, 429 if there is no room.
    """
    requests = posted.requests
    outcomes: list[Outcome] = [AssertionError("not answered")] * len(requests)
    by_model: dict[str, list[int]] = {}
    for position, (request, key) in enumerate(zip(requests, posted.keys, strict=True)):
        try:
            check_size(request, service.limits)
        except TooLargeError as error:
            outcomes[position] = error
            continue
        try:
            by_model.setdefault(service.models.choose(model, key).name, []).append(position)
        except Claf2Error as error:
            raise HTTPException(422, str(error)) from error

    async def ask_one(name: str, positions: Sequence[int]) -> None:
        answers = await ask(service.models.models[name], [requests[position] for position in positions])
        for position, answer in zip(positions, answers, strict=True):
            outcomes[position] = answer

    try:
        await asyncio.gather(*(ask_one(name, positions) for name, positions in by_model.items()))
    except OverloadError as error:
        service.telemetry.rejected.labels("queue").inc(len(requests))
        raise HTTPException(429, str(error), {"Retry-After": str(error.retry_after)}) from error
    except Claf2Error as error:
        raise HTTPException(422, str(error)) from error
    return outcomes


def choose_task(model: ServedModel, task: str | None) -> str:
    """Return the task that a client means.

    Raises:
        HTTPException: 422 if it must name one, or names another one.
    """
    names = model.answerer.tasks
    if task is None and len(names) == 1:
        return names[0]
    if task not in names:
        problem = "name a task" if task is None else f"model {model.name} has no task {task[:80]!r}"
        raise HTTPException(422, f"{problem}: ?task= one of {', '.join(names)}")
    return task


async def predict(service: Service, posted: PostedRequests, model: str | None, task: str | None) -> list[Outcome]:
    """Answer requests about a task, and count them.

    Raises:
        HTTPException: as ``answer_requests`` does; 422 if no task is meant.
    """

    async def ask(served: ServedModel, asked: Sequence[Mapping[str, Any]]) -> Sequence[Outcome]:
        name = choose_task(served, task)
        outcomes = await served.predict(name, asked)
        for outcome in outcomes:
            status = find_status(outcome) if isinstance(outcome, Exception) else 200
            service.telemetry.requests.labels(served.name, name, status).inc()
        return outcomes

    return await answer_requests(service, posted, model, ask)


async def answer_form(
    service: Service, request: Mapping[str, Any], model: str, task: str
) -> tuple[Mapping[str, Any] | None, str]:
    """Return the answer to what was typed into the page, and what is wrong with it."""
    try:
        (outcome,) = await predict(
            service, PostedRequests([{"id": "0", **request}], ["page"], is_list=False), model, task
        )
    except HTTPException as error:
        return None, str(error.detail)
    if isinstance(outcome, Exception):
        return None, str(_to_problem(outcome).detail)
    return outcome, ""


ModelName = Annotated[str | None, Query(max_length=1000)]


def _request_body(schema: str) -> dict[str, Any]:
    one = {"$ref": f"#/components/schemas/{schema}"}
    several = {"type": "array", "items": one, "minItems": 1}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": {"anyOf": [one, several]}}}}}


def _add_answer_routes(app: FastAPI, service: Service) -> None:
    """Add the routes that ask a model."""
    refusals = describe_problems(401, 408, 413, 422, 429, 503, 504)

    async def respond(request: Request, ask_all: Callable[[PostedRequests], Awaitable[list[Outcome]]]) -> Response:
        body = await read_body(request, service.limits.max_body, seconds=service.seconds)
        with service.telemetry.latency.labels(request.url.path).time():
            own_id = request.headers.get("x-request-id") or uuid.uuid4().hex
            posted = parse_body(body, own_id, service.limits)
            outcomes = await ask_all(posted)
            if not posted.is_list and isinstance(outcomes[0], Exception):
                raise _to_problem(outcomes[0])
            items = [_to_item(outcome, asked) for outcome, asked in zip(outcomes, posted.requests, strict=True)]
            return json_response(items if posted.is_list else items[0])

    @app.post(
        "/predict", response_model=Answered | list[Answered], responses=refusals,
        openapi_extra=_request_body("Request"), dependencies=[Depends(check_token)],
    )  # fmt: skip
    async def post_predict(request: Request, model: ModelName = None, task: ModelName = None) -> Response:
        """Answer a request, or a list of requests in its order. In a list, a request that cannot be answered gets
        `status` and `detail` instead of an answer. `X-Request-Id`, or the `id` of a request, chooses among models."""
        return await respond(request, lambda posted: predict(service, posted, model, task))

    @app.post(
        "/embed", response_model=Vector | list[Vector], responses=refusals, openapi_extra=_request_body("Text"),
        dependencies=[Depends(check_token)],
    )  # fmt: skip
    async def post_embed(request: Request, model: ModelName = None, pooling: Pooling = "mean") -> Response:
        """Return the vector of a text, or of each of a list: the mean of its tokens, or its first token."""

        def ask(served: ServedModel, asked: Sequence[Mapping[str, Any]]) -> Awaitable[list[Outcome]]:
            return served.embed(pooling, asked)

        return await respond(request, lambda posted: answer_requests(service, posted, model, ask))


def _add_status_routes(app: FastAPI, service: Service) -> None:
    """Add the routes about the service itself."""

    @app.get("/info", responses=describe_problems(401), dependencies=[Depends(check_token)])
    async def get_info() -> Response:
        """Say which models are served, what they have scored, and what their answers depend on."""
        return json_response({
            "claf2": __version__, "shares": service.models.shares, "limits": vars(service.limits),
            "models": service.descriptions,
        })  # fmt: skip

    @app.get("/health")
    async def get_health() -> Response:
        """Say that the service answers, and how many requests are in progress. It needs no token."""
        waiting = {name: model.admission.in_progress for name, model in service.models.models.items()}
        return json_response({"status": "ok", "time": time.time(), "in_progress": waiting})

    @app.get("/metrics", responses=describe_problems(401), dependencies=[Depends(check_token)])
    async def get_metrics() -> Response:
        """Return the counters of the service for Prometheus."""
        return Response(service.telemetry.format(), headers={"Content-Type": METRICS_TYPE})

    @app.get("/openapi.json", include_in_schema=False, dependencies=[Depends(check_token)])
    async def get_interface() -> Response:
        return json_response(app.openapi())


_TEXT = {"type": "string"}
_TEXTS = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}


def _describe_interface(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, to which the requests are added: bodies are not read by FastAPI."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        descriptions = app.state.service.descriptions.values()
        fields = {field for model in descriptions for task in model["tasks"].values() for field in task["fields"]}
        properties = {"id": _TEXT, **dict.fromkeys(sorted(fields), _TEXTS)}
        document["components"]["schemas"] |= {
            "Request": {"type": "object", "properties": properties, "additionalProperties": False},
            "Text": {"type": "object", "properties": {"id": _TEXT, "text": _TEXT}, "required": ["text"],
                     "additionalProperties": False},
        }  # fmt: skip
        app.openapi_schema = document
    return app.openapi_schema
