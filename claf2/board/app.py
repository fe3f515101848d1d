"""The web application of a board: its REST interface, with OpenAPI at ``/api/openapi.json``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.openapi.utils import get_openapi
from pydantic import ValidationError

from claf2 import __version__
from claf2.board.cell_record import MAX_INT, RECORD_VERSION, CellRecord, Name
from claf2.board.checks import check_record
from claf2.board.pages.routes import add_pages
from claf2.board.pages.source import RecordSource
from claf2.board.records import CellConflictError, DatabaseError, NotFoundError, Records, StoredCell, WriteOutcome
from claf2.board.summaries import Summaries, row_id
from claf2.board.tables import DATABASE_VERSION
from claf2.board.tokens import TokenCache, TokenOwner
from claf2.errors import Claf2Error, RegistryError, field_problem
from claf2.metrics import metrics
from claf2.runtime.process import freeze_heap
from claf2.runtime.web import SecurityHeaders, describe_problems, json_response, read_body, read_token
from claf2.task import suites, tasks

__all__ = ["MAX_BODY", "create_app"]

MAX_BODY = 64 * 2**20
"""The largest body of a request, in bytes: about 300,000 predictions."""

Digest = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="The digest of a cell.")]


def create_app(database_url: str, *, reads_need_token: bool = False, max_body: int = MAX_BODY) -> FastAPI:
    """Return the application of a board.

    Args:
        database_url: the database, as in ``claf2.board.tables.open_database``.
        reads_need_token: whether reading needs a token as well.
        max_body: the largest body of a request, in bytes.

    Raises:
        RunError: if the database cannot be opened.
    """
    for registry in (metrics, tasks, suites):
        registry.names()  # imports the members, which must not happen in several threads at once
    records = Records(database_url)

    @asynccontextmanager
    async def close_at_end(_: FastAPI) -> AsyncIterator[None]:
        with freeze_heap():  # a full collection of garbage would let every request wait for a tenth of a second
            yield
        records.close()

    # The pages with which FastAPI shows the interface load scripts from elsewhere.
    app = FastAPI(
        title="claf2 board", version=__version__, openapi_url="/api/openapi.json", docs_url=None, redoc_url=None,
        lifespan=close_at_end, dependencies=[Depends(_check_reader)],
    )  # fmt: skip
    app.state.records = records
    app.state.summaries = Summaries(records)
    app.state.owners = TokenCache(records.engine)
    app.state.reads_need_token = reads_need_token
    app.state.max_body = max_body
    app.add_middleware(SecurityHeaders)
    app.add_exception_handler(Claf2Error, _answer_error)
    app.openapi = partial(_describe_interface, app)  # type: ignore[method-assign]
    _add_cell_routes(app, records)
    _add_suite_routes(app, records, app.state.summaries)
    add_pages(app, RecordSource(records, app.state.summaries))
    return app


STATUSES: Mapping[type[Claf2Error], int] = {
    CellConflictError: 409,
    DatabaseError: 503,
    NotFoundError: 404,
    RegistryError: 404,
}
"""The status of an answer to each kind of error; 422 for the others."""


async def _answer_error(_: Request, error: Exception) -> Response:
    status = next((status for kind, status in STATUSES.items() if isinstance(error, kind)), 422)
    return json_response({"detail": str(error)}, status)


async def _find_owner(request: Request) -> TokenOwner | None:
    token = read_token(request)
    owners: TokenCache = request.app.state.owners
    return None if token is None else owners.recall(token) or await run_in_threadpool(owners.find, token)


# Both are coroutines, since FastAPI runs other functions in threads, and switching takes as long as a small write.
async def _check_reader(request: Request) -> None:
    if request.app.state.reads_need_token and await _find_owner(request) is None:
        raise HTTPException(401, "reading needs a token", {"WWW-Authenticate": 'Basic realm="claf2 board"'})


async def _check_writer(request: Request) -> TokenOwner:
    owner = await _find_owner(request)
    if owner is None:
        hint = "writing needs a token: claf2 board token add NAME makes one, and CLAF2_BOARD_TOKEN sends it"
        raise HTTPException(401, hint, {"WWW-Authenticate": 'Bearer realm="claf2 board"'})
    if not owner.writes:
        raise HTTPException(403, f"the token {owner.name!r} can only read")
    return owner


def _parse_record(digest: str, body: bytes) -> CellRecord:
    try:
        record = CellRecord.model_validate_json(body)
    except ValidationError as error:
        # Without what was sent, which may hold what no answer can: half a surrogate pair, or a megabyte.
        problem = error.errors(include_input=False, include_url=False, include_context=False)[0]
        place = ".".join(str(part)[:80] for part in problem["loc"][:8])
        message = field_problem(problem)
        raise HTTPException(422, f"{place}: {message}" if place else message) from None
    if record.digest != digest:
        raise HTTPException(422, f"the digest of this record is {record.digest}")
    try:
        check_record(record)
    except Claf2Error as error:
        raise HTTPException(422, str(error)) from None
    return record


def _describe(stored: StoredCell) -> dict[str, Any]:
    """Return a cell as JSON, without its predictions."""
    return {"digest": stored.digest, **stored.record}


RECORD_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/CellRecord"}}},
    }
}


def _describe_interface(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, to which the record is added: its body is not read by FastAPI."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        record = CellRecord.model_json_schema(ref_template="#/components/schemas/{model}")
        document["components"]["schemas"].update(record.pop("$defs"), CellRecord=record)
        app.openapi_schema = document
    return app.openapi_schema


def _add_cell_routes(app: FastAPI, records: Records) -> None:
    """Add the routes of single cells."""

    @app.put(
        "/api/cells/{digest}",
        responses={201: {}, **describe_problems(401, 403, 409, 413, 422, 503)},
        openapi_extra=RECORD_BODY,
    )
    async def put_cell(
        request: Request, digest: Digest, owner: Annotated[TokenOwner, Depends(_check_writer)], replace: bool = False
    ) -> Response:
        """Store a cell. The same cell can be stored any number of times; another one for the same cell is refused with
        409, unless `replace` is set."""
        body = await read_body(request, request.app.state.max_body)

        def check_and_put() -> Future[WriteOutcome]:
            return records.put(_parse_record(digest, body), submitter=owner.name, replace=replace)

        outcome: WriteOutcome = await asyncio.wrap_future(await run_in_threadpool(check_and_put))
        return json_response(asdict(outcome), 201 if outcome.state == "created" else 200)

    @app.delete("/api/cells/{digest}", responses=describe_problems(401, 403, 404, 503))
    async def delete_cell(digest: Digest, owner: Annotated[TokenOwner, Depends(_check_writer)]) -> Response:
        """Remove a cell."""
        outcome: WriteOutcome = await asyncio.wrap_future(records.remove(digest))
        return json_response(asdict(outcome))

    @app.get("/api/cells")
    def list_cells(
        suite: Annotated[Name | None, Query()] = None, model: Annotated[Name | None, Query()] = None,
        task: Annotated[Name | None, Query()] = None, seed: Annotated[int | None, Query(ge=0, le=MAX_INT)] = None,
        step: Annotated[int | None, Query(ge=0, le=MAX_INT)] = None, since: Annotated[int, Query(ge=0, le=MAX_INT)] = 0,
    ) -> Response:  # fmt: skip
        """List cells with their scores. `since` is a number of changes, as `/api/version` returns it."""
        stored = records.cells(since=since, suite=suite, model=model, task=task, seed=seed, step=step)
        fields = ("cell", "scores", "failure")
        return json_response([
            {"digest": cell.digest, "change": cell.change, **{name: cell.record[name] for name in fields}}
            for cell in stored
        ])  # fmt: skip

    @app.get("/api/contents")
    def list_contents() -> Response:
        """Return the digest of each cell, and that of its content: what a client compares before it submits."""
        return json_response(records.contents())

    @app.get("/api/cells/{digest}", responses=describe_problems(404))
    def get_cell(digest: Digest) -> Response:
        """Return a cell with its provenance and learning curve; of its predictions, their number and SHA-256."""
        return json_response(_describe(_get(records, digest)))

    @app.get("/api/cells/{digest}/predictions/{split}", responses=describe_problems(404))
    def get_predictions(digest: Digest, split: Name) -> Response:
        """Return the predictions of a cell for a split."""
        return Response(records.predictions(digest, split), media_type="application/json")


def _get(records: Records, digest: str) -> StoredCell:
    stored = records.get(digest)
    if stored is None:
        raise HTTPException(404, "no such cell")
    return stored


def _add_suite_routes(app: FastAPI, records: Records, summaries: Summaries) -> None:
    """Add the routes of suites, and those about the board itself."""

    @app.get("/api/suites")
    def list_suites() -> Response:
        """List the suites with cells, and how many there are."""
        return json_response(records.suites())

    @app.get("/api/suites/{suite}/summary", responses=describe_problems(404, 422))
    def get_summary(suite: Name) -> Response:
        """Return the table of a suite: a row for each model, with means, intervals and marks of significance."""
        return json_response(asdict(summaries.table(suite).summary))

    @app.get("/api/suites/{suite}/rows", responses=describe_problems(404, 422))
    def get_rows(suite: Name) -> Response:
        """Return the rows of the table of a suite, in its order: the id of each, and its cells."""
        table = summaries.table(suite)
        return json_response([
            {"id": row_id(cells[0]), "model": row.model, "step": row.step, "variant": row.variant(),
             "cells": [{"digest": cell.digest, "task": cell.cell.task, "seed": cell.cell.seed} for cell in cells]}
            for row, cells in zip(table.summary.rows, table.rows, strict=True)
        ])  # fmt: skip

    @app.get("/api/suites/{suite}/curve", responses=describe_problems(404, 422))
    def get_curve(suite: Name) -> Response:
        """Return the scores by step of pre-training, with intervals, for each model with checkpoints."""
        return json_response([asdict(curve) for curve in summaries.curves(suite)])

    @app.get("/api/compare", responses=describe_problems(404, 422))
    def compare(
        a: Annotated[Name, Query(description="The digest of a cell, the id of a row, or the name of a model.")],
        b: Annotated[Name, Query(description="The same of what is compared with it.")],
        suite: Annotated[Name | None, Query()] = None, force: bool = False,
        level: Annotated[float, Query(ge=0.5, lt=1)] = 0.95, margin: Annotated[float, Query(ge=0, le=1000)] = 2.0,
    ) -> Response:  # fmt: skip
        """Say whether b scores differently from a, with an interval, a p value and a verdict for each task."""
        return json_response(
            asdict(summaries.compare_cells(a, b, suite=suite, force=force, level=level, margin=margin))
        )

    @app.get("/api/token", responses=describe_problems(401, 403))
    async def get_token(owner: Annotated[TokenOwner, Depends(_check_writer)]) -> Response:
        """Return the name of the token, if it may write. A client asks this before it trains for hours."""
        return json_response({"name": owner.name})

    @app.get("/api/version")
    def get_version() -> Response:
        """Return the number of changes, which is larger after every change: what a page polls."""
        return json_response({"changes": records.change_number()})

    @app.get("/api/health")
    def get_health() -> Response:
        """Say that the board and its database work, and their versions."""
        versions = {"claf2": __version__, "database": DATABASE_VERSION, "record": RECORD_VERSION}
        return json_response({"status": "ok", **versions, "changes": records.change_number()})
