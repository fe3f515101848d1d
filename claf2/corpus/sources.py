"""The sources of a corpus: documents of text, JSON Lines and Parquet files, streamed one at a time.

The name of a file says how it is read. ``.jsonl`` and ``.ndjson`` have one JSON object per line, ``.parquet`` has one
document per row, and every other file is plain text, in which a blank line ends a document. Any of them may be
compressed, which adds ``.gz`` or ``.zst`` to the name.
"""

from __future__ import annotations

import glob
import gzip
import io
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, TextIO, cast

from pydantic import Field, field_validator

from claf2.errors import DataError, first_line, nearest
from claf2.readers.text import decode_text
from claf2.registry import Component, UserPath, not_in_recipe
from claf2.runtime.files import find_substitute

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Document", "TextSource", "format_of", "list_files", "read_documents", "read_sources", "source_files"]

COMPRESSED = (".gz", ".zst")
"""The endings of compressed files."""
JSONL_ENDINGS = (".jsonl", ".ndjson")
"""The endings of files with one JSON object per line."""
UNREADABLE = tuple(".7z .arrow .bz2 .csv .feather .json .pdf .rar .tar .tsv .warc .xml .xz .zip".split())
"""Endings of files that are certainly not plain text, although some of them would pass for it."""

LONGEST_DOCUMENT = 2**20
"""The most characters of a document of a text file. A longer block of lines is divided at the ends of lines."""
LONGEST_LINE = 2**26
"""The most characters of a line. A longer one is damage, and would fill the memory."""
SMALLEST_WEIGHT = 1e-6
"""The smallest weight except 0. With this one, a shard is read once in a million epochs."""
ROWS_AT_ONCE = 256
"""How many rows of a Parquet file are decoded at once."""

REPORTED_EVERY = 64
"""After how many documents progress is reported."""

ENCODING_HINT = "text in another encoding can be converted: iconv -f CP949 -t UTF-8 FILE > NEW_FILE"


class TextSource(Component):
    """A part of a corpus: one or more files, and the weight that their text gets in samples."""

    path: Annotated[str, UserPath] = not_in_recipe()
    """A file, or a glob pattern such as `news/*.jsonl.gz`; relative to the data folder, if there is one."""
    weight: float = Field(default=1.0, ge=0, le=1000)
    """For a vocabulary: the share of the source in the sample, relative to the weights of the other sources. For a
    pre-training: how often its text is read in an epoch. At most 1000; 0, or at least 0.000001."""
    register_name: str | None = not_in_recipe(None)
    """The register of the text, such as `written` or `spoken`, which reports show; `null`: not stated."""
    text_field: str = Field(default="text", min_length=1)
    """The key or column that holds the text in JSON Lines and Parquet."""

    @field_validator("weight")
    @classmethod
    def _check_weight(cls, weight: float) -> float:
        if 0 < weight < SMALLEST_WEIGHT:
            raise ValueError(f"{weight:g} should be 0, or at least {SMALLEST_WEIGHT:f}")
        return weight


@dataclass(frozen=True, slots=True)
class Document:
    """A document of a corpus."""

    text: str
    """The text. It may be empty, and its lines end in a line feed, except the last one."""
    source: int
    """The number of the source that it comes from, from 0."""
    id: str
    """The name of its file, and its line or row there, from 1: ``news.jsonl:17``."""


