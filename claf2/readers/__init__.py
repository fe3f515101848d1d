"""Readers: file → examples. Each member of the family reads (and writes) one official file format."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, Literal, TextIO, cast

from claf2.errors import DataError
from claf2.registry import Component, Registry

if TYPE_CHECKING:
    from claf2.readers.conll import Conll as Conll
    from claf2.readers.delimited import Delimited as Delimited
    from claf2.readers.dialogue import Dialogues as Dialogues
    from claf2.readers.jsonl import Jsonl as Jsonl
    from claf2.readers.ranked import Ranked as Ranked
    from claf2.readers.relation import Relations as Relations
    from claf2.readers.squad import Squad as Squad
    from claf2.readers.tagged import Tagged as Tagged
    from claf2.readers.treebank import Treebank as Treebank

__all__ = [
    "Answer",
    "ChoiceExample",
    "Conll",
    "Delimited",
    "DialogueExample",
    "Dialogues",
    "Example",
    "Jsonl",
    "ParseExample",
    "Ranked",
    "Reader",
    "Relations",
    "SpanExample",
    "Squad",
    "Tagged",
    "TextExample",
    "TokenExample",
    "Treebank",
    "json_rows",
    "open_text",
    "read_json",
    "readers",
    "register_reader",
    "text_of",
]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceExample(Example):
    """A question with C choices; the label is the name of the right one's place, ``"0"`` the first."""

    question: str
    choices: tuple[str, ...]
    label: str | None = None

    def label_names(self) -> Iterable[str]:
        return () if self.label is None else (self.label,)

    def texts(self) -> Iterable[str]:
        return (self.question, *self.choices)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseExample(Example):
    """A sentence of W words with their parts of speech, and for each the number of its head (from 1; 0 is the root) and
    the name of the relation to it."""

    words: tuple[str, ...]
    pos: tuple[str, ...]
    heads: tuple[int, ...] | None = None
    relations: tuple[str, ...] | None = None

    def label_names(self) -> Iterable[str]:
        return () if self.relations is None else self.relations

    def texts(self) -> Iterable[str]:
        return (" ".join(self.words),)


@dataclass(frozen=True, slots=True, kw_only=True)
class DialogueExample(Example):
    """A dialogue up to a turn of the user: the turns in order, the user's first and last; and the state after it, a
    value for each slot that has one."""

    turns: tuple[str, ...]
    state: Mapping[str, str] | None = None

    def label_names(self) -> Iterable[str]:
        return () if self.state is None else self.state

    def texts(self) -> Iterable[str]:
        return self.turns


def open_text(path: Path, mode: Literal["r", "w"] = "r") -> TextIO:
    """Open a UTF-8 text file, through gzip when its name ends in ``.gz``; a BOM is passed over.

    Lines end at line feeds alone (a carriage return before one is the caller's to strip), since the other line
    separators of Unicode occur inside texts. What is written has the same bytes whenever it is written.
    """
    if path.suffix == ".gz":
        raw: IO[bytes] = cast(IO[bytes], gzip.GzipFile(path, f"{mode}b", mtime=0))
    else:
        raw = path.open(f"{mode}b")
    return io.TextIOWrapper(raw, encoding="utf-8-sig" if mode == "r" else "utf-8", newline="\n")


def read_json(path: Path) -> Any:
    """Read a file that is one JSON document.

    Raises:
        DataError: when it is not, or is cut short.
    """
    try:
        with open_text(path) as file:
            return json.load(file)
    except json.JSONDecodeError as error:
        raise DataError(path, f"not JSON: {error.msg}", line=error.lineno) from error
    except (EOFError, gzip.BadGzipFile, zlib.error, ValueError, RecursionError) as error:
        raise DataError(path, f"damaged, or not in UTF-8: {error}") from error


def text_of(row: Mapping[str, Any], key: str) -> str:
    """Return a text of a JSON row.

    Raises:
        KeyError: when there is none.
        TypeError: when it is something else.
    """
    value = row[key]
    if not isinstance(value, str):
        raise TypeError(f"{key} is {json.dumps(value, ensure_ascii=False)[:80]}, not a text")
    return value


def json_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Stream (line or number, row) of a JSON file that holds one list of rows, or has a row a line.

    Raises:
        DataError: when it is not JSON.
    """
    with open_text(path) as file:
        start = file.read(4096).lstrip()[:1]
    if start == "[":
        yield from enumerate(read_json(path), start=1)
        return
    with open_text(path) as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                yield line, json.loads(text)
            except ValueError as error:
                raise DataError(path, f"not JSON: {error}", line=line) from error


class Reader(Component, ABC):
    """The description of a file format; ``read`` streams its examples, ``write`` is the inverse."""

    takes_rows: ClassVar[bool] = False
    """Whether a file may be one JSON object a line, so that a row of the hub with the same keys can be written as it
    is."""

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


def __getattr__(name: str) -> Any:
    """Offer the members by class name, imported when first asked for."""
    for each in readers.names():
        if readers.get(each).__name__ == name:
            return readers.get(each)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
