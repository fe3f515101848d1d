"""Files of rows that belong to no task yet: how they are read, and what they hold. `claf2 init` makes a task of one."""

from __future__ import annotations

import csv
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from claf2.errors import ConfigError, DataError, nearest
from claf2.readers import Reader, TextExample, open_text, read_json_rows
from claf2.readers.delimited import Delimited
from claf2.readers.jsonl import Jsonl
from claf2.task import check_characters, report_damage

__all__ = ["RowFile", "examine", "read_row_file"]

DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "vertical bar"}

LETTERS = {"ko": re.compile("[\uac00-\ud7a3]"), "ja": re.compile("[\u3040-\u30ff]")}
"""Language → the letters that only it uses. Everything else counts as English."""

MOST_CLASSES = 50
"""Labels that are numbers are classes up to this many distinct values; more of them are scores."""

CHARACTERS_PER_TOKEN = {"en": 4.0, "ko": 1.5, "ja": 1.5}
"""A rough figure, from which a first ``max_seq_length`` is guessed."""

FIELDS = {"id": "id", "text_a": "text", "text_b": "text_b", "label": "label"}
"""Field of an example → the option that names its column."""

LENGTHS = (32, 64, 128, 256, 512)


@dataclass(frozen=True)
class RowFile:
    """What a file of texts with labels holds."""

    path: Path
    reader: Reader
    examples: Sequence[TextExample]

    @property
    def layout(self) -> str:
        """The format of the file in words."""
        if not isinstance(self.reader, Delimited):
            return "JSON rows"
        quoted = ", quoted" if self.reader.quoted else ""
        return f"{DELIMITERS[self.reader.delimiter]}-separated{quoted}"

    @property
    def label_counts(self) -> dict[str, int]:
        """Label → its number of rows, in the order of the labels' names."""
        counts = Counter(example.label for example in self.examples if example.label is not None)
        return dict(sorted(counts.items(), key=lambda item: (not _is_number(item[0]), _sort_key(item[0]))))

    @property
    def kind(self) -> Literal["classify", "regress"]:
        """Whether the labels are classes or scores: scores are numbers, either fractions or too many for classes."""
        labels = self.label_counts
        numbers = [label for label in labels if _is_number(label)]
        fractions = [label for label in numbers if float(label) % 1]
        is_score = len(numbers) == len(labels) and (fractions or len(labels) > MOST_CLASSES)
        return "regress" if is_score else "classify"

    @property
    def language(self) -> str:
        """The ISO 639-1 code of the texts, judged by their letters: Korean, Japanese, or else English."""
        texts = [example.text_a for example in self.examples[:1000]]
        shares = {
            code: sum(bool(letters.search(text)) for text in texts) / len(texts) for code, letters in LETTERS.items()
        }
        best = max(shares, key=lambda code: shares[code])
        return best if shares[best] > 0.3 else "en"

    @property
    def lengths(self) -> list[int]:
        """The characters of each row's texts, sorted."""
        return sorted(sum(len(text) for text in example.texts()) for example in self.examples)

    @property
    def max_seq_length(self) -> int:
        """A first guess of the length in tokens that holds 99 of 100 rows."""
        tokens = self.lengths[int(0.99 * (len(self.examples) - 1))] / CHARACTERS_PER_TOKEN[self.language] + 3
        return next((length for length in LENGTHS if length >= tokens), LENGTHS[-1])

    def findings(self) -> list[str]:
        """Return what a user should know about the rows, one sentence each."""
        lengths, labels = self.lengths, self.label_counts
        findings = [
            f"{self.path}: {len(self.examples)} rows, {self.layout}",
            f"texts: {lengths[0]} to {lengths[-1]} characters, median {statistics.median(lengths):.0f}; "
            f"language {self.language}",
        ]
        if self.kind == "regress":
            values = [float(label) for label in labels]
            findings.append(f"labels: scores from {min(values):g} to {max(values):g}")
        elif labels:
            counts = ", ".join(f"{label} {count}" for label, count in list(labels.items())[:10])
            findings.append(f"labels: {len(labels)} classes: {counts}{', …' if len(labels) > 10 else ''}")
        return findings + [f"warning: {problem}" for problem in self._problems()]

    def _problems(self) -> list[str]:
        labels_of: dict[tuple[str, ...], set[str | None]] = {}
        for example in self.examples:
            labels_of.setdefault(tuple(example.texts()), set()).add(example.label)
        duplicates = len(self.examples) - len(labels_of)
        contradictory = sum(len(labels) > 1 for labels in labels_of.values())
        empty = sum(not all(text.strip() for text in example.texts()) for example in self.examples)
        rare = [label for label, count in self.label_counts.items() if self.kind == "classify" and count < 10]
        spellings: dict[str, list[str]] = {}
        for label in self.label_counts:
            spellings.setdefault(label.strip(), []).append(label)
        problems = [
            f"the labels {', '.join(map(repr, labels))} differ in white space alone; they are different classes"
            for labels in spellings.values()
            if len(labels) > 1
        ]
        if duplicates:
            problems.append(f"{duplicates} rows repeat an earlier text")
        if contradictory:
            problems.append(f"{contradictory} texts have more than one label")
        if empty:
            problems.append(f"{empty} rows have an empty text")
        if self.kind == "classify" and len(self.label_counts) == 1:
            problems.append("all rows have the same label, so there is nothing to learn")
        if rare:
            problems.append(f"fewer than 10 rows have the label {', '.join(map(repr, rare[:5]))}")
        return problems


