"""The pages of a service: the models, with a form for each task, and the interface. They work without JavaScript."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi import Path as UrlPath
from fastapi.responses import HTMLResponse

import claf2
from claf2.board.pages import FOREVER, asset_digest, make_environment, read_asset
from claf2.runtime.web import read_body

__all__ = ["AnswerForm", "add_service_pages"]

SERVICE_TEMPLATES = Path(__file__).parent / "templates"

AnswerForm = Callable[[Mapping[str, Any], str, str], Awaitable[Mapping[str, Any] | HTTPException]]
"""Request, model and task (empty: the model's collection) → the answer, or what is wrong."""

MAX_FORM = 2**20
MAX_FIELDS = 32


def add_service_pages(
    app: FastAPI,
    descriptions: Mapping[str, Mapping[str, Any]],
    answer: AnswerForm,
    check: Callable[[Request], Awaitable[None]],
) -> None:
    """Add the pages to the application of a service.

    Args:
        app: the application.
        descriptions: model → what ``/info`` says about it.
        answer: answers what was typed into a form.
        check: refuses a request without a token.
    """

    def page(template: str, request: Request, error: HTTPException | None = None, **content: Any) -> Response:
        root = str(request.scope.get("root_path", "")).rstrip("/")
        text = make_environment(SERVICE_TEMPLATES).get_template(template).render(
            root=root, version=claf2.__version__, models=descriptions, asset_url=lambda name: _asset_url(root, name),
            problem=error.detail if error else "", **content,
        )  # fmt: skip
        headers = {"Cache-Control": "no-store", **((error and error.headers) or {})}
        return HTMLResponse(text, error.status_code if error else 200, headers)

    @app.get("/", include_in_schema=False, dependencies=[Depends(check)])
    async def get_page(request: Request) -> Response:
        return page("try.html", request, sent={"model": "", "task": ""}, answer=None)

    @app.post("/", include_in_schema=False, dependencies=[Depends(check)])
    async def post_page(request: Request) -> Response:
        sent = parse_form(await read_body(request, MAX_FORM, seconds=30))
        model, task = sent.pop("model", ""), sent.pop("task", "")
        fields = {name: text.replace("\r\n", "\n") for name, text in sent.items() if text}
        found = await answer(fields, model, task)
        shown = {"model": model, "task": task, **fields}
        if isinstance(found, HTTPException):
            return page("try.html", request, found, sent=shown, answer=None)
        return page("try.html", request, sent=shown, answer=found, text=json.dumps(found, ensure_ascii=False, indent=2))

    @app.get("/docs", include_in_schema=False, dependencies=[Depends(check)])
    async def get_interface_page(request: Request) -> Response:
        base = str(request.base_url).rstrip("/")
        return page("interface.html", request, document=app.openapi(), base=base)

    @app.get("/assets/{name}", include_in_schema=False)
    async def get_asset_file(name: Annotated[str, UrlPath(max_length=200)]) -> Response:
        asset = read_asset(name)
        if asset is None:
            raise HTTPException(404, "no such asset")
        return Response(asset[0], headers={"Cache-Control": FOREVER}, media_type=asset[1])


def parse_form(body: bytes) -> dict[str, str]:
    """Return the fields of a form that a browser has sent.

    Raises:
        HTTPException: 422 if it is not a form.
    """
    try:
        text = body.decode("ascii")
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict"))
    except ValueError as error:
        raise HTTPException(422, f"not a form: {error}") from error


def _asset_url(root: str, name: str) -> str:
    return f"{root}/assets/{name}?{asset_digest(name)}"
