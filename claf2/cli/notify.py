"""The command ``notify``."""

from __future__ import annotations

from pathlib import Path

import click

from claf2.cli.options import PATH, NumberRange
from claf2.errors import RunError

__all__ = ["notify_command"]


@click.command("notify", epilog="""\b
Examples:
  claf2 notify "the disk of node 3 is full"
  claf2 notify --run logs/base
""")  # fmt: skip
@click.argument("text", required=False)
@click.option("--run", "folder", metavar="RUN", type=PATH, help="Send what a run could not send.")
@click.option("--seconds", type=NumberRange(0, 3600), default=30, show_default=True, help="How long to try.")
def notify_command(text: str | None, folder: Path | None, seconds: float) -> None:
    """Send a message to the receivers in $CLAF2_NOTIFY_URLS, for example to try them."""
    from claf2.notifications.events import Event
    from claf2.notifications.notifier import OUTBOX, open_notifier
    from claf2.notifications.receivers import check_receivers

    if (text is None) == (folder is None):
        raise RunError("claf2 notify needs a TEXT or --run: give one of them")
    if text is not None and not text.strip():
        raise RunError("TEXT is empty: write what is to be sent")
    if folder is not None and not folder.is_dir():
        raise RunError(f"{folder}: no such folder; name that of a run")
    check_receivers()
    if folder is None:
        notifier = open_notifier(None, "claf2")
        assert notifier is not None
        notifier.send(Event("finished", text or ""))
        is_sent = notifier.close(seconds)
    else:
        if not (folder / OUTBOX).is_file():
            click.echo(f"{folder}: nothing is waiting to be sent")
            return
        from claf2.runs.folder import lock_run_dir

        with lock_run_dir(folder):
            notifier = open_notifier(folder, str(folder))
            assert notifier is not None
            is_sent = notifier.close(seconds)
    if not is_sent:
        raise RunError("not every receiver has accepted the message: see the warnings above")
    click.echo("sent")
