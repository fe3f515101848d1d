"""Where the results of a bench go while it runs: lines, a board, and messages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from claf2.benchmarking.curve import CheckpointCurve
    from claf2.benchmarking.matrix import Progress
    from claf2.board.feed import BoardFeed
    from claf2.board.submit import BoardClient
    from claf2.notifications.notifier import Notifier

__all__ = ["Reporter", "report_progress", "reporting_options"]


def reporting_options(command: Any) -> Any:
    """Give a command the options ``--board`` and ``--notify``."""
    for option in (
        click.option("--notify", is_flag=True, help="Send verdicts and the end to those in $CLAF2_NOTIFY_URLS."),
        click.option("--board", metavar="URL", envvar="CLAF2_BOARD_URL", show_envvar=True,
                     help="Submit each cell to a board when it ends; the token is in $CLAF2_BOARD_TOKEN."),
    ):  # fmt: skip
        command = option(command)
    return command


class Reporter:
    """Passes on what happens in a bench.

    Args:
        feed: submits cells; ``None``: nothing does.
        notifier: sends messages; ``None``: nothing does.
    """

    def __init__(self, feed: BoardFeed | None, notifier: Notifier | None) -> None:
        self._feed, self._notifier = feed, notifier
        self.progress: Progress | None = None
        """The latest progress."""

    def on_progress(self, progress: Progress) -> None:
        """Print a line, and submit the cell that has ended."""
        self.progress = progress
        click.echo(progress.format_line(), err=True)
        if self._feed is not None:
            self._feed.update()

    def on_verdict(self, curve: CheckpointCurve, text: str) -> None:
        """Print and send what is known about a checkpoint."""
        from claf2.notifications.events import Event
        from claf2.notifications.messages import format_seconds

        click.echo(text)
        if self._notifier is not None:
            left = None if self.progress is None else self.progress.eta
            eta = f"; {format_seconds(left)} left" if left else ""
            self._notifier.send(Event("verdict", f"{curve.model} on {curve.suite}, {text}{eta}"))

    def finish(self, error: BaseException | None = None) -> None:
        """Send what is left, and say how the bench ended."""
        from claf2.notifications.events import Event

        if self._feed is not None:
            for reason in self._feed.close():
                click.echo(f"not on the board: {reason}; claf2 board submit sends it later", err=True)
        if self._notifier is not None:
            done = "" if self.progress is None else f"{self.progress.done} of {self.progress.total} cells have ended"
            failed = f", {self.progress.failed} failed" if self.progress and self.progress.failed else ""
            event = Event("finished", f"finished: {done or 'nothing to train'}{failed}")
            if error is not None:
                event = Event(
                    "failed", f"ended by {str(error) or type(error).__name__}" + (f"; {done}" if done else "")
                )
            self._notifier.send(event)
            self._notifier.close()


@contextmanager
def report_progress(out: Path, subject: str, board: str | None, notify: bool) -> Iterator[Reporter]:
    """Return what passes on the events of a bench, and end it with the block.

    Args:
        out: the folder of the bench.
        subject: the title of messages.
        board: the address of a board.
        notify: whether to send messages.

    Raises:
        RunError: if the address is none, or an extra is not installed.
        ConfigError: if messages are to be sent and there are no receivers.
    """
    feed: BoardFeed | None = None
    notifier: Notifier | None = None
    client: BoardClient | None = None
    if board is not None:  # first, since it refuses an address that is none
        from claf2.board.submit import BoardClient

        client = BoardClient(board, os.environ.get("CLAF2_BOARD_TOKEN"), attempts=3, timeout=20)
    if notify:
        from claf2.notifications.notifier import open_notifier
        from claf2.notifications.receivers import check_receivers

        check_receivers()
        # Without an outbox in the folder, because several watches may share it.
        notifier = open_notifier(None, subject)
    if client is not None:
        from claf2.board.feed import BoardFeed

        feed = BoardFeed(out, client)
    reporter = Reporter(feed, notifier)
    try:
        yield reporter
    except BaseException as error:
        reporter.finish(error)
        raise
    reporter.finish()
