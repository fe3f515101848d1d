"""A service in one process, or in several.

A new process reads this module before it answers its parent for the first time, so nothing heavy is imported with it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from claf2.errors import Claf2Error
from claf2.serving.limits import ServiceSettings

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["make_worker_app", "serve_models"]

SPARE_SECONDS = 5
"""What a stop may take longer than the slowest request."""


def serve_models(
    settings: ServiceSettings, host: str, port: int, on_start: Callable[[str], None] = lambda _: None
) -> None:
    """Serve models until the process is asked to stop. What was accepted is answered first.

    Args:
        settings: what is served.
        host: the address to listen at.
        port: the port; 0: a free one.
        on_start: called with the URL of the server.

    Raises:
        Claf2Error: if a folder or the address cannot be used.
    """
    from claf2.export import open_model_folder
    from claf2.retrieval.index import PassageIndex
    from claf2.runtime.web import serve_app
    from claf2.serving.app import create_service_app
    from claf2.serving.service import open_service

    grace = settings.batches.timeout + SPARE_SECONDS
    if settings.workers == 1:
        serve_app(create_service_app(open_service(settings)), host, port, on_start, grace=grace)
        return
    for folder in settings.folders.values():
        open_model_folder(folder)  # a mistake is found before the workers start
    for collection in settings.collections.values():
        PassageIndex(collection.index)
    with _shared_counters():
        make_app = partial(make_worker_app, settings)
        serve_app(make_app, host, port, on_start, grace=grace, workers=settings.workers)


@contextmanager
def _shared_counters() -> Iterator[None]:
    """Let the processes that are started in the block count together."""
    from claf2.serving.telemetry import METRICS_DIR

    folder = tempfile.mkdtemp(prefix="claf2-metrics-")
    os.environ[METRICS_DIR] = folder
    try:
        yield
    finally:
        del os.environ[METRICS_DIR]
        shutil.rmtree(folder, ignore_errors=True)


def make_worker_app(settings: ServiceSettings) -> FastAPI:
    """Return the application, in a process of its own. A mistake ends the service: every other process makes it too."""
    from uvicorn.config import STARTUP_FAILURE

    from claf2.serving.app import create_service_app
    from claf2.serving.service import open_service

    try:
        return create_service_app(open_service(settings))
    except Claf2Error as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(STARTUP_FAILURE)
