"""From folders to the models of a service."""

from __future__ import annotations

import os

import torch

from claf2.serving.answering import Service
from claf2.serving.description import describe_model
from claf2.serving.limits import ServiceSettings
from claf2.serving.models import ModelSet, ServedModel, check_shares
from claf2.serving.telemetry import Telemetry

__all__ = ["open_service"]


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
        ServedModel.open(name, folder, settings.batches, telemetry, cores, settings.collections.get(name))
        for name, folder in settings.folders.items()
    ]
    descriptions = {model.name: describe_model(model, settings.folders[model.name]) for model in models}
    return Service(
        ModelSet(models, settings.shares), descriptions, settings.requests, telemetry, settings.token,
        settings.batches.timeout,
    )  # fmt: skip
