"""Checkpoints in a store: a checkpoint is its manifest.

All files of a checkpoint are written before its `manifest.json`, and readers look at manifests only. Part of an upload
is therefore not seen by anybody.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from claf2.errors import RunError
from claf2.runtime.files import create_dir_atomic, read_json, sha256
from claf2.storage.leases import claimed, creates_exclusively, lease
from claf2.storage.objects import (
    PART_BYTES,
    ConflictError,
    NotStoredError,
    RemoteFolder,
    StorageError,
    StoredObject,
    join_url,
    open_folder,
)

__all__ = [
    "MANIFEST",
    "StoredCheckpoint",
    "download_files",
    "is_checkpoint_url",
    "lease",
    "list_checkpoints",
    "parse_manifest",
    "pull_checkpoint",
    "push_checkpoint",
    "stored_size",
    "upload_folder",
]

logger = logging.getLogger("claf2")

MANIFEST = "manifest.json"
"""The object that says what is in a checkpoint; it is written last."""

STEP_NAME = re.compile(r"step-(\d{9})")

FILES_AT_ONCE = 4
"""Small files that are sent or received at once."""

CLAIM_SECONDS = 120.0
"""How long the claim of a writer that is killed keeps others from writing something else in its place."""

DOWNLOAD_ATTEMPTS = 3
"""How often a download that breaks off is begun again."""


@dataclass(frozen=True)
class StoredCheckpoint:
    """A complete checkpoint in a store."""

    url: str
    step: int
    manifest: Mapping[str, Any]
    """What is in it: the files with their sizes and digests, and what they were made from."""

    @property
    def size(self) -> int:
        """The bytes of its files."""
        return sum(entry["size"] for entry in self.manifest["files"].values())


def is_checkpoint_url(name: str) -> bool:
    """Say whether a URL names a checkpoint, or one task's model in it, rather than an archive."""
    parts = name.rstrip("/").split("/")
    return any(STEP_NAME.fullmatch(part) for part in parts[-2:])


def list_checkpoints(url: str) -> list[StoredCheckpoint]:
    """Return the complete checkpoints of a run in a store, by step.

    Args:
        url: where the run's checkpoints are: a URL (`s3://`, `gs://`, `az://`, `file://`) or a folder.

    Raises:
        StorageError: if the store cannot be listed.
    """
    folder = open_folder(url)
    found = []
    for entry in folder.list():
        name, _, file = entry.path.partition("/")
        if file == MANIFEST and STEP_NAME.fullmatch(name):
            manifest = _manifest(folder, entry)
            if manifest is not None:
                found.append(StoredCheckpoint(join_url(folder.url, name), manifest["step"], manifest))
    return found


def _manifest(folder: RemoteFolder, entry: StoredObject) -> dict[str, Any] | None:
    try:
        return _read_manifest(folder.url, entry.path, entry.tag, entry.modified.timestamp())
    except NotStoredError:
        return None  # deleted since it was listed


@lru_cache(maxsize=4096)
def _read_manifest(url: str, path: str, tag: str | None, modified: float) -> dict[str, Any] | None:
    """Read a manifest once; it does not change, and who waits for new checkpoints lists the others again and again."""
    try:
        return parse_manifest(open_folder(url).read(path), join_url(url, path))
    except NotStoredError:
        raise
    except StorageError as error:
        if not isinstance(error.__cause__, ValueError):
            raise
        logger.warning("%s", error)
        return None


def parse_manifest(content: bytes, where: str) -> dict[str, Any]:
    """Read a manifest.

    Raises:
        StorageError: if it is not one, or names files outside of its folder.
    """
    try:
        manifest = json.loads(content)
        if not isinstance(manifest["step"], int):
            raise ValueError("its step is not a number")
        for name, entry in manifest["files"].items():
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "\\" in name or name in ("", MANIFEST):
                raise ValueError(f"{name!r} is not a file of the checkpoint")
            if not isinstance(entry["size"], int) or not re.fullmatch("[0-9a-f]{64}", entry["sha256"]):
                raise ValueError(f"{name!r} has no size and digest")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        cause = error if isinstance(error, ValueError) else ValueError(str(error))
        raise StorageError(f"{where}: damaged: {cause}; push the checkpoint again") from cause
    return dict(manifest)


