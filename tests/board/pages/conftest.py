"""Fixtures for the pages: a made-up summary and a run, and a browser if there is one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from board_examples import glue, make_run

from claf2.benchmarking.summary import Summary
from claf2.board.pages.run import RunDetails


@pytest.fixture(scope="session")
def example() -> Summary:
    """The summary of a realistic bench."""
    return glue()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless browser, installed by `make browser` or named by ``CLAF2_BROWSER``."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: see `make browser`")
    path = Path(os.environ.get("CLAF2_BROWSER") or Path(sys.prefix) / "browser/chromium")
    if not path.is_file():
        pytest.skip(f"no browser at {path}: run `make browser`, or set CLAF2_BROWSER to its path")
    with sync_api.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--no-zygote", "--disable-webgl"])
        yield chromium
        chromium.close()


@pytest.fixture
def show(browser: Any) -> Iterator[Any]:
    """Open a file or an address. At the end, no page may have logged anything, raised an error, or requested anything
    else than its file or its server."""
    opened, problems = [], []

    def open_(place: Path | str, **how: Any) -> Any:
        url = place.as_uri() if isinstance(place, Path) else place
        own = url if isinstance(place, Path) else "/".join(url.split("/")[:3])
        context = browser.new_context(**how)
        opened.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: request.url.startswith(own) or problems.append(request.url))
        page.on("dialog", lambda dialog: (problems.append(dialog.message), dialog.dismiss()))
        page.goto(url)
        return page

    yield open_
    for context in opened:
        context.close()
    assert problems == []


@pytest.fixture
def example_run() -> RunDetails:
    """A realistic run."""
    return make_run("d" * 64)
