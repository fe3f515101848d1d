"""Rules that change characters: normalization, control characters, white space, repetitions, Chinese characters."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from typing import Literal

from pydantic import Field

from claf2.corpus.cleaning import CleaningRule, TextFilter, register_cleaning_rule
from claf2.corpus.scripts import HAN

LINE_SEPARATORS = "\t\v\f\r\x1c-\x1f\x85\u2028\u2029"
"""What separates words or lines besides the blank and the line feed. It becomes a blank."""

INVISIBLE = re.compile(
    f"[{LINE_SEPARATORS}]|"
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"
    "\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufe00-\ufe0e\ufeff\ufff0-\ufffd"
    "\ud800-\uf8ff\U000e0000-\U0010ffff]"
)
"""Control and format characters, private use, and the replacement character. The zero-width joiners stay: they hold
emoji together, and belong to the spelling of several languages. So does the emoji selector U+FE0F."""


@register_cleaning_rule("unicode")
class UnicodeNormalization(CleaningRule):
    """Brings texts into a normalization form of Unicode (UAX #15).

    NFC composes letters and their marks, and jamo to syllables of Hangul. NFKC also replaces compatibility characters:
    ``ｱ`` by ``ア``, ``㈜`` by ``(주)``.
    """

    form: Literal["NFC", "NFKC"] = "NFC"

    def make_filter(self, replacements: Counter[str]) -> TextFilter:
        form = self.form

        def normalize(text: str) -> str:
            if text.isascii() or unicodedata.is_normalized(form, text):
                return text
            return unicodedata.normalize(form, text)

        return normalize


@register_cleaning_rule("control")
class ControlCharacters(CleaningRule):
    """Removes characters that cannot be seen: control and format characters, private use, and the replacement character
    U+FFFD. Tabs, carriage returns and Unicode's line separators become blanks."""

    def make_filter(self, replacements: Counter[str]) -> TextFilter:
        blanks = re.compile(f"[{LINE_SEPARATORS}]")

        def remove(text: str) -> str:
            if INVISIBLE.search(text) is None:
                return text
            spaced = blanks.sub(" ", text)
            cleaned, removed = INVISIBLE.subn("", spaced)
            if removed:
                replacements["removed characters"] += removed
            return cleaned

        return remove


@register_cleaning_rule("whitespace")
class WhitespaceRuns(CleaningRule):
    """Replaces runs of blanks by one, removes them at both ends of lines, and drops blank lines."""

    def make_filter(self, replacements: Counter[str]) -> TextFilter:
        irregular = re.compile(r"[^\S\n ]|  | ?\n\s| \n|\A\s|\s\Z")

        def collapse(text: str) -> str:
            if irregular.search(text) is None:
                return text
            # str.split knows the white space of Unicode, and is faster than a regular expression.
            return "\n".join([" ".join(words) for line in text.split("\n") if (words := line.split())])

        return collapse


@register_cleaning_rule("repeats")
class RepeatedCharacters(CleaningRule):
    """Shortens a character that is repeated too often, such as ``ㅋㅋㅋㅋㅋㅋ`` or ``-----------``. Digits stay."""

    limit: int = Field(default=3, ge=1)
    """How often a character may follow itself, itself included."""

    def make_filter(self, replacements: Counter[str]) -> TextFilter:
        pattern = re.compile(rf"([^\d\s])\1{{{self.limit},}}")
        limit = self.limit

        def shorten(text: str) -> str:
            cleaned, count = pattern.subn(lambda match: match[1] * limit, text)
            if not count:
                return text
            replacements["shortened repetitions"] += count
            return cleaned

        return shorten


@register_cleaning_rule("cjk")
class ChineseCharacters(CleaningRule):
    """Puts blanks around Chinese characters, as BERT does, so that no piece of a vocabulary spans two of them."""

    def make_filter(self, replacements: Counter[str]) -> TextFilter:
        before = re.compile(f"(?<=[^\\s])(?=[{HAN}])")
        after = re.compile(f"(?<=[{HAN}])(?=[^\\s])")
        any_han = re.compile(f"[{HAN}]")

        def separate(text: str) -> str:
            if text.isascii() or any_han.search(text) is None:
                return text
            return after.sub(" ", before.sub(" ", text))

        return separate
