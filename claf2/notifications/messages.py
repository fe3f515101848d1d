"""Texts of notifications: durations, and one message for many events."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from claf2.notifications.events import Event

__all__ = ["Message", "compose_message", "format_seconds"]

LONGEST_EVENT_LINE = 300
"""The most characters of an event in a message about several."""
MOST_DETAILED = 2
"""How many urgent events a message may be about that has the details of each."""
LATE = 120.0
"""The seconds after which a message says when an event happened."""


@dataclass(frozen=True)
class Message:
    """What is sent."""

    title: str
    body: str
    has_failure: bool = False


def format_seconds(seconds: float) -> str:
    """Return a duration with as many units as matter: ``40 s``, ``25 min``, ``3.5 h``, ``14 h`` or ``3 d 4 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    if hours < 48:
        return f"{hours:.0f} h" if hours >= 9.95 else f"{hours:.1f} h"
    days, rest = divmod(round(hours), 24)
    return f"{days} d {rest} h" if rest else f"{days} d"


def compose_message(
    subject: str, events: Sequence[Event], skipped: Mapping[str, int], *, limit: int, now: float | None = None
) -> tuple[Message, int]:
    """Return a message about events, and how many of the urgent ones it names; the others are counted in it.

    Args:
        subject: what the events belong to, such as the folder of a run.
        events: at least one, or ``skipped`` is not empty. Those that do not fit are counted, except urgent ones.
        skipped: kind → the number of events that are only counted.
        limit: the most characters of the body.
        now: seconds since 1970; ``None``: the current time.

    Returns:
        The message, and the number of urgent events in it, from the first one on.
    """
    now = time.time() if now is None else now
    if len(events) == 1 and not skipped:
        (event,) = events
        body = _line(event, now, limit) + (f"\n{event.details}" if event.details else "")
        return Message(subject, _shorten(body, limit), event.kind == "failed"), int(event.is_urgent)
    counts, room = Counter(skipped), limit - 100  # for the line that counts the rest
    lines: list[tuple[float, str]] = []
    urgent = [event for event in events if event.is_urgent]
    taken = 0
    for event in urgent:
        line = _line(event, now, LONGEST_EVENT_LINE)
        if event.details and len(urgent) <= MOST_DETAILED:
            line += "\n" + _shorten(event.details, limit // (2 * MOST_DETAILED))
        if taken and room < len(line) + 1:
            break
        lines.append((event.time, line))
        room -= len(line) + 1
        taken += 1
    # The latest ones say most.
    for event in reversed([event for event in events if not event.is_urgent]):
        line = _line(event, now, LONGEST_EVENT_LINE)
        if room < len(line) + 1:
            counts[event.kind] += 1
            room = 0
            continue
        lines.append((event.time, line))
        room -= len(line) + 1
    texts = [line for _, line in sorted(lines)]
    if counts:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items()))
        texts.append(f"… and {sum(counts.values()):,} more: {kinds}")
    has_failure = any(event.kind == "failed" for event in urgent[:taken])
    return Message(subject, _shorten("\n".join(texts), limit), has_failure), taken


def _line(event: Event, now: float, limit: int) -> str:
    """Return an event as one line, with its time if it is late."""
    text = " ".join(event.text.split())
    if now - event.time > LATE:
        day = "%H:%M" if now - event.time < 20 * 3600 else "%Y-%m-%d %H:%M"
        text = f"[{time.strftime(day, time.localtime(event.time))}] {text}"
    return _shorten(text, limit)


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 2]} …"
