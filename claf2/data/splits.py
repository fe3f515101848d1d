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
    shots: int | None = None
    """The rows of each label, drawn by ``seed``; ``None``: all rows."""
    seed: int = 0

    def examples(self) -> Iterator[Example]:
        """Stream the examples in the order of the file.

        Raises:
            DataError: as ``Task.read`` does, when the cut leaves a side without a row, and when a label has fewer rows
                than are to be drawn.
        """
        if self.shots is None:
            yield from self._side()
            return
        drawn = self._draw(self.shots)
        yield from (example for index, example in enumerate(self._side()) if index in drawn)

    def _draw(self, shots: int) -> set[int]:
        """Return the positions of the rows that are drawn: those of one label do not depend on the other labels."""
        rows: dict[str, list[int]] = {}
        for index, example in enumerate(self._side()):
            rows.setdefault(str(getattr(example, "label", None)), []).append(index)
        drawn: set[int] = set()
        for label, indices in rows.items():
            if len(indices) < shots:
                raise DataError(self.path, f"label {label!r} has {len(indices)} rows, fewer than {shots} shots")
            order = generator(self.seed, "shots", self.task.name, label).permutation(len(indices))
            drawn |= {indices[place] for place in order[:shots].tolist()}
        return drawn

    def _side(self) -> Iterator[Example]:
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
        """Return what distinguishes these examples from any others: the file's digest, the task's, the cut, and what is
        drawn."""
        drawn = "" if self.shots is None else f":{self.shots}:{self.seed}"
        return f"{self.data_digest()}:{self.task.identity()}:{self.side}:{self.fraction}{drawn}"


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
