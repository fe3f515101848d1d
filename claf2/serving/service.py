"""From folders to a running server, with one process or several."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch

from claf2.export import open_model_folder
from claf2.runtime.web import serve_app
from claf2.serving.app import Service, create_service_app
from claf2.serving.description import describe_model
from claf2.serving.models import ModelSet, ServedModel, check_shares
from claf2.serving.telemetry import METRICS_DIR, Telemetry
from claf2.serving.worker import ServiceSettings, make_worker_app

__all__ = ["open_service", "serve_models"]

SPARE_SECONDS = 5
"""What a stop may take longer than the slowest request."""


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
        make_app = partial(make_worker_app, settings)
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