def read_row_file(path: Path, columns: Mapping[str, str], delimiter: str | None = None) -> RowFile:
    """Read a file of texts with labels.

    Args:
        path: a delimited file with a header, or a JSON file of rows.
        columns: example field (``id``, ``text_a``, ``text_b``, ``label``) → name of its column.
        delimiter: what separates the cells; ``None``: what makes sense of the header.

    Raises:
        DataError: when the file cannot be read, lacks a column, or holds no labelled rows.
    """
    return examine(path, _detect_reader(path, columns, delimiter))


def examine(path: Path, reader: Reader) -> RowFile:
    """Read a file with a known reader; see ``read_row_file``."""
    with report_damage(path):
        examples = [example for example in reader.read(path) if isinstance(example, TextExample)]
    for example in examples:
        check_characters(path, example, *example.label_names())
    if not examples:
        raise DataError(path, "holds no rows")
    unlabelled = next((example for example in examples if not (example.label or "").strip()), None)
    if unlabelled is not None:
        hint = "give every row a label, or leave it out"
        raise DataError(path, "the row has no label", line=unlabelled.line, hint=hint)
    return RowFile(path, reader, examples)


def _detect_reader(path: Path, columns: Mapping[str, str], delimiter: str | None = None) -> Reader:
    """Return the reader of a file, by its first line and the columns that it must have; see ``read_row_file``."""
    if not path.is_file():
        raise DataError(path, "is not a file" if path.exists() else "no such file", hint="name the training file")
    if delimiter is not None and len(delimiter) != 1:
        raise ConfigError("--delimiter", f"{delimiter!r} is not one character", hint="give one, such as ';'")
    with report_damage(path):
        return _make_reader(path, columns, delimiter)


def _make_reader(path: Path, columns: Mapping[str, str], delimiter: str | None) -> Reader:
    if path.name.removesuffix(".gz").endswith((".json", ".jsonl")):
        _check_columns(path, columns, next((list(row) for _, row in read_json_rows(path) if isinstance(row, dict)), []))
        return Jsonl(columns=columns)
    with open_text(path) as file:
        header = file.readline().rstrip("\r\n")
    names = {
        mark: next(csv.reader([header], delimiter=mark), []) for mark in ([delimiter] if delimiter else DELIMITERS)
    }
    # The delimiter that finds most of the columns; where none finds one, the one that makes the most of them.
    best = max(names, key=lambda mark: (len(set(columns.values()) & set(names[mark])), len(names[mark])))
    _check_columns(path, columns, names[best])
    return Delimited(columns=columns, delimiter=best, quoted=best != "\t" or _is_quoted(path))


def _check_columns(path: Path, columns: Mapping[str, str], names: Sequence[str]) -> None:
    if not any(names):
        raise DataError(path, "contains no rows with named columns", line=1)
    if not {"text_a", "label"} <= columns.keys():
        missing = FIELDS["label" if "text_a" in columns else "text_a"]
        raise ConfigError(
            f"--{missing}",
            f"name the column of the {missing}",
            hint=f"{path} has the columns {', '.join(map(repr, names))}",
        )
    for field, name in columns.items():
        if list(columns.values()).count(name) > 1:
            raise ConfigError(f"--{FIELDS[field]}", f"column {name!r} is used twice", hint="name another column")
        if name not in names:
            raise DataError(path, f"no column {name!r} in the header", line=1, hint=nearest(name, names))
        if names.count(name) > 1:
            problem = f"column {name!r} occurs twice in the header: {', '.join(map(repr, names))}"
            raise DataError(path, problem, line=1, hint="rename one of them")


def _is_quoted(path: Path) -> bool:
    """Say whether a tab-separated file has quoted cells: quotation marks only ever enclose whole cells."""
    cells = []
    with open_text(path) as file:
        for line, _ in zip(file, range(1000), strict=False):
            cells += [cell for cell in line.rstrip("\r\n").split("\t") if '"' in cell]
    return bool(cells) and all(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in cells)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text) is not None


def _sort_key(label: str) -> tuple[float, str]:
    return (float(label) if _is_number(label) else 0.0, label)
