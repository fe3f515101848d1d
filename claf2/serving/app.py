"""The web application of a service: its routes, with OpenAPI at ``/openapi.json``."""

from __future__ import annotations

import asyncio
import hmac
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from claf2 import __version__
from claf2.errors import field_problem
from claf2.heads.pooling import Pooling
from claf2.runtime.process import freeze_heap
from claf2.runtime.web import SecurityHeaders, describe_problems, json_response, read_body, read_token
from claf2.serving.answering import (
    RequestTarget,
    Service,
    answer_form,
    answer_requests,
    choose_prediction,
    choose_question,
    choose_understanding,
    choose_vector,
    parse_body,
    to_item,
    to_problem,
)
from claf2.serving.models import ServedModel
from claf2.serving.pages import add_service_pages
from claf2.serving.telemetry import METRICS_TYPE

__all__ = ["create_service_app"]


class RequestAnswer(BaseModel):
    """The answer to a request. An item of a list without an answer has ``id``, ``status`` and ``detail`` instead."""

    id: str
    prediction: Any
    score: float | None
    details: dict[str, Any] | None
    truncated: bool
    task: str
    model: str


class TaskAnswer(BaseModel):
    """What a task says."""

    prediction: Any
    score: float | None
    details: dict[str, Any] | None


class SharedAnswer(BaseModel):
    """The answers of several tasks to a request. An item of a list without them has ``id``, ``status`` and ``detail``
    instead."""

    id: str
    tasks: dict[str, TaskAnswer]
    truncated: bool
    model: str


class UnderstoodTask(BaseModel):
    """What a task says about a text."""

    prediction: Any
    score: float | None


class NamedSlot(BaseModel):
    """A part of a text with a name, and the positions of its first token and of the one after its last."""

    name: str
    text: str
    start: int
    end: int


class Understanding(BaseModel):
    """What tasks say about a text, and the parts that tags name. An item of a list without it has ``id``, ``status``
    and ``detail`` instead."""

    id: str
    tasks: dict[str, UnderstoodTask]
    slots: dict[str, list[NamedSlot]]
    truncated: bool
    model: str


class ReadPassage(BaseModel):
    """A passage with an answer."""

    id: str
    title: str
    text: str


class AnsweredQuestion(BaseModel):
    """The answer from a collection: ``answer``, ``passage`` and ``score`` are null if there is none, and ``reason``
    says why. An item of a list that failed has ``id``, ``status`` and ``detail`` instead."""

    id: str
    question: str
    answer: str | None
    passage: ReadPassage | None
    score: float | None
    reason: str
    answers: list[dict[str, Any]]
    passages: list[dict[str, Any]]
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
    app.add_middleware(SecurityHeaders)
    app.add_exception_handler(RequestValidationError, _refuse_parameters)
    app.openapi = partial(_describe_interface, app)  # type: ignore[method-assign]
    _add_answer_routes(app, service)
    _add_status_routes(app, service)
    add_service_pages(app, service.descriptions, partial(answer_form, service), check_token)
    return app


async def _refuse_parameters(_: Request, error: Exception) -> Response:
    """Answer a request with wrong parameters as one with any other mistake."""
    assert isinstance(error, RequestValidationError)
    problems = [f"{problem['loc'][-1]}: {field_problem(problem)}" for problem in error.errors()]
    return json_response({"detail": "; ".join(problems)}, 422)


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


Handler = TypeVar("Handler", bound=Callable[..., Any])

ModelName = Annotated[str | None, Query(max_length=1000)]


def _request_body(schema: str) -> dict[str, Any]:
    one = {"$ref": f"#/components/schemas/{schema}"}
    several = {"type": "array", "items": one, "minItems": 1}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": {"anyOf": [one, several]}}}}}


