"""Delimited text, one row per line: the TSV files of GLUE, KorNLU, NSMC and others."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, model_validator

from claf2.errors import DataError, nearest
from claf2.readers import (
    Example,
    Reader,
    TextExample,
    check_columns,
    check_label_key,
    open_text,
    read_lines,
    register_reader,
)
from claf2.readers.text import in_one_line, read_quoted

logger = logging.getLogger("claf2")

TEXTS = ("text_a", "text_b")
"""The fields that every file must have."""


@register_reader("delimited")
class Delimited(Reader):
    """Rows of cells. Quotes are part of the text unless ``quoted`` is set, and every cell is a text: `NA`, `null` and
    the empty string do not mean a missing value."""

    columns: Annotated[Mapping[str, str | int], AfterValidator(check_columns)]
    """Example field (`id`, `text_a`, `text_b`, `label`) → column name, or position (negative: from the end)."""
    header: bool = True
    """Whether the first row names the columns."""
    delimiter: str = "\t"
    quoted: bool = False
    """Whether cells may be in double quotes, as in CSV (RFC 4180)."""
    label_map: Mapping[str, str] = {}
    """The file's label → the task's label name, where they differ."""
    placeholder: str | None = None
    """What the file writes for a missing text. Rows with it are left out, and their number is reported."""
    on_malformed: Literal["fail", "skip"] = "fail"
    """What to do with a row of another width: stop, or leave it out and report how many there were."""

    @model_validator(mode="after")
    def _check_delimiter(self) -> Self:
        if not self.delimiter or (self.quoted and len(self.delimiter) > 1):
            raise ValueError(f"delimiter {self.delimiter!r} is not one character")
        return self

    @property
    def pairs(self) -> bool:
        return "text_b" in self.columns

    def recognizes(self, path: Path) -> bool:
        """Say whether the first row is a header with the columns of the texts."""
        with open_text(path) as file:
            cells = file.readline().rstrip("\r\n").split(self.delimiter)
        names = [cell.strip('"') if self.quoted else cell for cell in cells]
        return self.header and all(column in names for field, column in self.columns.items() if field in TEXTS)

    def read(self, path: Path) -> Iterator[Example]:
        malformed = missing = 0
        rows = self._rows(path)
        names = next(rows, (0, list[str]()))[1] if self.header else []
        positions = self._positions(path, names)
        width = len(names)
        if names:
            self._check_width(path, positions, width)
        for line, cells in rows:
            if not width:  # without a header, the first row says how many columns there are
                width = len(cells)
                self._check_width(path, positions, width)
            if len(cells) == width:
                example = self._example(cells, positions, line)
                if self.placeholder is not None and self.placeholder in (example.text_a, example.text_b):
                    missing += 1
                else:
                    yield example
            elif self.on_malformed == "fail":
                hint = "correct the row, or delete it"
                raise DataError(path, f"expected {width} columns, got {len(cells)}", line=line, hint=hint)
            else:
                malformed += 1
        if malformed:
            logger.warning("%s: skipped %d malformed rows", path, malformed)
        if missing:
            logger.warning("%s: skipped %d rows without a text (%s)", path, missing, self.placeholder)

    def _rows(self, path: Path) -> Iterator[tuple[int, list[str]]]:
        """Yield the first line and the cells of each row. Blank lines at the end are no rows."""
        width, blank = 0, list[tuple[int, list[str]]]()
        for line, cells in read_quoted(path, self.delimiter) if self.quoted else self._plain_rows(path):
            width = width or len(cells)
            # In a file of one column, a blank line is a row with an empty text.
            if len(cells) < min(width, 2) and not "".join(cells).strip():
                blank.append((line, cells))
            else:
                yield from blank
                blank.clear()
                yield line, cells

    def _plain_rows(self, path: Path) -> Iterator[tuple[int, list[str]]]:
        # The csv module would take a single quote mark at the beginning of a cell for an opening one, and swallow the
        # lines up to the next.
        for line, text in read_lines(path):
            yield line, text.split(self.delimiter)

    def _positions(self, path: Path, names: list[str]) -> dict[str, int]:
        """Return the column of each field. A file whose header lacks the label column is unlabelled."""
        positions = {}
        for field, column in self.columns.items():
            if isinstance(column, int):
                positions[field] = column
            elif column in names:
                positions[field] = names.index(column)
            elif field != "label":
                raise DataError(path, f"no column {column!r} in the header", line=1, hint=nearest(column, names))
            else:
                check_label_key(path, column, names, line=1)
        return positions

    def _check_width(self, path: Path, positions: Mapping[str, int], width: int) -> None:
        beyond = [field for field, position in positions.items() if not -width <= position < width]
        if beyond:
            field = beyond[0]
            problem = f"no column at position {positions[field]} for {field!r}: the first row has {width}"
            raise DataError(path, problem, line=1)

    def _example(self, cells: list[str], positions: Mapping[str, int], line: int) -> TextExample:
        values = {field: cells[position] for field, position in positions.items()}
        label = values.get("label")
        return TextExample(
            id=values.get("id", str(line)),
            line=line,
            text_a=values["text_a"],
            text_b=values.get("text_b"),
            label=label if label is None else self.label_map.get(label, label),
        )

    def write(self, examples: Iterable[Example], path: Path) -> None:
        to_file = {name: value for value, name in self.label_map.items()}
        positions = [column for column in self.columns.values() if isinstance(column, int)]
        width = len(self.columns) if not positions else max(len(self.columns), max(positions) + 1, -min(positions))
        names = [column for column in self.columns.values() if isinstance(column, str)]
        changed = 0
        with open_text(path, "w") as file:
            if self.header:
                file.write(self.delimiter.join(names or [str(index) for index in range(width)]) + "\n")
            for example in examples:
                cells = [""] * width
                for index, (field, column) in enumerate(self.columns.items()):
                    value: str | None = getattr(example, field)
                    cells[column if isinstance(column, int) else index] = to_file.get(value, value) if value else ""
                written = [self._quote(cell) for cell in cells]
                changed += not self.quoted and written != cells
                file.write(self.delimiter.join(written) + "\n")
        if changed:
            logger.warning("%s: wrote spaces for the separators and line ends inside %d rows", path, changed)

    def _quote(self, cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"' if self.quoted else in_one_line(cell).replace(self.delimiter, " ")
