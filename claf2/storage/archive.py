"""A model as one file in a store, which anybody can load by its public URL."""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlsplit

from claf2.errors import RunError
from claf2.runtime.files import replace_file_atomic, sha256
from claf2.storage.credentials import s3_settings
from claf2.storage.objects import open_folder

__all__ = ["ARCHIVE", "public_url", "pull_archive", "push_archive", "write_archive"]

ARCHIVE = ".tar.gz"
"""The ending of an archive's name."""


def write_archive(folder: Path, file: Path) -> None:
    """Write the files of a folder into a `.tar.gz`. Equal files make equal archives: names are sorted, and neither
    times nor users are recorded.

    Raises:
        RunError: if the folder holds no model.
    """
    if not (folder / "config.json").is_file():
        raise RunError(f"{folder}: has no config.json of a model")

    def without_origin(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.mtime = entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mode = 0o755 if entry.isdir() else 0o644
        return entry

    with (
        file.open("wb") as raw,
        # Weights hardly become smaller, so that the fastest level is the best one.
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=1) as packed,
        # A folder of the hub's cache consists of links to files elsewhere.
        tarfile.open(fileobj=packed, mode="w", dereference=True) as tar,
    ):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
                tar.add(path, str(path.relative_to(folder)), recursive=False, filter=without_origin)


def push_archive(folder: Path, url: str, *, sent: Callable[[int], None] = lambda _: None) -> str:
    """Upload the files of a model as one archive, and return the URL by which it can be loaded once it is public.

    Args:
        folder: the files.
        url: where to; it ends in `.tar.gz`.
        sent: called with the numbers of bytes that are done.

    Raises:
        RunError: if the folder holds no model.
        StorageError: if the store refuses.
    """
    parent, _, name = url.rpartition("/")
    remote = open_folder(parent or ".")
    descriptor, temporary = tempfile.mkstemp(suffix=ARCHIVE)
    os.close(descriptor)
    try:
        write_archive(folder, Path(temporary))
        remote.upload(name, Path(temporary), sha256(Path(temporary)), sent)
    finally:
        os.unlink(temporary)
    return public_url(url)


def pull_archive(url: str, cache: Path) -> Path:
    """Return an archive that is stored at a URL, downloaded, named after the SHA-256 of its bytes.

    Raises:
        StorageError: if it is not there, or the store refuses.
    """
    parent, _, name = url.rpartition("/")
    remote, folder = open_folder(parent), cache / "downloads"
    known = remote.known_sha256(name)
    if known is not None and (folder / known).is_file() and sha256(folder / known) == known:
        return folder / known
    named_after_url = folder / f"{hashlib.sha256(url.encode()).hexdigest()}.part"
    with replace_file_atomic(named_after_url) as temporary:
        digest = remote.download(name, temporary)
    os.replace(named_after_url, folder / digest)
    return folder / digest


def public_url(url: str) -> str:
    """Return the address by which everybody reads an object, if a policy of its store allows that."""
    parts = urlsplit(url)
    path = quote(parts.path)
    if parts.scheme == "s3":
        settings = s3_settings()
        if "endpoint" in settings:
            return f"{settings['endpoint'].rstrip('/')}/{parts.netloc}{path}"
        return f"https://{parts.netloc}.s3.{settings['region']}.amazonaws.com{path}"
    if parts.scheme == "gs":
        return f"https://storage.googleapis.com/{parts.netloc}{path}"
    if parts.scheme == "az":
        account = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", "ACCOUNT")
        return f"https://{account}.blob.core.windows.net/{parts.netloc}{path}"
    return url
