"""The rows of a data set, as the checks see them: texts, label, and position in the file."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from claf2.corpus.scripts import SCRIPTS
from claf2.corpus.sources import COMPRESSED, UNREADABLE
from claf2.errors import DataError
from claf2.readers import DialogueExample, Example, SpanExample, open_text, read_json_rows, read_lines
from claf2.readers.squad import squad_reader
from claf2.readers.text import LONE_SURROGATE, has_lone_surrogate, read_quoted
from claf2.task import Task, report_damage, tasks

__all__ = [
    "JSON_ENDINGS",
    "TABLE_ENDINGS",
    "DataRow",
    "RowSplit",
    "format_of_rows",
    "guess_split",
    "is_json_list",
    "language_by_letters",
    "read_task_split",
    "read_untyped_split",
]

TEXT_NAMES = (
    ("text_a", "text_b"), ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"),
    ("text",), ("sentence",), ("document",), ("comments",), ("title",), ("question",), ("instruction",),
)  # fmt: skip
"""Column names of texts, for files without a task. The first ones that a file has are used."""
LABEL_NAMES = ("label", "gold_label", "labels", "class", "gold", "score")
JSON_ENDINGS = (".json", ".jsonl", ".ndjson")
"""The endings of files with JSON objects as rows."""
TABLE_ENDINGS = {".tsv": "\t", ".csv": ","}
"""The ending of a file with a header and columns → what separates them."""
OTHER_ENDINGS = tuple({*UNREADABLE, *COMPRESSED, ".parquet", ".npy", ".npz", ".xls", ".xlsx"} - {".gz"})
"""The endings of files that are certainly not lines of text, besides those that have a reader."""
SPLIT_NAMES = {
    "train": "train", "training": "train", "valid": "valid", "validation": "valid", "dev": "valid",
    "development": "valid", "test": "test", "testing": "test",
}  # fmt: skip
KANA_OR_HAN = re.compile(f"[{SCRIPTS['ja']}]")
NAME_WORD = re.compile("[A-Z]?[a-z]+|[A-Z]+")


@dataclass(frozen=True, slots=True)
class DataRow:
    """A row of a data set."""

    id: str
    line: int
    """The line of the row, or its number in a JSON list, from 1; 0 if unknown."""
    texts: tuple[str, ...]
    label: str | None
    """Its gold answer as text; ``None`` if it is unlabelled."""
    labels: tuple[str, ...]
    """The names of its labels: one for classification, one per token for tags."""
    compared: tuple[str, ...]
    """The texts by which near duplicates are found, without the context that many questions share."""


@dataclass(frozen=True)
class RowSplit:
    """The rows of one file."""

    name: str
    path: Path
    rows: Sequence[DataRow]
    fields: tuple[str, ...]
    """The names of the texts of a row."""
    language: str
    """ISO 639-1 code of the texts; empty if unknown."""


def read_task_split(name: str, path: Path, task: Task) -> RowSplit:
    """Read a file by the reader of its task.

    Args:
        name: what the split is called.
        path: the file.
        task: the task. Its test reader is used for ``test``, whose labels may be absent or hidden.

    Raises:
        DataError: if the file or a row does not follow the format.
    """
    if name == "test" and task.test_reader is not None:
        task = task.model_copy(update={"reader": task.test_reader})
    examples = task.read_unlabelled(path) if name == "test" else task.read(path)
    rows = [_to_row(example) for example in examples]
    fields = ("question", "context") if task.head == "span" else ("text_a", "text_b")[: len(rows[0].texts)]
    return RowSplit(name, path, rows, fields, task.language)


def _to_row(example: Example) -> DataRow:
    texts, labels = tuple(example.texts()), tuple(example.label_names())
    golds = [getattr(example, field) for field in example.gold_fields]
    label = None if any(gold is None for gold in golds) else " ".join(map(_describe, golds))
    if isinstance(example, DialogueExample):
        compared: tuple[str, ...] = ()  # each turn repeats those before it
    else:
        compared = texts[:1] if isinstance(example, SpanExample) else texts
    return DataRow(example.id, example.line, texts, label, labels, compared)


def _describe(gold: Any) -> str:
    return gold if isinstance(gold, str) else str(gold)


def format_of_rows(path: Path) -> str:
    """Return the ending of a file's name without that of its compression: ``.jsonl``, ``.tsv``, …"""
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def read_untyped_split(path: Path, texts: Sequence[str] = (), label: str | None = None) -> RowSplit:
    """Read a file that no task describes.

    Args:
        path: JSON with one object per line or one list of objects, a table with a header (``.tsv``, ``.csv``), a
            ``.json`` file in SQuAD's format, or one text per line.
        texts: the names of the columns or keys with text; empty: the usual ones.
        label: that of the label; ``None``: the usual ones.

    Raises:
        DataError: if the format cannot be read, there is no such column, or a row is malformed.
    """
    kind, split = format_of_rows(path), guess_split(path)
    if not path.is_file():
        raise DataError(path, "no such file", hint="give files, or --base_config with --data_dir")
    has_columns = kind in (*JSON_ENDINGS, *TABLE_ENDINGS)
    if not has_columns and kind in OTHER_ENDINGS:
        readable = ", ".join((*JSON_ENDINGS, *TABLE_ENDINGS))
        raise DataError(path, f"the format {kind} cannot be read", hint=f"convert it to {readable}, each also .gz")
    with report_damage(path):
        is_squad = kind == ".json" and _is_squad(path)
        if (is_squad or not has_columns) and (texts or label is not None):
            problem = "is in SQuAD's format, which has" if is_squad else "has one text per line, and"
            raise DataError(path, f"{problem} no columns", hint="leave out --text and --label")
        if is_squad:
            task = tasks.get("squad_v2").model_copy(update={"reader": squad_reader(path)})
            # As `test`, the task would hide the answers.
            return replace(read_task_split("valid" if split == "test" else split, path, task), name=split)
        if not has_columns:
            rows = [
                DataRow(str(line), line, (text,), None, (), (text,)) for line, text in read_lines(path) if text.strip()
            ]
            fields: tuple[str, ...] = ("text",)
        else:
            records = list(_read_table(path, TABLE_ENDINGS[kind]) if kind in TABLE_ENDINGS else read_json_rows(path))
            if not records:
                raise DataError(path, "contains no rows")
            fields, label = _find_fields(path, records, texts, label)
            rows = [_from_record(path, line, record, fields, label) for line, record in records]
    if not rows:
        raise DataError(path, "contains no rows")
    return RowSplit(split, path, rows, fields, "")


