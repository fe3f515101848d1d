"""Delimited text, a row a line: the TSV files of GLUE, KorNLU, NSMC …"""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from claf2.errors import DataError, nearest
from claf2.readers import Example, Reader, TextExample, open_text, register_reader

logger = logging.getLogger("claf2")

FIELDS = ("id", "text_a", "text_b", "label")


@register_reader("delimited")
class Delimited(Reader):
    """Rows of cells between delimiters. Quotes are text unless ``quoted``, and no value is taken for a missing one."""

    columns: Mapping[str, str | int]
    """Example field (`id`, `text_a`, `text_b`, `label`) → column name, or position (negative: from the end)."""
    header: bool = True
    """Whether the first row names the columns."""
    delimiter: str = "\t"
    quoted: bool = False
    """Whether cells may stand in double quotes, as in real CSV."""
    label_map: Mapping[str, str] = {}
    """The file's label → the task's label name, where they differ."""
    placeholder: str | None = None
    """A text that stands for a missing one: rows with it are left out, counted and reported."""
    on_malformed: Literal["fail", "skip"] = "fail"
    """What to do with a row of another width: stop, or leave it out, counted and reported."""

    def read(self, path: Path) -> Iterator[Example]:
        skipped = missing = 0
        with open_text(path) as file:
            rows = enumerate(self._cells(file), start=1)
            names = next(rows, (0, []))[1] if self.header else []
            places = self._places(path, names)
            width = len(names)
            if names:
                self._check_width(path, places, width)
            for line, cells in rows:
                if not width:
                    width = len(cells)
                    self._check_width(path, places, width)
                if len(cells) == width:
                    example = self._example(cells, places, line)
                    if self.placeholder is not None and self.placeholder in (example.text_a, example.text_b):
                        missing += 1
                    else:
                        yield example
                elif self.on_malformed == "fail":
                    raise DataError(path, f"{len(cells)} columns where {width} are due", line=line)
                else:
                    skipped += 1
        if skipped:
            logger.warning("%s: %d malformed rows left out", path, skipped)
        if missing:
            logger.warning("%s: %d rows without a text (%s) left out", path, missing, self.placeholder)

    def _cells(self, file: Iterable[str]) -> Iterator[list[str]]:
        if self.quoted:
            csv.field_size_limit(1 << 30)
            yield from csv.reader(file, delimiter=self.delimiter)
            return
        for line in file:
            yield line.rstrip("\r\n").split(self.delimiter)

    def _places(self, path: Path, names: list[str]) -> dict[str, int]:
        """Return the position of each field; a label column that the header lacks means an unlabelled file."""
        places = {}
        for field, column in self.columns.items():
            if isinstance(column, int):
                places[field] = column
            elif column in names:
                places[field] = names.index(column)
            elif field != "label":
                raise DataError(path, f"no column {column!r} in its header", line=1, hint=nearest(column, names))
        return places

    def _check_width(self, path: Path, places: Mapping[str, int], width: int) -> None:
        short = [field for field, place in places.items() if not -width <= place < width]
        if short:
            raise DataError(path, f"{width} columns, so there is no {short[0]} at {places[short[0]]}", line=1)

    def _example(self, cells: list[str], places: Mapping[str, int], line: int) -> TextExample:
        values = {field: cells[place] for field, place in places.items()}
        label = values.get("label")
        return TextExample(
            id=values.get("id", str(line)),
            line=line,
            text_a=values["text_a"],
            text_b=values.get("text_b"),
            label=label if label is None else self.label_map.get(label, label),
        )

    def write(self, examples: Iterable[Example], path: Path) -> None:
        back = {name: value for value, name in self.label_map.items()}
        positions = [column for column in self.columns.values() if isinstance(column, int)]
        width = len(self.columns) if not positions else max(len(self.columns), max(positions) + 1, -min(positions))
        names = [column for column in self.columns.values() if isinstance(column, str)]
        with open_text(path, "w") as file:
            if self.header:
                file.write(self.delimiter.join(names or [str(index) for index in range(width)]) + "\n")
            for example in examples:
                cells = [""] * width
                for index, (field, column) in enumerate(self.columns.items()):
                    value: Any = getattr(example, field)
                    cells[column if isinstance(column, int) else index] = back.get(value, value) if value else ""
                file.write(self.delimiter.join(self._quote(cell) for cell in cells) + "\n")

    def _quote(self, cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"' if self.quoted else cell
