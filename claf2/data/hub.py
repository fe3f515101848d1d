"""Data sets on the Hugging Face hub: their Parquet files, converted once to the task's own file format."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from claf2.errors import ConfigError, DataError, first_line, nearest
from claf2.heads import HubRow, heads
from claf2.readers import Example, open_text
from claf2.registry import digest
from claf2.runtime.files import create_dir_atomic, sha256
from claf2.task import Task

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["convert_split", "download_split"]

CONVERSION = 3
"""Raised when rows are converted differently, so that files of older versions are not used."""

SHA256 = re.compile("[0-9a-f]{64}")

SPLITS = {"train": "train", "valid": "validation", "test": "test"}
"""What the hub calls the splits, unless the task says otherwise."""


def download_split(task: Task, split: str, cache: Path) -> Path:
    """Return a split of the task's hub data set as a file in the task's own format, below ``cache``.

    Raises:
        ConfigError: when the task names no hub data set.
        DataError: when the hub cannot be reached, or the data set is not as expected.
    """
    if task.hub is None:
        raise ConfigError(
            "data_reader.source", f"task {task.name!r} has no data set on the hub", hint="use local files"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    repository, _, configuration = task.hub.partition(":")
    try:
        folder = snapshot_download(repository, repo_type="dataset", allow_patterns=["*.parquet", "**/*.parquet"])
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        problem = f"cannot be downloaded: {first_line(error)}"
        raise DataError(f"hub:{task.hub}", problem, hint="use local files") from error
    return convert_split(task, split, Path(folder), configuration, cache)


def convert_split(task: Task, split: str, folder: Path, configuration: str, cache: Path) -> Path:
    """Write a split of a downloaded data set in the task's own format, once for each state of its files.

    Args:
        task: whose data set it is.
        split: ``train``, ``valid`` or ``test``.
        folder: the data set's folder; its files are ``[configuration/]…split-*.parquet``.
        configuration: the part of the data set; empty where it has only one.
        cache: where the file is kept.

    Raises:
        DataError: when the split has no file, or a file has changed since it was downloaded or cannot be converted.
    """
    name = task.hub_splits.get(split, SPLITS.get(split, split))
    files = [
        path
        for path in sorted(folder.rglob("*.parquet"))
        if path.name.startswith(f"{name}-") and (not configuration or configuration in path.relative_to(folder).parts)
    ]
    if not files:
        existing = {path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet")}
        raise DataError(folder, f"no Parquet file for the split {name!r}", hint=nearest(name, existing))
    file_name = Path(task.files.get(split, split)).name
    state = digest([file_name, *map(_content_digest, files)])
    target = cache / "hub" / f"{task.name}-{task.identity()[:16]}-{CONVERSION}" / state

    def fill(folder: Path) -> None:
        if task.reader.takes_rows:
            _write_rows(task, files, folder / file_name)
        else:
            task.reader.write(_examples(task, files), folder / file_name)

    create_dir_atomic(target, fill)
    return target / file_name


def _content_digest(path: Path) -> str:
    """Return the SHA-256 of a downloaded file, after which the hub's cache names the file that ``path`` links to.

    Raises:
        DataError: when it has changed since it was downloaded.
    """
    content, blob = sha256(path), path.resolve()
    if SHA256.fullmatch(blob.name) and blob.name != content:
        raise DataError(path, "changed since it was downloaded", hint=f"delete {blob} to download it again")
    return content


def _rows(task: Task, files: list[Path]) -> Iterator[HubRow]:
    import pyarrow.parquet as pq

    number = 0
    for file in files:
        table = pq.read_table(file)
        label_names = _label_names(table)
        for values in table.to_pylist():
            number += 1
            yield HubRow(task, values, label_names, number, file)


def _write_rows(task: Task, files: list[Path], path: Path) -> None:
    """Write rows unchanged, one JSON object per line, with the names of labels for their numbers."""
    with open_text(path, "w") as target:
        for row in _rows(task, files):
            values = dict(row.values)
            for column in row.label_names:
                values[column] = row.label_of(column)
            values |= {key: values.pop(column) for key, column in task.hub_columns.items() if column in values}
            target.write(json.dumps(values, ensure_ascii=False) + "\n")


def _examples(task: Task, files: list[Path]) -> Iterator[Example]:
    head = heads.get(task.head)
    return (head.from_hub_row(row) for row in _rows(task, files))


def _label_names(table: pa.Table) -> dict[str, list[str]]:
    """Return the label names of each column, which the hub's files store in their schema."""
    metadata = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    features = metadata.get("info", {}).get("features", {})
    kinds = {
        name: feature.get("feature", feature) if isinstance(feature, dict) else {} for name, feature in features.items()
    }
    return {name: kind["names"] for name, kind in kinds.items() if isinstance(kind, dict) and "names" in kind}