def source_files(source: TextSource, data_dir: Path | None = None) -> list[Path]:
    """Return the files of a source, sorted by their paths.

    Args:
        source: the source.
        data_dir: the folder that relative paths start from; ``None``: the working folder.

    Raises:
        DataError: if there is none, or one has an ending that cannot be read or a name that is not in UTF-8.
    """
    pattern = source.path if data_dir is None else str(data_dir / source.path)
    path = Path(pattern)
    if path.is_dir():
        raise DataError(pattern, "is a folder", hint=f"name its files: '{pattern.rstrip('/')}/*.txt'")
    # A file whose name contains brackets is a file, and the name of the data folder is not a pattern either.
    search = source.path if data_dir is None else str(Path(glob.escape(str(data_dir)), source.path))
    files = [path] if path.is_file() else sorted(Path(name) for name in glob.glob(search, recursive=True))
    files = [file for file in files if file.is_file()]
    if not files:
        siblings = [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(pattern, "no such file, and no file matches it", hint=nearest(path.name, siblings))
    for file in files:
        try:
            str(file).encode()
        except UnicodeEncodeError as error:
            name = os.fsencode(file).decode(errors="replace")
            raise DataError(name, "the name is not in UTF-8", hint="rename it") from error
        if format_of(file) in UNREADABLE:
            readable = "text, .jsonl or .parquet, each also .gz or .zst"
            raise DataError(file, f"the format {format_of(file)} cannot be read", hint=f"convert it to {readable}")
    return files


def list_files(sources: Sequence[TextSource], data_dir: Path | None = None) -> list[list[Path]]:
    """Return the files of each source; see ``source_files``.

    Args:
        sources: the sources.
        data_dir: the folder that relative paths start from; ``None``: the working folder.

    Raises:
        DataError: if a file cannot be read, or is named twice. A document that was read twice could be held out and
            trained on.
    """
    files = [source_files(source, data_dir) for source in sources]
    owners: dict[Path, tuple[int, Path]] = {}
    for number, paths in enumerate(files):
        for path in paths:
            owner, first = owners.setdefault(path.resolve(), (number, path))
            if owner != number:
                problem = f"belongs to two sources: {sources[owner].path!r} and {sources[number].path!r}"
                raise DataError(path, problem, hint="name it once")
            if first is not path:
                raise DataError(path, f"is the same file as {first}", hint="name it once")
    return files


def read_sources(sources: Iterable[TextSource], data_dir: Path | None = None) -> Iterator[Document]:
    """Stream the documents of several sources, one source after another; see ``read_documents``."""
    for number, source in enumerate(sources):
        for file in source_files(source, data_dir):
            yield from read_documents(file, text_field=source.text_field, source=number)


def read_documents(
    path: Path,
    *,
    text_field: str = "text",
    source: int = 0,
    span: tuple[int, int] | None = None,
    on_read: Callable[[int], None] | None = None,
) -> Iterator[Document]:
    """Stream the documents of a file in the order in which they are stored.

    One document is in memory at a time, and for Parquet a few hundred rows. A document whose text is null is empty.

    Args:
        path: the file.
        text_field: the key or column of the text, in JSON Lines and Parquet.
        source: the number of the source, which is passed on.
        span: the bytes ``[start, end)`` to read, of a file that is neither compressed nor Parquet; both must be where a
            document begins or the file ends. Lines are counted from ``start``. ``None``: the whole file.
        on_read: is called now and then with how much of the file has been read, in stored bytes.

    Raises:
        DataError: naming the file, and the line where there is one: if the file is damaged, is not in UTF-8, is a Git
            LFS pointer or an HTML page, or if a row has no text.
    """
    kind = format_of(path)
    with _report_damage(path), _open_bytes(path, span) as file:
        if kind == ".parquet":
            texts = _read_parquet(file, text_field)
        elif kind in JSONL_ENDINGS:
            texts = _read_json_lines(file, text_field)
        else:
            texts = _read_blocks(file)
        for count, (number, text) in enumerate(texts, start=1):
            if on_read is not None and count % REPORTED_EVERY == 0:
                on_read(file.position())
            yield Document(text, source, f"{path.name}:{number}")
    if on_read is not None:
        on_read(path.stat().st_size)


@dataclass
class _OpenFile:
    """An open file that may be compressed."""

    path: Path
    stream: IO[bytes]
    """Its content, unpacked."""
    position: Callable[[], int]
    """Returns how many of the stored bytes have been read."""
    from_start: bool = True
    """Whether the content begins where that of the file begins."""


def format_of(path: Path) -> str:
    """Return the ending of a file's name without that of its compression, in lower case."""
    endings = [ending.lower() for ending in path.suffixes]
    if endings and endings[-1] in COMPRESSED:
        endings.pop()
    return endings[-1] if endings else ""


@contextmanager
def _open_bytes(path: Path, span: tuple[int, int] | None = None) -> Iterator[_OpenFile]:
    """Open a file that may be compressed, or a span of its bytes."""
    with path.open("rb") as raw:

        def position() -> int:
            # The last document is passed on after its file was closed.
            return path.stat().st_size if raw.closed else raw.tell()

        if span is not None:
            raw.seek(span[0])
            yield _OpenFile(path, io.BytesIO(raw.read(span[1] - span[0])), position, from_start=span[0] == 0)
        elif path.suffix.lower() == ".zst":
            import pyarrow as pa

            _check_start(path)
            with pa.CompressedInputStream(raw, "zstd") as unpacked:
                yield _OpenFile(path, cast(IO[bytes], unpacked), position)
        elif path.suffix.lower() == ".gz":
            _check_start(path)
            with gzip.GzipFile(fileobj=raw) as unzipped:
                yield _OpenFile(path, cast(IO[bytes], unzipped), position)
        else:
            yield _OpenFile(path, raw, position)


def _check_start(path: Path) -> None:
    """Report what lies in the place of a compressed file."""
    with path.open("rb") as file:
        substitute = find_substitute(file.read(256))
    if substitute is not None:
        raise DataError(path, substitute)


def _read_lines(opened: _OpenFile) -> Iterator[tuple[int, str]]:
    """Stream the lines of a text file with their numbers, without the line feed or CRLF at their end.

    In contrast to ``readers.read_lines``, a carriage return inside a line is part of the text: rows of a table must not
    contain one, but found text does.
    """
    with decode_text(opened.stream, opened.path, from_start=opened.from_start) as file:
        for number, line in enumerate(_bounded_lines(opened.path, file), start=1):
            yield number, line.rstrip("\r\n")


def _bounded_lines(path: Path, file: TextIO) -> Iterator[str]:
    number = 0
    while line := file.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE:
            raise DataError(path, f"the line is longer than {LONGEST_LINE} characters", line=number)
        yield line


def _read_blocks(file: _OpenFile) -> Iterator[tuple[int, str]]:
    """Stream the blocks of lines between blank lines, each with the number of its first line."""
    block: list[str] = []
    size = first = 0
    for number, line in _read_lines(file):
        if "\0" in line:
            hint = "it is binary, or text in UTF-16: iconv -f UTF-16 -t UTF-8 FILE > NEW_FILE"
            raise DataError(file.path, "contains a NUL character", line=number, hint=hint)
        if block and (not line or line.isspace() or size + len(line) >= LONGEST_DOCUMENT):
            yield first, "\n".join(block)
            block, size = [], 0
        if line and not line.isspace():
            first = first if block else number
            block.append(line)
            size += len(line) + 1
    if block:
        yield first, "\n".join(block)


def _read_json_lines(file: _OpenFile, text_field: str) -> Iterator[tuple[int, str]]:
    for number, line in _read_lines(file):
        if not line or line.isspace():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(file.path, f"not valid JSON: {error}", line=number) from error
        if not isinstance(row, dict):
            raise DataError(file.path, f"expected a JSON object, got {type(row).__name__}", line=number)
        yield number, _text_of(file.path, number, row, text_field)


def _text_of(path: Path, number: int, row: Mapping[str, Any], text_field: str) -> str:
    if text_field not in row:
        raise DataError(path, f"no key {text_field!r} in the row", line=number, hint=nearest(text_field, row))
    text = row[text_field]
    if text is None:
        return ""
    if not isinstance(text, str):
        raise DataError(path, f"{text_field!r} is {type(text).__name__}, not a string", line=number)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:  # an escape such as \ud83d alone, which is half a character
            raise DataError(path, f"{text_field!r} contains a lone surrogate: {error}", line=number) from error
    return text


def _read_parquet(opened: _OpenFile, text_field: str) -> Iterator[tuple[int, str]]:
    import pyarrow.parquet as pq

    path, size = opened.path, opened.path.stat().st_size
    _check_start(path)
    with tempfile.TemporaryFile(prefix="claf2-") as copy:
        # Parquet is read from its end, which a compressed file cannot do.
        file: Any = opened.stream
        if path.suffix.lower() in COMPRESSED:
            shutil.copyfileobj(opened.stream, copy)
            file = copy
        with pq.ParquetFile(file) as table:
            _check_column(path, table.schema_arrow, text_field)
            rows, number = max(1, table.metadata.num_rows), 0
            opened.position = lambda: size * number // rows
            for batch in table.iter_batches(ROWS_AT_ONCE, columns=[text_field]):
                for text in batch.column(0).to_pylist():
                    number += 1
                    yield number, text or ""


def _check_column(path: Path, schema: pa.Schema, name: str) -> None:
    import pyarrow as pa

    if name not in schema.names:
        raise DataError(path, f"no column {name!r}", hint=nearest(name, schema.names))
    kind = schema.field(name).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise DataError(path, f"the column {name!r} is {kind}, not a string")


@contextmanager
def _report_damage(path: Path) -> Iterator[None]:
    """Report what libraries raise for a damaged file as a ``DataError``."""
    import pyarrow as pa

    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(
            path, f"not in UTF-8: {error}", line=_find_undecodable_line(path), hint=ENCODING_HINT
        ) from error
    except (EOFError, gzip.BadGzipFile, zlib.error, pa.ArrowException) as error:
        raise DataError(path, f"damaged: {first_line(error)}", hint="download it again") from error
    except OSError as error:
        if error.errno is not None:  # the operating system's, such as a missing permission
            raise
        raise DataError(path, f"damaged: {first_line(error)}", hint="download it again") from error  # pyarrow's


def _find_undecodable_line(path: Path) -> int | None:
    """Return the number of the first line that is not in UTF-8; the decoder knows only its position in a block."""
    with _open_bytes(path) as file:
        for number, line in enumerate(iter(file.stream.readline, b""), start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return None
