"""How long a server asks its clients to wait."""

from __future__ import annotations

import email.utils
import time

__all__ = ["parse_retry_after"]


def parse_retry_after(text: str | None) -> float | None:
    """Return the seconds of a ``Retry-After`` (RFC 9110, 10.2.3): a number, or a date; ``None`` if it is neither."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        date = email.utils.parsedate_tz(text)
        if date is None:
            return None
        seconds = email.utils.mktime_tz(date) - time.time()
    return max(0.0, seconds) if seconds < float("inf") else None
