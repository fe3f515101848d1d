"""The files of a model: in a folder, an archive, at a URL, or on the hub."""

from __future__ import annotations

import hashlib
import logging
import os
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from http.client import HTTPException
from pathlib import Path
from typing import IO

from claf2.errors import ModelError, RunError, nearest
from claf2.runtime.files import apply_umask, create_dir_atomic, read_json, sha256, write_json
from claf2.tokenizers.build import FILES

__all__ = ["listed_weights_digest", "resolve_model", "tokenizer_digest", "weights_digest"]

logger = logging.getLogger("claf2")

WEIGHTS = ("config.json", "*.safetensors", "*.bin")
"""The files that determine what a model computes, in its folder."""

ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")
TIMEOUT = 60.0
"""Seconds to wait for a server's answer."""


def resolve_model(name: str, *, cache: Path) -> Path | str:
    """Return the folder of a model, or the name itself where only the hub can know it.

    Args:
        name: a folder, an archive (`.tar.gz`, `.tgz`, `.tar`, `.zip`), an http(s) URL of one, the URL of a checkpoint
            in a store, such as `s3://bucket/run/step-000100000`, or a hub id.
        cache: where archives are unpacked, under the SHA-256 of their bytes, so that equal names cannot collide.

    Raises:
        ModelError: when there is no model at ``name``.
    """
    if "://" in name and (folder := _stored(name, cache)) is not None:
        return folder
    if name.startswith(("http://", "https://")):
        archive = _downloaded(name, cache)
        return _unpacked(archive, archive.name, name, cache)
    if not name:
        raise ModelError("the name of the model is empty; give a folder, a hub id, or scratch for fresh weights")
    path = Path(name).expanduser()
    if path.is_dir():
        if (path / "config.json").is_file():
            return path
        inside = sorted(config.parent.name for config in path.glob("*/config.json"))
        hint = f"; there is one in {', '.join(inside[:5])}" if inside else ""
        raise ModelError(f"model {name!r}: the folder has no config.json, as save_pretrained writes it{hint}")
    if path.is_file():
        return _unpacked(path, sha256(path), name, cache)
    if name.endswith(ARCHIVES) or name.startswith((".", "/", "~")) or name.count("/") > 1:
        siblings = [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
        raise ModelError(f"model {name}: no such file or folder; {nearest(path.name, siblings)}")
    return name


def _stored(name: str, cache: Path) -> Path | None:
    """Return the folder of a checkpoint, or of an archive, in a store; ``None`` if the name is not that of one."""
    from claf2.storage.archive import pull_archive
    from claf2.storage.checkpoints import is_checkpoint_url, pull_checkpoint
    from claf2.storage.objects import is_storage_url

    is_archive = name.startswith(("http://", "https://")) and not is_checkpoint_url(name)
    if is_archive or not is_storage_url(name):
        return None
    if name.endswith(ARCHIVES):
        archive = pull_archive(name, cache)
        return _unpacked(archive, archive.name, name, cache)
    folder = pull_checkpoint(name, cache)
    if not (folder / "config.json").is_file():
        inside = sorted(config.parent.name for config in folder.glob("*/config.json"))
        hint = f"; there is one in {', '.join(inside[:5])}" if inside else ""
        raise ModelError(f"model {name}: the checkpoint has no config.json{hint}")
    return folder


def weights_digest(source: Path | str) -> str:
    """Return the digest of the configuration and weights in a folder; of a hub id or ``scratch``, the name itself."""
    if not isinstance(source, Path):
        return source
    return _digest_files(source, WEIGHTS)


def listed_weights_digest(digests: Mapping[str, str]) -> str | None:
    """Return the ``weights_digest`` of a folder from the SHA-256 of its files, by their names in it; ``None`` if it has
    no weights."""
    names = [name for name in sorted(digests) if _matches(name, WEIGHTS)]
    return _combine((name, digests[name]) for name in names) if names else None


def tokenizer_digest(folder: Path) -> str:
    """Return the digest of the files in a folder from which its tokenizer is made."""
    return _digest_files(folder, FILES)


def _digest_files(folder: Path, patterns: Sequence[str]) -> str:
    paths = (path for path in sorted(folder.iterdir()) if _matches(path.name, patterns) and path.is_file())
    return _combine((path.name, sha256(path)) for path in paths)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return "/" not in name and any(fnmatchcase(name, pattern) for pattern in patterns)


def _combine(digests: Iterable[tuple[str, str]]) -> str:
    digest = hashlib.sha256()
    for name, own in digests:
        digest.update(f"{name} {own}\n".encode())
    return digest.hexdigest()


def _with_config(folder: Path, name: str) -> Path:
    """Return the folder that holds a model: this one, or one inside it."""
    if (folder / "config.json").is_file():
        return folder
    configs = sorted(folder.rglob("config.json"), key=lambda path: (len(path.parts), str(path)))
    if not configs:
        raise ModelError(f"model {name}: the archive has no config.json, as save_pretrained writes it")
    return configs[0].parent


def _unpacked(archive: Path, digest: str, name: str, cache: Path) -> Path:
    """Return the folder of the model in an archive, unpacked under the digest of the archive's bytes."""
    target = cache / "models" / digest
    # A folder inside, because an archive of best/ has a file of digests of its own.
    create_dir_atomic(target, lambda folder: _unpack(archive, name, folder / "model"))
    return _with_config(target, name)


def _unpack(archive: Path, name: str, target: Path) -> None:
    target.mkdir()
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as file:
                damaged = file.testzip()
                if damaged is not None:
                    raise ModelError(f"model {name}: damaged archive: {damaged} is incomplete; download it again")
                file.extractall(target)  # zipfile drops absolute paths and ".." from member names
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar:
                tar.extractall(target, filter="data")
        else:
            raise ModelError(f"model {name}: neither a folder nor a complete archive ({', '.join(ARCHIVES)})")
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise ModelError(f"model {name}: damaged or truncated archive: {error}; download it again") from error


def _downloaded(url: str, cache: Path) -> Path:
    """Return the file at a URL, named after the SHA-256 of its bytes; it is downloaded unless the server says that the
    cached one is current."""
    folder = cache / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    memo = folder / f"{hashlib.sha256(url.encode()).hexdigest()}.json"
    cached, etag = _recall(memo)
    request = urllib.request.Request(url, headers={"If-None-Match": etag} if cached is not None and etag else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            downloaded = _store(answer, answer.headers.get("Content-Length"), url, folder)
            etag = answer.headers.get("ETag") or ""
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 304 and cached is not None:
            return cached
        raise ModelError(f"model {url}: the server answers {error.code} {error.reason}") from error
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        if cached is not None:
            logger.warning("%s cannot be reached (%s): using the cached copy", url, error)
            return cached
        raise ModelError(f"model {url}: cannot be reached, and there is no cached copy: {error}") from error
    write_json(memo, {"url": url, "sha256": downloaded.name, "etag": etag})
    return downloaded


def _recall(memo: Path) -> tuple[Path | None, str]:
    """Return the file that was downloaded from a URL, if it is still what it was then, and its ETag."""
    if not memo.is_file():
        return None, ""
    try:
        entry = read_json(memo)
        path = memo.with_name(entry["sha256"])
        intact = path.is_file() and sha256(path) == path.name
    except (RunError, KeyError, TypeError, ValueError) as error:
        logger.warning("%s: damaged (%s): the model is downloaded again", memo, error)
        return None, ""
    if path.is_file() and not intact:
        logger.warning("%s: changed since it was downloaded: downloaded again", path)
    return (path if intact else None), str(entry.get("etag") or "")


def _store(answer: IO[bytes], announced: str | None, url: str, folder: Path) -> Path:
    """Write a download under the SHA-256 of its bytes."""
    digest, size = hashlib.sha256(), 0
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        scratch = Path(file.name)
        try:
            while block := answer.read(1 << 20):
                digest.update(block)
                size += len(block)
                file.write(block)
            if announced is not None and size != int(announced):
                raise ModelError(f"model {url}: received {size} of {announced} bytes; download it again")
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            scratch.unlink()
            raise
    apply_umask(scratch)
    os.replace(scratch, folder / digest.hexdigest())
    return folder / digest.hexdigest()
