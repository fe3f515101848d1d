"""The pages of a board as routes of its server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Protocol

from fastapi import FastAPI, HTTPException, Path, Query, Request
from fastapi.responses import HTMLResponse, Response

from claf2.benchmarking.comparison import Comparison
from claf2.benchmarking.summary import Summary
from claf2.board.pages import (
    FOREVER,
    Site,
    read_asset,
    render_comparison,
    render_error,
    render_index,
    render_run,
    render_suite,
)
from claf2.board.pages.run import RunDetails
from claf2.board.pages.suite import RowRuns
from claf2.errors import Claf2Error

__all__ = ["PageSource", "add_pages"]

PathName = Annotated[str, Path(max_length=20_000)]


class PageSource(Protocol):
    """What pages show."""

    def change_number(self) -> int:
        """Return the number of changes, which is larger after every change."""

    def summaries(self) -> Sequence[Summary]:
        """Return the summary of each suite with cells."""

    def table(self, suite: str) -> tuple[Summary, Sequence[RowRuns], int]:
        """Return the summary of a suite, the runs of each of its rows, and the number of changes that it includes.

        Raises:
            Claf2Error: if there is no such suite.
        """

    def run(self, digest: str) -> tuple[RunDetails, RowRuns | None] | None:
        """Return a run and the runs of its row; ``None`` if there is none of this digest."""

    def comparison(self, suite: str, first: str, second: str) -> Comparison:
        """Compare two rows of a suite, given by their ids, or two cells, given by their digests.

        Raises:
            Claf2Error: if they cannot be compared; the message says why.
        """


def add_pages(app: FastAPI, source: PageSource) -> None:
    """Add the pages of a board to its application, and the styles and scripts that they need."""

    def site(request: Request, change: int | None = None) -> Site:
        change = source.change_number() if change is None else change
        return Site(str(request.scope.get("root_path", "")).rstrip("/"), str(change))

    def page(text: str, status: int = 200) -> Response:
        return HTMLResponse(text, status, {"Cache-Control": "no-cache"})

    # A long table takes half a second to write, so that it is written once per change.
    written: dict[str, tuple[Site, str]] = {}

    @app.get("/", include_in_schema=False)
    def get_index(request: Request) -> Response:
        here = site(request)  # first, so that what changes meanwhile is seen as a change
        return page(render_index(source.summaries(), str(request.base_url).rstrip("/"), here))

    @app.get("/suites/{suite}", include_in_schema=False)
    def get_suite_page(request: Request, suite: PathName) -> Response:
        try:
            summary, rows, change = source.table(suite)
        except Claf2Error as error:
            return page(render_error("There is no such suite", str(error), site(request)), 404)
        here = site(request, change)
        if written.get(summary.suite, (None, ""))[0] != here:
            written[summary.suite] = here, render_suite(summary, rows, here)
        return page(written[summary.suite][1])

    @app.get("/runs/{digest}", include_in_schema=False)
    def get_run_page(request: Request, digest: PathName) -> Response:
        here = site(request)
        found = source.run(digest)
        if found is None:
            return page(render_error("There is no such run", "It may have been replaced by a newer one.", here), 404)
        return page(render_run(*found, here))

    @app.get("/compare", include_in_schema=False)
    def get_comparison_page(
        request: Request, suite: Annotated[str, Query()], a: Annotated[str, Query()], b: Annotated[str, Query()]
    ) -> Response:
        here = site(request)
        try:
            comparison = source.comparison(suite, a, b)
        except Claf2Error as error:
            return page(render_error("These cannot be compared", str(error), here), 422)
        return page(render_comparison(comparison, suite, here))

    @app.get("/assets/{name}", include_in_schema=False)
    def get_asset(name: PathName) -> Response:
        asset = read_asset(name)
        if asset is None:
            raise HTTPException(404, "no such asset")
        content, media_type = asset
        return Response(content, headers={"Cache-Control": FOREVER}, media_type=media_type)