def push_checkpoint(
    folder: Path, url: str, *, sent: Callable[[int], None] = lambda _: None, verify: bool = True
) -> str:
    """Upload a kept checkpoint, and return its URL. What is there already is not sent again.

    Args:
        folder: the folder of a kept step, `step-000100000/`, with its manifest.
        url: where the run's checkpoints are; the checkpoint is stored below it, under the name of its folder.
        sent: called with the numbers of bytes that are done.
        verify: whether to compare the files with their digests before.

    Raises:
        RunError: if the folder is not a complete checkpoint.
        ConflictError: if the store holds another checkpoint of this step.
        StorageError: if the store refuses.
    """
    if not STEP_NAME.fullmatch(folder.name):
        raise RunError(f"{folder}: not a kept checkpoint; name a folder such as RUN/steps/step-000100000")
    upload_folder(folder, open_folder(url), folder.name, sent=sent, verify=verify)
    return join_url(open_folder(url).url, folder.name)


def upload_folder(
    folder: Path, remote: RemoteFolder, path: str, *, sent: Callable[[int], None] = lambda _: None, verify: bool
) -> None:
    """Upload the files that the manifest of a folder names, and last the manifest.

    Args:
        folder: the folder.
        remote: the folder of the run in the store.
        path: where to, in it.
        sent: called with the numbers of bytes that are done.
        verify: whether to compare the files with their digests before.

    Raises:
        RunError: if a file is missing or has changed.
        ConflictError: if the store holds something else there.
        StorageError: if the store refuses.
    """
    read_json(folder / MANIFEST)  # a missing or damaged file is named as one
    content = (folder / MANIFEST).read_bytes()
    files: dict[str, Any] = parse_manifest(content, str(folder / MANIFEST))["files"]
    for name, entry in files.items():
        if not (folder / name).is_file() or (folder / name).stat().st_size != entry["size"]:
            raise RunError(f"{folder / name}: missing or changed; {folder.name}/ is damaged")
        if verify and sha256(folder / name) != entry["sha256"]:
            raise RunError(f"{folder / name}: changed since it was saved; {folder.name}/ is damaged")
    total = sum(entry["size"] for entry in files.values())
    if _is_stored(remote, path, content):
        sent(total)
        return
    with claimed(remote, path, hashlib.sha256(content).hexdigest(), CLAIM_SECONDS) as is_claimed:
        if not is_claimed:
            where, hint = join_url(remote.url, path), "use another URL for each run"
            raise StorageError(f"{where}: another process writes another checkpoint there; {hint}")
        if _is_stored(remote, path, content):  # another process has written it since
            sent(total)
            return
        there = {entry.path.removeprefix(f"{path}/"): entry.size for entry in remote.list(path)}

        def upload(name: str) -> None:
            entry, target = files[name], f"{path}/{name}"
            if there.get(name) == entry["size"] and remote.known_sha256(target) == entry["sha256"]:
                sent(entry["size"])
            else:
                remote.upload(target, folder / name, entry["sha256"], sent)

        small = [name for name, entry in files.items() if entry["size"] <= PART_BYTES]
        _for_all(upload, small)
        for name in files.keys() - set(small):
            upload(name)  # its own parts are sent at once
        # The claim keeps others away where the store does not; where it does, the first manifest stays.
        if not creates_exclusively(remote):
            if not _is_stored(remote, path, content):
                remote.write(f"{path}/{MANIFEST}", content)
        elif not remote.create(f"{path}/{MANIFEST}", content):
            _is_stored(remote, path, content)


