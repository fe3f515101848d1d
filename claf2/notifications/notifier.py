"""The notifier: takes events at any rate from any thread, and sends messages at the pace that receivers accept.

Each receiver has a thread of its own, so that one that is slow or dead delays neither the run nor the others.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from claf2.notifications.events import EVENT_KINDS, Event
from claf2.notifications.messages import Message, compose_message
from claf2.notifications.outbox import Outbox
from claf2.notifications.pacing import DeliveryResult, Pace
from claf2.notifications.receivers import Receiver, read_urls
from claf2.notifications.redaction import Redactor

__all__ = ["MessageReceiver", "Notifier", "open_notifier"]

OUTBOX = "notifications.jsonl"
"""The name of the outbox in a folder."""
INTERVAL = 10.0
"""The least seconds between two messages, unless others are given."""
FLUSH_SECONDS = 5.0
"""How long the end of a process waits for messages to be sent."""
MOST_ATTEMPTS = 3
"""How often an urgent event is sent to a receiver of which it is not known whether it has arrived."""

logger = logging.getLogger("claf2")


class MessageReceiver(Protocol):
    """Where messages go."""

    name: str
    """What log messages call it. It holds no secret."""
    limit: int
    """The most characters of a message."""

    def deliver(self, message: Message) -> DeliveryResult:
        """Send a message, and say what became of it."""


def open_notifier(
    folder: Path | None,
    subject: str,
    *,
    on: Collection[str] = EVENT_KINDS,
    interval: float = INTERVAL,
) -> Notifier | None:
    """Return a notifier for the receivers in ``$CLAF2_NOTIFY_URLS``; ``None`` if there are none.

    Args:
        folder: where events are kept until they are sent, in `notifications.jsonl`; ``None``: in memory only.
        subject: the title of messages, such as the folder of a run.
        on: the kinds of events to send; others are ignored.
        interval: the least seconds between two messages. Failures and ends are sent at once.

    Raises:
        ConfigError: if `apprise` cannot use a URL.
        ImportError: if it is not installed.
    """
    urls = read_urls()
    if not urls:
        return None
    receivers = [Receiver(url, number) for number, url in enumerate(urls, start=1)]
    path = None if folder is None else folder / OUTBOX
    return Notifier(receivers, path, subject, on=on, interval=interval, redact=Redactor(urls, os.environ))


class Notifier:
    """Sends events to receivers. No method raises because of a receiver, and only ``close`` waits for one.

    Args:
        receivers: where messages go.
        path: the file of the outbox; ``None``: none.
        subject: the title of messages.
        on: the kinds of events to send.
        interval: the least seconds between two messages.
        redact: masks secrets.
    """

    def __init__(
        self,
        receivers: Sequence[MessageReceiver],
        path: Path | None,
        subject: str,
        *,
        on: Collection[str] = EVENT_KINDS,
        interval: float = INTERVAL,
        redact: Redactor | None = None,
    ) -> None:
        self._redact = redact or Redactor()
        self._kinds = frozenset(on)
        self._path = path
        self._outbox = Outbox(path, len(receivers))
        self.follows_kill = self._outbox.was_killed
        """Whether an earlier process with this outbox was killed."""
        subject = self._redact(subject)
        self._senders = [
            _Sender(receiver, number, self._outbox, subject, interval) for number, receiver in enumerate(receivers)
        ]
        for sender in self._senders:
            sender.start()

    def send(self, event: Event) -> None:
        """Put an event into the outbox, which takes microseconds."""
        if event.kind in self._kinds:
            self._outbox.add(replace(event, text=self._redact(event.text), details=self._redact(event.details)))

    def close(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Send what waits, for at most some seconds, and say whether everything was sent. The rest stays in the
        file."""
        deadline = time.monotonic() + seconds
        for sender in self._senders:
            sender.begin_closing()
        for sender in self._senders:
            sender.join(max(0.0, deadline - time.monotonic()))
        for sender in self._senders:
            sender.stop()
        is_sent, path = self._outbox.is_empty(), self._path
        for sender in self._senders:
            if sender.unsent():
                message = "%s: %d notifications were not sent in time (the latest attempt: %s)%s"
                rest = f"; they are in {path}" if path is not None else ""
                logger.warning(message, sender.name, sender.unsent(), sender.last, rest)
        self._outbox.close()
        return is_sent


class _Sender(threading.Thread):
    """The thread of one receiver."""

    def __init__(self, receiver: MessageReceiver, number: int, outbox: Outbox, subject: str, interval: float) -> None:
        # A thread that waits for a dead receiver must not keep the process alive.
        super().__init__(name=receiver.name, daemon=True)
        self.last = "none"
        """What became of the latest attempt."""
        self._receiver, self._number, self._outbox, self._subject = receiver, number, outbox, subject
        self._pace = Pace(interval)
        self._attempts: Counter[int] = Counter()
        self._closing = self._stopped = False
        self._has_warned = False

    def begin_closing(self) -> None:
        """End the thread when nothing waits any more."""
        with self._outbox.changed:
            self._closing = True
            self._outbox.changed.notify_all()

    def stop(self) -> None:
        """End the thread before it sends anything more."""
        with self._outbox.changed:
            self._stopped = True
            self._outbox.changed.notify_all()

    def unsent(self) -> int:
        """Return how many events wait."""
        events, skipped = self._outbox.waiting(self._number)
        return len(events) + skipped.total()

    def run(self) -> None:
        while self._wait():
            events, skipped = self._outbox.waiting(self._number)
            message, urgent_taken = compose_message(
                self._subject, list(events.values()), skipped, limit=self._receiver.limit
            )
            urgent = dict([entry for entry in events.items() if entry[1].is_urgent][:urgent_taken])
            ordinary = {number: event for number, event in events.items() if not event.is_urgent}
            self._attempts.update(urgent.keys())
            self._settle(self._receiver.deliver(message), urgent, ordinary, skipped)

    def _wait(self) -> bool:
        """Wait until there is something to send, and return ``False`` if there will not be."""
        with self._outbox.changed:
            while not self._stopped:
                events, skipped = self._outbox.waiting(self._number)
                if not events and not skipped:
                    if self._closing:
                        return False
                    self._outbox.changed.wait()
                    continue
                is_urgent = any(event.is_urgent for event in events.values())
                left = self._pace.seconds_left(time.monotonic(), is_urgent=is_urgent, is_closing=self._closing)
                if left <= 0:
                    return True
                self._outbox.changed.wait(left)
            return False

    def _settle(
        self, answer: DeliveryResult, urgent: Mapping[int, Event], ordinary: Mapping[int, Event], skipped: Counter[str]
    ) -> None:
        """Decide from an answer what is sent again."""
        wait = self._pace.record(answer, time.monotonic())
        self.last = str(answer)
        if answer.is_accepted:
            self._outbox.remove(self._number, {**urgent, **ordinary}, skipped)
            self._has_warned = False
            return
        if not self._has_warned:
            # Once until a message is accepted again, since more lines would say the same.
            self._has_warned = True
            outcome = "gets no more" if answer.is_refused else f"gets the next one in {wait:.0f} s"
            logger.warning("%s did not accept a notification (%s) and %s", self.name, answer, outcome)
        if answer.is_refused:
            self.stop()
        elif answer.is_uncertain:
            # A message that may have arrived is not sent again, unless it matters too much to be lost.
            given_up = {number: event for number, event in urgent.items() if self._attempts[number] >= MOST_ATTEMPTS}
            self._outbox.remove(self._number, {**given_up, **ordinary}, skipped)
