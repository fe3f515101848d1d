"""A folder in an object store, at an http(s) URL, or on a disk: one interface for all, through `obstore`.

Requests, signatures, multipart uploads and repeated requests are the library's. This module adds what claf2 needs of
errors: one line that says what to do, without keys.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from claf2.errors import RunError, first_line
from claf2.storage.credentials import s3_settings, secrets

__all__ = [
    "ConflictError",
    "NotStoredError",
    "RemoteFolder",
    "StorageError",
    "StoredObject",
    "is_storage_url",
    "join_url",
    "open_folder",
    "redact",
]

logger = logging.getLogger("claf2")

SCHEMES = ("s3", "gs", "az", "http", "https", "file")

PART_BYTES = 8 << 20
"""The size of a part of a multipart upload: S3 allows 10,000 parts, so that larger objects have larger parts."""

MAX_PARTS = 9_000

PARTS_AT_ONCE = 4
"""Parts in flight; memory is this times ``PART_BYTES``."""

CLIENT_OPTIONS = {"timeout": "12h", "read_timeout": "300s", "connect_timeout": "10s"}
"""No request as a whole is limited, since a file may be large, but a server that says nothing for long is. It may need
minutes to put the parts of a large file together."""

RETRIES = 4
"""How often the library repeats a request that fails for a reason that may pass."""

DIGEST_ATTRIBUTE = "claf2-sha256"
"""The metadata of an object that names the SHA-256 of its bytes."""


class StorageError(RunError):
    """An object store refuses a request, or cannot be reached."""


class NotStoredError(StorageError):
    """There is no such object."""


class ConflictError(StorageError):
    """Something else is stored in the place, so that trying again does not help."""


@dataclass(frozen=True)
class StoredObject:
    """What a listing says of an object."""

    path: str
    """Its path within the folder."""
    size: int
    modified: datetime
    """When it was written, by the clock of the store."""
    tag: str | None
    """What changes when the object does."""


def is_storage_url(name: str) -> bool:
    """Say whether a name is a URL that ``open_folder`` opens."""
    return name.partition("://")[0] in SCHEMES and "://" in name


def join_url(url: str, path: str) -> str:
    """Return the URL of something in a folder."""
    return f"{url.rstrip('/')}/{path}"


def redact(text: str) -> str:
    """Return a message without keys: without the values of the environment's secrets, and without what follows the
    question mark of a URL, where signatures stand."""
    for secret in secrets():
        text = text.replace(secret, "***")
    return re.sub(r"(\w+://[^\s?]*)\?\S+", r"\1?***", text)


def open_folder(url: str) -> RemoteFolder:
    """Return the folder at a URL, or at a path of this machine. Nothing is sent yet.

    Raises:
        StorageError: if it is no URL of a kind that is known, or has keys in it.
    """
    if url in {f"{scheme}:" for scheme in SCHEMES}:  # without the slashes at its end
        url = f"{url}//"
    if not is_storage_url(url):
        if re.match(r"\w+://", url):
            known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
            raise StorageError(f"{redact(url)}: unknown kind of URL; use {known} or a folder")
        return RemoteFolder(url.rstrip("/") or "/")
    parts = urlsplit(url)
    if parts.query or parts.fragment or "@" in parts.netloc:
        shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        raise StorageError(f"{shown}: the URL of a store must not contain keys; set them in the environment")
    settings = tuple(sorted(s3_settings().items())) if parts.scheme == "s3" else ()
    _check_address(url, dict(settings).get("endpoint"))
    return RemoteFolder(url.rstrip("/"), settings)


def _check_address(url: str, endpoint: str | None) -> None:
    """Refuse what names no place, and the address of a server with which the library would panic.

    Raises:
        StorageError: saying what is expected.
    """
    parts = urlsplit(url)
    if not (parts.path if parts.scheme == "file" else parts.netloc):
        expected = "file:///FOLDER" if parts.scheme == "file" else f"{parts.scheme}://NAME/run"
        raise StorageError(f"{url}: names no place; write {expected}")
    if endpoint is not None:
        try:
            server = urlsplit(endpoint)
            is_address = server.scheme in ("http", "https") and server.hostname and server.port != 0
        except ValueError:  # a port that is not a number
            is_address = False
        if not is_address or not endpoint.isascii() or " " in endpoint:
            raise StorageError(f"{url}: AWS_ENDPOINT_URL is not the address of a server; write http://HOST:PORT")


@lru_cache(maxsize=64)
def _open(url: str, settings: tuple[tuple[str, str], ...]) -> Any:
    """Return the library's object for a URL. It is kept, because it holds connections."""
    try:
        from obstore.store import from_url
    except ModuleNotFoundError as error:
        raise StorageError(f"{url}: obstore is not installed; pip install 'claf2[store]'") from error
    scheme = urlsplit(url).scheme
    if scheme == "file":
        return from_url(url, automatic_cleanup=True)  # of folders that become empty
    config: Any = dict(settings)
    is_plain = scheme == "http" or config.get("endpoint", "").startswith("http://")
    options: Any = {**CLIENT_OPTIONS, **({"allow_http": True} if is_plain else {})}
    retries: Any = {"max_retries": RETRIES, "retry_timeout": timedelta(minutes=2)}
    try:
        if scheme == "s3":
            return from_url(url, config=config, client_options=options, retry_config=retries)
        return from_url(url, client_options=options, retry_config=retries)
    except Exception as error:  # what the library refuses has no common class
        raise StorageError(f"{url}: cannot be opened: {redact(first_line(error))}") from error


