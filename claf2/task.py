"""Tasks and suites: what is measured.

A task is one row of a table: its files and how to read them, its labels, its head and its metrics. A suite is a set of
tasks that are reported together, with published scores to compare with.
"""

from __future__ import annotations

import inspect
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BeforeValidator, SerializeAsAny

from claf2.errors import DataError, nearest
from claf2.metrics import Metric, metrics
from claf2.readers import Example, Reader, readers
from claf2.readers.text import DAMAGE_ERRORS, LONE_SURROGATE, damage_error, has_lone_surrogate
from claf2.registry import DISCOVERY, Component, Registry, digest, load_plugin

__all__ = [
    "Published",
    "Suite",
    "Task",
    "check_characters",
    "get_task",
    "register_suite",
    "register_task",
    "report_damage",
    "suites",
    "tasks",
]

T = TypeVar("T")

HIDDEN_LABEL = "-1"
"""What some publishers write for the labels of a test set that they keep to themselves."""


@contextmanager
def report_damage(path: Path) -> Iterator[None]:
    """Report what the standard library raises for a damaged file as a ``DataError``."""
    try:
        yield
    except DAMAGE_ERRORS as error:
        raise damage_error(path, error) from error


def check_characters(path: Path, example: Example, *labels: str) -> None:
    """Check the texts of an example: JSON may escape half of a surrogate pair, which is no character, and on which
    tokenizers crash much later.

    Raises:
        DataError: naming the line.
    """
    if any(map(has_lone_surrogate, (example.id, *example.texts(), *labels))):
        hint = "remove it, or write the whole pair"
        raise DataError(path, LONE_SURROGATE, line=example.line or None, hint=hint)


def _to_metric(value: Any) -> Metric:
    """Return the metric of that name; a metric is returned as it is."""
    metric = metrics.get(value)() if isinstance(value, str) else value
    if not isinstance(metric, Metric):
        raise ValueError(f"{value!r} is neither a metric nor the name of a metric")
    return metric


class Task(Component):
    """One row of a task table."""

    name: str
    """The name by which `data_reader.dataset` selects the task."""
    language: str
    """ISO 639-1 code of the texts."""
    head: str
    """The name of a registered head, which determines the kind of answer."""
    reader: SerializeAsAny[Reader]
    """The file format."""
    metrics: tuple[Annotated[Any, BeforeValidator(_to_metric)], ...]
    """The official metrics, or their names. The score `selects` of the first one selects the best checkpoint."""
    markers: tuple[tuple[str, str], ...] = ()
    """The (opening, closing) markers that the reader puts around spans; each of them becomes one token."""
    labels: tuple[str, ...] = ()
    """The label names in their published order; empty for tasks without classes."""
    is_corpus: bool = False
    """Whether the task trains on running text, which its data block describes, and not on examples of files."""
    files: Mapping[str, str] = {}
    """Split (`train`, `valid`, `test`) → its official file, relative to the data folder. Splits `valid_…` are evaluated
    together with `valid` if their files exist."""
    test_reader: SerializeAsAny[Reader] | None = None
    """The format of the test file, if it is not that of the other files."""
    hub: str | None = None
    """The data set on the Hugging Face hub, `owner/name` or `owner/name:configuration`."""
    hub_splits: Mapping[str, str] = {}
    """Split → its name on the hub, if that is not `train`, `validation` or `test`."""
    hub_columns: Mapping[str, str] = {}
    """Field of an example (or key, for formats in JSON) → column of the hub's data set, where the two differ."""
    source: str = ""
    """The public home of the data."""
    licence: str = ""
    """The licence of the data, as `source` states it."""
    notes: tuple[str, ...] = ()
    """What users of the data need to know, such as errata and splits with an unusual role."""
    aliases: tuple[str, ...] = ()
    """Other names of the task, such as those of CLaF's data sets."""
    version: int = 1
    """Increased when a change of the row changes what its scores mean."""

    def read(self, path: Path) -> Iterator[Example]:
        """Stream the examples of a file, and check each label against ``labels``.

        Raises:
            DataError: if the file is missing or empty, a row is malformed, or a label is unknown or hidden.
        """
        known = frozenset(self.labels)
        for example in self._examples(path):
            if known:
                for label in example.label_names():
                    if label not in known:
                        raise self._label_error(path, example, label)
            yield example

    def read_unlabelled(self, path: Path) -> Iterator[Example]:
        """Stream the examples of a file without their labels, which may be unknown or hidden.

        Raises:
            DataError: if the file is missing or empty, or a row is malformed.
        """
        for example in self._examples(path):
            yield example.unlabelled()

    def _examples(self, path: Path) -> Iterator[Example]:
        """Stream the examples of a file before any check of labels."""
        self.check_file(path)
        example = None
        with report_damage(path):
            for example in self.reader.read(path):
                check_characters(path, example)
                yield example
        if example is None:
            raise DataError(path, "contains no examples", hint="give a file with rows")

    def _label_error(self, path: Path, example: Example, label: str) -> DataError:
        line = example.line or None
        if label == HIDDEN_LABEL:
            return DataError(path, f"example {example.id!r} has a hidden label ({HIDDEN_LABEL})", line=line)
        problem = f"label {label!r} of example {example.id!r} is not a label of task {self.name!r}"
        hint = nearest(label, self.labels)
        if unicodedata.normalize("NFC", label) in self.labels:
            hint = "its letters are decomposed (NFD); convert the file to NFC: uconv -x any-nfc FILE > NEW_FILE"
        return DataError(path, problem, line=line, hint=hint)

    def check_file(self, path: Path) -> None:
        """Check that the file exists.

        Raises:
            DataError: if it does not; the message says where to download it.
        """
        if not path.is_file():
            raise DataError(
                path,
                "no such file" if not path.exists() else "is not a file",
                hint=f"set --data_dir, or download {self.name} from {self.source or 'its publisher'}",
            )

    def identity(self) -> str:
        """Return the SHA-256 of everything in the row that determines what a score means.

        File names, notes and the home of the data are not part of it. The digest is part of the keys of cached data, so
        a field that is added later must not change the digest of tasks that do not set it, as ``markers`` does.
        """
        return digest(
            {
                "name": self.name,
                "language": self.language,
                "head": self.head,
                "labels": self.labels,
                **({"markers": self.markers} if self.markers else {}),
                **({"is_corpus": True} if self.is_corpus else {}),
                "reader": [readers.name_of(type(self.reader)), self.reader.model_dump(mode="json")],
                "metrics": [[metrics.name_of(type(metric)), metric.model_dump(mode="json")] for metric in self.metrics],
                "version": self.version,
            }
        )


