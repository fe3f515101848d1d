"""Receivers of notifications: real HTTP servers on the loopback interface."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

SECRET = "b3xq7wz9k2m4n6p8"
"""A token in the URLs of receivers."""
SLACK_TOKENS = "T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
MATTERMOST_TOKEN = "3ccdd113474722377935511fc85d3dd4"


@dataclass
class HttpReceiver:
    """A server that records what it gets, and answers as it is told to."""

    port: int = 0
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """The next answers: status and headers. After them, or with none, it answers 200."""
    always: int | None = None
    """The status of all answers."""
    held: threading.Event | None = None
    """An event that is waited for before an answer."""
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Path and content of each request."""
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self) -> str:
        """The URL of `apprise` for messages in JSON."""
        return f"json://127.0.0.1:{self.port}/{SECRET}"

    @property
    def texts(self) -> list[str]:
        """The messages."""
        with self.changed:
            return [content.get("message") or content.get("text") or "" for _, content in self.requests]

    def wait_for(self, count: int, seconds: float = 30.0) -> list[str]:
        """Wait for some number of requests, and return the messages."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.requests) >= count, seconds), self.requests
        return self.texts


def _handler(receiver: HttpReceiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with receiver.changed:
                receiver.requests.append((self.path, content))
                status, headers = receiver.answers.pop(0) if receiver.answers else (receiver.always or 200, {})
                receiver.changed.notify_all()
            if receiver.held is not None:
                receiver.held.wait(60)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            return None

    return Handler


@pytest.fixture
def start_receiver() -> Iterator[Callable[..., HttpReceiver]]:
    """Start receivers, which end with the test."""
    servers = []

    def start(**fields: Any) -> HttpReceiver:
        receiver = HttpReceiver(**fields)
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(receiver))
        server.daemon_threads = True
        receiver.port = server.server_port
        servers.append((receiver, server))
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return receiver

    yield start
    for receiver, server in servers:
        if receiver.held is not None:
            receiver.held.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def dead_url() -> str:
    """The URL of a port that no one listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"json://127.0.0.1:{server.getsockname()[1]}/{SECRET}"


@pytest.fixture
def receiver(start_receiver: Callable[..., HttpReceiver], monkeypatch: pytest.MonkeyPatch) -> HttpReceiver:
    """A receiver that ``$CLAF2_NOTIFY_URLS`` names."""
    pytest.importorskip("apprise", reason="apprise is not installed: pip install 'claf2[notify]'")
    started = start_receiver()
    monkeypatch.setenv("CLAF2_NOTIFY_URLS", started.url)
    return started
