"""Cleaned copies of files: without repeated, shared and contradictory rows, and with repaired text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from claf2.errors import DataError, RunError
from claf2.hygiene.check import find_repeated, mask_personal_data
from claf2.hygiene.damage import repair_text
from claf2.hygiene.labels import find_conflicts
from claf2.hygiene.rows import JSON_ENDINGS, TABLE_ENDINGS, RowSplit, format_of_rows, is_json_list
from claf2.readers import open_text, read_json_rows
from claf2.readers.text import has_lone_surrogate
from claf2.runtime.files import replace_file_atomic

__all__ = ["CHANGES", "clean_copies", "list_targets"]

CHANGES = "changes.jsonl"
"""The file that lists the changes, one line per row."""
POSITION_WORDS = "start|end|begin|from|to|pos|position|offset|span|length|len"
POSITION = re.compile(rf"(?:^|_)(?:{POSITION_WORDS}|idx|index)s?\d*(?:_|$)")
"""The names of fields with character positions."""
WRITTEN_POSITIONS = (
    re.compile(rf"""["'](?:\w*_)?(?:{POSITION_WORDS}|idx)s?\d*(?:_\w*)?["']+\s*:\s*[\[(]?\s*\d"""),
    re.compile(r"""(?:^|[\t,"]|[\[(]\s*|["']\s*:\s*)[\[(]\s*\d+\s*,\s*\d"""),
)
"""Character positions in a cell that holds a list or an object as text: with such a name, and two at the beginning of
a list."""
ROW_NUMBERS = ("idx", "index")
"""The names of columns that number the rows."""
CAMEL = re.compile("(?<=[a-z])(?=[A-Z])")


