"""Cleaning of documents by named rules, each of which counts what it drops and changes.

A rule gets the text of a document and returns what stays of it. It may change characters and drop lines, but it adds no
lines, so that every line of the input is either in the output or in the count of one rule.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from claf2.corpus.sources import Document
from claf2.registry import Component, Registry, make_component

__all__ = [
    "DEFAULT_RULES",
    "Cleaner",
    "CleaningCounts",
    "CleaningRule",
    "RuleCounts",
    "TextFilter",
    "cleaning_rules",
    "describe_rule",
    "make_rule",
    "register_cleaning_rule",
]

TextFilter = Callable[[str], str]
"""Takes the text of a document, and returns what stays of it: an empty text drops the document."""

DEFAULT_RULES = ("unicode", "control", "whitespace", "personal", "length", "duplicate_documents", "duplicate_lines")
"""The rules that are applied unless others are named, in this order."""


class CleaningRule(Component, ABC):
    """A step of cleaning. Its fields are its settings, and ``make_filter`` gives it a memory where it needs one."""

    @abstractmethod
    def make_filter(self, replacements: Counter[str]) -> TextFilter:
        """Return the function that is applied to one document after another.

        Args:
            replacements: where the filter counts what it replaces, by kind. Lines and documents that it drops, and
                documents that it changes, are counted by the caller.
        """


cleaning_rules: Registry[type[CleaningRule]] = Registry("cleaning rule", home="claf2.corpus.cleaning")
"""The registered cleaning rules."""
register_cleaning_rule = cleaning_rules.register


@dataclass
class RuleCounts:
    """What a rule has done."""

    name: str
    documents_dropped: int = 0
    lines_dropped: int = 0
    """Those of dropped documents included."""
    documents_changed: int = 0
    """Documents that stayed, but not as they were."""
    replacements: Counter[str] = field(default_factory=Counter)
    """What was replaced, by kind."""

    def to_json(self) -> dict[str, Any]:
        """Return the counts as JSON values; the kinds of replacements are sorted."""
        return {
            "rule": self.name,
            "documents_dropped": self.documents_dropped,
            "lines_dropped": self.lines_dropped,
            "documents_changed": self.documents_changed,
            "replacements": dict(sorted(self.replacements.items())),
        }


@dataclass
class CleaningCounts:
    """What went in and came out of cleaning. Characters are counted without the ends of lines."""

    documents_read: int = 0
    lines_read: int = 0
    characters_read: int = 0
    documents_kept: int = 0
    lines_kept: int = 0
    characters_kept: int = 0
    rules: list[RuleCounts] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return {**vars(self), "rules": [rule.to_json() for rule in self.rules]}


class Cleaner:
    """Applies rules to documents, one after another.

    Args:
        rules: the rules, in the order in which they are applied. Rules about duplicates remember what they have seen,
            so a cleaner is for one pass over a corpus.
    """

    def __init__(self, rules: Sequence[CleaningRule]) -> None:
        self.counts = CleaningCounts(rules=[RuleCounts(cleaning_rules.name_of(type(rule))) for rule in rules])
        self._steps = [
            (rule.make_filter(counts.replacements), counts)
            for rule, counts in zip(rules, self.counts.rules, strict=True)
        ]

    def clean_documents(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Yield the cleaned documents, without those that a rule drops."""
        for document in documents:
            text = self.clean(document.text)
            if text:
                yield document if text is document.text else replace(document, text=text)

    def clean(self, text: str) -> str:
        """Return what stays of the text of a document; an empty text if it is dropped."""
        totals = self.counts
        lines = text.count("\n") + 1 if text else 0
        totals.documents_read += 1
        totals.lines_read += lines
        totals.characters_read += len(text) - max(0, lines - 1)
        for apply, counts in self._steps:
            cleaned = apply(text)
            if cleaned is text or cleaned == text:
                continue
            lines_left = cleaned.count("\n") + 1 if cleaned else 0
            counts.lines_dropped += lines - lines_left
            if not cleaned:
                counts.documents_dropped += 1
                return ""
            counts.documents_changed += 1
            text, lines = cleaned, lines_left
        if not text:
            # Nothing has dropped it: it was empty before.
            return ""
        totals.documents_kept += 1
        totals.lines_kept += lines
        totals.characters_kept += len(text) - (lines - 1)
        return text


def make_rule(name: str, settings: Mapping[str, Any]) -> CleaningRule:
    """Return a rule by its name.

    Args:
        name: the name, such as ``length``.
        settings: field → value; text is converted to the type of the field.

    Raises:
        RegistryError: if there is no rule of that name.
        ConfigError: if a field does not exist, or has a wrong value.
    """
    return make_component(cleaning_rules.get(name), settings, prefix=f"{name}.")


def describe_rule(rule: CleaningRule) -> dict[str, Any]:
    """Return the name and all fields of a rule, from which ``make_rule`` makes it again."""
    return {"name": cleaning_rules.name_of(type(rule)), **rule.model_dump(mode="json")}
