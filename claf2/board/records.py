"""The records of a board in its database.

One thread writes. It takes all records that wait and commits them together, so that many submitters share the cost of
writing to the disk; each is answered after the commit that holds its record.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

from sqlalchemy import Connection, Engine, Row, Select, bindparam, delete, func, select
from sqlalchemy.exc import SQLAlchemyError

from claf2.benchmarking.cells import Cell, make_cell
from claf2.board.cell_record import CellRecord
from claf2.board.tables import cells, compress, counters, decompress, open_database, predictions, splits
from claf2.errors import RunError, first_line
from claf2.metrics import Prediction

__all__ = ["CellConflictError", "DatabaseError", "NotFoundError", "Records", "StoredCell", "WriteOutcome"]

MAX_COMMIT = 64
"""The most records of one commit."""

WriteState: TypeAlias = Literal["created", "unchanged", "replaced", "kept", "removed"]


class CellConflictError(RunError):
    """The board holds another record of the cell."""


class NotFoundError(RunError):
    """The board does not have what is asked for."""


class DatabaseError(RunError):
    """The database cannot be written."""


@dataclass(frozen=True)
class WriteOutcome:
    """What became of a record."""

    digest: str
    state: WriteState
    """``unchanged``: the board had the same. ``kept``: the cell had failed, and the board has its scores from another
    attempt."""
    change: int
    """The number of changes of the board after it."""


@dataclass(frozen=True, eq=False)
class StoredCell:
    """A cell of the board: a ``MeasuredCell``."""

    digest: str
    content: str
    """The SHA-256 of the record."""
    change: int
    """The number of the change that wrote it."""
    submitter: str | None
    """The name of the token with which it was submitted."""
    record: Mapping[str, Any]
    """The record, in which predictions are given by their SHA-256 and number."""
    _read: Callable[[str, str], bytes] = field(repr=False)

    @cached_property
    def cell(self) -> Cell:
        """The cell."""
        return make_cell(self.record["cell"])

    @property
    def scores(self) -> Mapping[str, float | None]:
        """The scores of the best evaluation by key (``valid/accuracy``); empty if the run is not finished."""
        scores: Mapping[str, float | None] = self.record["scores"]
        return scores

    @property
    def failure(self) -> str:
        """Why there are no scores."""
        return str(self.record["failure"])

    @property
    def provenance(self) -> Mapping[str, object] | None:
        """The content of ``run.json``; ``None`` if the run is not finished."""
        provenance: Mapping[str, object] | None = self.record["provenance"]
        return provenance

    @property
    def source(self) -> str:
        """The address of the cell on the board."""
        return f"cells/{self.digest}"

    @property
    def key(self) -> tuple[str, str]:
        """The digests of the cell and of its content."""
        return self.digest, self.content

    def predictions(self, split: str) -> list[Prediction]:
        """Return the predictions for a split of the cell's task.

        Raises:
            RunError: if the cell has none.
        """
        return [Prediction(**line) for line in json.loads(self._read(self.digest, split))]


@dataclass(frozen=True)
class _Write:
    """A change that waits for the writer, and the future that it resolves."""

    change: Callable[[Connection, int], WriteOutcome]
    """Gets the number of changes so far."""
    outcome: Future[WriteOutcome]


class Records:
    """The records of a board.

    Args:
        url: the database, as in ``open_database``.

    Raises:
        RunError: if the database cannot be opened.
    """

    def __init__(self, url: str) -> None:
        self.engine: Engine = open_database(url)
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_batches, name="board writer", daemon=True)
        self._writer.start()

    def close(self) -> None:
        """Write what waits, and close the database."""
        self._queue.put(None)
        self._writer.join()
        self.engine.dispose()

    def put(self, record: CellRecord, *, submitter: str | None = None, replace: bool = False) -> Future[WriteOutcome]:
        """Store a record. The same record can be stored any number of times.

        Args:
            record: the record.
            submitter: the name of the token with which it was submitted.
            replace: replace another record of the cell.

        Returns:
            The outcome, once it is on the disk; its exception is a ``CellConflictError`` if the board holds another
            record of the cell that was not a failure.
        """
        packed = _PackedRecord.from_record(record)
        return self._submit(lambda connection, number: _put(connection, number, packed, submitter, replace=replace))

    def remove(self, digest: str) -> Future[WriteOutcome]:
        """Remove a record.

        Returns:
            The outcome; its exception is a ``NotFoundError`` if there is no such record.
        """

        def change(connection: Connection, number: int) -> WriteOutcome:
            if connection.execute(_FIND, {"one": digest, "at": ""}).first() is None:
                raise NotFoundError(f"cells/{digest}: no such cell")
            _remove(connection, digest)
            return WriteOutcome(digest, "removed", number + 1)

        return self._submit(change)

    def get(self, digest: str) -> StoredCell | None:
        """Return a cell; ``None`` if the board does not have it."""
        with self.engine.begin() as connection:
            row = connection.execute(_SELECT.where(cells.c.digest == digest)).one_or_none()
        return None if row is None else self._load(row)

    def cells(self, *, since: int = 0, **names: str | int | None) -> list[StoredCell]:
        """Return cells, sorted by suite, model, step, task and seed.

        Args:
            since: only those that a later change than this one has written.
            **names: ``suite``, ``model``, ``task``, ``seed``, ``step`` → value; ``None``: all.
        """
        query = _SELECT.where(cells.c.change > since)
        for name, value in names.items():
            if value is not None:
                query = query.where(cells.c[name] == value)
        with self.engine.begin() as connection:
            rows = connection.execute(query).all()
        # Databases sort text by rules of their own, and names in different order would be other JSON.
        stored = [self._load(row) for row in rows]
        return sorted(stored, key=_order)

    def contents(self) -> dict[str, str]:
        """Return the digest of each cell, and that of its content."""
        with self.engine.begin() as connection:
            rows = connection.execute(select(cells.c.digest, cells.c.content)).all()
        return dict(sorted(tuple(row) for row in rows))

    def suites(self) -> dict[str, int]:
        """Return the number of cells of each suite."""
        with self.engine.begin() as connection:
            rows = connection.execute(select(cells.c.suite, func.count()).group_by(cells.c.suite)).all()
        return dict(sorted(tuple(row) for row in rows))

    def change_number(self) -> int:
        """Return how many changes there have been. The number is larger after every change."""
        with self.engine.begin() as connection:
            return int(connection.execute(select(counters.c.value).where(counters.c.name == "changes")).scalar_one())

    def predictions(self, digest: str, split: str) -> bytes:
        """Return the predictions of a cell for a split as a JSON array.

        Raises:
            NotFoundError: if the cell has none.
        """
        query = select(predictions.c.content).join(splits, splits.c.sha256 == predictions.c.sha256)
        with self.engine.begin() as connection:
            content = connection.execute(query.where(splits.c.cell == digest, splits.c.split == split)).scalar()
        if content is None:
            raise NotFoundError(f"cells/{digest}: no predictions for {split!r}; submit the cell again")
        return decompress(content)

    def _load(self, row: Row[Any]) -> StoredCell:
        return StoredCell(
            row.digest, row.content, row.change, row.submitter, json.loads(decompress(row.record)), self.predictions
        )

    def _submit(self, change: Callable[[Connection, int], WriteOutcome]) -> Future[WriteOutcome]:
        outcome: Future[WriteOutcome] = Future()
        self._queue.put(_Write(change, outcome))
        return outcome

    def _write_batches(self) -> None:
        """Write what waits in the queue until it ends."""
        for waiting in _take_batches(self._queue):
            # A request whose client has left is cancelled; one that is begun can no longer be.
            batch = [write for write in waiting if write.outcome.set_running_or_notify_cancel()]
            results: list[WriteOutcome | BaseException] = []
            try:
                with self.engine.execution_options(writes=True).begin() as connection:
                    results = _write_batch(connection, batch)
            except SQLAlchemyError as error:  # a full disk, a server that is gone: nothing of the batch is stored
                results = [DatabaseError(f"the database cannot be written: {first_line(error)}")] * len(batch)
            except Exception as error:  # noqa: BLE001 without this thread, no request would be answered any more
                results = [error] * len(batch)
            for write, result in zip(batch, results, strict=True):
                if isinstance(result, BaseException):
                    write.outcome.set_exception(result)
                else:
                    write.outcome.set_result(result)


def _take_batches(waiting: queue.SimpleQueue[_Write | None]) -> Iterator[list[_Write]]:
    """Yield what waits in a queue, up to ``MAX_COMMIT`` at a time, until ``None``."""
    while (write := waiting.get()) is not None:
        batch = [write]
        while len(batch) < MAX_COMMIT and not waiting.empty():
            more = waiting.get()
            if more is None:
                yield batch
                return
            batch.append(more)
        yield batch


def _write_batch(connection: Connection, batch: Sequence[_Write]) -> list[WriteOutcome | BaseException]:
    # The row is locked until the end of the transaction, so that several servers on one database write one by one.
    number = before = int(connection.execute(_CHANGES).scalar_one())
    results: list[WriteOutcome | BaseException] = []
    for write in batch:
        try:
            outcome = write.change(connection, number)
        except (CellConflictError, NotFoundError) as error:  # raised before anything is written
            results.append(error)
        else:
            results.append(outcome)
            number = outcome.change
    if number != before:
        connection.execute(_SET_CHANGES, {"new": number})
    return results


@dataclass(frozen=True)
class _PackedRecord:
    """A record as the tables hold it."""

    record: CellRecord
    place: str
    digest: str
    content: str
    packed: bytes
    predictions: Mapping[str, tuple[str, bytes]]
    """Split → SHA-256 and compressed predictions."""

    @classmethod
    def from_record(cls, record: CellRecord) -> _PackedRecord:
        form = record.to_stored_form()
        hashes = {split: entry["sha256"] for split, entry in form.fields["predictions"].items()}
        return cls(
            record, record.place, record.digest, form.content,
            compress(json.dumps(form.fields, ensure_ascii=False).encode()),
            {split: (hashes[split], compress(file)) for split, file in form.predictions.items()},
        )  # fmt: skip


def _put(
    connection: Connection, number: int, packed: _PackedRecord, submitter: str | None, *, replace: bool
) -> WriteOutcome:
    others = connection.execute(_FIND, {"one": packed.digest, "at": packed.place}).all()
    for other in others:
        if (other.digest, other.content) == (packed.digest, packed.content):
            return WriteOutcome(packed.digest, "unchanged", number)
    finished = [other for other in others if other.finished]
    if finished and not packed.record.scores:  # a later attempt failed, which says nothing about these scores
        return WriteOutcome(finished[0].digest, "kept", number)
    if finished and not replace:
        raise CellConflictError(_describe_conflict(finished[0].digest, packed))
    for other in others:
        _remove(connection, other.digest)
    cell = packed.record.cell
    connection.execute(
        _INSERT_CELL,
        {
            "digest": packed.digest, "place": packed.place, "suite": cell.suite, "model": cell.model, "task": cell.task,
            "seed": cell.seed, "step": cell.step, "finished": bool(packed.record.scores), "content": packed.content,
            "record": packed.packed, "change": number + 1, "submitter": submitter,
        },
    )  # fmt: skip
    for split, (sha256, content) in packed.predictions.items():
        if connection.execute(_FIND_PREDICTIONS, {"one": sha256}).first() is None:
            connection.execute(_INSERT_PREDICTIONS, {"sha256": sha256, "content": content})
        connection.execute(_INSERT_SPLIT, {"cell": packed.digest, "split": split, "sha256": sha256})
    return WriteOutcome(packed.digest, "replaced" if others else "created", number + 1)


def _describe_conflict(other: str, packed: _PackedRecord) -> str:
    cell = packed.record.cell
    what = "has other scores or predictions for" if other == packed.digest else "has a run with other inputs of"
    return (
        f"the board {what} {cell.model[:80]}, {cell.task[:80]}, seed {cell.seed} (cells/{other}): "
        "submit with --replace to replace it"
    )


def _remove(connection: Connection, digest: str) -> None:
    """Remove a cell, and its predictions if no other cell has the same."""
    hashes: Sequence[str] = connection.execute(select(splits.c.sha256).where(splits.c.cell == digest)).scalars().all()
    connection.execute(delete(splits).where(splits.c.cell == digest))
    used = select(splits.c.sha256)
    connection.execute(
        delete(predictions).where(predictions.c.sha256.in_(hashes), predictions.c.sha256.not_in(used))
    )  # fmt: skip
    connection.execute(delete(cells).where(cells.c.digest == digest))


# Statements are made once: making one takes as long as running it.
_CHANGES = select(counters.c.value).where(counters.c.name == "changes").with_for_update()
_SET_CHANGES = counters.update().where(counters.c.name == "changes").values(value=bindparam("new"))
_FIND = select(cells.c.digest, cells.c.content, cells.c.finished).where(
    (cells.c.digest == bindparam("one")) | (cells.c.place == bindparam("at"))
)
_FIND_PREDICTIONS = select(predictions.c.sha256).where(predictions.c.sha256 == bindparam("one"))
_INSERT_CELL, _INSERT_PREDICTIONS, _INSERT_SPLIT = cells.insert(), predictions.insert(), splits.insert()
_SELECT: Select[Any] = select(cells.c.digest, cells.c.content, cells.c.change, cells.c.submitter, cells.c.record)


def _order(stored: StoredCell) -> tuple[Any, ...]:
    cell = stored.cell
    step = -1 if cell.step is None else cell.step
    return cell.suite, cell.model, step, cell.recipe, cell.overrides, cell.task, cell.seed, stored.digest
