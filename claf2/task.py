"""Task: what is measured. One row says where the files are, how to read them, the labels, the head and the metrics.
Suite: tasks that are reported together, and what was published of them."""

from __future__ import annotations

import csv
import gzip
import inspect
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BeforeValidator, SerializeAsAny

from claf2.errors import DataError, nearest
from claf2.metrics import Metric, metrics
from claf2.readers import Example, Reader, readers
from claf2.registry import Component, Registry, digest, load_plugin

__all__ = ["Published", "Suite", "Task", "register_suite", "register_task", "suites", "tasks"]

T = TypeVar("T")

DAMAGE = (UnicodeError, EOFError, gzip.BadGzipFile, zlib.error, csv.Error, RecursionError)
"""What a file raises that is cut short, garbled, in another encoding, or holds half a character."""

HIDDEN = "-1"
"""What some publishers write for the label of a test row."""


def _metric(value: Any) -> Metric:
    """Return a metric, given itself or its name."""
    found = metrics.get(value)() if isinstance(value, str) else value
    if not isinstance(found, Metric):
        raise ValueError(f"{value!r} is neither a metric nor the name of one")
    return found


class Task(Component):
    """One row of a task table."""

    name: str
    """The name that `data_reader.dataset` selects."""
    language: str
    """ISO 639-1 code of the texts."""
    head: str
    """The kind of answer: the name of a registered head."""
    reader: SerializeAsAny[Reader]
    """The file format."""
    metrics: tuple[Annotated[Any, BeforeValidator(_metric)], ...]
    """The official metrics, or their names; the first score of the first one selects the best checkpoint."""
    markers: tuple[tuple[str, str], ...] = ()
    """Pairs of marks that the reader puts around spans of a text: they become tokens of their own."""
    labels: tuple[str, ...] = ()
    """The label names in their published order; empty for tasks without classes."""
    files: Mapping[str, str] = {}
    """The official file of each split (`train`, `valid`, `test`), relative to the data folder. Splits `valid_…` are
    scored together with `valid`, where their files are there."""
    test_reader: SerializeAsAny[Reader] | None = None
    """The format of the test file where it is not that of the others."""
    hub: str | None = None
    """The data set on the Hugging Face hub, `owner/name` or `owner/name:configuration`."""
    hub_splits: Mapping[str, str] = {}
    """The hub's name of a split where it is not `train`, `validation`, `test`."""
    hub_columns: Mapping[str, str] = {}
    """Example field (of a JSON file: key) → hub column, where the hub's columns are not those of the file."""
    source: str = ""
    """The public home of the data."""
    licence: str = ""
    """The licence of the data, as its home states it."""
    notes: tuple[str, ...] = ()
    """What a user of the data has to know: known errata, splits that are used otherwise than their names say."""
    aliases: tuple[str, ...] = ()
    """Other names, e.g. CLaF's data set names."""
    version: int = 1
    """Raised when a change of the row changes what is measured."""

    def read(self, path: Path) -> Iterator[Example]:
        """Stream the examples of ``path``, each label checked against the task's own.

        Raises:
            DataError: for a missing file, a malformed row, an unknown label, or a file without a row.
        """
        self.require(path)
        known = frozenset(self.labels)
        empty = True
        for example in self._examples(path):
            empty = False
            if known:
                for label in example.label_names():
                    if label not in known:
                        if label == HIDDEN:
                            raise DataError(
                                path, f"example {example.id!r} has a hidden label", line=example.line or None
                            )
                        raise DataError(
                            path,
                            f"label {label!r} of example {example.id!r} is not one of task {self.name!r}",
                            line=example.line or None,
                            hint=nearest(label, known),
                        )
            yield example
        if empty:
            raise DataError(path, "holds no example")

    def _examples(self, path: Path) -> Iterator[Example]:
        """Stream what the reader reads, and refuse what is no text."""
        try:
            for example in self.reader.read(path):
                for text in (example.id, *example.texts()):
                    text.encode()
                yield example
        except DAMAGE as error:
            raise DataError(path, f"damaged, or not in UTF-8: {type(error).__name__}: {error}") from error

    def require(self, path: Path) -> None:
        """Raise ``DataError`` where there is no such file."""
        if not path.is_file():
            raise DataError(
                path,
                "no such file" if not path.exists() else "no file",
                hint=f"{self.name} is to be had from {self.source or 'its publisher'}",
            )

    def identity(self) -> str:
        """Return a digest of all in the row that determines what a score means."""
        return digest(
            {
                "name": self.name,
                "language": self.language,
                "head": self.head,
                "labels": self.labels,
                **({"markers": self.markers} if self.markers else {}),
                "reader": [readers.name_of(type(self.reader)), self.reader.model_dump(mode="json")],
                "metrics": [[metrics.name_of(type(each)), each.model_dump(mode="json")] for each in self.metrics],
                "version": self.version,
            }
        )


