"""What the servers of claf2 have in common: headers, tokens, bodies of a limited size, and a graceful end."""

from __future__ import annotations

import asyncio
import base64
import errno
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import BaseModel
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect

from claf2.errors import RunError
from claf2.runtime.files import format_json

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = [
    "ErrorBody", "SecurityHeaders", "describe_problems", "format_url", "is_loopback", "json_response", "listen",
    "read_body", "read_token", "serve_app", "serve_in_thread",
]  # fmt: skip

BACKLOG = 2048
"""The number of connections that may wait until they are accepted."""

GRACE_SECONDS = 10
"""How long requests in progress may take after a server was asked to stop."""

HEALTH_SECONDS = 20
"""How long a worker may take to answer its parent, which starts it again after that. A parent that waits for a worker
that was killed meanwhile notices nothing else until then."""

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class SecurityHeaders:
    """Adds the security headers to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class ErrorBody(BaseModel):
    """An answer that says what is wrong with a request."""

    detail: str


def describe_problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says about answers that are errors."""
    return {status: {"model": ErrorBody} for status in statuses}


def json_response(content: Any, status: int = 200) -> Response:
    """Return an answer in JSON. NaN and infinity become ``null``."""
    return Response(format_json(content), status, media_type="application/json")


def read_token(request: Request) -> str | None:
    """Return the token of a request. A browser sends it as the password of HTTP Basic."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    try:
        decoded = base64.b64decode(credentials, validate=True) if scheme.lower() == "basic" else b""
    except ValueError:
        return None
    return decoded.decode("utf-8", "replace").partition(":")[2] or None


async def read_body(request: Request, limit: int, *, seconds: float | None = None) -> bytes:
    """Return the body of a request. One that is too large is refused before all of it is read.

    Args:
        request: the request.
        limit: the largest body, in bytes.
        seconds: how long a client may take to send it; ``None``: as long as it wants.

    Raises:
        HTTPException: 413 for a body that is too large, 408 for a client that is too slow, 400 for one that has left.
    """
    problem = HTTPException(413, f"the body has more than {limit} bytes: the limit is --max-body")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limit:
        raise problem
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise problem
    except TimeoutError as error:
        raise HTTPException(408, f"the body did not arrive within {seconds:g} seconds; send it at once") from error
    except ClientDisconnect as error:
        raise HTTPException(400, "the connection was closed before the body had arrived; send it again") from error
    return bytes(body)


def is_loopback(host: str) -> bool:
    """Say whether an address is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """Yield a socket that accepts connections; port 0 is a free one.

    Raises:
        RunError: if the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            is_port = error.errno in (errno.EADDRINUSE, errno.EACCES)
            hint = "stop what uses the port, or choose another one with --port" if is_port else "correct --host"
            raise RunError(f"cannot listen at {host}, port {port}: {error.strerror}; {hint}") from error
        listener.listen(BACKLOG)
        yield listener


def format_url(listener: socket.socket) -> str:
    """Return the URL of a server that listens at a socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}"


@contextmanager
def serve_in_thread(app: FastAPI) -> Iterator[str]:
    """Serve an application on this machine while the block runs, and yield its URL."""
    import uvicorn

    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield format_url(listener)
        finally:
            server.should_exit = True
            thread.join()


def serve_app(
    app: FastAPI | Callable[[], FastAPI], host: str, port: int, on_start: Callable[[str], None] = lambda _: None,
    *, grace: float = GRACE_SECONDS, workers: int = 1,
) -> None:  # fmt: skip
    """Serve an application until the process is asked to stop. Requests in progress are answered first.

    Args:
        app: the application; for several workers, a function that makes it and can be pickled.
        host: the address to listen at.
        port: the port; 0: a free one.
        on_start: called with the URL of the server when it accepts connections.
        grace: how many seconds requests in progress may take after the signal to stop.
        workers: the number of processes. One that dies is started again.

    Raises:
        RunError: if the address cannot be used, or the workers could not start.
    """
    import uvicorn
    from uvicorn.config import STARTUP_FAILURE
    from uvicorn.supervisors.multiprocess import Multiprocess

    class Supervisor(Multiprocess):
        def terminate_all(self) -> None:
            for shared in self.sockets:  # open here, they would accept connections that no worker answers
                shared.close()
            super().terminate_all()

    with listen(host, port) as listener:
        config = uvicorn.Config(
            app, factory=workers > 1, workers=workers, log_level="warning", access_log=False, server_header=False,
            timeout_graceful_shutdown=round(grace), timeout_worker_healthcheck=HEALTH_SECONDS, lifespan="on",
        )  # fmt: skip
        on_start(format_url(listener))
        if workers == 1:
            uvicorn.Server(config).run(sockets=[listener])
            return
        supervisor = Supervisor(config, sockets=[listener])
        supervisor.run()
        if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
            raise RunError("a worker could not start: its error is above; correct it, and start the server again")
