"""The application that a process of a service makes.

A new process reads this module before it answers its parent for the first time, so nothing heavy is imported here.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from claf2.errors import Claf2Error
from claf2.serving.settings import ServiceSettings

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["make_worker_app"]


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
