"""What a process of a service is told, and the application that it makes.

A new process reads this module before it answers its parent for the first time, so nothing heavy is imported here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from claf2.errors import Claf2Error
from claf2.serving.limits import BatchLimits, RequestLimits

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["ServiceSettings", "make_worker_app"]


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
