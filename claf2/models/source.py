"""Where a model's files are: a folder, an archive, a URL of one, or the hub."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from http.client import HTTPException
from pathlib import Path
from typing import IO

from claf2.errors import ModelError, nearest

__all__ = ["cache_dir", "resolve", "weights_digest"]

logger = logging.getLogger("claf2")

ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")
TIMEOUT = 60.0
"""Seconds without an answer after which a server counts as out of reach."""


def cache_dir() -> Path:
    """Return the folder for what can be made or fetched again: ``$CLAF2_CACHE``, else `~/.cache/claf2`."""
    return Path(os.environ.get("CLAF2_CACHE") or Path.home() / ".cache" / "claf2")


def resolve(name: str, *, cache: Path) -> Path | str:
    """Return the folder of a model, or the name itself where only the hub can know it.

    Args:
        name: a folder, an archive (`.tar.gz`, `.tgz`, `.tar`, `.zip`), an http(s) URL of one, or a hub id.
        cache: where archives are unpacked, under the SHA-256 of their bytes: archives of one name cannot collide.

    Raises:
        ModelError: when there is nothing usable at ``name``.
    """
    if name.startswith(("http://", "https://")):
        return _unpacked(_downloaded(name, cache), name, cache)
    path = Path(name).expanduser()
    if not name or path.is_dir():
        if name and (path / "config.json").is_file():
            return path
        inside = sorted(each.parent.name for each in path.glob("*/config.json")) if name else []
        hint = f"; there is one in {', '.join(inside[:5])}" if inside else ""
        raise ModelError(f"model {name!r}: no config.json in it; a model is stored as save_pretrained writes it{hint}")
    if path.is_file():
        return _unpacked(path, name, cache)
    if name.endswith(ARCHIVES) or name.startswith((".", "/", "~")) or name.count("/") > 1:
        siblings = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
        raise ModelError(f"model {name}: no such file or folder; {nearest(path.name, siblings)}")
    return name


def weights_digest(source: Path | str) -> str:
    """Return the digest of the configuration and weights in a folder; a hub id or ``scratch`` stands for itself."""
    if not isinstance(source, Path):
        return source
    digest = hashlib.sha256()
    for path in sorted(source.iterdir()):
        if path.name == "config.json" or path.suffix in (".safetensors", ".bin"):
            with path.open("rb") as file:
                digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _with_config(folder: Path, name: str) -> Path:
    """Return the folder, of this one and those inside, that holds a model."""
    if (folder / "config.json").is_file():
        return folder
    found = sorted(folder.rglob("config.json"), key=lambda path: (len(path.parts), str(path)))
    if not found:
        raise ModelError(f"model {name}: no config.json in it; a model is stored as save_pretrained writes it")
    return found[0].parent


def _unpacked(archive: Path, name: str, cache: Path) -> Path:
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    target = cache / "models" / digest
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".unpack-", dir=target.parent))
        try:
            _unpack(archive, name, scratch)
            os.replace(scratch, target)
        except OSError:
            if not target.is_dir():  # otherwise another process was faster, and unpacked the same
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return _with_config(target, name)


def _unpack(archive: Path, name: str, target: Path) -> None:
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as file:
                damaged = file.testzip()
                if damaged is not None:
                    raise ModelError(f"model {name}: damaged archive: {damaged} in it is not whole")
                file.extractall(target)  # which keeps inside the target whatever the member names say
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar:
                tar.extractall(target, filter="data")
        else:
            raise ModelError(
                f"model {name}: neither a folder nor an archive ({', '.join(ARCHIVES)}), or a truncated one"
            )
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise ModelError(f"model {name}: damaged or truncated archive: {error}; fetch it again") from error


def _downloaded(url: str, cache: Path) -> Path:
    """Return the file behind a URL, fetched unless the server says that it is the one we have."""
    folder = cache / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    memo = folder / f"{hashlib.sha256(url.encode()).hexdigest()}.json"
    known: dict[str, str] = json.loads(memo.read_text(encoding="utf-8")) if memo.is_file() else {}
    have = folder / known["sha256"] if known and (folder / known["sha256"]).is_file() else None
    headers = {"If-None-Match": known["etag"]} if have is not None and known.get("etag") else {}
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            fetched = _stored(answer, answer.headers.get("Content-Length"), url, folder)
            note = {"url": url, "sha256": fetched.name, "etag": answer.headers.get("ETag") or ""}
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 304 and have is not None:
            return have
        raise ModelError(f"model {url}: the server answers {error.code} {error.reason}") from error
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        if have is not None:
            logger.warning("%s is out of reach (%s): the copy fetched before is used", url, error)
            return have
        raise ModelError(f"model {url}: out of reach: {error}") from error
    scratch = memo.with_suffix(f".{os.getpid()}")
    scratch.write_text(json.dumps(note), encoding="utf-8")
    os.replace(scratch, memo)
    return fetched


def _stored(answer: IO[bytes], announced: str | None, url: str, folder: Path) -> Path:
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
                raise ModelError(f"model {url}: {size} of {announced} bytes came; fetch it again")
        except BaseException:
            scratch.unlink()
            raise
    os.replace(scratch, folder / digest.hexdigest())
    return folder / digest.hexdigest()
