"""Leakage: rows of a benchmark that occur in a corpus, which a model that was trained on the corpus has seen.

A row leaks if an n-gram of one of its texts occurs in a document. The rule and its length are those of GPT-3; the same
pass may write the corpus without the lines that leak.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from claf2.corpus.ngrams import NGRAM_SIZES, SHORTEST_TEXT, SPLITTERS, NgramIndex
from claf2.corpus.sources import Document, TextSource, list_files, read_documents
from claf2.errors import DataError, RunError
from claf2.readers import Example
from claf2.runtime.files import read_json, replace_file_atomic, sha256, write_json
from claf2.task import Task

__all__ = [
    "REPORT",
    "Benchmark",
    "BenchmarkSplit",
    "LeakageCounts",
    "find_leakage",
    "find_leaked_lines",
    "find_reports",
    "read_benchmark",
    "report_leakage",
    "report_removal",
    "write_report",
]

VERSION = 1
"""The version of a report."""
REPORT = "leakage.json"
"""The name of a report beside the files of a corpus."""

WITHOUT_SPACES = ("ja", "zh", "th")
"""The languages in which words are not separated, so that n-grams of characters are compared."""
EXAMPLES = 3
"""How many leaked rows of a split a report names."""
UNITS_AT_ONCE = 2**17
"""About how many units are looked up at once: more than a document has, since each look-up has a fixed cost."""


@dataclass
class BenchmarkSplit:
    """The rows of one file of a task."""

    task: str
    split: str
    file: Path
    unit: str
    """What n-grams consist of: ``words`` or ``characters``."""
    ids: list[str] = field(default_factory=list)
    texts: list[tuple[int, ...]] = field(default_factory=list)
    """The numbers of the texts of each row that are long enough to be looked up."""


class Benchmark:
    """Rows of a benchmark, and the index of their n-grams. Equal texts, such as the context of several questions, are
    stored once."""

    def __init__(self) -> None:
        self.splits: list[BenchmarkSplit] = []
        self.missing: list[str] = []
        """What has no file: ``task/split``."""
        self.indexes = {unit: NgramIndex(unit) for unit in NGRAM_SIZES}
        self._numbers: dict[bytes, int | None] = {}

    def add(self, task: Task, split: str, path: Path, examples: Iterable[Example]) -> None:
        """Add the rows of a file."""
        rows = ((example.id, tuple(example.texts())) for example in examples)
        self.add_texts(split, path, task.language, rows, task=task.name)

    def add_texts(
        self, split: str, path: Path, language: str, rows: Iterable[tuple[str, Sequence[str]]], *, task: str = ""
    ) -> None:
        """Add rows, each given by its id and its texts."""
        unit = "characters" if language in WITHOUT_SPACES else "words"
        added = BenchmarkSplit(task, split, path, unit)
        for identity, texts in rows:
            numbers = [self._number(unit, text) for text in dict.fromkeys(texts)]
            added.ids.append(identity)
            added.texts.append(tuple(number for number in numbers if number is not None))
        self.splits.append(added)

    def _number(self, unit: str, text: str) -> int | None:
        key = blake2b(f"{unit} {text}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if key not in self._numbers:
            number = len(self._numbers)
            self._numbers[key] = number if self.indexes[unit].add(number, text) else None
        return self._numbers[key]


@dataclass
class LeakageCounts:
    """What was found in a corpus."""

    documents: int = 0
    lines: int = 0
    leaked_documents: int = 0
    leaked_lines: int = 0
    """The lines of which a part is in the benchmark."""
    emptied_documents: int = 0
    """The documents without any other line."""
    places: dict[int, str] = field(default_factory=dict)
    """Text of the benchmark → a document in which it was found."""
    written: list[Path] = field(default_factory=list)
    """The files without the lines that leak."""


def read_benchmark(
    tasks: Sequence[Task],
    data_dir: Path,
    files: Mapping[str, Path] | None = None,
    on_task: Callable[[int], None] | None = None,
) -> Benchmark:
    """Read all splits of some tasks except the training data, as far as there are files.

    Args:
        tasks: the tasks.
        data_dir: the folder of the data.
        files: task → a file that is read instead, as its split ``valid``.
        on_task: is called with the number of tasks that were read.

    Raises:
        DataError: if there is no file at all, or one is damaged.
    """
    benchmark = Benchmark()
    for count, task in enumerate(tasks, start=1):
        own = (files or {}).get(task.name)
        if own is not None:
            task.check_file(own)
        for split, path in (
            {"valid": own}.items() if own else ((name, data_dir / file) for name, file in task.files.items())
        ):
            if split == "train" or task.is_corpus:
                continue
            if not path.is_file():
                benchmark.missing.append(f"{task.name}/{split}")
                continue
            is_other = split == "test" and task.test_reader is not None
            reading = task.model_copy(update={"reader": task.test_reader}) if is_other else task
            benchmark.add(task, split, path, reading.read_unlabelled(path))
        if on_task is not None:
            on_task(count)
    if not benchmark.splits:
        raise DataError(data_dir, "has no file of these tasks", hint="set --data_dir to the folder of their data")
    for index in benchmark.indexes.values():
        index.freeze()
    return benchmark


def find_leakage(
    benchmark: Benchmark,
    sources: Sequence[TextSource],
    *,
    remove_to: Path | None = None,
    on_read: Callable[[int], None] | None = None,
) -> LeakageCounts:
    """Look for a benchmark in a corpus.

    Args:
        benchmark: the rows.
        sources: the text. One document is in memory at a time, and a batch of short ones.
        remove_to: a folder for the same files in JSON Lines, without the lines that leak; ``None``: nothing is written.
        on_read: is called now and then with the bytes that were read.

    Raises:
        DataError: if a file cannot be read.
        RunError: if the folder holds one of the files already.
    """
    counts, done = LeakageCounts(), 0
    files = [(source, path) for source, paths in zip(sources, list_files(sources), strict=True) for path in paths]
    targets = _targets([path for _, path in files], remove_to)
    for (source, path), target in zip(files, targets, strict=True):

        def report(read: int, before: int = done) -> None:
            if on_read is not None:
                on_read(before + read)

        documents = read_documents(path, text_field=source.text_field, on_read=report)
        with ExitStack() as stack:
            file = None
            if target is not None:
                file = stack.enter_context(stack.enter_context(replace_file_atomic(target)).open("w", encoding="utf-8"))
            for document, leaked in find_leaked_lines(benchmark, documents, counts):
                _count(document, leaked, counts, file)
        if target is not None:
            counts.written.append(target)
        done += path.stat().st_size
    return counts


def _targets(paths: Sequence[Path], folder: Path | None) -> list[Path | None]:
    """Return where each file is written. Where a name is taken, a number is appended."""
    if folder is None:
        return [None] * len(paths)
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder}: is not a folder; give another one with --remove")
    numbers: defaultdict[str, int] = defaultdict(lambda: 1)
    targets: dict[Path, None] = {}
    for path in paths:
        stem = path.name.split(".")[0] or "text"
        target = folder / f"{stem}.jsonl"
        while target in targets:  # a file may be called as another one with its number
            numbers[stem] += 1
            target = folder / f"{stem}-{numbers[stem]}.jsonl"
        if target.exists():
            raise RunError(f"{target}: exists already; give another folder with --remove")
        targets[target] = None
    return list(targets)


def _count(document: Document, leaked: Sequence[int], counts: LeakageCounts, file: TextIO | None) -> None:
    """Count a document, and write what is left of it."""
    counts.documents += 1
    counts.lines += document.text.count("\n") + 1
    text = document.text
    if leaked:
        counts.leaked_documents += 1
        counts.leaked_lines += len(leaked)
        dropped = set(leaked)
        text = "\n".join(line for number, line in enumerate(text.split("\n")) if number not in dropped)
        if not text.strip():
            counts.emptied_documents += 1
            return
    if file is not None:
        file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")


def find_leaked_lines(
    benchmark: Benchmark, documents: Iterable[Document], counts: LeakageCounts
) -> Iterator[tuple[Document, list[int]]]:
    """Yield each document with the numbers of its lines of which a part is in the benchmark.

    Args:
        benchmark: the rows.
        documents: the documents. A batch of them is in memory at a time.
        counts: gets the places where texts of the benchmark were found.
    """
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= UNITS_AT_ONCE:
            yield from _look_up(benchmark, batch, counts)
            batch, size = [], 0
    yield from _look_up(benchmark, batch, counts)


def _look_up(
    benchmark: Benchmark, batch: list[Document], counts: LeakageCounts
) -> Iterator[tuple[Document, list[int]]]:
    leaked: list[set[int]] = [set() for _ in batch]
    for unit, index in benchmark.indexes.items():
        if not len(index) or not batch:
            continue
        split = [SPLITTERS[unit](document.text) for document in batch]
        units = np.concatenate([text.units for text in split])
        owners = np.repeat(np.arange(len(batch), dtype=np.int32), [len(text.units) for text in split])
        is_found, news = index.find(units, owners)
        for text, place in news:
            counts.places.setdefault(text, batch[place].id)
        lines = np.concatenate([text.lines for text in split])[is_found]
        pairs = np.unique(np.stack([owners[is_found], lines]), axis=1) if len(lines) else np.zeros((2, 0), np.int32)
        for place, line in pairs.T.tolist():
            leaked[place].add(line)
    for document, numbers in zip(batch, leaked, strict=True):
        yield document, sorted(numbers)


def report_leakage(benchmark: Benchmark, counts: LeakageCounts, files: Sequence[Path]) -> dict[str, Any]:
    """Return the report of a corpus as JSON values.

    Args:
        benchmark: the rows, after ``find_leakage``.
        counts: what it returned.
        files: the files that were read.
    """
    found = set().union(*(index.found() for index in benchmark.indexes.values()))
    return {
        "version": VERSION,
        "ngram": {
            unit: {"size": NGRAM_SIZES[unit], "shortest": SHORTEST_TEXT[unit]}
            for unit in sorted({rows.unit for rows in benchmark.splits})
        },
        "removed": False,
        "files": _describe_files(files),
        "corpus": {name: value for name, value in vars(counts).items() if isinstance(value, int)},
        "splits": [_report_split(rows, found, counts.places) for rows in benchmark.splits],
        "not_checked": benchmark.missing,
    }


def report_removal(report: Mapping[str, Any], written: Sequence[Path]) -> dict[str, Any]:
    """Return the report of the files that were written without the lines that leak. Its counts say what was removed."""
    return {**report, "removed": True, "files": _describe_files(written)}


def _describe_files(paths: Sequence[Path]) -> list[dict[str, Any]]:
    return [{"name": path.name, "bytes": path.stat().st_size} for path in paths]


def _report_split(rows: BenchmarkSplit, found: set[int], places: Mapping[int, str]) -> dict[str, Any]:
    leaked = [row for row, texts in enumerate(rows.texts) if found.intersection(texts)]
    whole = [row for row in leaked if found.issuperset(rows.texts[row])]
    return {
        "task": rows.task,
        "split": rows.split,
        "sha256": sha256(rows.file),
        "unit": rows.unit,
        "rows": len(rows.ids),
        "too_short": sum(not texts for texts in rows.texts),
        "leaked": len(leaked),
        "whole": len(whole),
        "examples": [
            {
                "row": rows.ids[row],
                "document": next((places[text] for text in rows.texts[row] if text in places), None),
            }
            for row in leaked[:EXAMPLES]
        ],
    }


def write_report(folder: Path, report: Mapping[str, Any]) -> Path:
    """Write a report beside the files of a corpus, and return its path."""
    write_json(folder / REPORT, report)
    return folder / REPORT


def find_reports(files: Sequence[Path]) -> dict[str, Any] | None:
    """Return what is known of the leakage into the files of a corpus; ``None`` if there is no report beside them.

    A report belongs to files by their names and sizes.

    Returns:
        The number of files, of those that a report is about, and for each split the leaked rows and all rows. If
        several reports name a split, the sum of leaked rows is an upper bound.
    """
    checked, removed = 0, True
    splits: dict[str, dict[str, int]] = {}
    for folder in sorted({path.parent for path in files}):
        if not (folder / REPORT).is_file():
            continue
        report = read_json(folder / REPORT)
        if report.get("version") != VERSION or "ngram" not in report:  # a file of the user's of that name
            continue
        known = {(entry["name"], entry["bytes"]) for entry in report["files"]}
        here = [path for path in files if path.parent == folder and (path.name, path.stat().st_size) in known]
        if not here:
            continue
        checked += len(here)
        removed = removed and report["removed"]
        for entry in report["splits"]:
            name = f"{entry['task']}/{entry['split']}"
            leaked = 0 if report["removed"] else entry["leaked"]
            splits[name] = {"leaked": splits.get(name, {}).get("leaked", 0) + leaked, "rows": entry["rows"]}
    if not checked:
        return None
    return {"files": len(files), "checked": checked, "removed": removed, "splits": splits}
