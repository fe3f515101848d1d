"""Data sets on the Hugging Face hub: their Parquet files, turned once into the task's own file format."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claf2.errors import ConfigError, DataError, nearest
from claf2.readers import Answer, Example, ParseExample, SpanExample, TextExample, TokenExample, open_text
from claf2.task import Task

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["convert", "fetch"]

SPLITS = {"train": "train", "valid": "validation", "test": "test"}
"""What the hub calls the splits, unless the task says otherwise."""


def fetch(task: Task, split: str, cache: Path) -> Path:
    """Return a split of the task's hub data set as a file in the task's own format, below ``cache``.

    Raises:
        ConfigError: when the task names no hub data set.
        DataError: when the hub is out of reach, or holds something else than expected.
    """
    if task.hub is None:
        raise ConfigError("data_reader.source", f"task {task.name!r} names no data set on the hub", hint="use local")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    repository, _, configuration = task.hub.partition(":")
    try:
        folder = snapshot_download(repository, repo_type="dataset", allow_patterns=["*.parquet", "**/*.parquet"])
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"hub:{task.hub}", f"out of reach: {reason}", hint="use local files") from error
    return convert(task, split, Path(folder), configuration, cache)


def convert(task: Task, split: str, folder: Path, configuration: str, cache: Path) -> Path:
    """Write a split of a downloaded data set in the task's own format, once for each state of its files.

    Args:
        folder: the data set's folder; its files are ``[configuration/]…split-*.parquet``.
        configuration: the part of the data set, empty where it has one only.
        cache: where the file is kept.
    """
    name = task.hub_splits.get(split, SPLITS.get(split, split))
    files = [
        path
        for path in sorted(folder.rglob("*.parquet"))
        if path.name.startswith(f"{name}-") and (not configuration or configuration in path.relative_to(folder).parts)
    ]
    if not files:
        there = {path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet")}
        raise DataError(folder, f"no Parquet file of the split {name!r}", hint=nearest(name, there))
    state = "-".join(path.resolve().name for path in files)[:80].replace("/", "_")
    target = cache / "hub" / f"{task.name}-{task.identity()[:16]}" / state / Path(task.files.get(split, split)).name
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_name(f".{os.getpid()}.{target.name}")
        if task.reader.takes_rows:
            _write_rows(task, files, scratch)
        else:
            task.reader.write(_examples(task, files), scratch)
        os.replace(scratch, target)
    return target


def _write_rows(task: Task, files: list[Path], path: Path) -> None:
    """Write rows as they are, a JSON object a line, labels by name."""
    import pyarrow.parquet as pq

    with open_text(path, "w") as target:
        for file in files:
            table = pq.read_table(file)
            names = _label_names(table)
            for row in table.to_pylist():
                for column, known in names.items():
                    row[column] = _label(task, row.get(column), known)
                row |= {key: row.pop(column) for key, column in task.hub_columns.items() if column in row}
                target.write(json.dumps(row, ensure_ascii=False) + "\n")


def _examples(task: Task, files: list[Path]) -> Iterator[Example]:
    import pyarrow.parquet as pq

    number = 0
    for file in files:
        table = pq.read_table(file)
        names = _label_names(table)
        for row in table.to_pylist():
            number += 1
            yield _example(task, row, names, number, file)


def _label_names(table: pa.Table) -> dict[str, list[str]]:
    """Return the names of the labels of each column, as the hub's files note them."""
    noted = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    features = noted.get("info", {}).get("features", {})
    inner = {name: each.get("feature", each) if isinstance(each, dict) else {} for name, each in features.items()}
    return {name: each["names"] for name, each in inner.items() if isinstance(each, dict) and "names" in each}


def _example(task: Task, row: Mapping[str, Any], names: Mapping[str, list[str]], number: int, file: Path) -> Example:
    columns = {"id": "id", "label": "label", "tokens": "tokens", "tags": "ner_tags", **task.hub_columns}

    def value(field: str) -> Any:
        if columns[field] not in row:
            raise DataError(file, f"no column {columns[field]!r}", hint=nearest(columns[field], row))
        return row[columns[field]]

    identity = str(row.get(columns["id"], number))
    if "context" in row and "question" in row:
        answers = zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True)
        found = tuple(Answer(text, start) for text, start in answers)
        return SpanExample(
            id=identity,
            question=row["question"],
            context=row["context"],
            answers=found,
            is_impossible=not found,
            title=row.get("title", ""),
        )
    if task.head == "parse":
        return ParseExample(
            id=identity,
            words=tuple(value("words")),
            pos=tuple(each.rsplit("+", 1)[-1] for each in value("pos")),
            heads=tuple(value("heads")),
            relations=tuple(value("relations")),
        )
    if task.head == "tag":
        known = names.get(columns["tags"], [])
        tags = tuple(known[each] if isinstance(each, int) else each for each in value("tags"))
        return TokenExample(id=identity, tokens=tuple(value("tokens")), tags=tags)
    return TextExample(
        id=identity,
        text_a=value("text_a"),
        text_b=value("text_b") if "text_b" in columns else None,
        label=_label(task, value("label"), names.get(columns["label"], [])),
    )


def _label(task: Task, value: Any, names: list[str]) -> str | None:
    """Return the task's name of a label that the hub gives as a number, a name, or -1 where it is hidden."""
    if value is None or (task.labels and value == -1):
        return None
    if isinstance(value, int) and names and names[value] in task.labels:
        return names[value]
    return str(value)
