"""Text and JSON files in UTF-8, as all readers open them: strict, and the same on every machine."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal, TextIO, cast

from claf2.errors import DataError
from claf2.runtime.files import find_substitute

__all__ = [
    "CARRIAGE_RETURN",
    "DAMAGE_ERRORS",
    "END_LINES",
    "LONE_SURROGATE",
    "check_label_key",
    "damage_error",
    "decode_text",
    "get_text",
    "has_lone_surrogate",
    "in_one_line",
    "open_text",
    "read_blocks",
    "read_json_document",
    "read_json_rows",
    "read_lines",
    "read_quoted",
]

ISO_2022 = re.compile(rb"\x1b(\$[@AB]|\$[()][A-D]|\([BIJ])")
"""The escape sequences of ISO-2022-JP and ISO-2022-KR. They are ASCII bytes, so that such text passes for UTF-8."""
ISO_2022_KR = b"\x1b$)C"
CARRIAGE_RETURN = "a line ends in a carriage return alone, or a text contains one"
"""What is wrong with such a line,"""
END_LINES = "end each line in a line feed, as tr '\\r' '\\n' < FILE > NEW_FILE does"
"""and what to do about it."""
LONE_SURROGATE = "contains a lone surrogate, which is half of a character"
"""What is wrong with a text such as the JSON escape ``"\\ud83d"`` alone: it has no form in UTF-8."""

DAMAGE_ERRORS = (UnicodeError, EOFError, gzip.BadGzipFile, zlib.error, csv.Error, RecursionError)
"""What the standard library raises for files that are truncated, garbled or in another encoding."""


def damage_error(path: Path, error: Exception) -> DataError:
    """Return what to raise in place of an error of the standard library for a damaged file."""
    reason = f"{type(error).__name__}: {error}"
    if isinstance(error, EOFError | gzip.BadGzipFile | zlib.error):
        return DataError(path, f"damaged: {reason}", hint="download it again")
    if isinstance(error, RecursionError):
        return DataError(path, f"nested too deeply: {reason}", hint="check its brackets")
    hint = "text in another encoding can be converted: iconv -f CP949 -t UTF-8 FILE > NEW_FILE"
    return DataError(path, f"damaged, or not in UTF-8: {reason}", hint=hint)


def in_one_line(text: str) -> str:
    """Return a text with spaces in the place of tabs and line ends, for formats that cannot quote them."""
    return re.sub("[\t\r\n]", " ", text)


class _CheckedBytes(io.BufferedIOBase):
    """The bytes of a text file on their way to the decoder, which cannot tell ISO-2022 from UTF-8, nor a data file from
    what was downloaded in its place."""

    def __init__(self, raw: IO[bytes], path: Path | str, *, from_start: bool) -> None:
        self._raw = cast(io.BufferedReader, raw)
        self._path = path
        # The end of the block before, since a sequence may begin there; nothing at the start of the file.
        self._end: bytes | None = None if from_start else b""

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        return self._check(self._raw.read(size))

    def read1(self, size: int = -1, /) -> bytes:
        return self._check(self._raw.read1(size))

    def close(self) -> None:
        self._raw.close()
        super().close()

    def _check(self, block: bytes) -> bytes:
        substitute = find_substitute(block) if self._end is None else None
        if substitute is not None:
            raise DataError(self._path, substitute)
        if self._end is None and block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            hint = "convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW_FILE"
            raise DataError(self._path, "in UTF-16, not in UTF-8", hint=hint)
        text = (self._end or b"") + block
        if b"\x1b" in text and ISO_2022.search(text):
            encoding = "ISO-2022-KR" if ISO_2022_KR in text else "ISO-2022-JP"
            hint = f"convert it, for example: iconv -f {encoding} -t UTF-8 FILE > NEW_FILE"
            raise DataError(self._path, f"in {encoding}, not in UTF-8", hint=hint)
        self._end = block[-3:]
        return block


def decode_text(raw: IO[bytes], path: Path | str, *, from_start: bool = True) -> TextIO:
    """Return a stream of UTF-8 bytes as text. A byte order mark is skipped, and only a line feed ends a line.

    Args:
        raw: the bytes.
        path: what errors name as their source.
        from_start: whether the bytes begin where the file begins. Only there, they may tell that it is another file.

    Raises:
        DataError: while it is read, if the text is in ISO-2022, or is a Git LFS pointer or an HTML page.
        UnicodeDecodeError: while it is read, if it is in another encoding.
    """
    checked = cast(io.BufferedReader, _CheckedBytes(raw, path, from_start=from_start))
    return io.TextIOWrapper(checked, encoding="utf-8-sig", newline="\n")


def open_text(path: Path, mode: Literal["r", "w"] = "r") -> TextIO:
    """Open a UTF-8 text file, compressed with gzip if its name ends in ``.gz``; see ``decode_text``.

    Only a line feed ends a line, because the other line separators of Unicode occur inside texts. A carriage return
    before it is left for the caller to strip, as ``read_lines`` does.
    """
    if path.suffix == ".gz":
        # Without a time stamp in the header, the same text is the same bytes, so digests of files can be compared.
        raw: IO[bytes] = cast(IO[bytes], gzip.GzipFile(path, f"{mode}b", mtime=0))
    else:
        raw = path.open(f"{mode}b")
    return decode_text(raw, path) if mode == "r" else io.TextIOWrapper(raw, encoding="utf-8", newline="\n")


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Stream the lines of a text file with their numbers, from 1, and without the LF or CRLF at their end.

    Raises:
        DataError: if a line contains a carriage return. It ends a line to some programs and not to others, so the rows
            would depend on the reader.
    """
    with open_text(path) as file:
        for line, raw in enumerate(file, start=1):
            text = raw.rstrip("\r\n")
            if "\r" in text:
                raise DataError(path, CARRIAGE_RETURN, line=line, hint=END_LINES)
            yield line, text


