"""Files of models that are damaged: what is wrong with them, in one line."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from claf2.errors import Claf2Error, ModelError, first_line
from claf2.runtime.files import find_substitute

__all__ = ["damage", "reading_model"]


def damage(path: Path) -> str | None:
    """Return why a file cannot be what its name says, and what to do; ``None`` if nothing is seen.

    Seen are empty files, Git LFS pointers, HTML pages that were saved in the place of a download, and incomplete
    archives and safetensors files.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(512)
    if not start.strip():
        return "is empty: download it again"
    substitute = find_substitute(start)
    if substitute is not None:
        return f"is {substitute}"
    is_cut = path.suffix == ".safetensors" and size < _safetensors_size(path)
    if is_cut or (start.startswith(b"PK") and not zipfile.is_zipfile(path)):
        return f"is incomplete ({size} bytes): download it again"
    return None


def _safetensors_size(path: Path) -> int:
    """Return the least number of bytes of a safetensors file that begins like this one."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            tensors = json.loads(file.read(min(length, path.stat().st_size)))
            ends = [entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError):
            return 8 + length
    return 8 + length + max(ends, default=0)


@contextmanager
def reading_model(source: Path | str, problem: str, *patterns: str, hint: str) -> Iterator[None]:
    """Turn whatever goes wrong in the block, which reads files of a model, into one line.

    `transformers` and what it calls raise errors of any class on damaged files. A file that is visibly damaged is named
    instead of them.

    Args:
        source: the folder or hub id of the model.
        problem: what cannot be done.
        patterns: the files that are read, as globs.
        hint: what to do about it.

    Raises:
        ModelError: in place of any other error.
    """
    try:
        yield
    except Claf2Error:
        raise
    except Exception as error:
        folder = source if isinstance(source, Path) else None
        for path in (path for pattern in patterns if folder for path in sorted(folder.glob(pattern))):
            reason = damage(path)
            if reason is not None:
                raise ModelError(f"{source}: {problem}: {path.name} {reason}") from error
        raise ModelError(f"{source}: {problem}: {first_line(error).rstrip('.')}; {hint}") from error