class RemoteFolder:
    """A folder in a store; paths are relative to it, with slashes.

    Args:
        url: its URL, or a path of this machine.
        settings: names and values of the settings of its server.
    """

    def __init__(self, url: str, settings: tuple[tuple[str, str], ...] = ()) -> None:
        self.url = url
        self._settings = settings

    @property
    def local_path(self) -> Path | None:
        """The folder on this machine; ``None``: it is elsewhere."""
        if not is_storage_url(self.url):
            return Path(self.url).expanduser().absolute()
        parts = urlsplit(self.url)
        return Path(unquote(parts.path)) if parts.scheme == "file" else None

    def _opened(self, *, writes: bool = False) -> Any:
        """Return the library's object. A folder of this machine is created when something is written."""
        local = self.local_path
        if local is not None and not local.is_dir():
            if not writes:
                raise NotStoredError(f"{local}: no such folder")
            try:
                local.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError) as error:
                raise StorageError(f"{local}: is not a folder; give another one") from error
        return _open(self.url if local is None else local.as_uri(), self._settings)

    def list(self, prefix: str = "") -> list[StoredObject]:
        """Return all objects below a path, by path.

        Raises:
            StorageError: if they cannot be listed.
        """
        import obstore

        if urlsplit(self.url).scheme.startswith("http"):
            raise StorageError(f"{self.url}: http servers list no files; name a checkpoint: {self.url}/step-000100000")
        if self.local_path is not None and not self.local_path.is_dir():
            return []
        with self._translated(prefix):
            found = [entry for chunk in obstore.list(self._opened(), prefix or None) for entry in chunk]
        objects = [
            StoredObject(entry["path"], entry["size"], entry["last_modified"], entry["e_tag"]) for entry in found
        ]
        return sorted(objects, key=lambda entry: entry.path)

    def read(self, path: str) -> bytes:
        """Return the bytes of a small object.

        Raises:
            NotStoredError: if it does not exist.
            StorageError: if it cannot be read.
        """
        import obstore

        with self._translated(path):
            return bytes(obstore.get(self._opened(), path).bytes())

    def head(self, path: str) -> StoredObject:
        """Return what the store says of one object.

        Raises:
            NotStoredError: if it does not exist.
            StorageError: if the store does not answer.
        """
        import obstore

        with self._translated(path):
            entry = obstore.head(self._opened(), path)
        return StoredObject(entry["path"], entry["size"], entry["last_modified"], entry["e_tag"])

    def known_sha256(self, path: str) -> str | None:
        """Return the SHA-256 of an object; ``None`` where the store does not know it. A file on this machine is read.

        Raises:
            StorageError: if the store does not answer.
        """
        import obstore

        if self.local_path is not None:
            with self._translated(path), (self.local_path / path).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        with self._translated(path):
            attributes = obstore.get(self._opened(), path, options={"head": True}).attributes
        return next((value for name, value in attributes.items() if name.lower() == DIGEST_ATTRIBUTE), None)

    def write(self, path: str, content: bytes) -> None:
        """Write a small object, in the place of one that may be there.

        Raises:
            StorageError: if it cannot be written.
        """
        import obstore

        with self._translated(path):
            obstore.put(self._opened(writes=True), path, content, use_multipart=False)

    def create(self, path: str, content: bytes) -> bool:
        """Write a small object unless it exists, and say whether it was written. Some servers overwrite it silently:
        see ``creates_exclusively`` of ``claf2.storage.leases``.

        Raises:
            StorageError: if it cannot be written.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError

        with self._translated(path):
            try:
                obstore.put(self._opened(writes=True), path, content, mode="create")
            except AlreadyExistsError:
                return False
        return True

    def upload(self, path: str, file: Path, sha256: str, sent: Callable[[int], None] = lambda _: None) -> None:
        """Write a file. It appears at once when all of it is there, and the store remembers its digest.

        Args:
            path: where to.
            file: the file.
            sha256: the digest of its bytes.
            sent: called with the number of bytes of each part that is handed over. What it raises ends the upload.

        Raises:
            StorageError: if it cannot be written.
            OSError: if the file cannot be read.
        """
        import obstore

        size = file.stat().st_size
        part = max(PART_BYTES, -(-size // MAX_PARTS))
        attributes = None if self.local_path is not None else {DIGEST_ATTRIBUTE: sha256}
        if size <= part:
            content = file.read_bytes()
            with self._translated(path):
                obstore.put(self._opened(writes=True), path, content, attributes=attributes, use_multipart=False)
            sent(size)
            return
        with file.open("rb") as opened, self._translated(path):
            obstore.put(
                self._opened(writes=True),
                path,
                _parts(opened, part, sent),
                attributes=attributes,
                use_multipart=True,
                chunk_size=part,
                max_concurrency=PARTS_AT_ONCE,
            )

    def download(self, path: str, file: Path, received: Callable[[int], None] = lambda _: None) -> str:
        """Write an object into a file, and return the SHA-256 of its bytes.

        Args:
            path: the object.
            file: where to.
            received: called with the number of bytes of each part.

        Raises:
            NotStoredError: if it does not exist.
            StorageError: if it cannot be read.
        """
        import obstore

        digest = hashlib.sha256()
        with file.open("wb") as target, self._translated(path):
            for block in obstore.get(self._opened(), path).stream(min_chunk_size=1 << 20):
                digest.update(block)
                target.write(block)
                received(len(block))
        return digest.hexdigest()

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects; those that do not exist are ignored.

        Raises:
            StorageError: if the store refuses.
        """
        import obstore

        for path in paths:
            try:
                with self._translated(path):
                    obstore.delete(self._opened(writes=True), path)
            except NotStoredError:
                continue

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        """Raise what the library raises as one line that says what to do."""
        from obstore.exceptions import BaseError

        where = join_url(self.url, path) if path else self.url
        try:
            yield
        except FileNotFoundError as error:
            raise (StorageError if "NoSuchBucket" in str(error) else NotStoredError)(
                f"{where}: {_reason(str(error))}"
            ) from error
        except (BaseError, OSError) as error:
            if isinstance(error, OSError) and error.filename is not None and self.local_path is None:
                raise  # a file of this machine, whose name is in the message
            raise StorageError(f"{where}: {_reason(str(error))}") from error


def _parts(file: Any, size: int, sent: Callable[[int], None]) -> Iterator[bytes]:
    while part := file.read(size):
        yield part
        sent(len(part))


def _reason(text: str) -> str:
    """Return what a message of the library means, and what to do about it."""
    status = re.search(r"status code: (\d{3} [\w ]+)", text)
    code = re.search(r"<Code>(\w+)</Code>", text)
    answer = " ".join(found.group(1) for found in (status, code) if found)
    if "NoSuchBucket" in answer:
        return "the bucket does not exist; create it first, or correct its name"
    if status is not None and status.group(1)[:3] in ("401", "403"):
        hint = "check the keys in the environment or in ~/.aws/credentials, and what they may do"
        return f"the server refuses ({answer}); {hint}"
    if status is not None and status.group(1)[:3] == "404":
        return "no such object"
    if status is not None:
        return f"the server answers {answer}; try again later"
    if "HTTP error" in text or "error sending request" in text or "timed out" in text.lower():
        return "cannot be reached; check the address (AWS_ENDPOINT_URL for a server of your own), or try again later"
    if "No such file" in text or "not found" in text:
        return "no such object"
    return redact(" ".join(text.split())[:300])
