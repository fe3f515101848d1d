"""Notifications: messages about a run through `apprise`. Needs the extra ``notify``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from claf2.errors import ConfigError
from claf2.training.callbacks import Callback, CallbackSpec, RunInfo, register_callback

__all__ = ["Notifications"]


@register_callback("notify")
class Notifications(CallbackSpec):
    """Messages to chats, mail or webhooks, whose URLs are in `$CLAF2_NOTIFY_URLS`."""

    on: list[Literal["kept", "uploaded", "result", "verdict", "failed", "finished"]] = Field(
        ["kept", "uploaded", "verdict", "failed", "finished"], min_length=1
    )
    """What a message is sent about: `kept` checkpoints, `uploaded` ones, the `result` of each evaluation, `verdict` on
    checkpoints, a run that `failed` or was stopped, and one that `finished`."""
    seconds_between_messages: float = Field(default=10.0, ge=1, le=86400)
    """What happens in the meantime becomes one message. Failures and ends are sent at once."""
    subject: str | None = None
    """The title of the messages; `null`: the folder of the run."""
    log_lines: int = Field(default=5, ge=0, le=100)
    """How many of the last lines of `train.log` a message about a failure has."""

    def check(self) -> None:
        from claf2.notifications.receivers import check_receivers

        check_receivers()

    def build(self, run: RunInfo) -> Callback:
        from claf2.notifications.notifier import open_notifier
        from claf2.training.run_notifier import RunNotifier

        subject = self.subject or str(run.folder)
        notifier = open_notifier(run.folder, subject, on=self.on, interval=self.seconds_between_messages)
        if notifier is None:  # not after `check`
            raise ConfigError("", "there is no one to notify")
        return RunNotifier(notifier, run, self.log_lines)
