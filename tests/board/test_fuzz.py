"""Whatever a client sends, the board answers, and never with an error of its own."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from board_cells import make_record
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from claf2.board.app import create_app
from claf2.board.tokens import add_token

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the libraries that it imports
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed: make test")

OPERATIONS = 14
"""The operations of the interface."""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """A board with some cells, and with the header of a token."""
    folder = tmp_path_factory.mktemp("fuzz")
    app = create_app(str(folder / "board.sqlite"))
    with TestClient(app):
        for seed in (1, 2):
            app.state.records.put(make_record(Path(folder), seed=seed)).result()
        app.state.authorization = {"Authorization": f"Bearer {add_token(app.state.records.engine, 'fuzz')}"}
        yield app


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("examples", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_no_request_makes_the_board_fail(app: FastAPI, examples: int) -> None:
    schema: Any = schemathesis.openapi.from_asgi("/api/openapi.json", app)
    statuses: Counter[str] = Counter()
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) == OPERATIONS
    for operation in operations:
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

            @settings(max_examples=examples, deadline=None, derandomize=True, database=None,
                      suppress_health_check=list(HealthCheck))  # fmt: skip
            @given(case=operation.as_strategy(generation_mode=mode))
            def send(case: Any) -> None:
                response = case.call(headers=app.state.authorization, timeout=60)
                statuses[f"{case.method} {response.status_code}"] += 1
                assert response.status_code < 500, (case.method, case.formatted_path, response.text[:300])

            with suppress(Unsatisfiable):  # an operation without parameters has no wrong ones
                send()
    assert statuses["GET 200"] > 0
    assert statuses["PUT 422"] > 0