class Published(Component):
    """A row of somebody's table."""

    model: str
    """The model, and what else tells the row from others."""
    source: str
    """Where it stands; a dagger behind it: recalled, and not checked against the source."""
    split: Literal["dev", "test"]
    """What it was measured on."""
    scores: Mapping[str, tuple[float | None, ...]]
    """The scores of each task, 0–100, in the order of the suite's own; ``None`` where there is none."""


class Suite(Component):
    """Tasks that are reported together, with one average."""

    name: str
    columns: Mapping[str, tuple[str, ...]]
    """Task → the keys of its scores, as a run logs them (``valid/accuracy``); their mean is the task's."""
    configs: Mapping[str, str]
    """Task → its BaseConfigs' name without the recipe: ``glue/rte`` of ``glue/rte_bert``."""
    recipes: tuple[str, ...]
    """The endings of those names; the first one is taken where none is asked for."""
    published: tuple[Published, ...] = ()
    averaged: tuple[str, ...] = ()
    """The tasks of the average, where it is not all of them."""
    submission: Mapping[str, tuple[str, str]] = {}
    """File of a submission → the task whose model answers, and the official test file that it answers."""
    notes: str = ""
    """What a reader of the table has to know."""
    aliases: tuple[str, ...] = ()

    def average(self, scores: Mapping[str, Sequence[float | None]]) -> float | None:
        """Return the mean of the tasks' scores; ``None`` where one is missing or undefined."""
        means = [_mean(scores.get(task, (None,))) for task in self.averaged or self.columns]
        return _mean(means)


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined and len(defined) == len(values) else None


class _Tables(Registry[T]):
    """What the tables hold: the shipped ones are files in `tasks/`, loaded exactly as a user's plug-in is."""

    _loaded: ClassVar[bool] = False

    def discover(self) -> None:
        if not _Tables._loaded:
            _Tables._loaded = True
            for table in sorted(tables().glob("*.py")):
                load_plugin(str(table))
        super().discover()


def tables() -> Path:
    """Return the folder of the shipped task tables: beside the package in a checkout, inside it when installed."""
    return shipped("tasks")


def shipped(folder: str) -> Path:
    """Return a folder that ships with the package: ``tasks`` or ``base_config``."""
    package = Path(__file__).parent
    inside = package / folder
    return inside if inside.is_dir() else package.parent / folder


tasks: Registry[Task] = _Tables("task")
suites: Registry[Suite] = _Tables("suite")


def register_task(task: Task) -> Task:
    """File a task under its name and aliases."""
    frame = inspect.stack()[1]
    for name in (task.name, *task.aliases):
        tasks.add(name, task, origin=f"{frame.filename}:{frame.lineno}")
    return task


def register_suite(suite: Suite) -> Suite:
    """File a suite under its name and aliases."""
    frame = inspect.stack()[1]
    for name in (suite.name, *suite.aliases):
        suites.add(name, suite, origin=f"{frame.filename}:{frame.lineno}")
    return suite
