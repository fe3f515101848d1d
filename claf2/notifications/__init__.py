"""Notifications: messages about a run to chats, mail and webhooks, which never delay or end it.

Messages go through `apprise`, whose URLs are read from ``$CLAF2_NOTIFY_URLS`` alone. ``open_notifier`` imports it;
nothing else here does.
"""

from __future__ import annotations

from claf2.notifications.events import KINDS, URGENT, Event
from claf2.notifications.messages import Verdict, format_seconds
from claf2.notifications.notifier import Notifier, open_notifier
from claf2.notifications.receivers import URLS_VARIABLE

__all__ = ["KINDS", "URGENT", "URLS_VARIABLE", "Event", "Notifier", "Verdict", "format_seconds", "open_notifier"]
