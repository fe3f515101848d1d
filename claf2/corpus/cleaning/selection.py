"""Rules that drop lines by their length or their language."""

from __future__ import annotations

import re
from collections import Counter
from typing import Literal

from pydantic import Field, model_validator

from claf2.corpus.cleaning import CleaningRule, TextFilter, register_cleaning_rule
from claf2.corpus.scripts import SCRIPTS
from claf2.registry import LARGEST


@register_cleaning_rule("length")
class LineLength(CleaningRule):
    """Drops lines that are too short or too long, and then documents that are too short."""

    min_characters: int = Field(default=3, ge=0)
    """The least characters of a line."""
    max_characters: int = Field(default=100_000, ge=1, le=LARGEST)
    """The most characters of a line."""
    min_document: int = Field(default=0, ge=0)
    """The least characters of a document."""

    @model_validator(mode="after")
    def _check_order(self) -> LineLength:
        if self.min_characters > self.max_characters:
            raise ValueError(f"min_characters {self.min_characters} exceeds max_characters {self.max_characters}")
        return self

    def make_filter(self, replacements: Counter[str]) -> TextFilter:
        least, most, least_document = self.min_characters, self.max_characters, self.min_document

        def select(text: str) -> str:
            lines = text.split("\n")
            kept = [line for line in lines if least <= len(line) <= most]
            if len(kept) < len(lines):
                text = "\n".join(kept)
            return text if len(text) >= least_document else ""

        return select


@register_cleaning_rule("language")
class LanguageShare(CleaningRule):
    """Drops lines in which too few of the letters belong to a language. Lines without letters are dropped as well."""

    language: Literal["ko", "ja", "en"]
    """The ISO 639-1 code of the language."""
    min_share: float = Field(default=0.3, ge=0, le=1)
    """The least share of its letters among all letters of a line."""

    def make_filter(self, replacements: Counter[str]) -> TextFilter:
        foreign = re.compile(f"[^{SCRIPTS[self.language]}]+")
        no_letter = re.compile(r"[\W\d_]+")
        least = self.min_share

        def belongs(line: str) -> bool:
            letters = no_letter.sub("", line)
            return bool(letters) and len(foreign.sub("", letters)) >= least * len(letters)

        def select(text: str) -> str:
            lines = text.split("\n")
            kept = [line for line in lines if belongs(line)]
            return text if len(kept) == len(lines) else "\n".join(kept)

        return select