def _is_stored(remote: RemoteFolder, path: str, content: bytes) -> bool:
    """Say whether a manifest is stored already.

    Raises:
        ConflictError: if there is another one.
    """
    try:
        stored = remote.read(f"{path}/{MANIFEST}")
    except NotStoredError:
        return False
    if stored != content:
        where = join_url(remote.url, path)
        raise ConflictError(f"{where}: holds another checkpoint of this step; use another URL for each run")
    return True


def _for_all(function: Callable[[str], None], names: list[str]) -> None:
    """Call a function for several names at once; the first error is raised after all calls have ended."""
    with ThreadPoolExecutor(FILES_AT_ONCE, thread_name_prefix="claf2-store") as pool:
        for future in [pool.submit(function, name) for name in names]:
            future.result()


def pull_checkpoint(url: str, cache: Path, *, received: Callable[[int], None] = lambda _: None) -> Path:
    """Return the folder of a checkpoint that is stored at a URL. It is downloaded unless it is in the cache.

    Args:
        url: the URL of a checkpoint, `s3://bucket/run/step-000100000`, or of a folder in it, such as one of several
            tasks' models.
        cache: where it is kept, under the digest of its manifest.
        received: called with the numbers of bytes that are received.

    Raises:
        StorageError: if there is no such checkpoint, or a file of it differs from the manifest.
    """
    root, inside = _split(url)
    folder = open_folder(root)
    try:
        content = folder.read(MANIFEST)
    except NotStoredError as error:
        parent, _, last = root.rpartition("/")
        run = parent if STEP_NAME.fullmatch(last) and parent else root
        raise StorageError(f"{root}: no complete checkpoint there; list them with claf2 ls {run}") from error
    files: dict[str, Any] = parse_manifest(content, join_url(root, MANIFEST))["files"]
    target = cache / "models" / hashlib.sha256(content).hexdigest()

    def fill(temporary: Path) -> None:
        download_files(folder, files, temporary, received)
        (temporary / MANIFEST).write_bytes(content)

    create_dir_atomic(target, fill)
    if not (target / inside).is_dir():
        raise StorageError(f"{url}: the checkpoint has no folder {inside}")
    return target / inside


def stored_size(url: str) -> int:
    """Return the bytes of what the manifest at a URL names; 0 where there is none."""
    folder = open_folder(_split(url)[0])
    try:
        files = parse_manifest(folder.read(MANIFEST), folder.url)["files"]
    except NotStoredError:
        return 0
    return sum(entry["size"] for entry in files.values())


def _split(url: str) -> tuple[str, str]:
    """Return the URL of a checkpoint, and what follows it."""
    url = url.rstrip("/")
    parent, _, last = url.rpartition("/")
    if not STEP_NAME.fullmatch(last) and STEP_NAME.fullmatch(parent.rpartition("/")[2]):
        return parent, last
    return url, ""


def download_files(
    remote: RemoteFolder, files: Mapping[str, Any], target: Path, received: Callable[[int], None] = lambda _: None
) -> None:
    """Download files, and compare them with their digests.

    Args:
        remote: the folder that holds them.
        files: name → size and digest.
        target: the folder where they are written.
        received: called with the numbers of bytes that are received.

    Raises:
        StorageError: naming the object that is missing or damaged.
    """

    def download(name: str) -> None:
        path, entry = target / name, files[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(DOWNLOAD_ATTEMPTS):
            try:
                digest = remote.download(name, path, received)
                break
            except NotStoredError as error:
                where = join_url(remote.url, name)
                raise StorageError(f"{where}: missing, but the manifest names it; push the checkpoint again") from error
            except StorageError:
                if attempt == DOWNLOAD_ATTEMPTS - 1:
                    raise
        if digest != entry["sha256"]:
            raise StorageError(
                f"{join_url(remote.url, name)}: damaged: its bytes are not those that the manifest names; delete the "
                "checkpoint there, and push it again"
            )

    _for_all(download, list(files))
