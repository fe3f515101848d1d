"""HTML from Python: text that is escaped once, elements, and how numbers are written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import NewType

__all__ = ["VOID", "Html", "count", "join", "named", "said", "shown", "signed", "table", "tag", "text"]

Html = NewType("Html", str)
"""Text that is HTML already. What comes from outside gets into a page through ``text`` only."""

FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""Characters that HTML or UTF-8 cannot hold."""

VOID = "–"
"""What stands where there is no number."""


def text(value: object) -> Html:
    """Return any text as HTML that shows it."""
    return Html(escape(FORBIDDEN.sub("\ufffd", str(value))))


def tag(name: str, *children: Html, **attributes: object) -> Html:
    """Return an element; ``class_`` is ``class``, other underscores are hyphens, nothing means no attribute."""
    words = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(value)}"'
        for key, value in attributes.items()
        if value not in (None, "")
    )
    return Html(f"<{name}{words}>{''.join(children)}</{name}>")


def join(parts: Iterable[Html]) -> Html:
    """Return pieces of HTML one after the other."""
    return Html("".join(parts))


def named(name: str) -> Html:
    """Return a name from outside, kept apart from the direction of the text around it."""
    return tag("bdi", text(name))


def said(words: str) -> Html:
    """Return words for screen readers only."""
    return tag("span", text(words), class_="said")


def table(caption: str, head: Sequence[Html], bodies: Iterable[Html], **attributes: object) -> Html:
    """Return a table in a frame of its own, which may scroll sideways and which the keyboard reaches."""
    inner = [tag("caption", said(caption)), tag("thead", tag("tr", *head)), *bodies]
    frame = "scroll" if "id" in attributes else "scroll free"
    return tag("div", tag("table", *inner, **attributes), class_=frame, tabindex=0, role="region", aria_label=caption)


def shown(value: float | None) -> str:
    """Return a score to two decimals."""
    return VOID if value is None else f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def signed(value: float) -> str:
    """Return a difference to two decimals, always with its sign."""
    return f"{round(value, 2) + 0.0:+.2f}".replace("-", "−")


def count(amount: int, what: str) -> str:
    """Return an amount with its word, in the plural where it is one."""
    return f"{amount:,} {what}{'' if amount == 1 else 's'}"
