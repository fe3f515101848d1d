"""Damaged text: bytes that were decoded with a wrong encoding, text not in NFC, invisible characters."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from claf2.corpus.cleaning.characters import INVISIBLE, LINE_SEPARATORS

__all__ = ["find_damage", "repair_text"]

LATIN = (
    "\x80-\xff\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u2026\u2030\u2039\u203a\u20ac\u2122"
)
"""The characters for bytes from 128 on in Latin-1 and in Windows' code page 1252."""
GARBLED = re.compile(f"[{LATIN}]{{2,}}")
SEPARATOR = re.compile(f"[{LINE_SEPARATORS}]")
CONTROL = re.compile("[\x80-\x9f]")
REPAIRED = re.compile(f"(?P<garbled>{GARBLED.pattern})|{INVISIBLE.pattern}")
REPLACEMENT = "\ufffd"
LEADS = "ÂÃÄÅÎÏÐÑ"
"""What the first bytes of the Latin, Greek and Cyrillic letters are decoded as."""
NO_WORDS = "ÂÃÎÏÐâêëì"
"""First characters that are no words by themselves, so that no mark follows them at the beginning of a word."""
MARKS = "…‘’“”„‚‹›«»–—•™®"
MAYBE_CORRECT = re.compile(f".[{MARKS}]|.[{MARKS}\xa0]{{2,3}}|Å[²³]|[^{LEADS}].")
"""Runs of one decoded character that may be correct text: a letter and what may follow a word, such as ``É…`` and
``à »``, and any other letter than the usual first ones, as in ``×²``."""


def _to_bytes(character: str) -> bytes:
    """Return the byte that a character was decoded from. Code page 1252 has no characters for the bytes 81, 8D, 8F, 90
    and 9D, which programs leave as control characters."""
    try:
        return character.encode("cp1252")
    except UnicodeEncodeError:
        return character.encode("latin-1")


def _undo_wrong_decoding(match: re.Match[str]) -> str:
    """Undo the decoding of UTF-8 as Latin-1 or code page 1252; return what may be correct text unchanged."""
    try:
        decoded = b"".join(map(_to_bytes, match[0])).decode("utf-8")
    except UnicodeError:
        return match[0]
    before = match.string[max(match.start() - 1, 0) : match.start()]
    return decoded if len(decoded) > 1 or _is_garbled(match[0], before) else match[0]


def _is_garbled(run: str, before: str) -> bool:
    """Say whether the characters of one letter cannot be correct text after the character before them."""
    if MAYBE_CORRECT.fullmatch(run) is None or (before.islower() and run[0].isupper()):
        return True
    return run[0] in NO_WORDS and not before.isalpha()


def find_damage(text: str) -> Counter[str]:
    """Return the kinds of damage in a text, and how often each occurs."""
    damage: Counter[str] = Counter()
    if text.isascii() and INVISIBLE.search(text) is None:
        return damage
    damage["wrong decoding"] = sum(_undo_wrong_decoding(match) != match[0] for match in GARBLED.finditer(text))
    damage["replacement characters"] = text.count(REPLACEMENT)
    damage["text not in NFC"] = int(not unicodedata.is_normalized("NFC", text))
    rest = SEPARATOR.sub("", text.replace(REPLACEMENT, ""))
    # What was decoded wrongly contains control characters, which are not counted again.
    rest = GARBLED.sub(_undo_wrong_decoding, rest)
    invisible = INVISIBLE.findall(rest)
    damage["private-use characters"] = sum(map(_is_private, invisible))
    damage["invisible characters"] = len(invisible) - damage["private-use characters"]
    return +damage


def repair_text(text: str) -> str:
    """Return a text with its wrong decoding undone, composed letters (NFC), and without invisible characters.

    A replacement character stays, since what it has replaced is lost. So do line ends, tabs, and private-use
    characters, which some fonts show. Control characters among Latin letters stay as well: they may be a part of text
    that was decoded wrongly, which another tool can restore.
    """
    if text.isascii() and INVISIBLE.search(text) is None:
        return text
    text = unicodedata.normalize("NFC", GARBLED.sub(_undo_wrong_decoding, text))
    return REPAIRED.sub(_repair_match, text)


def _repair_match(match: re.Match[str]) -> str:
    kept = match[0]
    if match["garbled"] is not None:
        return kept if CONTROL.search(kept) else kept.replace("\xad", "")
    return kept if SEPARATOR.match(kept) or kept == REPLACEMENT or _is_private(kept) else ""


def _is_private(character: str) -> bool:
    return unicodedata.category(character) == "Co"
