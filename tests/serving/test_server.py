"""Servers as processes of their own: how they end, what a killed worker loses, and what many requests cost."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request
from uvicorn.config import STARTUP_FAILURE

from claf2.errors import RunError
from claf2.runtime.web import read_body, serve_app, serve_in_thread
from claf2.serving.app import create_service_app
from claf2.serving.limits import ServiceSettings
from claf2.serving.processes import make_worker_app, serve_models

StartServer = Callable[..., Any]


def send_from_clients(send_all: Callable[..., None], url: str, clients: int, count: int) -> tuple[list[Any], Any]:
    """Send requests from several clients at once, and return the outcomes, which grow, and what waits for the end."""
    outcomes: list[Any] = []
    started = threading.Event()
    pool = ThreadPoolExecutor(clients)
    futures = [pool.submit(send_all, url, outcomes, count, started) for _ in range(clients)]
    assert started.wait(60)

    def finish() -> Counter[Any]:
        for future in futures:
            future.result()
        pool.shutdown()
        return Counter(outcomes)

    return outcomes, finish


def test_a_stop_answers_what_was_accepted_and_refuses_the_rest(
    run: Path, start_server: StartServer, send_all: Callable[..., None]
) -> None:
    server = start_server(run)
    outcomes, finish = send_from_clients(send_all, server.url, clients=8, count=60)
    answered = len(outcomes)
    code, errors = server.stop()
    counts = finish()
    assert (code, errors.splitlines()[-1]) == (0, "stopped")
    assert counts.total() == 8 * 60  # every client has got an answer, or seen that there is none
    assert counts[200] >= answered
    # Requests that were accepted are answered, so no connection ends in the middle of one.
    assert set(counts) <= {200, "ConnectError", "RemoteProtocolError", "ReadError", "WriteError"}
    assert counts["RemoteProtocolError"] + counts["ReadError"] + counts["WriteError"] <= 8


@pytest.mark.slow
def test_a_token_comes_from_the_environment(run: Path, start_server: StartServer) -> None:
    server = start_server(run, CLAF2_SERVE_TOKEN="secret")
    assert httpx.post(f"{server.url}/predict", json={"text": "a"}).status_code == 401
    headers = {"Authorization": "Bearer secret"}
    answer = httpx.post(f"{server.url}/predict", json={"text": "재미있다"}, headers=headers)
    assert answer.json()["model"] == "nsmc"
    vector = httpx.post(f"{server.url}/embed", json=[{"text": "재미있다"}], headers=headers).json()
    assert len(vector[0]["vector"]) == 128
    info = httpx.get(f"{server.url}/info", headers=headers).json()["models"]["nsmc"]
    assert info["engine"] == "torch"
    score = info["tasks"]["nsmc"]["scores"]["valid"]
    assert score["low"] < score["value"] < score["high"]
    assert len(info["provenance"]["best"]["nsmc"]) == 64


def test_a_slow_client_and_a_silent_one_hold_up_nobody(service: Callable[..., Any]) -> None:
    with serve_in_thread(create_service_app(service(limits={"timeout": 1.0}))) as url:
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port)) as slow:
            slow.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
            with socket.create_connection((address.hostname, address.port)) as silent:
                for _ in range(20):
                    assert httpx.post(f"{url}/predict", json={"text": "a"}).status_code == 200
                silent.close()
            slow.settimeout(20)
            assert b"408" in slow.recv(100)


def test_a_client_that_leaves_while_it_sends_is_no_error_of_the_server() -> None:
    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    request = Request({"type": "http", "headers": []}, receive)
    with ThreadPoolExecutor(1) as pool, pytest.raises(HTTPException, match="the connection was closed") as caught:
        pool.submit(asyncio.run, read_body(request, 100)).result()
    assert caught.value.status_code == 400


def test_new_connections_are_refused_while_workers_end(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes: list[str] = []

    class Worker:
        exitcode, pid = STARTUP_FAILURE, 0

        def __init__(self, config: Any, sockets: list[socket.socket]) -> None:
            self.address = sockets[0].getsockname()

        def is_alive(self, timeout: float) -> bool:
            return False

        def start(self) -> None:
            socket.create_connection(self.address).close()
            outcomes.append("accepted")

        def terminate(self) -> None:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(self.address)
            outcomes.append("refused")

        def join(self) -> None:
            pass

        kill = join

    monkeypatch.setattr("uvicorn.supervisors.multiprocess.Process", Worker)
    monkeypatch.setattr("uvicorn.supervisors.multiprocess.SIGNALS", {})  # those of the tests stay as they are
    with pytest.raises(RunError, match="a worker could not start"):
        serve_app(FastAPI, "127.0.0.1", 0, workers=2)
    assert outcomes == ["accepted", "accepted", "refused", "refused"]


@pytest.mark.slow
def test_a_killed_worker_loses_no_request_silently_and_is_started_again(
    run: Path, start_server: StartServer, send_all: Callable[..., None]
) -> None:
    server = start_server(run, "--workers", 2)
    before = server.workers()
    assert len(before) == 2
    outcomes, finish = send_from_clients(send_all, server.url, clients=8, count=100)
    os.kill(before[0], signal.SIGKILL)
    counts = finish()
    assert counts.total() == 800
    assert counts[200] >= 700
    assert set(counts) <= {200, "ConnectError", "RemoteProtocolError", "ReadError", "WriteError"}
    until = time.monotonic() + 120
    while len(after := server.workers()) < 2 or before[0] in after:
        assert time.monotonic() < until
        time.sleep(0.2)
    text = httpx.get(f"{server.url}/metrics", timeout=60).text
    # The counters of both are one, also those of the process that was killed.
    counted = next(line for line in text.splitlines() if line.startswith("claf2_requests_total{"))
    assert counts[200] <= float(counted.split()[-1]) <= 800
    assert 'claf2_requests_in_progress{model="nsmc"} 0.0' in text
    assert server.stop()[0] == 0
    assert outcomes


def test_a_mistake_is_found_before_workers_start(tmp_path: Path) -> None:
    settings = ServiceSettings({"a": tmp_path}, workers=2)
    with pytest.raises(RunError, match="neither a run nor an export"):
        serve_models(settings, "127.0.0.1", 0)


def test_a_worker_that_cannot_start_ends_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        make_worker_app(ServiceSettings({"a": tmp_path}, workers=2))
    assert caught.value.code == STARTUP_FAILURE
    assert "neither a run nor an export" in capsys.readouterr().err


@pytest.mark.slow
def test_ten_thousand_requests_are_all_answered_and_memory_stays_flat(run: Path, start_server: StartServer) -> None:
    server = start_server(run)

    def send(first: int, count: int) -> int:
        with httpx.Client(timeout=120) as client:
            return sum(
                client.post(f"{server.url}/predict", json={"id": str(n), "text": "영화 좋다 " * (n % 9)}).json()["id"]
                == str(n)
                for n in range(first, first + count)
            )

    with ThreadPoolExecutor(32) as pool:
        assert sum(pool.map(lambda n: send(n * 100, 100), range(32))) == 3200
        before = server.memory_mib()
        assert sum(pool.map(lambda n: send(n * 220, 220), range(32))) == 7040
    assert server.memory_mib() < before + 20
