"""The board's database: what is stored, what is refused, and databases of earlier versions."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from board_cells import change_record, make_record
from sqlalchemy import Connection, func, select

from claf2.board import records as records_module
from claf2.board import tables
from claf2.board.records import CellConflictError, NotFoundError, Records
from claf2.board.tokens import add_token, find_token, list_tokens, remove_token
from claf2.errors import RunError


@pytest.fixture
def records(database: str) -> Iterator[Records]:
    opened = Records(database)
    yield opened
    opened.close()


def test_a_record_is_stored_once_and_comes_back_whole(records: Records, tmp_path: Path) -> None:
    record = make_record(tmp_path, "a" * 10_000)
    outcomes = [records.put(record, submitter="me").result() for _ in range(3)]
    assert [outcome.state for outcome in outcomes] == ["created", "unchanged", "unchanged"]
    assert records.change_number() == 1
    stored = records.get(record.digest)
    assert stored is not None
    assert stored.submitter == "me"
    assert stored.cell == record.cell.to_cell()
    assert stored.scores == record.scores
    assert [point["step"] for point in stored.record["learning_curve"]] == [10, 20]
    assert [line.id for line in stored.predictions("valid")] == [line["id"] for line in record.predictions["valid"]]
    assert records.contents() == {record.digest: record.to_stored_form().content}
    with pytest.raises(NotFoundError, match="no predictions for 'test'"):
        stored.predictions("test")


def test_another_result_of_a_cell_is_refused_until_it_may_replace(records: Records, tmp_path: Path) -> None:
    record = make_record(tmp_path)
    other = change_record(record, scores={"valid/accuracy": 1.0})
    assert other.digest == record.digest
    elsewhere = change_record(record, provenance={"experiment": "changed"})
    assert (elsewhere.digest == record.digest, elsewhere.place) == (False, record.place)
    records.put(record).result()
    for conflicting, reason in ((other, "has other scores"), (elsewhere, "has a run with other inputs")):
        with pytest.raises(CellConflictError, match=f"{reason}.*--replace"):
            records.put(conflicting).result()
    assert records.put(elsewhere, replace=True).result().state == "replaced"
    assert list(records.contents()) == [elsewhere.digest]


def test_a_failure_gives_way_to_scores_and_never_replaces_them(records: Records, tmp_path: Path) -> None:
    failed = make_record(tmp_path / "failed", failure="out of memory")
    assert records.put(failed).result().state == "created"
    assert records.put(change_record(failed, failure="a full disk")).result().state == "replaced"
    finished = make_record(tmp_path / "finished")
    assert records.put(finished).result().state == "replaced"
    assert records.put(failed).result().state == "kept"
    assert list(records.contents()) == [finished.digest]


def test_equal_predictions_are_stored_once_and_go_with_their_last_cell(records: Records, tmp_path: Path) -> None:
    record = make_record(tmp_path)
    twin = change_record(record, cell_model="twin")
    for each in (record, twin):
        records.put(each).result()
    assert _count(records) == 1
    records.remove(record.digest).result()
    assert _count(records) == 1
    assert records.get(record.digest) is None
    records.remove(twin.digest).result()
    assert _count(records) == 0
    with pytest.raises(NotFoundError):
        records.remove(twin.digest).result()


def _count(records: Records) -> int:
    with records.engine.begin() as connection:
        return connection.execute(select(func.count()).select_from(tables.predictions)).scalar_one()


def test_many_writers_lose_and_double_nothing(records: Records, tmp_path: Path) -> None:
    made = [make_record(tmp_path, seed=seed) for seed in range(1, 41)]
    with ThreadPoolExecutor(8) as pool:
        outcomes = [future.result() for future in pool.map(records.put, made + made)]
    assert sorted(outcome.state for outcome in outcomes) == ["created"] * 40 + ["unchanged"] * 40
    assert records.change_number() == 40
    assert {stored.change for stored in records.cells()} == set(range(1, 41))
    assert [stored.cell.seed for stored in records.cells(since=38)] != []
    assert {stored.cell.seed for stored in records.cells(seed=7)} == {7}


def test_a_client_that_leaves_and_a_record_that_fails_do_not_stop_the_writer(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    first, left, failing, last = (make_record(tmp_path, seed=seed) for seed in (1, 2, 3, 4))
    begun, go = threading.Event(), threading.Event()
    put = records_module._put

    def put_when_told(connection: Connection, number: int, packed: Any, *arguments: Any, **settings: Any) -> Any:
        begun.set()
        assert go.wait(60)
        if packed.digest == failing.digest:
            raise ZeroDivisionError
        return put(connection, number, packed, *arguments, **settings)

    monkeypatch.setattr(records_module, "_put", put_when_told)
    running = records.put(first)
    assert begun.wait(60)
    assert not running.cancel()
    cancelled = records.put(left)
    assert cancelled.cancel()
    go.set()
    assert running.result(60).state == "created"
    with pytest.raises(ZeroDivisionError):
        records.put(failing).result(60)
    assert records.put(last).result(60).state == "created"
    assert set(records.contents()) == {first.digest, last.digest}


def test_two_servers_on_one_database_agree(records: Records, database: str, tmp_path: Path) -> None:
    other = Records(database)
    made = [make_record(tmp_path, seed=seed) for seed in range(1, 21)]
    futures = [place.put(record) for record in made for place in (records, other)]
    states = sorted(future.result().state for future in futures)
    other.close()
    assert states == ["created"] * 20 + ["unchanged"] * 20
    assert records.change_number() == 20


def test_tokens(records: Records) -> None:
    token = add_token(records.engine, "me")
    reader = add_token(records.engine, "reader", writes=False)
    owner = find_token(records.engine, token)
    assert owner is not None
    assert (owner.name, owner.writes) == ("me", True)
    assert [(each.name, each.writes) for each in list_tokens(records.engine)] == [("me", True), ("reader", False)]
    for wrong in ("", token[:-1], token + "x", "\ud800"):
        assert find_token(records.engine, wrong) is None
    with records.engine.begin() as connection:
        stored = json.dumps([list(row) for row in connection.execute(select(tables.tokens))])
    assert token not in stored
    remove_token(records.engine, "me")
    assert find_token(records.engine, token) is None
    assert find_token(records.engine, reader) is not None
    for action, message in ((add_token, "there is a token 'reader'"), (remove_token, "there is no token 'other'")):
        with pytest.raises(RunError, match=message):
            action(records.engine, "reader" if action is add_token else "other")
    with pytest.raises(RunError, match="use letters"):
        add_token(records.engine, "a b")


VERSION_1 = """
CREATE TABLE counters (name VARCHAR(32) PRIMARY KEY, value BIGINT NOT NULL);
CREATE TABLE cells (
    digest VARCHAR(64) PRIMARY KEY, place VARCHAR(64) NOT NULL UNIQUE, suite TEXT NOT NULL, model TEXT NOT NULL,
    task TEXT NOT NULL, seed BIGINT NOT NULL, step BIGINT, finished BOOLEAN NOT NULL, content VARCHAR(64) NOT NULL,
    record BLOB NOT NULL, change BIGINT NOT NULL
);
CREATE TABLE predictions (sha256 VARCHAR(64) PRIMARY KEY, content BLOB NOT NULL);
CREATE TABLE splits (
    cell VARCHAR(64) REFERENCES cells (digest), split VARCHAR(512), sha256 VARCHAR(64) NOT NULL,
    PRIMARY KEY (cell, split)
);
CREATE TABLE tokens (name VARCHAR(512) PRIMARY KEY, sha256 VARCHAR(64) NOT NULL, writes BOOLEAN NOT NULL);
INSERT INTO counters VALUES ('database', 1), ('changes', 1);
"""


def test_a_database_of_version_1_is_migrated(tmp_path: Path) -> None:
    path = tmp_path / "board.sqlite"
    record = change_record(make_record(tmp_path), learning_curve=[])
    form = record.to_stored_form()
    fields = {name: value for name, value in form.fields.items() if name != "learning_curve"} | {"version": 1}
    cell, packed = record.cell, tables.compress(json.dumps(fields).encode())
    with sqlite3.connect(path) as connection:
        connection.executescript(VERSION_1)
        row = (record.digest, record.place, cell.suite, cell.model, cell.task, cell.seed, None, True, "?", packed, 1)
        connection.execute(f"INSERT INTO cells VALUES ({', '.join('?' * len(row))})", row)
        for split, file in form.predictions.items():
            sha256 = form.fields["predictions"][split]["sha256"]
            connection.execute("INSERT INTO predictions VALUES (?, ?)", (sha256, tables.compress(file)))
            connection.execute("INSERT INTO splits VALUES (?, ?, ?)", (record.digest, split, sha256))
    connection.close()
    for _ in range(2):  # the second time there is nothing to migrate
        records = Records(str(path))
        stored = records.get(record.digest)
        assert stored is not None
        assert (stored.record, stored.submitter) == (form.fields, None)
        assert records.put(record).result().state == "unchanged"
        records.close()


def test_a_database_of_another_kind_or_of_the_future_is_refused(tmp_path: Path) -> None:
    records = Records(str(tmp_path / "board.sqlite"))
    with records.engine.begin() as connection:
        connection.execute(tables.counters.update().where(tables.counters.c.name == "database").values(value=99))
    records.close()
    with pytest.raises(RunError, match=r"has version 99.*install a newer claf2"):
        Records(str(tmp_path / "board.sqlite"))
    connection = sqlite3.connect(tmp_path / "other.sqlite")
    connection.execute("CREATE TABLE songs (name TEXT)")
    connection.close()
    with pytest.raises(RunError, match="is not a board's database: it has tables songs"):
        Records(str(tmp_path / "other.sqlite"))
    (tmp_path / "text").write_text("no database at all, but long enough to be taken for one\n" * 20)
    with pytest.raises(RunError, match=r"cannot be opened.*not a database"):
        Records(str(tmp_path / "text"))
    with pytest.raises(RunError, match="not a database URL") as info:
        Records("nothing://user:secret@host/name")
    assert "secret" not in str(info.value)