class Published(Component):
    """Published scores of one model: a row of a table."""

    model: str
    """The name of the model, and what distinguishes the row from others of the same model."""
    source: str
    """Where the scores were published. A dagger († at the end) means that they were not checked against it."""
    split: Literal["dev", "test"]
    """The split that the scores were measured on."""
    scores: Mapping[str, tuple[float | None, ...]]
    """Task → its scores, 0–100, in the order of the suite's ``columns``; ``None`` where none was published."""


class Suite(Component):
    """Tasks that are reported together, with one average."""

    name: str
    columns: Mapping[str, tuple[str, ...]]
    """Task → the keys of its scores as a run logs them (``valid/accuracy``). The task's score is their mean."""
    configs: Mapping[str, str]
    """Task → the name of its BaseConfigs without the recipe: ``glue/rte`` for ``glue/rte_bert``."""
    recipes: tuple[str, ...]
    """The recipes, which are the endings of those names; the first one is the default."""
    published: tuple[Published, ...] = ()
    averaged: tuple[str, ...] = ()
    """The tasks that the average includes; empty: all."""
    submission: Mapping[str, tuple[str, str]] = {}
    """File name in a submission → (task whose model predicts it, official test file that it answers)."""
    notes: str = ""
    """What readers of the table need to know."""
    aliases: tuple[str, ...] = ()

    def average(self, scores: Mapping[str, Sequence[float | None]]) -> float | None:
        """Return the mean of the tasks' scores, 0–100; ``None`` if a score is missing or undefined."""
        means = [_mean(scores.get(task, (None,))) for task in self.averaged or self.columns]
        return _mean(means)


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined and len(defined) == len(values) else None


class _TableRegistry(Registry[T]):
    """The tasks or suites of the task tables. The shipped tables are the files in `tasks/`, loaded like plug-ins."""

    # Class attributes: tasks and suites are defined in the same files, so that both registries are filled at once.

    _loaded: ClassVar[bool] = False
    _loading: ClassVar[bool] = False

    def discover(self) -> None:
        with DISCOVERY:
            if not (_TableRegistry._loaded or _TableRegistry._loading):  # a table may look up names while it is loaded
                _TableRegistry._loading = True
                try:
                    for table in sorted(task_tables().glob("*.py")):
                        load_plugin(str(table))
                    _TableRegistry._loaded = True
                finally:
                    _TableRegistry._loading = False
            super().discover()


def task_tables() -> Path:
    """Return the folder of the shipped task tables."""
    return shipped_dir("tasks")


def shipped_dir(folder: str) -> Path:
    """Return a folder that ships with the package, ``tasks`` or ``base_config``.

    In a checkout it is next to the package, in an installation inside it.
    """
    package = Path(__file__).parent
    inside = package / folder
    return inside if inside.is_dir() else package.parent / folder


tasks: Registry[Task] = _TableRegistry("task")
"""All tasks, by name and alias."""
suites: Registry[Suite] = _TableRegistry("suite")
"""All suites, by name."""


def register_task(task: Task) -> Task:
    """Register a task under its name and aliases.

    Raises:
        RegistryError: if one of the names belongs to a task from another place.
    """
    frame = inspect.stack()[1]
    for name in (task.name, *task.aliases):
        tasks.add(name, task, origin=f"{frame.filename}:{frame.lineno}")
    return task


def get_task(name: str) -> Task:
    """Return a registered task by its name or an alias, for example to register another one on the same files.

    Raises:
        RegistryError: if there is none.
    """
    return tasks.get(name)


def register_suite(suite: Suite) -> Suite:
    """Register a suite under its name and aliases.

    Raises:
        RegistryError: if one of the names belongs to a suite from another place.
    """
    frame = inspect.stack()[1]
    for name in (suite.name, *suite.aliases):
        suites.add(name, suite, origin=f"{frame.filename}:{frame.lineno}")
    return suite
