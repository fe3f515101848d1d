"""Samples: a deterministic, learnable miniature of each kind of task, in the task's own file format and language."""

from __future__ import annotations

import random
import shutil
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path

from claf2.errors import Claf2Error
from claf2.readers import Example
from claf2.registry import Component, Registry
from claf2.samples.lexicon import LEXICA, Lexicon
from claf2.task import Task

__all__ = ["Generator", "generate", "register_sample", "samples", "write_sample"]

SIZES = {"train": 1500, "valid": 200, "test": 200}
"""How many examples a split has."""


class Generator(Component, ABC):
    """Makes examples for one kind of head, of any task that has it."""

    @abstractmethod
    def example(self, task: Task, words: Lexicon, dice: random.Random, identity: str) -> Example:
        """Make one example of ``task`` from the words of its language; ``dice`` is the only source of chance."""


samples: Registry[type[Generator]] = Registry("sample", home="claf2.samples")
register_sample = samples.register


def generate(task: Task, split: str, size: int | None = None) -> list[Example]:
    """Return the examples of a split, the same ones every time; no split repeats a text of another.

    Raises:
        Claf2Error: when nothing generates examples for the task's head or language.
    """
    if task.language not in LEXICA:
        raise Claf2Error(f"no sample can be made in {task.language!r}, only in {', '.join(sorted(LEXICA))}")
    generator = samples.get(task.head)()
    seen: set[tuple[str, ...]] = set()
    for each in _splits(task):
        dice = random.Random(f"{task.name}/{each}")
        usual = SIZES.get(each, SIZES["valid"])
        wanted = size or usual if each == split else usual
        made: list[Example] = []
        while len(made) < wanted:
            example = generator.example(task, LEXICA[task.language], dice, f"{task.name}-{each}-{len(made):05d}")
            texts = tuple(example.texts())
            if texts not in seen:
                seen.add(texts)
                made.append(example)
        if each == split:
            return made
    raise Claf2Error(f"no split {split!r}; there are {', '.join(_splits(task))}")


def _splits(task: Task) -> list[str]:
    return [*SIZES, *(split for split in task.files if split not in SIZES)]


def write_sample(task: Task, folder: Path) -> dict[str, Path]:
    """Write a sample of every split that the task has files for, in its own format, and return where.

    A folder that is there is taken as it is, since it would get the same bytes again.
    """
    splits = [split for split in _splits(task) if split in task.files or split != "test"]
    paths = {split: folder / Path(task.files.get(split, f"{split}.txt")).name for split in splits}
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            for split, path in paths.items():
                task.reader.write(generate(task, split), scratch / path.name)
            scratch.replace(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was faster, and wrote the same
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return paths
