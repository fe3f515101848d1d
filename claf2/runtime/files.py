"""Files and folders that are written whole or not at all, their digests, and the lock of a folder.

A file or folder is written beside its final place, flushed to the disk, and renamed. A process that is killed at any
moment leaves the old content or the new one, never a part of it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from claf2.errors import RunError, RunInUseError

__all__ = [
    "LOCK_FILES",
    "apply_umask",
    "check_digests",
    "create_dir_atomic",
    "default_cache_dir",
    "find_substitute",
    "format_json",
    "is_intact",
    "lock_dir",
    "read_json",
    "recover_dirs",
    "replace_dir_atomic",
    "replace_file_atomic",
    "sha256",
    "wait_for_lock",
    "write_json",
    "write_text",
]

CACHE_HINT = "set CLAF2_CACHE, or --runtime.cache_dir, to a folder that can be written"

DIGESTS = "sha256.json"
"""The file of a stored folder that holds the SHA-256 of each of its other files."""


LOCK_FILES = (".lock", ".lock.owner")
"""The file of a folder that is locked, and the one that says by whom: a process that fails to lock the first file may
empty it."""

logger = logging.getLogger("claf2")


def find_substitute(start: bytes) -> str | None:
    """Return what lies in the place of a file, and what to do about it; ``None`` if it seems to be the file.

    Seen are Git LFS pointers, and HTML pages that were saved instead of a download.

    Args:
        start: the first bytes, 64 or more.
    """
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        return "a Git LFS pointer, not the file: git lfs pull"
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "an HTML page, not the file: download it again"
    return None


def default_cache_dir() -> Path:
    """Return the folder for what can be made or downloaded again: ``$CLAF2_CACHE``, else `~/.cache/claf2`.

    Raises:
        RunError: when the user has no home folder.
    """
    try:
        return Path(os.environ.get("CLAF2_CACHE") or "~/.cache/claf2").expanduser()
    except RuntimeError as error:  # no $HOME, and no entry in the list of users
        raise RunError(f"no folder for the cache: {error}; {CACHE_HINT}") from None


@contextmanager
def lock_dir(folder: Path) -> Iterator[None]:
    """Hold the lock of an existing folder. The operating system releases it when the process ends, however it ends.

    Raises:
        RunInUseError: when another process, or another thread of this one, holds the lock; the message says which.
    """
    from filelock import FileLock, Timeout  # `claf2 --help` does without

    lock, owner = (folder / name for name in LOCK_FILES)
    file_lock = FileLock(lock)
    try:
        file_lock.acquire(timeout=0)
    except Timeout:
        try:
            holder = owner.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            holder = ""
        raise RunInUseError(
            f"{folder} is in use by {holder or 'another process'}: wait until it ends, or use another folder"
        ) from None
    except NotImplementedError:
        logger.warning("%s: the file system has no locks; make sure that no other process uses the folder", folder)
        yield
        return
    try:
        write_text(owner, f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%F %T')}\n")
        yield
    finally:
        owner.unlink(missing_ok=True)
        file_lock.release()


@contextmanager
def wait_for_lock(path: Path) -> Iterator[None]:
    """Hold the lock of a file, after another process or thread has released it. Where the file system has no locks,
    several may hold it."""
    from filelock import FileLock

    lock = FileLock(path)
    try:
        lock.acquire()
    except NotImplementedError:
        yield
        return
    try:
        yield
    finally:
        lock.release()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replace_file_atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; what is written there replaces ``path`` at the end.

    The temporary name is unique, so that several processes may write the same file at once: the last one wins.
    Where the block raises, the temporary file is removed and ``path`` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".new", dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        apply_umask(temporary)
        _sync(temporary)
        os.replace(temporary, path)
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # a full disk is met without a name
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    with replace_file_atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def format_json(value: Any, *, indent: int | None = None) -> str:
    """Return a value as JSON. NaN and infinity, which JSON does not have, become ``null``."""
    try:
        return json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(_replace_non_finite(value), ensure_ascii=False, indent=indent, allow_nan=False)


def _replace_non_finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _replace_non_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_non_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write a value as indented JSON, atomically; see ``format_json``."""
    write_text(path, format_json(value, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. NaN and infinity, which older versions have written, are read as ``None``.

    Raises:
        RunError: when the file is missing, is not JSON, or holds anything but an object with entries.
    """
    try:
        value: Any = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except FileNotFoundError as error:
        raise RunError(f"{path}: no such file; is {path.parent} the folder of a run?") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RunError(f"{path}: not JSON: {error}") from error
    if not isinstance(value, dict) or not value:
        raise RunError(f"{path}: damaged: expected a non-empty JSON object")
    return value


def create_dir_atomic(folder: Path, fill: Callable[[Path], None]) -> None:
    """Make sure that a cached folder holds what ``fill`` writes, with a file of digests in it.

    A folder that is missing is created. One whose files differ from its digests is made again, with a warning.
    Several processes may do this at once: each fills a temporary folder, and the first rename wins. ``fill`` must
    write the same content in all of them.

    Raises:
        RunError: when nothing can be written there.
        OSError: naming the folder, when the disk is full.
    """
    damage = _find_damage(folder)
    if not damage:
        return
    if folder.exists():
        logger.warning("%s: made again", damage)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name[:16]}-", dir=folder.parent))
    except OSError as error:
        raise RunError(f"{folder.parent}: cannot be written: {error.strerror}; {CACHE_HINT}") from error
    old = temporary.with_name(f"{temporary.name}.old")
    try:
        fill(temporary)
        apply_umask(temporary)
        _write_digests(temporary)
        if not is_intact(folder):  # otherwise another process was faster, and others may read its folder by now
            with suppress(FileNotFoundError):
                os.replace(folder, old)
            os.replace(temporary, folder)
            _sync(folder.parent)
    except OSError as error:
        if not is_intact(folder):
            if error.filename is None and error.errno is not None:  # a full disk, whose error names no file
                raise OSError(error.errno, os.strerror(error.errno), str(folder)) from error
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def is_intact(folder: Path) -> bool:
    """Say whether a stored folder exists, and its files are those that its digests were written for."""
    return not _find_damage(folder)


def _find_damage(folder: Path) -> str:
    """Return what is wrong with a stored folder, or an empty text."""
    if not folder.is_dir():
        return f"{folder}: missing"
    if not (folder / DIGESTS).is_file():
        return f"{folder}: has no {DIGESTS} to compare its files with"
    try:
        check_digests(folder)
    except (RunError, OSError) as error:
        return str(error)
    return ""


def _write_digests(folder: Path) -> None:
    """Write the digests of a folder's files into it, and flush all of it to the disk."""
    paths = sorted(folder.rglob("*"))
    write_json(folder / DIGESTS, {str(path.relative_to(folder)): sha256(path) for path in paths if path.is_file()})
    for path in (*paths, folder):
        if path.exists():  # a link may point nowhere
            _sync(path)


def replace_dir_atomic(final: Path, fill: Callable[[Path], None]) -> None:
    """Replace a folder by what ``fill`` writes, with a file of digests in it.

    All processes of a run call this together and fill the same temporary folder; the main process does the rest.
    ``recover_dirs`` completes a replacement that was interrupted. Where ``fill`` raises, the folder stays as it was.
    """
    from claf2.runtime import distributed  # imports torch, which the other functions do without

    new, old = final.with_name(f".{final.name}.new"), final.with_name(f".{final.name}.old")
    if distributed.is_main():
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
    distributed.barrier()
    try:
        fill(new)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)  # on a full disk, its space is needed
        raise
    distributed.barrier()
    if not distributed.is_main():
        return
    apply_umask(new)
    _write_digests(new)
    if final.exists():
        # A folder cannot be replaced in one rename, so the old one steps aside. A kill between the two renames leaves
        # no `final`, but a whole `old`, which `recover_dirs` puts back.
        shutil.rmtree(old, ignore_errors=True)
        os.replace(final, old)
    os.replace(new, final)
    _sync(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover_dirs(*parents: Path) -> None:
    """Complete replacements of folders that were interrupted: restore the old folder where the new one is missing.

    Only the process that holds the lock of the run may call this: what looks interrupted may be in progress.
    """
    for parent in parents:
        for old in parent.glob(".*.old"):
            final = old.with_name(old.name.removeprefix(".").removesuffix(".old"))
            if final.exists():
                shutil.rmtree(old)
            else:
                os.replace(old, final)
        for new in parent.glob(".*.new"):
            shutil.rmtree(new) if new.is_dir() else new.unlink()


def check_digests(folder: Path) -> None:
    """Compare the files of a stored folder with its digests.

    Raises:
        RunError: naming the file that is missing or has changed.
    """
    for name, expected in read_json(folder / DIGESTS).items():
        path = folder / name
        if not path.is_file():
            raise RunError(f"{path}: missing; {folder.name}/ is damaged")
        if sha256(path) != expected:
            raise RunError(f"{path}: changed since it was saved; {folder.name}/ is damaged")


def apply_umask(path: Path) -> None:
    """Give a file, or a folder and all that is in it, the permissions that the user's umask grants. Temporary files
    and folders are made for their owner only, and safetensors writes such files as well."""
    umask = os.umask(0)  # it can only be read by setting it
    os.umask(umask)
    for entry in (path, *path.rglob("*")):
        allowed = 0o777 if entry.is_dir() else 0o666
        if not entry.is_symlink():
            entry.chmod(stat.S_IMODE(entry.stat().st_mode) | (allowed & ~umask))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
