"""Rebuilding a board: the database is a cache of what the folders of cells, or another board, hold."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from claf2.board.cell_record import CellRecord
from claf2.board.records import Records, WriteOutcome
from claf2.board.submit import BoardClient, Submission, find_cells, read_records

__all__ = ["rebuild"]

IN_FLIGHT = 64
"""How many records are read ahead of the writer."""


def rebuild(
    sources: list[str], records: Records, *, token: str | None = None,
    on_progress: Callable[[Submission], None] = lambda _: None,
) -> Submission:  # fmt: skip
    """Store the cells of folders, or of other boards, in a database. A record that differs is replaced.

    Args:
        sources: folders with cells, or addresses of boards.
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
                if isinstance(record, str):
                    submission.refused.append(record)
                    on_progress(submission)
                    continue
                waiting.append(records.put(record, replace=True))
                if len(waiting) >= IN_FLIGHT:
                    finish_first()
    while waiting:
        finish_first()
    return submission


@contextmanager
def _open_source(source: str, token: str | None) -> Iterator[tuple[int, Iterator[CellRecord | str]]]:
    """Yield how many cells a source has, and their records, or why one has none."""
    if source.startswith(("http://", "https://")):
        with BoardClient(source, token) as client:
            digests: list[str] = list(client.get("/api/contents"))
            yield len(digests), (_fetch_record(client, digest) for digest in digests)
        return
    results = [result for result in find_cells(Path(source)) if result.scores or result.failure]
    yield len(results), (record for _, record in read_records(results))


def _fetch_record(client: BoardClient, digest: str) -> CellRecord:
    content = client.get(f"/api/cells/{digest}")
    del content["digest"]
    content["predictions"] = {
        split: client.get(f"/api/cells/{digest}/predictions/{split}") for split in content["predictions"]
    }
    return CellRecord.model_validate_json(json.dumps(content, ensure_ascii=False))
