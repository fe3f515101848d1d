"""When a receiver gets its next message, and whether one that it did not accept is sent again."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DeliveryResult", "Pace"]

URGENT_GAP = 2.0
"""The least seconds between two messages when something urgent waits. Chats accept about one per second."""
CLOSING_GAP = 1.0
"""The same at the end of a process."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 300.0
"""The seconds before a message is sent again, which double from one failure to the next."""
LONGEST_RETRY_AFTER = 3600.0
"""The most seconds that a receiver can ask for."""
UNCERTAIN_WAIT = 5.0
"""The seconds before a message is sent again that may have arrived."""

BUSY = (408, 425, 429)
"""The answers with which a receiver asks for another attempt."""


@dataclass(frozen=True)
class DeliveryResult:
    """What became of an attempt to send a message."""

    is_accepted: bool
    status: int | None = None
    """The status of HTTP; ``None``: there was no answer, or the receiver does not use HTTP."""
    retry_after: float | None = None
    """After how many seconds the receiver asks for another attempt."""
    is_lost: bool = False
    """Whether the message was sent, but not answered."""

    @property
    def is_refused(self) -> bool:
        """Whether the receiver will not accept any message: its URL is wrong, or was revoked."""
        return not self.is_accepted and self.status is not None and 300 <= self.status < 500 and not self.is_busy

    @property
    def is_busy(self) -> bool:
        """Whether the message was turned away for the time being, so that it has not arrived."""
        return self.status in BUSY or (self.status == 503 and self.retry_after is not None)

    @property
    def is_uncertain(self) -> bool:
        """Whether the message may have arrived all the same: after an error of the server, or no answer in time."""
        failed = self.status is not None and self.status >= 500
        return not self.is_accepted and not self.is_busy and (failed or self.is_lost)

    def __str__(self) -> str:
        if self.is_accepted:
            return "accepted"
        if self.status is not None:
            return f"HTTP {self.status}"
        return "no answer" if self.is_lost else "cannot be reached, or refuses the message"


class Pace:
    """The times at which one receiver may get messages.

    Args:
        interval: the least seconds between two messages.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._last: float | None = None
        self._blocked_until = self._asked_until = 0.0
        self._failures = 0

    def seconds_left(self, now: float, *, is_urgent: bool, is_closing: bool) -> float:
        """Return how long to wait before the next message; at most 0: it may be sent.

        Args:
            now: seconds of a monotonic clock.
            is_urgent: whether an urgent event waits.
            is_closing: whether the process is about to end.
        """
        gap = min(self._interval, CLOSING_GAP if is_closing else URGENT_GAP if is_urgent else self._interval)
        # The last chance is taken even if the receiver was dead a minute ago, but not if it asked for time.
        due = self._asked_until if is_closing else self._blocked_until
        return (due if self._last is None else max(due, self._last + gap)) - now

    def record(self, answer: DeliveryResult, now: float) -> float:
        """Take note of an answer, and return for how many seconds nothing more is sent because of it."""
        self._last = now
        if answer.is_accepted:
            self._failures = 0
            return 0.0
        wait = min(LONGEST_WAIT, (UNCERTAIN_WAIT if answer.is_uncertain else FIRST_WAIT) * 2.0**self._failures)
        if answer.retry_after is not None:
            wait = min(LONGEST_RETRY_AFTER, max(FIRST_WAIT, answer.retry_after))
            self._asked_until = now + wait
        self._failures = min(self._failures + 1, 20)
        self._blocked_until = now + wait
        return wait
