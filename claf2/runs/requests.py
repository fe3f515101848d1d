"""The requests of ``predict``: JSON, plain text, or a file in the format of the task."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from claf2.errors import RunError
from claf2.readers import Example, Reader, open_text
from claf2.readers.text import CARRIAGE_RETURN, END_LINES
from claf2.task import Task, report_damage

__all__ = ["RequestLike", "parse_requests", "read_requests", "with_id"]

RequestLike: TypeAlias = Mapping[str, Any] | Example
"""Field → value, as ``Predictor`` takes it, or an example that a reader made."""

ENDINGS = (".json", ".jsonl", ".ndjson", ".txt", "")
"""The endings of files with requests. Files with other endings are in the format of the task."""

VISIBLE = re.compile(r"\S")
HINT = 'write one JSON object per line, such as {"text": "…"}, or plain text'


def read_requests(path: Path, task: Task) -> Iterator[RequestLike]:
    """Stream the requests of a file.

    A file that ends in ``.json``, ``.jsonl``, ``.ndjson`` or ``.txt``, or has no ending, holds requests
    (``parse_requests``), unless its first line is the header of the task's own format. Any other file is in that
    format, as for ``claf2 evaluate``; its labels are ignored and may be absent. Either may be compressed (``.gz``).

    Raises:
        DataError: if the file cannot be read, or a row is malformed.
        RunError: if a request is malformed.
    """
    with report_damage(path):
        reader = _file_reader(path, task)
        if reader is not None:
            yield from task.model_copy(update={"reader": reader}).read_unlabelled(path)
            return
        with open_text(path) as file:
            yield from parse_requests(file)


def _file_reader(path: Path, task: Task) -> Reader | None:
    """Return the reader of a file in the task's format; ``None`` for a file with requests."""
    if not path.is_file():  # a pipe can be read only once, so that nothing looks for a header
        return None
    for reader in (task.reader, task.test_reader):
        if reader is not None and reader.recognizes(path):
            return reader
    return None if Path(path.name.removesuffix(".gz")).suffix.lower() in ENDINGS else task.reader


def parse_requests(lines: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    """Stream the requests of a text: plain text, one per line, JSON objects, or lists of them.

    A line that begins with ``{``, or that is a JSON list, is JSON; if a value does not end in its line, the rest of the
    text is JSON. A request without an id gets the number of its line, or its position if it does not have its own line.

    Args:
        lines: the lines of the text, which are read one by one.

    Raises:
        RunError: naming the request that is malformed.
    """
    number = 0
    remaining = iter(lines)
    for line, text in enumerate(remaining, start=1):
        if not text.strip():
            continue
        values = _json_values(text.strip(), remaining, number + 1)
        if values is None:
            if line == 1 and text.endswith("\r") and "\r" in text.strip():
                raise RunError(f"request 1: {CARRIAGE_RETURN}; {END_LINES}")
            number += 1
            yield {"id": str(line), "text": text.strip()}
            continue
        is_line = len(values) == 1 and text.strip().startswith("{")
        for value in values:
            number += 1
            if not isinstance(value, dict):
                found = json.dumps(value, ensure_ascii=False)[:80]
                raise RunError(f"request {number}: expected a JSON object, got {found}; {HINT}")
            yield with_id(value, str(line if is_line else number))


def with_id(fields: Mapping[str, Any], default: str) -> Mapping[str, Any]:
    """Return the fields of a request with an id: its own, or ``default`` if it has none or ``None``."""
    return {"id": default, **{name: field for name, field in fields.items() if name != "id" or field is not None}}


def _json_values(text: str, remaining: Iterator[str], number: int) -> list[Any] | None:
    """Return the values of a line, with the items of a list as values of their own; ``None`` if it is plain text.

    Args:
        text: the line.
        remaining: the lines after it, which are read if the line ends within a value.
        number: the number of the first request, for errors.
    """
    if text[0] not in "{[":
        return None
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise RunError(f"request {number}: not JSON: nested too deeply; {HINT}") from error
    except ValueError as error:  # a number of too many digits is no JSONDecodeError
        if getattr(error, "pos", 0) == len(text):
            return _parse_document("\n".join([text, *remaining]), number)
        if re.match(r"\{|\[\s*\{", text) is None:
            return None  # a text in brackets, such as a headline
        raise RunError(f"request {number}: not JSON: {error}; {HINT}") from error
    return value if isinstance(value, list) else [value]


def _parse_document(text: str, number: int) -> list[Any]:
    """Return the values of a text that consists of JSON values, with the items of lists as values of their own."""
    decoder, values, position = json.JSONDecoder(), list[Any](), 0
    while position < len(text):
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise RunError(f"request {number + len(values)}: not JSON: {error}; {HINT}") from error
        values += value if isinstance(value, list) else [value]
        following = VISIBLE.search(text, position)
        position = following.start() if following else len(text)
    return values
