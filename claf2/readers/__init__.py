"""Readers: file → examples. Each member of the family reads (and writes) one official file format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from claf2.registry import Component, Registry

__all__ = ["Answer", "Example", "Reader", "SpanExample", "TextExample", "TokenExample", "readers", "register_reader"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One row of a data set, before any tokenizer saw it.

    ``id`` is the file's own identifier where it has one, else the row number; ``line`` is where the row
    stands in its file, counted from 1 (0: unknown), for messages.
    """

    id: str
    line: int = field(default=0, compare=False)

    def label_names(self) -> Iterable[str]:
        """Return the label names that the row uses, to be held against the task's own; none when unlabelled."""
        return ()

    def texts(self) -> Iterable[str]:
        """Return the row's texts, e.g. to train a vocabulary on."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TextExample(Example):
    """One or two texts with one label: a class name, or a number written as in the file; ``None`` when unlabelled."""

    text_a: str
    text_b: str | None = None
    label: str | None = None

    def label_names(self) -> Iterable[str]:
        return () if self.label is None else (self.label,)

    def texts(self) -> Iterable[str]:
        return (self.text_a,) if self.text_b is None else (self.text_a, self.text_b)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenExample(Example):
    """A sequence of tokens (words, or characters with the spaces among them), each with an IOB2 tag.

    ``joiner.join(tokens)`` is the text: a space for words, the empty string for characters.
    """

    tokens: tuple[str, ...]
    tags: tuple[str, ...] | None = None
    joiner: str = " "

    def label_names(self) -> Iterable[str]:
        return () if self.tags is None else self.tags

    def texts(self) -> Iterable[str]:
        return (self.joiner.join(self.tokens),)


@dataclass(frozen=True, slots=True)
class Answer:
    """A gold answer: its text, and the character of the context at which it starts."""

    text: str
    start: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanExample(Example):
    """A question on a context. No answers with ``is_impossible`` true: unanswerable; ``None``: unlabelled."""

    question: str
    context: str
    answers: tuple[Answer, ...] | None = None
    is_impossible: bool = False
    title: str = ""

    def texts(self) -> Iterable[str]:
        return (self.question, self.context)


class Reader(Component, ABC):
    """The description of a file format; ``read`` streams its examples, ``write`` is the inverse."""

    @abstractmethod
    def read(self, path: Path) -> Iterator[Example]:
        """Stream the examples of ``path`` (gzip when it ends in ``.gz``; BOM and CRLF are tolerated).

        Raises:
            DataError: for a file or row that does not follow the format, with file, line and reason.
        """

    @abstractmethod
    def write(self, examples: Iterable[Example], path: Path) -> None:
        """Write ``examples`` to ``path`` in this format, so that ``read`` gives them back."""


readers: Registry[type[Reader]] = Registry("reader", home="claf2.readers")
register_reader = readers.register
