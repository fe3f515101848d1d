"""Readers: file → examples. Each member of the family reads, and writes, one official file format.

Readers stream: an example is yielded as soon as its row is read, except by formats that are one JSON document. Examples
are frozen records of plain text, with one class for each kind of task; tokens and label ids come later.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from claf2.errors import nearest
from claf2.readers.text import (
    check_label_key,
    decode_text,
    get_text,
    open_text,
    read_blocks,
    read_json_document,
    read_json_rows,
    read_lines,
)
from claf2.registry import Component, Registry

if TYPE_CHECKING:
    from claf2.readers.conll import Conll as Conll
    from claf2.readers.delimited import Delimited as Delimited
    from claf2.readers.dialogue import Dialogues as Dialogues
    from claf2.readers.documents import Documents as Documents
    from claf2.readers.instructions import Instructions as Instructions
    from claf2.readers.jsonl import Jsonl as Jsonl
    from claf2.readers.ranked import Ranked as Ranked
    from claf2.readers.relation import Relations as Relations
    from claf2.readers.squad import Squad as Squad
    from claf2.readers.tagged import Tagged as Tagged
    from claf2.readers.treebank import Treebank as Treebank
    from claf2.readers.triplets import Triplets as Triplets

__all__ = [
    "Answer",
    "ChoiceExample",
    "Conll",
    "ConversationExample",
    "Delimited",
    "DialogueExample",
    "Dialogues",
    "Documents",
    "Example",
    "Instructions",
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
    "TripletExample",
    "Triplets",
    "Turn",
    "check_columns",
    "check_label_key",
    "decode_text",
    "get_text",
    "open_text",
    "read_blocks",
    "read_json_document",
    "read_json_rows",
    "read_lines",
    "readers",
    "register_reader",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One row of a data set, before tokenization."""

    id: str
    """The identifier in the file where it has one, else the row number."""
    line: int = field(default=0, compare=False)
    """The line of the row in its file, counted from 1, for error messages; 0 if unknown."""
    gold_fields: ClassVar[tuple[str, ...]] = ("label",)
    """The fields that hold the gold answer; ``None`` in each of them if the example is unlabelled."""

    def unlabelled(self) -> Self:
        """Return the example without its gold answer."""
        changes: dict[str, Any] = dict.fromkeys(self.gold_fields)
        return dataclasses.replace(self, **changes)

    def label_names(self) -> Iterable[str]:
        """Return the label names that the row uses, to be checked against the task's; none if unlabelled."""
        return ()

    def texts(self) -> Iterable[str]:
        """Return the texts of the row, for example to train a vocabulary or to find duplicates."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TextExample(Example):
    """One text or a pair of texts, with one label."""

    text_a: str
    text_b: str | None = None
    """The second text of a pair; ``None`` for single texts."""
    label: str | None = None
    """A class name, or a number as the file writes it; ``None`` if unlabelled."""

    def label_names(self) -> Iterable[str]:
        return () if self.label is None else (self.label,)

    def texts(self) -> Iterable[str]:
        return (self.text_a,) if self.text_b is None else (self.text_a, self.text_b)


@dataclass(frozen=True, slots=True, kw_only=True)
class TripletExample(Example):
    """A text, one that is close to it in meaning, and perhaps one that is not although it looks similar."""

    gold_fields: ClassVar[tuple[str, ...]] = ()

    anchor: str
    positive: str
    negative: str | None = None
    """The hard negative; ``None`` where there is none."""

    def texts(self) -> Iterable[str]:
        texts = (self.anchor, self.positive)
        return texts if self.negative is None else (*texts, self.negative)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenExample(Example):
    """A sequence of T tokens with one IOB2 tag per token (Ramshaw & Marcus, 1995; Tjong Kim Sang & Veenstra, 1999)."""

    gold_fields: ClassVar[tuple[str, ...]] = ("tags",)

    tokens: tuple[str, ...]
    """T words, or T characters including the spaces between words."""
    tags: tuple[str, ...] | None = None
    """T tags: ``O``, or ``B-`` or ``I-`` and an entity type; ``None`` if unlabelled."""
    joiner: str = " "
    """``joiner.join(tokens)`` is the text: a space for words, the empty string for characters."""

    def label_names(self) -> Iterable[str]:
        return () if self.tags is None else self.tags

    def texts(self) -> Iterable[str]:
        return (self.joiner.join(self.tokens),)


@dataclass(frozen=True, slots=True)
class Answer:
    """A gold answer as a span of the context."""

    text: str
    start: int
    """The position of its first character in the context, counted in Unicode code points from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanExample(Example):
    """A question about a context (Rajpurkar et al., 2016)."""

    gold_fields: ClassVar[tuple[str, ...]] = ("answers",)

    question: str
    context: str
    answers: tuple[Answer, ...] | None = None
    """The accepted answers; empty if the question is unanswerable, ``None`` if it is unlabelled."""
    is_impossible: bool = False
    """Whether the question is unanswerable: ``answers`` are then empty."""
    title: str = ""
    """The title of the article that the context comes from."""

    def texts(self) -> Iterable[str]:
        return (self.question, self.context)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceExample(Example):
    """A multiple-choice question."""

    question: str
    choices: tuple[str, ...]
    """C possible answers."""
    label: str | None = None
    """The index of the right choice as a string, from ``"0"``; ``None`` if unlabelled."""

    def label_names(self) -> Iterable[str]:
        return () if self.label is None else (self.label,)

    def texts(self) -> Iterable[str]:
        return (self.question, *self.choices)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseExample(Example):
    """A sentence of W words with its dependency tree, in the conventions of CoNLL-X (Buchholz & Marsi, 2006)."""

    gold_fields: ClassVar[tuple[str, ...]] = ("heads", "relations")

    words: tuple[str, ...]
    """W words."""
    pos: tuple[str, ...]
    """W part-of-speech tags."""
    heads: tuple[int, ...] | None = None
    """The number of each word's head, (W,), counted from 1; 0 is the root. ``None`` if unlabelled."""
    relations: tuple[str, ...] | None = None
    """The name of each word's relation to its head, (W,); ``None`` if unlabelled."""

    def label_names(self) -> Iterable[str]:
        return () if self.relations is None else self.relations

    def texts(self) -> Iterable[str]:
        return (" ".join(self.words),)


