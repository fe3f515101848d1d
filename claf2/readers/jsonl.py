"""JSON as one list of rows or as one row per line: the files of KLUE, JGLUE and SuperGLUE."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator

from claf2.errors import DataError, nearest
from claf2.readers import (
    ChoiceExample,
    Example,
    Reader,
    TextExample,
    check_columns,
    check_label_key,
    open_text,
    read_json_rows,
    register_reader,
)

TEXTS = ("text_a", "text_b")
"""The fields that must not be null."""


@register_reader("jsonl")
class Jsonl(Reader):
    """JSON objects whose keys name the fields. Both layouts, one list and JSON Lines, are recognized."""

    takes_rows: ClassVar[bool] = True

    columns: Annotated[Mapping[str, str], AfterValidator(check_columns)]
    """Example field (`id`, `text_a`, `text_b`, `label`) → key; `a.b` is the key `b` of the object `a`, unless the row
    has a key `a.b`."""
    label_map: Mapping[str, str] = {}
    """The file's label → the task's label name, where they differ."""
    choices: tuple[str, ...] = ()
    """The keys of the choices of a multiple-choice question, which is `text_a`; empty for plain texts."""

    @property
    def pairs(self) -> bool:
        return "text_b" in self.columns

    def read(self, path: Path) -> Iterator[Example]:
        for line, row in read_json_rows(path):
            if not isinstance(row, dict):
                raise DataError(path, f"expected a JSON object as row, got {type(row).__name__}", line=line)
            values = {
                field: (self._text if field in TEXTS else self._value)(path, line, row, field, key)
                for field, key in self.columns.items()
            }
            label = values.get("label")
            label = label if label is None else self.label_map.get(label, label)
            identity, text = values.get("id") or str(line), values["text_a"] or ""
            if self.choices:
                choices = tuple(self._text(path, line, row, "choice", key) for key in self.choices)
                yield ChoiceExample(id=identity, line=line, question=text, choices=choices, label=label)
            else:
                yield TextExample(id=identity, line=line, text_a=text, text_b=values.get("text_b"), label=label)

    def _text(self, path: Path, line: int, row: Mapping[str, Any], field: str, key: str) -> str:
        """Return the value of a field that must not be null."""
        value = self._value(path, line, row, field, key)
        if value is None:
            raise DataError(path, f"{key!r} is null, not a string", line=line)
        return value

    def _value(self, path: Path, line: int, row: Mapping[str, Any], field: str, key: str) -> str | None:
        """Return the value of a field as a string; ``None`` if it is null, or a label that is missing."""
        value: Any = row
        for part in [key] if key in row else key.split("."):
            if not isinstance(value, dict) or part not in value:
                known = list(value) if isinstance(value, dict) else []
                if field == "label":  # an unlabelled test file
                    check_label_key(path, part, known, line)
                    return None
                raise DataError(path, f"no key {key!r} in the row", line=line, hint=nearest(part, known))
            value = value[part]
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, float) and not math.isfinite(value):
            return None  # pandas writes NaN for what is missing
        if isinstance(value, int | float):
            return repr(value)  # so that True becomes "True", and a score keeps its digits
        raise DataError(path, f"{key!r} is {type(value).__name__}, not a string or a number", line=line)

    def write(self, examples: Iterable[Example], path: Path) -> None:
        to_file = {name: value for value, name in self.label_map.items()}
        rows = []
        for example in examples:
            row: dict[str, Any] = {}
            for key, choice in zip(self.choices, getattr(example, "choices", ()), strict=True):
                row[key] = choice
            for field, key in self.columns.items():
                value = getattr(example, "question" if self.choices and field == "text_a" else field)
                if value is not None:
                    _set_nested(row, key.split("."), to_file.get(value, value) if field == "label" else value)
            rows.append(row)
        with open_text(path, "w") as file:
            json.dump(rows, file, ensure_ascii=False, indent=1)


def _set_nested(row: dict[str, Any], keys: list[str], value: str) -> None:
    """Set ``row[keys[0]][keys[1]]…``, and create the objects on the way."""
    for key in keys[:-1]:
        row = row.setdefault(key, {})
    row[keys[-1]] = value