def list_targets(splits: Sequence[RowSplit], folder: Path) -> list[Path]:
    """Return the files that ``clean_copies`` writes, one for each split, in a folder.

    Raises:
        RunError: if the folder cannot be one, or has one of the files already.
        DataError: if a file has rows over several lines, or several rows in one: they cannot be removed one by one.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise RunError(f"{existing}: is a file; give a folder with --fix")
    targets = [folder / split.path.name.removesuffix(".gz") for split in splits]
    taken = next((target for target in (*targets, folder / CHANGES) if target.exists()), None)
    if taken or len(set(targets)) < len(targets):
        problem = f"{taken}: exists already" if taken else "two files have the same name"
        raise RunError(f"{problem}; give another folder with --fix, or check them one at a time")
    for split in splits:
        if not _has_row_per_line(split):
            raise DataError(split.path, "its rows are not one line each", hint="leave out --fix for such files")
    return targets


def clean_copies(splits: Sequence[RowSplit], folder: Path) -> dict[str, int]:
    """Write cleaned copies of the files of a data set, and the list of changes.

    Only rows of ``train`` are removed, so that scores on held-out rows remain comparable: those that repeat an earlier
    one, or without a label a labelled one, those that another split has, and all rows of a group with equal texts and
    different labels. Texts count as equal if they are after the repair. Text is repaired in all splits; see
    ``repair_text``. Rows with positions of characters whose length would change stay as they are.

    Args:
        splits: the files, with one row per line or as one JSON list.
        folder: where the copies are written, under the same names, without compression.

    Returns:
        Kind of change → the number of rows.

    Raises:
        Claf2Error: if the copies cannot be written; see ``list_targets``.
    """
    targets = list_targets(splits, folder)
    reasons = _find_reasons(splits)
    folder.mkdir(parents=True, exist_ok=True)
    counts: dict[str, int] = {}
    with replace_file_atomic(folder / CHANGES) as new, new.open("w", encoding="utf-8") as log:
        for number, (split, target) in enumerate(zip(splits, targets, strict=True)):
            ids = {row.line: mask_personal_data(row.id) for row in split.rows}

            def record(line: int, kind: str, detail: str, split: RowSplit = split, ids: Any = ids) -> None:
                entry = {"file": split.path.name, "line": line, "id": ids.get(line), "change": f"{kind}{detail}"}
                log.write(json.dumps(entry, ensure_ascii=False) + "\n")
                counts[kind] = counts.get(kind, 0) + 1

            removed = {split.rows[place].line: why for (owner, place), why in reasons.items() if owner == number}
            _copy(split.path, target, removed, record)
    return counts


def _has_row_per_line(split: RowSplit) -> bool:
    """Say whether each line is a row, except for blank lines and a header, or the file is a list of rows."""
    lines = {row.line for row in split.rows}
    if 0 in lines or len(lines) < len(split.rows):
        return False
    if is_json_list(split.path):
        return True
    with open_text(split.path) as file:
        filled = {line for line, text in enumerate(file, start=1) if text.strip()}
    return lines <= filled <= lines | {1}


def _find_reasons(splits: Sequence[RowSplit]) -> dict[tuple[int, int], tuple[str, str]]:
    """Return why rows are removed, as a kind and a detail, by the numbers of the split and of the row."""
    # What is equal after the repair is equal.
    splits = [
        replace(split, rows=[replace(row, texts=tuple(map(repair_text, row.texts))) for row in split.rows])
        for split in splits
    ]
    _, shared = find_repeated(splits)
    train = [(number, place) for number, split in enumerate(splits) if split.name == "train"
             for place in range(len(split.rows))]  # fmt: skip
    reasons = {
        place: ("removed: also in another split, and train is trained on", "") for place in train if place in shared
    }
    for group in find_conflicts([splits[number].rows[place] for number, place in train]):
        reasons |= {train[place]: ("removed: the same texts have different labels", "") for place in group}
    rows = {(number, place): splits[number].rows[place] for number, place in train}
    kept: dict[tuple[str, ...], tuple[int, int]] = {}
    for place in sorted(train, key=lambda place: rows[place].label is None):
        first = kept.setdefault(rows[place].texts, place)
        if first != place:
            kind = "an earlier" if first < place else "a labelled"
            reasons.setdefault(
                place, (f"removed: the same as {kind} row", f": row {mask_personal_data(rows[first].id)}")
            )
    return reasons


def _copy(
    path: Path,
    target: Path,
    removed: Mapping[int, tuple[str, str]],
    record: Callable[[int, str, str], None],
) -> None:
    """Copy a file without some of its rows, which are given by their lines, and with repaired text."""
    has_positions = _has_position_columns(path)

    def clean(line: int, content: Any) -> Any:
        """Return a row with repaired text, or unchanged if a repair would break it; ``None`` if it is removed."""
        if line in removed:
            record(line, *removed[line])
            return None
        repaired = _repair(content)
        if repaired == content:
            return content
        obstacle = _find_obstacle(content, repaired, has_positions)
        record(line, f"not repaired: {obstacle}" if obstacle else "repaired: text", "")
        return content if obstacle else repaired

    if is_json_list(path):
        cleaned = [(line, clean(line, row)) for line, row in read_json_rows(path)]
        kept = [row for line, row in cleaned if line not in removed]
        document = json.dumps(kept, ensure_ascii=False, indent=1)
        # Half of a character in a field that is not checked stays the escape that it was.
        text: Iterator[str] = iter([json.dumps(kept, indent=1) if has_lone_surrogate(document) else document])
    else:
        text = _copy_lines(path, removed, clean)
    with replace_file_atomic(target) as new, new.open("w", encoding="utf-8", newline="") as file:
        file.writelines(text)


def _copy_lines(path: Path, removed: Collection[int], clean: Callable[[int, Any], Any]) -> Iterator[str]:
    is_json = format_of_rows(path) in JSON_ENDINGS
    with open_text(path) as file:
        for line, text in enumerate(file, start=1):
            # In JSON, characters may be written as escapes, which only the values show.
            value = json.loads(text) if is_json and text.strip() else text
            cleaned = clean(line, value)
            if line in removed:
                continue
            if cleaned == value:
                yield text
            else:
                yield json.dumps(cleaned, ensure_ascii=False) + "\n" if is_json else cleaned


def _repair(value: Any) -> Any:
    """Repair all texts of a JSON value."""
    if isinstance(value, str):
        return repair_text(value)
    if isinstance(value, list):
        return [_repair(item) for item in value]
    return {key: _repair(item) for key, item in value.items()} if isinstance(value, dict) else value


def _find_obstacle(content: Any, repaired: Any, has_positions: bool) -> str:
    """Return why a row cannot be repaired; empty if it can."""
    pairs = list(zip(_list_texts(content), _list_texts(repaired), strict=True))
    if any(len(old.split()) != len(new.split()) for old, new in pairs):
        return "it would lose a word, which may have a tag"
    moved = any(len(old) != len(new) for old, new in pairs)
    if isinstance(content, dict):
        content = {key: value for key, value in content.items() if key not in ROW_NUMBERS}
    if moved and (has_positions or _has_positions(content)):
        return "it has positions of characters"
    return ""


def _list_texts(value: Any) -> Iterator[str]:
    """List the texts of a JSON value, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _list_texts(item)


def _has_positions(value: Any) -> bool:
    """Say whether a value has character positions, at any depth: fields with such names, or lists that begin with two
    whole numbers, as the spans of doccano and spaCy do."""
    if isinstance(value, str):
        return any(written.search(value) for written in WRITTEN_POSITIONS)
    if isinstance(value, list):
        return (len(value) > 1 and all(map(_is_whole, value[:2]))) or any(map(_has_positions, value))
    if not isinstance(value, dict):
        return False
    return any(_is_position(key, item) or _has_positions(item) for key, item in value.items())


def _is_position(key: str, value: Any) -> bool:
    if isinstance(value, list):
        return any(_is_position(key, item) for item in value)
    return _is_whole(value) and POSITION.search(CAMEL.sub("_", key).lower()) is not None


def _is_whole(value: Any) -> bool:
    if isinstance(value, str):
        return value.isdecimal()
    return isinstance(value, int) and not isinstance(value, bool)


def _has_position_columns(path: Path) -> bool:
    """Say whether the header of a table names character positions."""
    delimiter = TABLE_ENDINGS.get(format_of_rows(path))
    if delimiter is None:
        return False
    with open_text(path) as file:
        names = [name.strip().strip('"') for name in file.readline().split(delimiter)]
    return any(_is_position(name, 0) for name in names if name not in ROW_NUMBERS)
