"""The blocks of a corpus: parts of about the same size, each of which becomes one shard.

A text or JSON Lines file is divided into spans of bytes that begin where a document begins, so that any block can be
read without the ones before it. A compressed or Parquet file cannot be entered in the middle, and is one block.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from claf2.corpus.sources import COMPRESSED, JSONL_ENDINGS, Document, TextSource, format_of, list_files, read_documents
from claf2.errors import DataError
from claf2.runtime.files import sha256

__all__ = ["TextBlock", "block_digest", "list_blocks", "read_block"]

SEARCHED = 2**20
"""How many bytes are searched for a blank line. A longer document is divided at the end of a line."""
PIECE = 2**16
"""How many bytes are searched at a time."""
# Every white space that ``str.isspace`` knows, except the line feed, in UTF-8. The last one is U+3000.
_SPACES = [chr(code).encode() for code in range(0x3001) if chr(code).isspace() and chr(code) != "\n"]
BLANK_LINE = re.compile(rb"\n(?:" + b"|".join(map(re.escape, _SPACES)) + rb")*\n")
END_OF_LINE = re.compile(rb"\n")


@dataclass(frozen=True, slots=True)
class TextBlock:
    """A part of a file: the documents that begin in a range of its bytes."""

    path: Path
    source: int
    """The number of its source, from 0."""
    text_field: str
    start: int = 0
    end: int | None = None
    """The range ``[start, end)`` of bytes; ``None``: the whole file, which cannot be divided."""

    @property
    def stored_bytes(self) -> int:
        """The size of the range."""
        return (self.path.stat().st_size if self.end is None else self.end) - self.start


def list_blocks(sources: Sequence[TextSource], block_bytes: int, data_dir: Path | None = None) -> list[TextBlock]:
    """Return the blocks of all files of a corpus, in the order of its sources and of the files' paths.

    Only the sizes of the files are read.

    Args:
        sources: where the text comes from.
        block_bytes: the size of a block, in bytes of text.
        data_dir: the folder that relative paths start from; ``None``: the working folder.

    Raises:
        DataError: if a source has no files, a file is named twice, or none of them has any content.
    """
    blocks = []
    for number, (source, paths) in enumerate(zip(sources, list_files(sources, data_dir), strict=True)):
        for path in paths:
            size = path.stat().st_size
            if path.suffix.lower() in COMPRESSED or format_of(path) == ".parquet":
                blocks.append(TextBlock(path, number, source.text_field))
                continue
            starts = range(0, size, block_bytes)
            blocks += [
                TextBlock(path, number, source.text_field, start, min(size, start + block_bytes)) for start in starts
            ]
    if not blocks:
        raise DataError(sources[0].path if sources else "corpus", "all files are empty")
    return blocks


def read_block(block: TextBlock) -> Iterator[Document]:
    """Stream the documents of a block.

    Raises:
        DataError: if the file is damaged; the message names the line.
    """
    span = _document_span(block)
    try:
        yield from read_documents(block.path, text_field=block.text_field, source=block.source, span=span)
    except DataError:
        if span is not None and span[0] > 0:
            # The line is counted from the start of the block. Reading from the start of the file finds its number.
            for _ in read_documents(block.path, text_field=block.text_field, source=block.source):
                pass
        raise


def block_digest(block: TextBlock) -> str:
    """Return the SHA-256 of the bytes of a block's documents."""
    span = _document_span(block)
    if span is None:
        return sha256(block.path)
    with block.path.open("rb") as file:
        file.seek(span[0])
        return hashlib.sha256(file.read(span[1] - span[0])).hexdigest()


def _document_span(block: TextBlock) -> tuple[int, int] | None:
    """Return the bytes of the documents that begin in a block; ``None`` for a file that cannot be divided."""
    if block.end is None:
        return None
    return _next_document(block.path, block.start), _next_document(block.path, block.end)


def _next_document(path: Path, position: int) -> int:
    """Return where the first document begins that does not begin before ``position``; else the size of the file."""
    if position == 0:
        return 0
    # A blank line may end, and a line may end, just before the position.
    if format_of(path) not in JSONL_ENDINGS:
        found = _search(path, position - 2, BLANK_LINE, limit=SEARCHED)
        if found is not None:
            return found
    found = _search(path, position - 1, END_OF_LINE, limit=None)
    assert found is not None  # there is no limit
    return found


def _search(path: Path, start: int, pattern: re.Pattern[bytes], limit: int | None) -> int | None:
    """Return the end of the first match after ``start``, as a position in the file; the size of the file if there is
    none, and ``None`` if there is none in the first ``limit`` bytes and the file goes on."""
    with path.open("rb") as file:
        base = max(0, start)
        file.seek(base)
        rest, searched = b"", 0
        while piece := file.read(PIECE):
            text = rest + piece
            match = pattern.search(text)
            if match is not None:
                return base + match.end()
            searched += len(piece)
            if limit is not None and searched > limit and searched < path.stat().st_size - max(0, start):
                return None
            # A match may begin with the last line feed and end in the next piece.
            kept = text.rfind(b"\n")
            kept = len(text) if kept < 0 else kept
            base, rest = base + kept, text[kept:]
        return base + len(rest)
