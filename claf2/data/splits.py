"""The examples of a split: from a local file, the hub, or a generated sample; all of them, or one side of a cut."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from claf2.data.hub import download_split
from claf2.data.samples import write_sample
from claf2.errors import DataError
from claf2.readers import Example
from claf2.runtime.files import sha256
from claf2.runtime.seed import generator
from claf2.task import Task

__all__ = ["SplitData", "locate_split"]


@dataclass(frozen=True)
class SplitData:
    """The examples of one split: those of a file, or one side of a cut through it.

    ``fraction`` of the rows belong to the side ``valid``, the others to ``train``. Which ones depends on the task's
    name and the number of rows alone, so that every seed and every model sees the same cut.
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
        valid_size = round(size * self.fraction)
        if not 0 < valid_size < size:
            raise DataError(self.path, f"valid_fraction {self.fraction} of {size} rows leaves a split empty: change it")
        permutation = generator(0, "valid_fraction", self.task.name).permutation(size)
        valid_rows = set(permutation[:valid_size].tolist())
        is_valid = self.side == "valid"
        yield from (row for index, row in enumerate(self.task.read(self.path)) if (index in valid_rows) == is_valid)

    def texts(self) -> Iterable[str]:
        """Stream the texts of the examples."""
        for example in self.examples():
            yield from example.texts()

    def data_digest(self) -> str:
        """Return the digest of the file's bytes."""
        self.task.check_file(self.path)
        return sha256(self.path)

    def identity(self) -> str:
        """Return what distinguishes these examples from any others: the file's digest, the task's, and the cut."""
        return f"{self.data_digest()}:{self.task.identity()}:{self.side}:{self.fraction}"


def locate_split(
    task: Task,
    split: str,
    *,
    source: Literal["local", "hub", "sample"],
    given: str | None,
    data_dir: Path,
    cache: Path,
) -> Path | None:
    """Return the file of a split; ``None`` where the task names no such file.

    Args:
        task: whose split it is.
        split: ``train``, ``valid``, ``test``, or a further one of the task.
        source: ``local``: the file ``given``, or the task's own file name, below ``data_dir``; ``hub``: downloaded into
            ``cache``, unless a file is ``given``; ``sample``: generated into ``cache``.
        given: the path from the config, when it names one.
        data_dir: the folder of local files.
        cache: where generated and downloaded files are kept.
    """
    if source == "sample":
        return write_sample(task, cache / "samples" / f"{task.name}-{task.identity()[:16]}").get(split)
    name = given or task.files.get(split)
    if source == "hub" and given is None:
        return download_split(task, split, cache)
    if name is None:
        return None
    path = data_dir / os.path.expanduser(name)
    compressed = path.with_name(path.name + ".gz")
    return compressed if compressed.is_file() and not path.is_file() else path
