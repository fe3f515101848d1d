"""JSON, one document with a list of rows or one row a line: KLUE's and JGLUE's files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from claf2.errors import DataError, nearest
from claf2.readers import ChoiceExample, Example, Reader, TextExample, json_rows, open_text, register_reader

TEXTS = ("text_a", "text_b")


@register_reader("jsonl")
class Jsonl(Reader):
    """Rows of named values. Whether a file is one list or has a row a line is seen from its first character."""

    takes_rows: ClassVar[bool] = True

    columns: Mapping[str, str]
    """Example field (`id`, `text_a`, `text_b`, `label`) → key; a dot goes into an inner object."""
    label_map: Mapping[str, str] = {}
    """The file's label → the task's label name, where they differ."""
    choices: tuple[str, ...] = ()
    """The keys of the choices, where rows ask to choose; the question is `text_a`."""

    def read(self, path: Path) -> Iterator[Example]:
        for line, row in json_rows(path):
            if not isinstance(row, dict):
                raise DataError(path, f"a row is a JSON object, not {type(row).__name__}", line=line)
            values = {field: self._value(path, line, row, field, key) for field, key in self.columns.items()}
            label = values.get("label")
            label = label if label is None else self.label_map.get(label, label)
            absent = [self.columns[field] for field in TEXTS if values.get(field, "") is None]
            if absent:
                raise DataError(path, f"{absent[0]!r} is null, not a text", line=line)
            identity, text = values.get("id") or str(line), values["text_a"] or ""
            if self.choices:
                choices = tuple(self._value(path, line, row, "choice", key) or "" for key in self.choices)
                yield ChoiceExample(id=identity, line=line, question=text, choices=choices, label=label)
            else:
                yield TextExample(id=identity, line=line, text_a=text, text_b=values.get("text_b"), label=label)

    def _value(self, path: Path, line: int, row: Mapping[str, Any], field: str, key: str) -> str | None:
        value: Any = row
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                if field == "label":  # an unlabelled test set
                    return None
                known = list(value) if isinstance(value, dict) else []
                raise DataError(path, f"no {key!r} in the row", line=line, hint=nearest(part, known))
            value = value[part]
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, int | float):
            return repr(value)
        raise DataError(path, f"{key!r} is {type(value).__name__}, not a text or a number", line=line)

    def write(self, examples: Iterable[Example], path: Path) -> None:
        back = {name: value for value, name in self.label_map.items()}
        rows = []
        for example in examples:
            row: dict[str, Any] = {}
            for key, choice in zip(self.choices, getattr(example, "choices", ()), strict=True):
                row[key] = choice
            for field, key in self.columns.items():
                value = getattr(example, "question" if self.choices and field == "text_a" else field)
                if value is not None:
                    _put(row, key.split("."), back.get(value, value) if field == "label" else value)
            rows.append(row)
        with open_text(path, "w") as file:
            json.dump(rows, file, ensure_ascii=False, indent=1)


def _put(row: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        row = row.setdefault(key, {})
    row[keys[-1]] = value
