"""What tests of serving need: a model that answers without weights, a service around it, and a small run."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import claf2
from claf2.errors import RunError
from claf2.metrics import Prediction
from claf2.runs.answerer import SharedRequest

if TYPE_CHECKING:
    from claf2.serving.answering import Service

httpx = pytest.importorskip("httpx", reason="httpx is not installed: make test")
pytest.importorskip("fastapi", reason="the extra of servers is not installed: pip install 'claf2[serve]'")
pytest.importorskip("prometheus_client", reason="the extra of servers is not installed: pip install 'claf2[serve]'")


@dataclass(frozen=True)
class Words:
    """A request of the stand-in, encoded."""

    example: SimpleNamespace
    text: str
    tokens: int
    truncated: bool


@dataclass
class StandIn:
    """Answers with a text's number of words, and does on demand what models do when something goes wrong."""

    batching: str = "exact"
    is_thread_safe: bool = True
    seconds: float = 0.0
    tasks: Sequence[str] = ("words",)
    longest: int = 8
    batches: list[list[str]] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)
    gate: threading.Event = field(default_factory=threading.Event)
    """What a text with ``wait`` in it waits for."""

    def encode(self, task: str, requests: Sequence[Mapping[str, Any]]) -> list[Words]:
        return [self._encode(request) for request in requests]

    def _encode(self, request: Mapping[str, Any]) -> Words:
        if not {"text"} <= request.keys() <= {"id", "text"} or not isinstance(request["text"], str):
            raise RunError(f"a request needs text; got: {', '.join(request)}")
        request["text"].encode()
        words = request["text"].split()
        example = SimpleNamespace(id=str(request["id"]))
        return Words(example, request["text"], min(len(words), self.longest), len(words) > self.longest)

    def answer(self, task: str, encoded: Sequence[Words]) -> list[Prediction]:
        self.threads.add(threading.current_thread().name)
        self.batches.append([item.text for item in encoded])
        if any("wait" in item.text for item in encoded):
            assert self.gate.wait(30)
        time.sleep(self.seconds)
        if any("bug" in item.text for item in encoded):
            raise ZeroDivisionError("a bug")
        return [
            Prediction(item.example.id, None, len(item.text.split()), 1 / 3, {"text": item.text}) for item in encoded
        ]

    def encode_all(self, tasks: Sequence[str], requests: Sequence[Mapping[str, Any]]) -> list[SharedRequest]:
        encoded = self.encode("", requests)
        return [SharedRequest(dict.fromkeys(tasks, item)) for item in encoded]  # type: ignore[arg-type]

    def answer_all(self, requests: Sequence[SharedRequest]) -> list[dict[str, Prediction]]:
        tasks = list(requests[0].by_task)
        answers = self.answer("", [request.by_task[tasks[0]] for request in requests])  # type: ignore[misc]
        return [dict.fromkeys(tasks, answer) for answer in answers]


DESCRIPTION = {
    "folder": "run", "engine": "torch", "provenance": {}, "collection": None,
    "batching": {"rule": "exact", "together": True, "max_tokens": 1024, "max_wait_ms": 5.0, "at_the_same_time": 1},
}  # fmt: skip


def make_service(
    *answerers: StandIn, limits: Mapping[str, Any] = {}, requests: Mapping[str, Any] = {},
    shares: Mapping[str, float] = {}, token: str | None = None,
) -> Service:  # fmt: skip
    """Return a service of stand-ins, called a, b, …"""
    from claf2.serving.answering import Service
    from claf2.serving.limits import BatchLimits, RequestLimits
    from claf2.serving.models import ModelSet, ServedModel
    from claf2.serving.telemetry import Telemetry

    telemetry = Telemetry()
    models: list[ServedModel] = []
    for name, answerer in zip("abcdef", answerers or (StandIn(),), strict=False):
        models.append(ServedModel(name, answerer, BatchLimits(**limits), telemetry))  # type: ignore[arg-type]
    task = {
        "dataset": "words", "language": "en", "head": "regress", "fields": ["text"], "optional": [], "labels": [],
        "max_seq_length": 8, "is_sample": True, "scores": {"valid": {
            "examples": 9, "deciding": "accuracy", "value": 50.0, "low": 40.0, "high": 60.0, "level": 0.95, "all": {},
        }},
    }  # fmt: skip
    descriptions = {model.name: {**DESCRIPTION, "tasks": dict.fromkeys(model.answerer.tasks, task)} for model in models}
    waiting = BatchLimits(**limits).timeout
    return Service(ModelSet(models, shares), descriptions, RequestLimits(**requests), telemetry, token, waiting)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a small classifier."""
    folder = tmp_path_factory.mktemp("serving") / "nsmc"
    claf2.train("scratch/nsmc", sample=True, log_dir=folder, num_steps=20)
    return folder


@pytest.fixture(scope="session")
def onnx_export(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as an export for ONNX Runtime."""
    for library in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(library, reason="the extra of exports is not installed: pip install 'claf2[onnx]'")
    from claf2.export.build import export_run

    folder = tmp_path_factory.mktemp("serving") / "export"
    export_run(run, folder)
    return folder


@pytest.fixture
def service() -> Callable[..., Service]:
    """Make a service of stand-ins."""
    return make_service


@pytest.fixture
def stand_in() -> type[StandIn]:
    """Make a model that answers without weights."""
    return StandIn


class ServerProcess:
    """``claf2 serve`` as a process of its own, on a free port.

    Args:
        words: the rest of the command.
        variables: further environment variables.
    """

    def __init__(self, *words: object, **variables: str) -> None:
        code = "from claf2.cli.main import main; main()"
        command = [sys.executable, "-c", code, "serve", *map(str, words), "--port", "0"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **variables}
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("serving: "), self.stop()
        self.url = line.split()[-1]
        until = time.monotonic() + 600
        while True:  # the workers are not ready when the address is printed
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/health", timeout=5).status_code == 200:
                    break
            assert time.monotonic() < until
            time.sleep(0.1)

    def stop(self) -> tuple[int, str]:
        """Ask the server to end; return its exit code and what it has written."""
        self.process.terminate()
        _, errors = self.process.communicate(timeout=180)
        return self.process.returncode, errors

    def workers(self) -> list[int]:
        """Return the processes of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        commands = {int(pid): Path(f"/proc/{pid}/cmdline").read_text() for pid in children}
        return [pid for pid, command in commands.items() if "spawn_main" in command]

    def memory_mib(self) -> float:
        """Return the resident memory."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


@pytest.fixture
def start_server() -> Iterator[Callable[..., ServerProcess]]:
    """Start servers, which end with the test."""
    servers: list[ServerProcess] = []

    def start(*words: object, **variables: str) -> ServerProcess:
        servers.append(ServerProcess(*words, **variables))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture
def send_all() -> Callable[..., None]:
    """Send requests to a server until it is gone."""
    return post_until_refused


def post_until_refused(url: str, answers: list[int | str], count: int, start: threading.Event) -> None:
    """Send requests one after another; note the status of each, or that the connection was refused or closed."""
    with httpx.Client(timeout=60) as client:
        for number in range(count):
            try:
                response = client.post(
                    f"{url}/predict", json={"id": str(number), "text": "영화 좋다 " * (number % 7 + 1)}
                )
            except httpx.TransportError as error:
                answers.append(type(error).__name__)
                continue
            assert response.status_code != 200 or response.json()["id"] == str(number)
            answers.append(response.status_code)
            start.set()
