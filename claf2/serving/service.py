"""From folders to a running server, with one process or several."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from fastapi import FastAPI

from claf2.errors import Claf2Error
from claf2.export import open_model_folder
from claf2.runtime.web import serve_app
from claf2.serving.app import Service, create_service_app
from claf2.serving.description import describe_model
from claf2.serving.limits import BatchLimits, RequestLimits
from claf2.serving.models import ModelSet, ServedModel, check_shares
from claf2.serving.telemetry import METRICS_DIR, Telemetry

__all__ = ["ServiceSettings", "open_service", "serve_models"]

SPARE_SECONDS = 5
"""What a stop may take longer than the slowest request."""


@dataclass(frozen=True)
class ServiceSettings:
    """What a server serves, and how. It can be sent to another process."""

    folders: Mapping[str, Path]
    """Model → the folder of its run or export."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """The share of the requests that each model answers; empty: requests name their model."""
    batches: BatchLimits = field(default_factory=BatchLimits)
    requests: RequestLimits = field(default_factory=RequestLimits)
    token: str | None = None
    workers: int = 1
    """The number of processes, which share the processor's cores."""


def open_service(settings: ServiceSettings) -> Service:
    """Load the models of a service.

    Raises:
        Claf2Error: if a folder cannot be used, or the shares do not fit the models.
    """
    check_shares(settings.shares, list(settings.folders))
    cores = max(1, len(os.sched_getaffinity(0)) // settings.workers)
    torch.set_num_threads(min(torch.get_num_threads(), cores))
    telemetry = Telemetry()
    models = [
        ServedModel.open(name, folder, settings.batches, telemetry, cores) for name, folder in settings.folders.items()
    ]
    descriptions = {model.name: describe_model(model, settings.folders[model.name]) for model in models}
    return Service(
        ModelSet(models, settings.shares), descriptions, settings.requests, telemetry, settings.token,
        settings.batches.timeout,
    )  # fmt: skip


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
    grace = settings.batches.timeout + SPARE_SECONDS
    if settings.workers == 1:
        serve_app(create_service_app(open_service(settings)), host, port, on_start, grace=grace)
        return
    for folder in settings.folders.values():
        open_model_folder(folder)  # a mistake is found before the workers start
    with _shared_counters():
        make_app = partial(_open_in_worker, settings)
        serve_app(make_app, host, port, on_start, grace=grace, workers=settings.workers)


@contextmanager
def _shared_counters() -> Iterator[None]:
    """Let the processes that are started in the block count together."""
    folder = tempfile.mkdtemp(prefix="claf2-metrics-")
    os.environ[METRICS_DIR] = folder
    try:
        yield
    finally:
        del os.environ[METRICS_DIR]
        shutil.rmtree(folder, ignore_errors=True)


def _open_in_worker(settings: ServiceSettings) -> FastAPI:
    """Return the application, in a process of its own."""
    from uvicorn.config import STARTUP_FAILURE

    try:
        return create_service_app(open_service(settings))
    except Claf2Error as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(STARTUP_FAILURE)  # the parent starts any other worker again