def guess_split(path: Path) -> str:
    """Return the split that the name of a file states, or else the name."""
    words = {word.lower() for word in NAME_WORD.findall(path.name)}
    return next((split for word, split in SPLIT_NAMES.items() if word in words), path.name)


def language_by_letters(rows: Sequence[DataRow]) -> str:
    """Return ``ja`` if the texts are mostly kana or ideographs, so that words cannot be told apart; else an empty text.
    The first 200 rows decide."""
    text = "".join(text for row in rows[:200] for text in row.texts)
    return "ja" if 2 * len(KANA_OR_HAN.findall(text)) > sum(map(str.isalpha, text)) else ""


def is_json_list(path: Path) -> bool:
    """Say whether a file is one JSON list. Publishers use the ending ``.json`` for JSON Lines as well."""
    if format_of_rows(path) not in JSON_ENDINGS:
        return False
    with open_text(path) as file:
        return file.read(4096).lstrip()[:1] == "["


def _is_squad(path: Path) -> bool:
    with open_text(path) as file:
        return '"paragraphs"' in file.read(2**16)


def _read_table(path: Path, delimiter: str) -> Iterator[tuple[int, Mapping[str, str]]]:
    # In a .tsv, quotes are text, as in nearly all published files.
    plain = ((line, text.split(delimiter) if text else []) for line, text in read_lines(path))
    rows = read_quoted(path, delimiter) if delimiter == "," else plain
    _, header = next(rows, (0, []))
    for line, cells in rows:
        if len(cells) == len(header):
            yield line, dict(zip(header, cells, strict=True))
        elif any(cells):
            raise DataError(path, f"expected {len(header)} columns, got {len(cells)}", line=line)


def _find_fields(
    path: Path, records: Sequence[tuple[int, Any]], texts: Sequence[str], label: str | None
) -> tuple[tuple[str, ...], str | None]:
    """Return the names of the texts and of the label.

    Raises:
        DataError: if a name is not that of a column.
    """
    # A key may be missing in the first row.
    known = list(dict.fromkeys(key for _, record in records if isinstance(record, dict) for key in record))
    hint = f"name its columns: --text NAME, one of {', '.join(known[:20])}" if known else "rows are JSON objects"
    fields = tuple(texts) or next((names for names in TEXT_NAMES if all(name in known for name in names)), ())
    if not fields or any(name not in known for name in fields):
        raise DataError(path, f"has no column {', '.join(fields)}" if fields else "has no column of texts", hint=hint)
    if label is not None and label not in known:
        raise DataError(path, f"has no column {label}", hint=hint.replace("--text", "--label"))
    return fields, label or next((name for name in LABEL_NAMES if name in known), None)


def _from_record(path: Path, line: int, record: Any, fields: Iterable[str], label: str | None) -> DataRow:
    values: list[Any] = [record.get(field) if isinstance(record, dict) else None for field in fields]
    if not all(isinstance(value, str) for value in values):
        raise DataError(path, f"the row has no text in {', '.join(fields)}", line=line)
    value = None if label is None else record.get(label)
    if value == "" or (isinstance(value, float) and not math.isfinite(value)):
        value = None  # pandas writes an empty cell or NaN for a missing label
    name = None if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    identity = str(record.get("id", record.get("guid", line)))
    if any(map(has_lone_surrogate, (*values, name or "", identity))):  # reports show them all
        raise DataError(path, f"the row {LONE_SURROGATE}", line=line, hint="write the whole character, or remove it")
    return DataRow(identity, line, tuple(values), name, () if name is None else (name,), tuple(values))
