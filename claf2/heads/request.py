"""What a user asks a model about: one row of fields, before it is an example."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from claf2.errors import Claf2Error
from claf2.readers import ChoiceExample, TextExample, get_text
from claf2.readers.text import LONE_SURROGATE, has_lone_surrogate
from claf2.task import Task

__all__ = ["TEXT_FIELDS", "Request", "choice_request", "read_request_text", "text_request"]


@dataclass(frozen=True)
class Request:
    """What a user asks ``predict`` about, as ``Head.request`` reads it."""

    task: Task
    values: Mapping[str, Any]
    """Field → value, such as ``text_a`` → ``"…"``."""

    @property
    def id(self) -> str:
        return str(self.values.get("id", "0"))

    def check_fields(self, required: Sequence[str], description: str, ignored: Sequence[str] = ("label",)) -> None:
        """Check that the request has the fields that it needs, and no further ones.

        Args:
            required: the fields.
            description: the same in words.
            ignored: the fields of a gold answer, which a request may have.

        Raises:
            Claf2Error: if a field is missing or unknown.
        """
        if not set(required) <= set(self.values) <= {"id", *required, *ignored}:
            names = [name for name in self.values if name != "id"]
            raise Claf2Error(f"a request needs {description}; got: {', '.join(names) or 'nothing'}")

    def text(self, field: str) -> str:
        """Return a value that must be a string.

        Raises:
            TypeError: if it is not.
        """
        return get_text(self.values, field)

    def texts(self, field: str, cut: Callable[[str], Iterable[str]]) -> tuple[str, ...]:
        """Return a value that must be a list of strings, or one string that ``cut`` makes a list of.

        Raises:
            TypeError: if it is neither.
        """
        value = self.values[field]
        if not isinstance(value, list | tuple):
            return tuple(cut(self.text(field)))
        return tuple(get_text({f"{field}[{index}]": text}, f"{field}[{index}]") for index, text in enumerate(value))


TEXT_FIELDS = ("text_a", "text_b")
"""The fields of a request about one text or a pair."""


def text_request(request: Request) -> TextExample:
    """Make an unlabelled example from ``text_a`` (or ``text``) and, for pairs, ``text_b``.

    Raises:
        Claf2Error: if a text or a marker is missing, or a field is unknown.
        TypeError: if a text is not a string.
    """
    task = request.task
    first = "text" if "text" in request.values else "text_a"
    pair = "text_b" in request.values if task.reader.pairs is None else task.reader.pairs
    kind = {None: "text_a and, for pairs, text_b", True: "text_a and text_b", False: "text_a alone"}[task.reader.pairs]
    if task.reader.pairs is not None:
        kind += f", since task {task.name!r} is about {'pairs of' if pair else 'single'} texts"
    request.check_fields((first, "text_b") if pair else (first,), kind)
    text = request.text(first)
    missing = [marker for pair_of_markers in task.markers for marker in pair_of_markers if marker not in text]
    if missing:
        raise Claf2Error(f"{first} has no {missing[0]}; task {task.name!r} needs the markers around its spans")
    return TextExample(id=request.id, text_a=text, text_b=request.text("text_b") if pair else None)


def choice_request(request: Request) -> ChoiceExample:
    """Make an unlabelled example from ``question`` and ``choices``, a list or a string with ``|`` between them.

    Raises:
        Claf2Error: if a field is missing or unknown, or the number of choices is not that of the task.
        TypeError: if a text is not a string.
    """
    request.check_fields(("question", "choices"), "question and choices (a list)")
    choices = request.texts("choices", lambda text: text.split("|"))
    if len(choices) != len(request.task.labels):
        raise Claf2Error(f"task {request.task.name!r} has {len(request.task.labels)} choices, not {len(choices)}")
    return ChoiceExample(id=request.id, question=request.text("question"), choices=choices)


def read_request_text(values: Mapping[str, Any], field: str) -> str:
    """Return the text of a request that is about one text alone, and belongs to no task.

    Raises:
        Claf2Error: if it is not a string, or it or the id of the request contains half of a character.
    """
    try:
        text = get_text(values, field)
    except TypeError as error:
        raise Claf2Error(f"malformed: {error}") from error
    for name, value in (("id", str(values.get("id", ""))), (field, text)):
        if has_lone_surrogate(value):
            raise Claf2Error(f"malformed: {name} {LONE_SURROGATE}")
    return text
