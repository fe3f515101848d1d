"""The server of a board."""

from __future__ import annotations

import errno
import gc
import logging
import socket
from typing import TYPE_CHECKING

from claf2.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI

__all__ = ["serve"]

BACKLOG = 2048
"""The number of connections that may wait until they are accepted."""

logger = logging.getLogger("claf2")


def serve(app: FastAPI, host: str, port: int, on_start: Callable[[str], None] = lambda _: None) -> None:
    """Serve an application until the process is asked to stop. Requests in progress are answered first.

    Args:
        app: the application.
        host: the address to listen at.
        port: the port; 0: a free one.
        on_start: called with the URL of the server when it accepts connections.

    Raises:
        RunError: if the address cannot be used.
    """
    import uvicorn

    # The modules that are loaded hold about a million objects that stay. Without this, each full collection of garbage
    # visits them, and every request waits for a tenth of a second.
    gc.collect()
    gc.freeze()
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
        shown = f"[{host}]" if family == socket.AF_INET6 else host
        on_start(f"http://{shown}:{listener.getsockname()[1]}")
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=10, lifespan="on"
        )
        uvicorn.Server(config).run(sockets=[listener])