def read_quoted(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line and the cells of each row of a file whose cells may be in double quotes, as in CSV.

    Raises:
        DataError: if the quotes of a row do not match, or a line ends in a carriage return alone.
    """
    csv.field_size_limit(1 << 30)  # the default of 128 KiB is less than some contexts
    with open_text(path) as file:
        # If it is not strict, a quote that is never closed swallows the rows up to the next quote.
        rows = csv.reader(file, delimiter=delimiter, strict=True)
        while True:
            line = rows.line_num + 1  # a cell in quotes may have several lines
            try:
                cells = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                if "new-line" in str(error):
                    raise DataError(path, CARRIAGE_RETURN, line=line, hint=END_LINES) from error
                problem = "a quote that opens in this row is not closed, or text follows where it closes"
                hint = "close it, and double a quote inside quotes"
                raise DataError(path, problem, line=line, hint=hint) from error
            yield line, cells


def read_blocks(path: Path) -> Iterator[list[tuple[int, str]]]:
    """Stream the blocks of lines between blank lines, each line with its number."""
    block: list[tuple[int, str]] = []
    for line, text in read_lines(path):
        if text.strip():
            block.append((line, text))
        elif block:
            yield block
            block = []
    if block:  # the file does not end with a blank line
        yield block


def check_label_key(path: Path, key: str, names: Iterable[str], line: int | None = None) -> None:
    """Check that a row or header without the label's key is unlabelled, and does not only spell the key otherwise.

    Raises:
        DataError: if one of the names differs from the key in case or blanks alone.
    """
    for name in names:
        if name.strip().lower() == key.strip().lower():
            raise DataError(path, f"{key!r} is missing", line=line, hint=f"did you mean {name!r}?")


def read_json_document(path: Path) -> Any:
    """Read a file that is one JSON document.

    Raises:
        DataError: if the file is not valid JSON, is truncated, or is not in UTF-8.
    """
    try:
        with open_text(path) as file:
            return json.load(file)
    except json.JSONDecodeError as error:
        raise DataError(path, f"not valid JSON: {error.msg}", line=error.lineno) from error
    except (ValueError, *DAMAGE_ERRORS) as error:
        raise damage_error(path, error) from error


def get_text(row: Mapping[str, Any], key: str) -> str:
    """Return a value of a JSON object that must be a string.

    Raises:
        KeyError: if the key is missing.
        TypeError: if the value is not a string.
    """
    value = row[key]
    if not isinstance(value, str):
        raise TypeError(f"{key} is {json.dumps(value, ensure_ascii=False)[:80]}, not a string")
    return value


def read_json_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Stream the rows of a JSON file that is one list, or has one row per line (JSON Lines).

    Yields:
        The line of the row in JSON Lines, its number in a list (both from 1), and the row.

    Raises:
        DataError: if the file is not valid JSON.
    """
    # Publishers use the ending .json for both layouts, so that the first character decides.
    with open_text(path) as file:
        start = file.read(4096).lstrip()[:1]
    if start == "[":
        yield from enumerate(read_json_document(path), start=1)
        return
    for line, text in read_lines(path):
        if not text.strip():
            continue
        try:
            yield line, json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(path, f"not valid JSON: {error}", line=line) from error


def has_lone_surrogate(text: str) -> bool:
    """Say whether a text has no form in UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
