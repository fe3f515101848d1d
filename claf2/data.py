"""Where a split's examples come from: a local file, the hub, or the generated sample; whole, or cut from train."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from claf2.errors import DataError
from claf2.hub import fetch
from claf2.readers import Example
from claf2.samples import write_sample
from claf2.seed import generator
from claf2.task import Task

__all__ = ["Data", "locate"]

Origin = Literal["local", "hub", "sample"]


@dataclass(frozen=True)
class Data:
    """The examples of one split: those of a file, or one side of a cut through it.

    ``fraction`` of the rows belong to the side ``valid``, the others to ``train``; which ones depends on the
    task's name and the number of rows alone, so that every seed and every model sees the same cut.
    """

    task: Task
    path: Path
    side: Literal["whole", "train", "valid"] = "whole"
    fraction: float = 0.0

    def examples(self) -> Iterator[Example]:
        """Stream the examples in the order of the file.

        Raises:
            DataError: as ``Task.read`` does, and when the cut leaves a side without a row.
        """
        if self.side == "whole":
            yield from self.task.read(self.path)
            return
        size = sum(1 for _ in self.task.read(self.path))
        held_out = round(size * self.fraction)
        if not 0 < held_out < size:
            raise DataError(self.path, f"a valid_fraction of {self.fraction} of {size} rows leaves one side empty")
        drawn = set(generator(0, "valid_fraction", self.task.name).permutation(size)[:held_out].tolist())
        wanted = self.side == "valid"
        yield from (row for index, row in enumerate(self.task.read(self.path)) if (index in drawn) == wanted)

    def texts(self) -> Iterable[str]:
        """Stream the texts of the examples."""
        for example in self.examples():
            yield from example.texts()

    def sha256(self) -> str:
        """Return the digest of the file's bytes."""
        self.task.require(self.path)
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def identity(self) -> str:
        """Return what tells these examples from any others: the file's digest, the task's, and the cut."""
        return f"{self.sha256()}:{self.task.identity()}:{self.side}:{self.fraction}"


def locate(task: Task, split: str, *, origin: Origin, given: str | None, root: Path, cache: Path) -> Path | None:
    """Return the file of a split, or ``None`` where the task names none.

    Args:
        split: ``train``, ``valid`` or ``test``.
        origin: ``local``: ``given`` or the task's own file name, below ``root``; ``sample``: generated into ``cache``.
        given: the path from the config, when it names one.
        root: the data folder.
        cache: where generated or fetched files are kept.
    """
    if origin == "sample":
        return write_sample(task, cache / "samples" / f"{task.name}-{task.identity()[:16]}").get(split)
    name = given or task.files.get(split)
    if origin == "hub" and given is None:
        return fetch(task, split, cache)
    if name is None:
        return None
    path = root / os.path.expanduser(name)
    packed = path.with_name(path.name + ".gz")
    return packed if packed.is_file() and not path.is_file() else path
