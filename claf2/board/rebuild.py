"""Rebuilding a board: the database is a cache of what the folders of cells, or another board, hold."""

from __future__ import annotations

import json
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from claf2.benchmarking.runs import CELL_FILE, METRICS
from claf2.board.cell_record import LEARNING_CURVE, CellRecord
from claf2.board.checks import check_record
from claf2.board.records import Records, WriteOutcome
from claf2.board.submit import BoardClient, Submission, find_cells, read_records
from claf2.errors import Claf2Error, RunError
from claf2.storage.objects import is_storage_url, open_folder, redact

__all__ = ["rebuild"]

CELL_FILES = (CELL_FILE, METRICS, "run.json", LEARNING_CURVE)
"""The files of a cell's folder, besides its predictions, that records are made of."""

IN_FLIGHT = 64
"""How many records are read ahead of the writer."""


def rebuild(
    sources: list[str], records: Records, *, token: str | None = None,
    on_progress: Callable[[Submission], None] = lambda _: None,
) -> Submission:  # fmt: skip
    """Store the cells of folders, object stores or other boards in a database. A record that differs is replaced, and
    one that the board would not take from a client is refused.

    Args:
        sources: folders with cells, URLs of such folders in object stores, or addresses of boards.
        records: the database.
        token: a token for the other boards, if reading needs one.
        on_progress: called after each cell.

    Raises:
        RunError: if a source has no cells, is damaged, or does not answer.
    """
    submission = Submission()
    waiting: deque[Future[WriteOutcome]] = deque()

    def finish_first() -> None:
        state = waiting.popleft().result().state
        submission.states[state] = submission.states.get(state, 0) + 1
        on_progress(submission)

    for source in sources:
        with _open_source(source, token) as (total, found):
            submission.total += total
            for record in found:
                problem = record if isinstance(record, str) else _find_problem(record)
                if isinstance(record, str) or problem:
                    submission.refused.append(problem)
                    on_progress(submission)
                    continue
                waiting.append(records.put(record, replace=True))
                if len(waiting) >= IN_FLIGHT:
                    finish_first()
    while waiting:
        finish_first()
    return submission


def _find_problem(record: CellRecord) -> str:
    """Return why a record is refused, or an empty text."""
    try:
        check_record(record)
    except Claf2Error as error:
        return f"{record.cell.suite}/{record.cell.model}/{record.cell.task} seed {record.cell.seed}: {error}"
    return ""


@contextmanager
def _open_source(source: str, token: str | None) -> Iterator[tuple[int, Iterator[CellRecord | str]]]:
    """Yield how many cells a source has, and their records, or why one has none."""
    if source.startswith(("http://", "https://")):
        with BoardClient(source, token) as client:
            digests: list[str] = list(client.get("/api/contents"))
            yield len(digests), (_fetch_record(client, digest) for digest in digests)
        return
    if is_storage_url(source):
        with tempfile.TemporaryDirectory() as temporary:
            _download_cells(source, Path(temporary))
            yield _open_folder(Path(temporary))
        return
    yield _open_folder(Path(source))


def _open_folder(folder: Path) -> tuple[int, Iterator[CellRecord | str]]:
    results = [result for result in find_cells(folder) if result.scores or result.failure]
    return len(results), (record for _, record in read_records(results))


def _download_cells(url: str, folder: Path) -> None:
    """Download from an object store what records are made of, which is everything in a cell's folder but its weights.

    Raises:
        RunError: if the store refuses, or has no cells.
    """
    remote = open_folder(url)
    paths = {entry.path for entry in remote.list()}
    cells = sorted(path.removesuffix(CELL_FILE) for path in paths if path.rpartition("/")[2] == CELL_FILE)
    if not cells:
        raise RunError(f"{redact(url)}: contains no cell of a bench; copy the folder of a bench there")
    for cell in cells:
        predictions = [path for path in paths if path.startswith(f"{cell}predictions/")]
        for path in (*(f"{cell}{name}" for name in CELL_FILES), *predictions):
            if path in paths and not {"..", ""} & set(path.split("/")):
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(remote.read(path))


def _fetch_record(client: BoardClient, digest: str) -> CellRecord:
    content = client.get(f"/api/cells/{digest}")
    del content["digest"]
    content["predictions"] = {
        split: client.get(f"/api/cells/{digest}/predictions/{split}") for split in content["predictions"]
    }
    return CellRecord.model_validate_json(json.dumps(content, ensure_ascii=False))
