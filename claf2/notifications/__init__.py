"""Notifications: messages about a run to chats, mail and webhooks, which never delay or end it.

Messages go through `apprise`, whose URLs are read from ``$CLAF2_NOTIFY_URLS`` alone. ``open_notifier`` imports it;
nothing else here does.
"""
