"""What a service serves and accepts, and how it refuses the rest.

A new process of a service reads this module before it answers its parent for the first time, so nothing heavy is
imported here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from claf2.errors import Claf2Error

if TYPE_CHECKING:
    from claf2.retrieval.index import SearchMethod

__all__ = [
    "Admission",
    "BatchLimits",
    "Collection",
    "LateError",
    "OverloadError",
    "RequestLimits",
    "ServiceSettings",
    "TooLargeError",
]


RATE_WEIGHT = 0.2
"""The weight of the latest batch in the seconds that a request takes."""

MAX_RETRY_AFTER = 60
"""The most seconds that a client is told to wait before it tries again."""


class OverloadError(Claf2Error):
    """The queue is full, or a request has waited too long in it."""

    retry_after = 1
    """Seconds after which there may be room."""


class LateError(Claf2Error):
    """The model has not answered in time."""


class TooLargeError(Claf2Error):
    """A request is larger than the service accepts."""


@dataclass(frozen=True)
class BatchLimits:
    """How requests to a model are put together, and how many may wait."""

    max_tokens: int = 1024
    """The cost of a batch: its requests, times the tokens of the longest one. A single longer request is a batch."""
    max_wait: float = 0.005
    """How many seconds a request waits for others at most, if others came with the last batch."""
    max_queue: int = 512
    """How many requests may be in progress."""
    timeout: float = 30.0
    """How many seconds a request may take."""
    threads: int = 1
    """How many batches are computed at the same time."""
    is_batching: bool = True
    """Whether requests are put together; ``False``: each is a batch."""

    def not_reached(self) -> OverloadError:
        """Return why a request that has waited too long has no answer."""
        problem = f"the request was not reached within {self.timeout:g} seconds"
        return OverloadError(f"{problem}; try again, or raise --timeout")


@dataclass(frozen=True)
class RequestLimits:
    """How large a message of a client may be."""

    max_body: int = 2**20
    """Bytes of a body."""
    max_requests: int = 256
    """Requests in a body."""
    max_characters: int = 100_000
    """Characters of the texts of a request. Shorter texts are cut to the longest input of the model, as in training."""
    max_passages: int = 50
    """Passages that are read for a question."""


@dataclass(frozen=True)
class Collection:
    """The passages that a model reads for a question, and how; as in ``QaMachine``."""

    index: Path
    k: int = 5
    method: SearchMethod | None = None
    threshold: float | None = None
    search_weight: float = 0.0


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
    collections: Mapping[str, Collection] = field(default_factory=dict)
    """Model → the passages that it reads for a question."""


class Admission:
    """Counts the requests that are in progress, and refuses those that are too many.

    Args:
        limit: how many requests may be in progress.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_progress = 0
        """The number of requests that were admitted and are not answered."""
        self._seconds = 0.0

    @contextmanager
    def admit(self, count: int) -> Iterator[None]:
        """Count requests as in progress in the block.

        Args:
            count: how many they are.

        Raises:
            TooLargeError: if there will never be room for all of them.
            OverloadError: if there is no room for all of them now.
        """
        if count > self.limit:
            raise TooLargeError(f"{count} requests at once, of at most {self.limit} in progress; send smaller lists")
        if self.in_progress + count > self.limit:
            error = OverloadError(
                f"{self.in_progress} requests of at most {self.limit} are in progress; try again later"
            )
            error.retry_after = min(max(1, round(self.in_progress * self._seconds)), MAX_RETRY_AFTER)
            raise error
        self.in_progress += count
        try:
            yield
        finally:
            self.in_progress -= count

    def observe(self, seconds: float) -> None:
        """Learn how long requests take.

        Args:
            seconds: what a batch took, divided by its requests.
        """
        self._seconds += RATE_WEIGHT * (seconds - self._seconds)