@dataclass(frozen=True, slots=True, kw_only=True)
class DialogueExample(Example):
    """A dialogue up to and including one turn of the user, with the dialogue state after it."""

    gold_fields: ClassVar[tuple[str, ...]] = ("state",)

    turns: tuple[str, ...]
    """Turns of user and system in alternation; the first and the last are the user's."""
    state: Mapping[str, str] | None = None
    """Slot → value, for the slots that have one so far; ``None`` if unlabelled."""

    def label_names(self) -> Iterable[str]:
        return () if self.state is None else self.state

    def texts(self) -> Iterable[str]:
        return self.turns


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says in a conversation."""

    role: str
    """``system``, ``user`` or ``assistant``."""
    text: str
    context: str = ""
    """The input that an instruction is about, where it is stated apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationExample(Example):
    """A conversation whose answers, the turns of the assistant, are learned."""

    gold_fields: ClassVar[tuple[str, ...]] = ()

    turns: tuple[Turn, ...]
    """A system turn at most, then user and assistant."""

    def texts(self) -> Iterable[str]:
        return tuple(text for turn in self.turns for text in (turn.text, turn.context) if text)


def order_problem(turns: Sequence[Turn]) -> str:
    """Return what is wrong with the order of the turns of a conversation; an empty text if nothing is."""
    roles = [turn.role for turn in turns]
    rest = roles[1:] if roles[:1] == ["system"] else roles
    if rest and all(role == ("user", "assistant")[index % 2] for index, role in enumerate(rest)):
        return ""
    return f"the turns are those of {', '.join(roles) or 'nobody'}, not of user and assistant in alternation"


COLUMN_FIELDS = ("id", "text_a", "text_b", "label")
"""The fields of an example that a column can hold."""

ColumnsT = TypeVar("ColumnsT", bound=Mapping[str, Any])


def check_columns(columns: ColumnsT) -> ColumnsT:
    """Check that columns are given for fields of an example, and one for its text.

    Raises:
        ValueError: if a field is unknown, or `text_a` is missing.
    """
    unknown = [field for field in columns if field not in COLUMN_FIELDS]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not a field of an example; {nearest(unknown[0], COLUMN_FIELDS)}")
    if "text_a" not in columns:
        raise ValueError("no column is given for text_a")
    return columns


class Reader(Component, ABC):
    """A file format. The fields of a member describe a variant of it, such as the names of columns."""

    takes_rows: ClassVar[bool] = False
    """Whether a file may have one JSON object per line, so that a row of a data set on the hub with the same keys can
    be written unchanged."""

    @property
    def pairs(self) -> bool | None:
        """Whether examples have two texts, so that a request needs both; ``None`` if the format does not say."""
        return None

    @property
    def joiner(self) -> str:
        """What is between the tokens of a text: a space for words, the empty string for characters."""
        return " "

    def recognizes(self, path: Path) -> bool:
        """Say whether the beginning of a file shows that it is in this format, whatever its name."""
        return False

    @abstractmethod
    def read(self, path: Path) -> Iterator[Example]:
        """Stream the examples of a file in UTF-8. Gzip (``.gz``), a byte order mark and CRLF are accepted.

        Raises:
            DataError: if the file or a row does not follow the format, with file, line and reason.
        """

    @abstractmethod
    def write(self, examples: Iterable[Example], path: Path) -> None:
        """Write ``examples`` to ``path`` in this format, so that ``read`` returns equal ones."""


readers: Registry[type[Reader]] = Registry("reader", home="claf2.readers")
"""The registered readers."""
register_reader = readers.register


def __getattr__(name: str) -> type[Reader]:
    """Return a member by its class name, so that ``from claf2.readers import Squad`` imports no other family."""
    for registered in readers.names():
        if readers.get(registered).__name__ == name:
            return readers.get(registered)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
