"""The outbox: events that are still to be sent, in memory and in a file.

What a process could not send before it was killed is in the file, and is sent when the next one opens it.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections import Counter, deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from claf2.notifications.events import Event

__all__ = ["Outbox"]

MOST_WAITING = 100
"""The most events, except urgent ones, that wait for a receiver. Of older ones, the number is kept."""
MOST_URGENT = 1000
"""The most urgent events that wait: more than a person reads."""
MOST_LINES = 1000
"""The lines of the file after which it is written anew, if most of them are done with."""

logger = logging.getLogger("claf2")


class Outbox:
    """Events that are still to be sent to each of some receivers. Any thread may use it.

    Args:
        path: the file; ``None``: events are in memory only. It is deleted when all of them were sent.
        receivers: the number of receivers.
    """

    def __init__(self, path: Path | None, receivers: int) -> None:
        self.changed = threading.Condition()
        """Notified when there is something new to do."""
        self.was_killed = False
        """Whether the process before has not closed the file."""
        self._path = path
        self._waiting: list[dict[int, Event]] = [{} for _ in range(receivers)]
        self._ordinary: list[deque[int]] = [deque() for _ in range(receivers)]
        self._skipped: list[Counter[str]] = [Counter() for _ in range(receivers)]
        self._next = 0
        self._lines = 0
        self._can_write = True
        self._read()
        with self.changed:
            self._rewrite(is_open=True)

    def add(self, event: Event) -> None:
        """Add an event for all receivers."""
        with self.changed:
            number = self._next
            self._next += 1
            # A thread that already waits for its time need not be woken by each of thousands of events.
            is_news = event.is_urgent or not all(self._waiting)
            for receiver in range(len(self._waiting)):
                self._put(receiver, number, event)
            self._append({"event": number, **event.to_json()})
            if is_news:
                self.changed.notify_all()

    def waiting(self, receiver: int) -> tuple[dict[int, Event], Counter[str]]:
        """Return the events that wait for a receiver, by number, and how many of each kind are only counted."""
        with self.changed:
            return dict(self._waiting[receiver]), Counter(self._skipped[receiver])

    def is_empty(self) -> bool:
        """Say whether nothing waits for any receiver."""
        with self.changed:
            return not any(self._waiting) and not any(self._skipped)

    def remove(self, receiver: int, events: Mapping[int, Event], skipped: Mapping[str, int]) -> None:
        """Remove what was sent to a receiver, or is not to be sent to it any more."""
        with self.changed:
            done = Counter(skipped)
            # While they were sent, newer events may have taken their places, so that they were counted.
            done.update(event.kind for number, event in events.items() if number not in self._waiting[receiver])
            for number in events:
                self._waiting[receiver].pop(number, None)
            self._skipped[receiver] = self._skipped[receiver] - done
            self._append({"done": sorted(events), "receiver": receiver})
            self.changed.notify_all()

    def close(self) -> None:
        """Say in the file that this process ends as it should; delete the file if everything was sent."""
        with self.changed:
            if self._path is None:
                return
            if any(self._waiting):
                self._rewrite(is_open=False)
            else:
                self._path.unlink(missing_ok=True)
            self._path = None

    def _put(self, receiver: int, number: int, event: Event) -> None:
        waiting, ordinary = self._waiting[receiver], self._ordinary[receiver]
        waiting[number] = event
        if event.is_urgent:
            if len(waiting) > MOST_URGENT + MOST_WAITING:
                self._skip(receiver, next(other for other, entry in waiting.items() if entry.is_urgent))
            return
        ordinary.append(number)
        while len(ordinary) > MOST_WAITING:
            self._skip(receiver, ordinary.popleft())

    def _skip(self, receiver: int, number: int) -> None:
        event = self._waiting[receiver].pop(number, None)
        if event is not None:  # otherwise it was sent
            self._skipped[receiver][event.kind] += 1

    def _read(self) -> None:
        """Read what an earlier process has left. Lines that cannot be read are left out: a kill may cut the last
        one."""
        try:
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines() if self._path else []
        except OSError:
            lines = []
        damaged = 0
        for index, line in enumerate(lines):
            try:
                entry = json.loads(line)
                if "event" in entry:
                    number, event = int(entry["event"]), Event.from_json(entry)
                    skipped = {int(receiver) for receiver in entry.get("not_for", ())}
                    for receiver in set(range(len(self._waiting))) - skipped:
                        self._put(receiver, number, event)
                    self._next = max(self._next, number + 1)
                elif "done" in entry and 0 <= int(entry["receiver"]) < len(self._waiting):
                    for number in entry["done"]:
                        self._waiting[int(entry["receiver"])].pop(int(number), None)
                elif "open" in entry:
                    self.was_killed = bool(entry["open"])
            except (ValueError, TypeError, KeyError, RecursionError):
                damaged += index < len(lines) - 1
        if damaged:
            logger.warning("%s: %d lines are damaged and left out", self._path, damaged)

    def _append(self, entry: Mapping[str, Any]) -> None:
        """Write a line, which survives the death of the process; no one waits for the disk."""
        if self._path is None or not self._can_write:
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        except (OSError, UnicodeError) as error:
            self._stop_writing(error)
        self._lines += 1
        if self._lines > MOST_LINES and self._lines > 4 * sum(map(len, self._waiting)):
            self._rewrite(is_open=True)

    def _rewrite(self, *, is_open: bool) -> None:
        """Replace the file by what still waits."""
        if self._path is None or not self._can_write:
            return
        events = {number: event for waiting in self._waiting for number, event in waiting.items()}
        lines: list[dict[str, Any]] = [{"open": is_open}]
        for number, event in sorted(events.items()):
            not_for = [receiver for receiver, waiting in enumerate(self._waiting) if number not in waiting]
            lines.append({"event": number, **event.to_json(), "not_for": not_for})
        temporary = self._path.with_name(f".{self._path.name}.new")
        try:
            temporary.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")
            os.replace(temporary, self._path)
        except (OSError, UnicodeError) as error:
            self._stop_writing(error)
        self._lines = len(lines)

    def _stop_writing(self, error: Exception) -> None:
        self._can_write = False
        logger.warning("%s cannot be written, so notifications do not survive the process: %s", self._path, error)
