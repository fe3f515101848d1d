"""Samples: a deterministic, learnable miniature of each kind of task, in the task's own file format and language."""

from __future__ import annotations

import hashlib
import random
import sys
from abc import ABC, abstractmethod
from functools import cache
from pathlib import Path

from claf2.data.samples.lexicon import LEXICA, Lexicon
from claf2.errors import Claf2Error
from claf2.readers import Example
from claf2.registry import Component, Registry
from claf2.runtime.files import create_dir_atomic
from claf2.task import Task

__all__ = ["Generator", "generate", "register_sample", "samples", "write_sample"]

SIZES = {"train": 1500, "valid": 200, "test": 200}
"""How many examples a split has."""


class Generator(Component, ABC):
    """Makes examples for one kind of head, of any task that has it."""

    @abstractmethod
    def example(self, task: Task, words: Lexicon, dice: random.Random, identity: str) -> Example:
        """Make one example of ``task`` from the words of its language; ``dice`` is the only source of chance."""


samples: Registry[type[Generator]] = Registry("sample", home="claf2.data.samples")
"""The registered generators of samples, by kind of head."""
register_sample = samples.register

MOST_REPEATED = 10_000
"""How many examples in a row may repeat earlier ones before a generator is taken to have no others."""


def generate(task: Task, split: str, size: int | None = None) -> list[Example]:
    """Return the examples of a split, the same ones every time; no split repeats a text of another.

    Raises:
        Claf2Error: when nothing generates examples for the task's head or language.
    """
    if task.language not in LEXICA:
        raise Claf2Error(f"no sample can be generated in {task.language!r}, only in {', '.join(sorted(LEXICA))}")
    generator = _generator(task)()
    seen: set[tuple[str, ...]] = set()
    for current in _splits(task):
        dice = random.Random(f"{task.name}/{current}")
        usual = SIZES.get(current, SIZES["valid"])
        wanted = size or usual if current == split else usual
        made: list[Example] = []
        repeated = 0
        while len(made) < wanted:
            example = generator.example(task, LEXICA[task.language], dice, f"{task.name}-{current}-{len(made):05d}")
            texts = tuple(example.texts())
            if texts not in seen:
                seen.add(texts)
                made.append(example)
                repeated = 0
                continue
            repeated += 1
            if repeated == MOST_REPEATED:
                raise Claf2Error(f"{type(generator).__name__} made only {len(seen)} different examples: ask for fewer")
        if current == split:
            return made
    raise Claf2Error(f"no split {split!r}; there are {', '.join(_splits(task))}")


def _generator(task: Task) -> type[Generator]:
    if task.head not in samples.names():
        hint = "leave out --sample and give data, or register a generator with claf2.data.samples.register_sample"
        raise Claf2Error(f"no sample can be made for the head {task.head!r} of task {task.name!r}; {hint}")
    return samples.get(task.head)


def _splits(task: Task) -> list[str]:
    return [*SIZES, *(split for split in task.files if split not in SIZES)]


@cache
def _sources_digest(generator: type[Generator]) -> str:
    """Return the digest of a generator's source code: of this package, and of the plug-in that defines it."""
    paths = sorted(Path(__file__).parent.glob("*.py"))
    plugin = getattr(sys.modules[generator.__module__], "__file__", None)
    if plugin is not None and Path(plugin) not in paths:
        paths.append(Path(plugin))
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:8]


def write_sample(task: Task, folder: Path) -> dict[str, Path]:
    """Write a sample of every split that the task has files for, in its own format, and return the paths.

    They are below ``folder``, in a folder of this version of the generators: a sample that another version left in a
    cache is never taken for this one's. One that is there and intact is not written again.

    Raises:
        Claf2Error: when nothing generates examples for the task's head or language.
    """
    folder = folder / _sources_digest(_generator(task))
    splits = [split for split in _splits(task) if split in task.files or split != "test"]
    paths = {split: folder / Path(task.files.get(split, f"{split}.txt")).name for split in splits}

    def fill(target: Path) -> None:
        for split, path in paths.items():
            task.reader.write(generate(task, split), target / path.name)

    create_dir_atomic(folder, fill)
    return paths
