"""What a process of a service is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from claf2.serving.limits import BatchLimits, RequestLimits

__all__ = ["ServiceSettings"]


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
