"""Damaged text: bytes that were decoded in a wrong encoding, text not in NFC, characters that cannot be seen."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from claf2.corpus.cleaning.characters import INVISIBLE, LINE_SEPARATORS

__all__ = ["find_damage", "repair_text"]

LATIN = (
    "\x80-\xff\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u2026\u2030\u2039\u203a\u20ac\u2122"
)
"""What bytes from 128 on become in Latin-1 and in Windows' code page 1252."""
GARBLED = re.compile(f"[{LATIN}]{{2,}}")
SEPARATOR = re.compile(f"[{LINE_SEPARATORS}]")
REPLACEMENT = "\ufffd"


def _undo_wrong_decoding(match: re.Match[str]) -> str:
    """Return the text whose UTF-8 was decoded as Latin-1 or code page 1252; if it is none, the text as it is."""
    for encoding in ("cp1252", "latin-1"):
        try:
            return match[0].encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
    return match[0]


def find_damage(text: str) -> Counter[str]:
    """Return the kinds of damage of a text, and how often each occurs."""
    found: Counter[str] = Counter()
    if text.isascii() and INVISIBLE.search(text) is None:
        return found
    found["wrong decoding"] = sum(_undo_wrong_decoding(match) != match[0] for match in GARBLED.finditer(text))
    found["replacement characters"] = text.count(REPLACEMENT)
    found["text not in NFC"] = int(not unicodedata.is_normalized("NFC", text))
    rest = SEPARATOR.sub("", text.replace(REPLACEMENT, ""))
    # What was decoded wrongly contains control characters, which are not counted again.
    rest = GARBLED.sub(_undo_wrong_decoding, rest)
    found["invisible characters"] = len(INVISIBLE.findall(rest))
    return +found


def repair_text(text: str) -> str:
    """Return a text with its wrong decoding undone, composed letters (NFC), and without invisible characters.

    A replacement character stays, since what it has replaced is lost. So do line ends and tabs.
    """
    if text.isascii() and INVISIBLE.search(text) is None:
        return text
    text = unicodedata.normalize("NFC", GARBLED.sub(_undo_wrong_decoding, text))
    return INVISIBLE.sub(lambda match: match[0] if SEPARATOR.match(match[0]) or match[0] == REPLACEMENT else "", text)
