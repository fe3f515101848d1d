"""The folder of a vocabulary with its lock file: what a new one may replace, and how it is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from claf2.errors import RunError
from claf2.registry import Component
from claf2.runtime.files import DIGESTS, create_dir_atomic, read_json, replace_dir_atomic

__all__ = [
    "LOCK_NAME",
    "LOCK_VERSION",
    "LockedFile",
    "VocabularyLock",
    "check_vocabulary_folder",
    "is_vacant",
    "read_lock",
    "write_folder",
]

LOCK_NAME = "vocabulary.lock.json"
"""The file that describes how a vocabulary was built."""
LOCK_VERSION = 1
"""The version of the format of lock files."""


class LockedFile(Component):
    """A file of a source, as it was when a vocabulary was built."""

    source: int
    """The number of its source."""
    name: str
    bytes: int
    sha256: str


class VocabularyLock(Component):
    """The content of a lock file."""

    version: int
    """The version of the format."""
    spec: Mapping[str, Any]
    """The fields of the ``VocabularySpec``."""
    files: tuple[LockedFile, ...]
    """The files of the sources."""
    libraries: Mapping[str, str]
    """The versions of libraries."""
    cleaning: Mapping[str, Any] = {}
    """What cleaning has counted."""
    sample: Sequence[Mapping[str, Any]] = ()
    """What each source contributed."""
    vocabulary: Mapping[str, Any] = {}
    """The number of entries, and the characters that they cover."""
    outputs: Mapping[str, str] = Field(min_length=1)
    """The SHA-256 of each file of the vocabulary."""


def read_lock(path: Path) -> VocabularyLock:
    """Read a lock file.

    Raises:
        RunError: if it cannot be read, is damaged, or has a format of another version.
    """
    content = read_json(path)
    version = content.get("version") if isinstance(content, dict) else None
    if isinstance(version, int) and version != LOCK_VERSION:
        raise RunError(
            f"{path}: has version {version} of the format, and this claf2 reads version {LOCK_VERSION}; "
            "use the claf2 that wrote it, or build the vocabulary from its sources"
        )
    try:
        return VocabularyLock.model_validate(content)
    except ValidationError as error:
        raise RunError(f"{path}: not a lock file of claf2 vocab build, or a damaged one") from error


def is_vacant(folder: Path) -> bool:
    """Return whether a folder is missing or empty.

    Raises:
        RunError: if it is missing, and cannot be made.
    """
    parent = next(path for path in folder.absolute().parents if path.exists())
    if not folder.exists() and not (parent.is_dir() and os.access(parent, os.W_OK)):
        reason = "no folder can be made there" if parent.is_dir() else "is not a folder"
        raise RunError(f"{parent}: {reason}; choose another folder with -o")
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def check_vocabulary_folder(folder: Path, *, overwrite: bool) -> None:
    """Check that a vocabulary may be written into a folder.

    Args:
        folder: the folder.
        overwrite: a vocabulary, and nothing else, may be replaced.

    Raises:
        RunError: if the folder has something that would be lost.
    """
    if is_vacant(folder):
        return
    if not (folder / LOCK_NAME).is_file():
        raise RunError(f"{folder}: exists, and is not a vocabulary; choose another folder")
    if not overwrite:
        raise RunError(f"{folder}: has a vocabulary already; choose another folder, or add --overwrite")
    own = {LOCK_NAME, DIGESTS, *read_lock(folder / LOCK_NAME).outputs}
    others = sorted(path.name for path in folder.iterdir() if path.name not in own)
    if others:
        raise RunError(
            f"{folder}: {others[0]} is not a file of the vocabulary, and would be lost; "
            "choose another folder, or move it elsewhere"
        )


def write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Write a folder with a file of digests, whole or not at all; one that exists is replaced.

    Where ``fill`` raises, the folder stays as it was.

    Args:
        folder: the folder.
        fill: writes the content into the folder that it is given.

    Raises:
        RunError: if nothing can be written there.
    """
    if not is_vacant(folder):
        replace_dir_atomic(folder, fill)
        return
    if folder.is_dir():
        folder.rmdir()
    create_dir_atomic(folder, fill)
