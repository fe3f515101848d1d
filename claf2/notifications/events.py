"""Events: what a notification is about."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["EVENT_KINDS", "URGENT_KINDS", "Event"]

EVENT_KINDS = ("kept", "uploaded", "result", "verdict", "failed", "finished")
"""The kinds of events: a checkpoint was kept, or uploaded; there is a score; checkpoints were compared; a run, a cell
or an upload failed; it finished."""

URGENT_KINDS = ("failed", "finished")
"""The kinds that are sent at once, and are never left out of a message."""


@dataclass(frozen=True)
class Event:
    """Something that a user may want to know at once."""

    kind: str
    """One of ``EVENT_KINDS``."""
    text: str
    """What has happened, in one line."""
    details: str = ""
    """Further lines, such as the last ones of a log. A message about many events leaves them out."""
    time: float = field(default_factory=time.time)
    """When it happened, in seconds since 1970."""

    def __post_init__(self) -> None:
        if self.kind not in EVENT_KINDS:
            raise ValueError(f"{self.kind!r} is not a kind of event; valid: {', '.join(EVENT_KINDS)}")

    @property
    def is_urgent(self) -> bool:
        """Whether the event is sent at once."""
        return self.kind in URGENT_KINDS

    def to_json(self) -> dict[str, Any]:
        """Return the event as JSON values."""
        return vars(self).copy()

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Event:
        """Return the event of some JSON values.

        Raises:
            ValueError: if they are not those of an event.
        """
        kind, text, details, when = (values.get(name) for name in ("kind", "text", "details", "time"))
        if not (isinstance(kind, str) and isinstance(text, str) and isinstance(details, str)):
            raise ValueError("not an event")
        if not isinstance(when, int | float):
            raise ValueError("not an event")
        return cls(kind, text, details, float(when))
