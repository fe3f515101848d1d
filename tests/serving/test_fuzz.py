"""Whatever a client sends, a service answers, and never with an error of its own."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from claf2.serving.app import create_service_app
from claf2.serving.limits import ServiceSettings
from claf2.serving.service import open_service

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the libraries that it imports
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed: make test")

OPERATIONS = 6
"""The operations of the interface."""


@pytest.fixture(scope="module")
def app(run: Any) -> Iterator[FastAPI]:
    """A service with a real model."""
    app = create_service_app(open_service(ServiceSettings({"nsmc": run})))
    with TestClient(app):
        yield app


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("examples", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_no_request_makes_the_service_fail(app: FastAPI, examples: int) -> None:
    schema: Any = schemathesis.openapi.from_asgi("/openapi.json", app)
    statuses: Counter[str] = Counter()
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) == OPERATIONS
    for operation in operations:
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            with suppress(Unsatisfiable):  # an operation without parameters has no wrong ones
                send_cases(operation, mode, examples, lambda case: count_status(statuses, case))
    assert statuses["GET 200"] > 0
    assert statuses["POST 200"] > 0
    assert statuses["POST 422"] > 0


def send_cases(operation: Any, mode: Any, examples: int, send: Callable[[Any], None]) -> None:
    """Send generated requests to an operation."""

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def send_case(case: Any) -> None:
        send(case)

    send_case()


def count_status(statuses: Counter[str], case: Any) -> None:
    """Send a request, and count the status of its answer."""
    response = case.call(timeout=60)
    statuses[f"{case.method} {response.status_code}"] += 1
    assert response.status_code < 500, (case.method, case.formatted_path, case.body, response.text[:300])
