"""Cleaned copies of files: without repeated, shared and contradictory rows, and with repaired text."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from claf2.errors import DataError, RunError
from claf2.hygiene.check import find_repeated
from claf2.hygiene.damage import repair_text
from claf2.hygiene.labels import find_conflicts
from claf2.hygiene.rows import RowSplit, format_of_rows
from claf2.readers import open_text, read_json_rows
from claf2.runtime.files import replace_file_atomic

__all__ = ["CHANGES", "clean_copies"]

CHANGES = "changes.jsonl"
"""The list of what was changed, one line per row."""


def clean_copies(splits: Sequence[RowSplit], folder: Path) -> dict[str, int]:
    """Write cleaned copies of the files of a data set, and the list of changes.

    Rows are removed that repeat an earlier one of their split, from ``train`` those that another split has, and from
    ``train`` all rows of a group with equal texts and different labels. Held-out rows with such labels stay, so that
    scores remain comparable. Text is repaired in all splits; see ``repair_text``.

    Args:
        splits: the files, with one row per line or as one JSON list.
        folder: where the copies are written, under the same names, without compression.

    Returns:
        Change → the number of rows.

    Raises:
        RunError: if the folder has one of the files already.
        DataError: if a file has rows over several lines, which would have to be laid out anew.
    """
    targets = [folder / split.path.name.removesuffix(".gz") for split in splits]
    taken = next((target for target in (*targets, folder / CHANGES) if target.exists()), None)
    if taken or len(set(targets)) < len(targets):
        problem = f"{taken}: exists already" if taken else "two files have the same name"
        raise RunError(f"{problem}; give another folder with --fix, or check them one at a time")
    for split in splits:
        if not all(row.line for row in split.rows) or _has_long_rows(split.path):
            raise DataError(split.path, "its rows are not one line each", hint="leave out --fix for such files")
    reasons = _find_reasons(splits)
    folder.mkdir(parents=True, exist_ok=True)
    counts: dict[str, int] = {}
    with replace_file_atomic(folder / CHANGES) as new, new.open("w", encoding="utf-8") as log:
        for number, (split, target) in enumerate(zip(splits, targets, strict=True)):
            ids = {row.line: row.id for row in split.rows}

            def record(line: int, change: str, split: RowSplit = split, ids: Mapping[int, str] = ids) -> None:
                entry = {"file": split.path.name, "line": line, "id": ids.get(line), "change": change}
                log.write(json.dumps(entry, ensure_ascii=False) + "\n")
                counts[change] = counts.get(change, 0) + 1

            removed = {split.rows[place].line: why for (owner, place), why in reasons.items() if owner == number}
            _copy(split.path, target, removed, record)
    return counts


def _has_long_rows(path: Path) -> bool:
    """Say whether a cell of a table in quotes has several lines."""
    if format_of_rows(path) != ".csv":
        return False
    csv.field_size_limit(1 << 30)
    with open_text(path) as file:
        rows = csv.reader(file)
        return any(rows.line_num != number for number, _ in enumerate(rows, start=1))


def _find_reasons(splits: Sequence[RowSplit]) -> dict[tuple[int, int], str]:
    """Return why each row is removed, by the numbers of its split and of the row."""
    repeated, shared = find_repeated(splits)
    reasons = {
        (number, place): f"removed: also in another split, and {splits[number].name} is trained on"
        for number, place in shared if splits[number].name == "train" and len(splits) > 1
    }  # fmt: skip
    for number, split in enumerate(splits):
        if split.name == "train" or len(splits) == 1:
            for group in find_conflicts(split.rows):
                reasons |= {(number, place): "removed: the same texts have different labels" for place in group}
    for place, (number, first) in repeated.items():
        reasons.setdefault(place, f"removed: the same as row {splits[number].rows[first].id}")
    return reasons


def _copy(path: Path, target: Path, removed: Mapping[int, str], record: Callable[[int, str], None]) -> None:
    """Copy a file without some of its rows, which are given by their lines, and with repaired text."""
    with path.open("rb") as raw:
        is_list = format_of_rows(path) in (".json", ".jsonl", ".ndjson") and raw.read(4096).lstrip()[:1] == b"["

    def changed(line: int, content: Any, repaired: Any) -> bool:
        if line in removed:
            record(line, removed[line])
            return True
        if repaired != content:
            record(line, "repaired: text")
        return False

    if is_list:
        rows = [(line, row, _repair(row)) for line, row in read_json_rows(path)]
        kept = [repaired for line, row, repaired in rows if not changed(line, row, repaired)]
        text: Iterator[str] = iter([json.dumps(kept, ensure_ascii=False, indent=1)])
    else:
        text = _copy_lines(path, changed)
    with replace_file_atomic(target) as new, new.open("w", encoding="utf-8", newline="") as file:
        file.writelines(text)


def _copy_lines(path: Path, changed: Callable[[int, Any, Any], bool]) -> Iterator[str]:
    is_json = format_of_rows(path) in (".json", ".jsonl", ".ndjson")
    with open_text(path) as file:
        for line, text in enumerate(file, start=1):
            # In JSON, characters may be written as escapes, which only the values show.
            value = json.loads(text) if is_json and text.strip() else text
            repaired = _repair(value)
            if changed(line, value, repaired):
                continue
            yield (
                json.dumps(repaired, ensure_ascii=False) + "\n"
                if is_json and repaired != value
                else (text if is_json else repaired)
            )


def _repair(value: Any) -> Any:
    """Repair all texts of a JSON value."""
    if isinstance(value, str):
        return repair_text(value)
    if isinstance(value, list):
        return [_repair(item) for item in value]
    return {key: _repair(item) for key, item in value.items()} if isinstance(value, dict) else value
