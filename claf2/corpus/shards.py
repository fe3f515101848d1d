"""Shards: the tokens of one block of text in a memory-mapped file.

A shard is a folder with ``tokens.bin``, in which the ids of all tokens (uint16 if all ids of the tokenizer are below
65,536, else uint32) are followed by their flags (uint8), and ``shard.json``, which says what it was made from.
That is 3 or 5 bytes per token. The folder is named after the digest of its text and its tokenizer, and has a file of
digests, by which damage is noticed.
"""

from __future__ import annotations

import mmap
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from claf2.corpus.encoding import BEGINS_DOCUMENT, BEGINS_SENTENCE, encode_documents
from claf2.corpus.sources import Document
from claf2.errors import DataError, RunError
from claf2.registry import digest
from claf2.runtime.files import check_digests, create_dir_atomic, read_json, write_json
from claf2.tokenizers import Tokenizer

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Shard", "id_width", "make_shard", "open_shard", "shard_key"]

SHARD_FORMAT = 1
"""Raised when the layout of the files or the meaning of a flag changes."""
TOKEN_FILE = "tokens.bin"
SHARD_FILE = "shard.json"
UINT16_IDS = 2**16
"""How many ids can be stored in two bytes."""
LONGEST = 2**31 - 1
"""The most tokens of a shard, whose positions are stored in 32 bits."""


@dataclass(frozen=True)
class Shard:
    """T tokens of text. The arrays are read from the disk when they are used."""

    ids: np.ndarray
    """(T,), uint16 or uint32"""
    flags: np.ndarray
    """What begins at each token, (T,), uint8; see ``claf2.corpus.encoding``."""
    documents: int
    sentences: int
    text_bytes: int
    """The size of its text in UTF-8, without line breaks."""

    def __len__(self) -> int:
        return len(self.ids)


def shard_key(text_digest: str, text_format: str, text_field: str, tokenizer_digest: str) -> str:
    """Return the digest of everything that determines a shard.

    Args:
        text_digest: the digest of the bytes of its text.
        text_format: how they are read, since the same bytes may be text and JSON Lines; see ``format_of``.
        text_field: the key or column of the text.
        tokenizer_digest: the digest of the tokenizer.
    """
    return digest([SHARD_FORMAT, text_digest, text_format, text_field, tokenizer_digest])


def id_width(tokenizer: Tokenizer) -> int:
    """Return the bytes of an id: 2 or 4. A vocabulary may have gaps, so its largest id counts and not its length."""
    return 2 if max(tokenizer.entries.values(), default=0) < UINT16_IDS else 4


def make_shard(folder: Path, key: str, documents: Iterable[Document], tokenizer: Tokenizer, width: int) -> None:
    """Make sure that a folder holds the shard of some documents. One that is damaged is made again, with a warning.

    Args:
        folder: where it is to be.
        key: what it is made from; see ``shard_key``.
        documents: its text.
        tokenizer: the tokenizer.
        width: the bytes of an id; see ``id_width``.

    Raises:
        DataError: if there are too many tokens for one shard.
    """
    create_dir_atomic(folder, lambda target: _write(target, key, documents, tokenizer, width))


def open_shard(folder: Path, key: str) -> Shard:
    """Open the shard in a folder.

    Args:
        folder: where it is.
        key: what it must have been made from; see ``shard_key``.

    Raises:
        RunError: naming the file that is missing, damaged or truncated.
        DataError: if the shard was made from another text or by another tokenizer.
    """
    import numpy as np

    check_digests(folder)
    spec = read_json(folder / SHARD_FILE)
    if spec.get("key") != key:
        raise DataError(
            folder / SHARD_FILE,
            "belongs to another text, tokenizer or version",
            hint="delete the folder",
        )
    tokens, width = int(spec["tokens"]), int(spec["width"])
    expected = tokens * (width + 1)
    if (folder / TOKEN_FILE).stat().st_size != expected:
        raise RunError(f"{folder / TOKEN_FILE}: expected {expected} bytes; the shard is damaged: delete {folder}")
    counts = {name: int(spec[name]) for name in ("documents", "sentences", "text_bytes")}
    if not tokens:
        return Shard(np.empty(0, np.uint16), np.empty(0, np.uint8), **counts)
    with (folder / TOKEN_FILE).open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    ids = np.frombuffer(mapped, np.dtype(f"<u{width}"), tokens)
    return Shard(ids, np.frombuffer(mapped, np.uint8, tokens, offset=tokens * width), **counts)


def _write(folder: Path, key: str, documents: Iterable[Document], tokenizer: Tokenizer, width: int) -> None:
    import numpy as np

    counts = dict.fromkeys(("tokens", "documents", "sentences", "text_bytes"), 0)
    flags_path = folder / "flags.bin"
    with (folder / TOKEN_FILE).open("wb") as file:
        with flags_path.open("wb") as flags_file:
            for ids, flags, size in encode_documents(documents, tokenizer):
                file.write(ids.astype(f"<u{width}").tobytes())
                flags_file.write(flags.tobytes())
                counts["tokens"] += len(ids)
                counts["documents"] += int(np.count_nonzero(flags & BEGINS_DOCUMENT))
                counts["sentences"] += int(np.count_nonzero(flags & BEGINS_SENTENCE))
                counts["text_bytes"] += size
        if counts["tokens"] > LONGEST:
            raise DataError("corpus", f"a file of {counts['tokens']:,} tokens is too large", hint="divide the file")
        with flags_path.open("rb") as flags_file:
            shutil.copyfileobj(flags_file, file)
    flags_path.unlink()
    write_json(folder / SHARD_FILE, {"key": key, "tokenizer": tokenizer.digest, "width": width, **counts})