def _add_answer_routes(app: FastAPI, service: Service) -> None:
    """Add the routes that ask a model. Those that no model can answer are left out."""
    refusals = describe_problems(401, 408, 413, 422, 429, 503, 504)

    async def respond(request: Request, model: str | None, choose: Callable[[ServedModel], RequestTarget]) -> Response:
        try:
            body = await read_body(request, service.limits.max_body, seconds=service.seconds)
        except HTTPException as error:
            if error.status_code == 413:
                service.telemetry.rejected.labels("size").inc()
            raise
        with service.telemetry.latency.labels(request.url.path).time():
            own_id = request.headers.get("x-request-id") or uuid.uuid4().hex
            posted = parse_body(service, body, own_id)
            outcomes = await answer_requests(service, posted, model, choose)
            if not posted.is_list and isinstance(outcomes[0], Exception):
                raise to_problem(outcomes[0])
            items = [to_item(outcome, asked) for outcome, asked in zip(outcomes, posted.requests, strict=True)]
            return json_response(items if posted.is_list else items[0])

    def route(path: str, answers: Any, schema: str) -> Callable[[Handler], Handler]:
        return app.post(
            path, response_model=answers, responses=refusals, openapi_extra=_request_body(schema),
            dependencies=[Depends(check_token)],
        )  # fmt: skip

    @route("/predict", RequestAnswer | SharedAnswer | list[RequestAnswer] | list[SharedAnswer], "Request")
    async def post_predict(
        request: Request, model: ModelName = None, task: ModelName = None, tasks: ModelName = None
    ) -> Response:
        """Answer a request, or a list of requests in its order. `tasks` names several tasks, with commas between them:
        their answers come from one pass of the encoder. In a list, a request that cannot be answered gets `status` and
        `detail` instead of an answer. `X-Request-Id`, or the `id` of a request, chooses among models."""
        return await respond(request, model, lambda served: choose_prediction(served, task, tasks))

    if any(served.nlu is not None for served in service.models.models.values()):

        @route("/understand", Understanding | list[Understanding], "Text")
        async def post_understand(request: Request, model: ModelName = None, tasks: ModelName = None) -> Response:
            """Say what several tasks say about a text, or each of a list, in one pass of the encoder; tags become
            slots. `tasks` names the tasks, with commas between them."""
            return await respond(request, model, lambda served: choose_understanding(served, tasks))

    if any(served.qa is not None for served in service.models.models.values()):

        @route("/answer", AnsweredQuestion | list[AnsweredQuestion], "Question")
        async def post_answer(request: Request, model: ModelName = None) -> Response:
            """Answer a question, or each of a list, from the `k` best passages of a collection. `answer`, `passage`
            and `score` are null if there is no answer, and `reason` says why."""
            return await respond(request, model, lambda served: choose_question(served, service.limits))

    @route("/embed", Vector | list[Vector], "Text")
    async def post_embed(request: Request, model: ModelName = None, pooling: Pooling | None = None) -> Response:
        """Return the vector of a text, or of each of a list: the mean, the first, or the maximum of the vectors of its
        tokens. Without `pooling`, it is what the model was trained with, and otherwise the mean. The prefixes that some
        encoders want are part of the text."""
        return await respond(request, model, lambda served: choose_vector(served, pooling))


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


TEXT_ALTERNATIVES = {"text_a", "tokens", "turns"}
"""The fields instead of which a request may have ``text``."""

_TEXT = {"type": "string"}
_TEXTS = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}


def _describe_interface(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, to which the requests are added: bodies are not read by FastAPI."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        descriptions = app.state.service.descriptions.values()
        fields = {field for model in descriptions for task in model["tasks"].values() for field in task["fields"]}
        fields |= {"text"} if fields & TEXT_ALTERNATIVES else set()
        properties = {"id": _TEXT, **dict.fromkeys(sorted(fields), _TEXTS)}
        document["components"]["schemas"] |= {
            "Request": {"type": "object", "properties": properties, "additionalProperties": False},
            "Question": {
                "type": "object", "required": ["question"], "additionalProperties": False,
                "properties": {"id": _TEXT, "question": _TEXT, "k": {"type": "integer", "minimum": 1,
                               "maximum": app.state.service.limits.max_passages}},
            },
            "Text": {"type": "object", "properties": {"id": _TEXT, "text": _TEXT}, "required": ["text"],
                     "additionalProperties": False},
        }  # fmt: skip
        app.openapi_schema = document
    return app.openapi_schema
