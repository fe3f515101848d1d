"""Submitting to a real server, rebuilding, and the commands of the documentation."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from board_cells import change_record, make_record, write_cell
from fastapi.testclient import TestClient

from claf2.benchmarking.cells import read_cell
from claf2.board import feed, submit
from claf2.board.app import create_app
from claf2.board.feed import BoardFeed
from claf2.board.rebuild import rebuild
from claf2.board.records import Records
from claf2.board.submit import BoardClient, BoardError, Submission, find_cells, read_records, submit_cells
from claf2.cli.main import main
from claf2.errors import RunError
from claf2.task import shipped_dir

COMMAND = [sys.executable, "-c", "from claf2.cli.main import main; main()", "board"]


class Done(NamedTuple):
    """What a command has printed, and its exit code."""

    stdout: str
    stderr: str
    returncode: int


@pytest.fixture
def run_command(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Done]:
    """Run a command of the board in the folder of the test, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CLAF2_BOARD_TOKEN", raising=False)

    def run(*words: str) -> Done:
        capfd.readouterr()
        with pytest.raises(SystemExit) as info:
            main(["board", *words])
        output = capfd.readouterr()
        assert "Traceback" not in output.err
        return Done(output.out, output.err, int(info.value.code or 0))

    return run


@contextmanager
def serve_board(folder: Path, *options: str) -> Iterator[str]:
    """Serve a board in a process of its own, and yield its address."""
    with subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", *options], cwd=folder, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        match = re.fullmatch(r"board: (http://127\.0\.0\.1:\d+)\n", process.stdout.readline())
        assert match
        try:
            yield match[1]
        finally:
            process.terminate()
            assert process.wait() == 0


def test_submit_is_repeatable_and_rebuild_gives_the_same(run_command: Callable[..., Done], tmp_path: Path) -> None:
    for seed in (1, 2):
        write_cell(tmp_path / "bench", "a", "rte", seed)
    write_cell(tmp_path / "bench", "b", failure="out of memory")
    (write_cell(tmp_path / "bench", "running") / "metrics.json").unlink()
    token = run_command("token", "add", "me").stdout.strip()
    with serve_board(tmp_path) as url:
        options = ["--url", url, "--token", token]
        first, second = (run_command("submit", "bench", *options) for _ in range(2))
        assert (first.stdout, first.returncode) == ("3 cells: 3 created\n", 0)
        assert second.stdout == "3 cells: 3 unchanged\n"
        (tmp_path / "bench/a-None/rte-1/metrics.jsonl").unlink()
        refused = run_command("submit", "bench/a-None/rte-1", *options)
        assert (refused.returncode, refused.stdout) == (2, "1 cells: 1 refused\n")
        assert "submit with --replace" in refused.stderr
        wrong = run_command("submit", "bench", "--replace", "--url", url, "--token", "x")
        assert (wrong.returncode, "needs a token" in wrong.stderr) == (2, True)
        assert run_command("submit", "bench", "--replace", *options).stdout == "3 cells: 1 replaced, 2 unchanged\n"
        with BoardClient(url) as client:
            expected = dump_board(client.get)
        assert run_command("rebuild", url, "--database", "copy.sqlite").stdout == "3 cells: 3 created\n"
    assert run_command("rebuild", "bench", "--database", "new.sqlite").stdout == "3 cells: 3 created\n"
    stored = (tmp_path / "bench").as_uri()
    assert run_command("rebuild", stored, "--database", "store.sqlite").stdout == "3 cells: 3 created\n"
    for name in ("copy.sqlite", "new.sqlite", "store.sqlite"):
        with TestClient(create_app(name)) as copy:
            assert dump_board(lambda path, copy=copy: copy.get(path).json()) == expected


def dump_board(get: Callable[[str], Any]) -> dict[str, Any]:
    """Return everything that a board tells of its cells, and its table."""
    cells = get("/api/cells")
    for cell in cells:
        del cell["change"]  # in which order cells came is no property of them
    table = get("/api/suites/glue/summary")
    del table["when"]
    whole = {cell["digest"]: get(f"/api/cells/{cell['digest']}") for cell in cells}
    predictions = {
        digest: get(f"/api/cells/{digest}/predictions/{split}")
        for digest, cell in whole.items()
        for split in cell["predictions"]
    }
    return {"cells": cells, "table": table, "whole": whole, "predictions": predictions, "sums": get("/api/contents")}


class _Flaky(BaseHTTPRequestHandler):
    """A server that fails in each way once before it answers."""

    problems: list[Any]
    seen: list[str]

    def do_GET(self) -> None:
        self._answer(b"{}")

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append(self.path)
        self._answer(b'{"state": "created"}')

    def _answer(self, body: bytes) -> None:
        problem = self.problems.pop(0) if self.problems else 200
        if problem == "cut":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        body = body if problem == 200 else b'{"detail": "not now"}'
        self.send_response(problem)
        self.send_header("Content-Length", str(len(body)))
        if problem == 429:
            self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Print nothing."""


@contextmanager
def serve_flaky(*problems: Any) -> Iterator[tuple[str, list[str]]]:
    """Serve answers with these problems first; yield the address, and the paths of the writes that arrive."""
    seen: list[str] = []
    handler = type("Flaky", (_Flaky,), {"problems": list(problems), "seen": seen})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()


def test_a_board_that_is_down_is_tried_again(tmp_path: Path) -> None:
    record = make_record(tmp_path)
    with serve_flaky("cut", 503, 429, 500) as (url, seen):
        with BoardClient(url, "x", pause=0.001) as client:
            assert client.put(record) == "created"
        assert len(seen) == 5
    with serve_flaky(503, 503) as (url, seen):
        client = BoardClient(url, "x", attempts=2, pause=0.001)
        with client, pytest.raises(RunError, match=r"not now \(503\).*repeat the command"):
            client.put(record)
        assert len(seen) == 2
    with serve_flaky(422) as (url, seen):
        with BoardClient(url, "x", pause=0.001) as client, pytest.raises(BoardError, match=r"not now \(422\)"):
            client.put(record)
        assert len(seen) == 1
    with BoardClient(url, "x", attempts=2, pause=0.001) as client, pytest.raises(RunError, match="does not answer"):
        client.put(record)


def test_a_token_that_is_refused_ends_a_submission(tmp_path: Path) -> None:
    for seed in range(1, 9):
        write_cell(tmp_path, seed=seed)
    shown: list[Submission] = []
    with serve_flaky(200, 401, 401, 401, 401) as (url, seen):
        with BoardClient(url, "x", pause=0.001) as client, pytest.raises(BoardError, match="401"):
            submit_cells(find_cells(tmp_path), client, workers=1, on_progress=shown.append)
        assert len(seen) == 1
    assert shown == []


@pytest.mark.parametrize("url", ["", "board", "ftp://host", "http://", "http://host:x", "http://[::1", "http://host:0"])
def test_an_address_that_is_none_is_named(url: str) -> None:
    with pytest.raises(RunError, match="not the address of a board"):
        BoardClient(url)


def test_what_is_no_cell_or_no_board_is_named(run_command: Callable[..., Done], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="contains no cell of a bench"):
        find_cells(tmp_path)
    folder = write_cell(tmp_path)
    (folder / "predictions/rte-valid.jsonl").write_text("{")
    records = Records(str(tmp_path / "board.sqlite"))
    submission = rebuild([str(tmp_path)], records)
    records.close()
    assert (submission.states, len(submission.refused)) == ({}, 1)
    assert "damaged" in submission.refused[0]
    for words, message in (
        (["serve", "--database", "x://y"], "not a database URL"),
        (["serve", "--host", "256.0.0.1"], "cannot listen at"),
        (["submit", "nowhere", "--url", "http://127.0.0.1:1"], "nowhere: no such folder"),
        (["token", "remove", "nobody"], "there is no token"),
    ):  # fmt: skip
        done = run_command(*words)
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def test_the_client_and_the_command_line_need_no_extra(tmp_path: Path) -> None:
    code = (
        "import sys, claf2.cli.main, claf2.board.submit\n"
        "print([name for name in ('torch', 'fastapi', 'sqlalchemy', 'uvicorn', 'httpx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    code = (
        "import sys; sys.modules['sqlalchemy'] = None; sys.argv = ['claf2', 'board', 'token', 'list']\n"
        "from claf2.cli.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, "pip install 'claf2[board]'" in done.stderr) == (2, True), done.stderr


def test_a_record_survives_json(tmp_path: Path) -> None:
    record = make_record(tmp_path)
    again = change_record(record)
    assert again == record
    assert again.to_stored_form() == record.to_stored_form()
    old = json.loads(record.model_dump_json())
    old["version"] = 1
    del old["learning_curve"]
    assert type(record).model_validate_json(json.dumps(old)).learning_curve == ()


@pytest.mark.slow
def test_the_commands_of_the_page(tmp_path: Path) -> None:
    """Those of docs/board.md, in order; the server runs meanwhile, and is reached at the address in the page."""
    page = shipped_dir("tasks").parent / "docs/board.md"
    blocks = re.findall(r"^```\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines() if line]
    assert all(line.startswith(("claf2 ", "CLAF2_BOARD_TOKEN=TOKEN claf2 ")) for line in lines)
    token, url = "", ""
    with pytest.MonkeyPatch.context() as patch:
        contexts = []
        for line in lines:
            words = shlex.split(line.replace("CLAF2_BOARD_TOKEN=TOKEN ", ""))[1:]
            if words[:2] == ["board", "serve"]:
                if len(words) == 2:
                    context = serve_board(tmp_path)
                    url = context.__enter__()
                    contexts.append(context)
                continue
            words = [word.replace("http://127.0.0.1:8000", url) for word in words]
            patch.setenv("CLAF2_BOARD_TOKEN", token)
            done = subprocess.run([*COMMAND[:-1], *words], cwd=tmp_path, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{line}: {done.stderr}"
            if words[:3] == ["board", "token", "add"]:
                token = done.stdout.strip()
        for context in contexts:
            context.__exit__(None, None, None)


def test_a_connection_that_the_board_has_closed_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "IDLE_SECONDS", 0.0)
    closed = threading.Event()

    class ClosesIdle(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 0.05

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"[]")

        def finish(self) -> None:
            super().finish()
            closed.set()

        def log_message(self, *arguments: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), ClosesIdle) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with BoardClient(f"http://127.0.0.1:{server.server_port}", attempts=1) as client:
            assert client.get("/api/cells") == []
            assert closed.wait(30)
            assert client.get("/api/cells") == []
        server.shutdown()
        thread.join()


def test_a_feed_submits_cells_as_they_end_and_the_rest_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "bench"
    sent: list[list[str]] = []
    arrived, is_down = threading.Event(), True

    def submit_(results: list[Any], client: object, **_: object) -> Submission:
        if is_down:
            arrived.set()
            raise RunError("the board does not answer")
        sent.append([result.folder.name for result in results])
        arrived.set()
        return Submission(len(results))

    monkeypatch.setattr(feed, "submit_cells", submit_)
    monkeypatch.setattr(BoardClient, "check_token", lambda _: None)
    first = write_cell(out)
    board = BoardFeed(out, BoardClient("http://127.0.0.1:1"))
    assert arrived.wait(30)
    is_down = False
    arrived.clear()
    board.update()
    assert arrived.wait(30)
    second = write_cell(out, seed=2)
    assert board.close() == []
    assert sent == [[first.name], [second.name]]
    assert caplog.text.count("submitted later") == 1


def test_a_feed_says_that_its_token_is_refused_before_a_cell_has_ended(
    run_command: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned = threading.Event()
    monkeypatch.setattr(feed.logger, "warning", lambda *_: warned.set())
    run_command("token", "add", "me")
    reader = run_command("token", "add", "reader", "--read-only").stdout.strip()
    with serve_board(tmp_path) as url:
        for token, problem in (("x", "needs a token"), (reader, "can only read")):
            with BoardClient(url, token) as client:
                board = BoardFeed(tmp_path / "bench", client)
                assert warned.wait(30)
                warned.clear()
                assert problem in board.close()[0]


def test_a_feed_tries_again_although_no_other_cell_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[int] = []
    arrived = threading.Event()

    def submit_(results: list[Any], client: object, **_: object) -> Submission:
        attempts.append(len(results))
        if len(attempts) == 1:
            raise RunError("the board does not answer")
        arrived.set()
        return Submission(len(results))

    monkeypatch.setattr(feed, "submit_cells", submit_)
    monkeypatch.setattr(BoardClient, "check_token", lambda _: None)
    monkeypatch.setattr(feed, "RETRY_SECONDS", 0.01)
    write_cell(tmp_path)
    board = BoardFeed(tmp_path, BoardClient("http://127.0.0.1:1"))
    assert arrived.wait(30)
    assert board.close() == []


def test_a_damaged_or_refused_cell_keeps_no_other_from_the_board(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    damaged, refused, good = (write_cell(tmp_path, seed=seed) for seed in (1, 2, 3))
    (damaged / "metrics.json").write_text("{")
    sent: list[list[str]] = []

    def submit_(results: list[Any], client: object, **_: object) -> Submission:
        sent.append([result.folder.name for result in results])
        return Submission(len(results), refused=[f"{refused}: the board holds another record (409)"])

    monkeypatch.setattr(feed, "submit_cells", submit_)
    monkeypatch.setattr(BoardClient, "check_token", lambda _: None)
    reasons = BoardFeed(tmp_path, BoardClient("http://127.0.0.1:1")).close()
    assert sent == [[refused.name, good.name]]
    assert [str(folder) in reason for folder, reason in zip((damaged, refused), reasons, strict=True)] == [True, True]
    assert caplog.text.count("not on the board") == 2


@pytest.mark.parametrize(
    "damaged", ['{"step": 20, "ep', "", "[]", '{"step": 20}'], ids=["cut", "empty", "list", "no epoch"]
)
def test_a_damaged_learning_curve_is_named(damaged: str, tmp_path: Path) -> None:
    folder = write_cell(tmp_path)
    (folder / "metrics.jsonl").write_text(damaged)
    ((_, reason),) = read_records([read_cell(folder)])
    assert isinstance(reason, str)
    assert str(folder / "metrics.jsonl") in reason


def test_rebuild_refuses_what_submit_refuses(run_command: Callable[..., Done], tmp_path: Path) -> None:
    """A table that lacks predictions could not be shown."""
    folder = write_cell(tmp_path / "bench", seed=1)
    write_cell(tmp_path / "bench", seed=2)
    cell = json.loads((folder / "cell.json").read_text())
    (folder / "cell.json").write_text(json.dumps({**cell, "suite": "unknown"}))
    database = str(tmp_path / "board.sqlite")
    done = run_command("rebuild", str(tmp_path / "bench"), "--database", database)
    assert done.returncode == 2
    assert "refused: unknown/a/rte seed 1: cell.suite: " in done.stderr
    records = Records(database)
    assert list(records.suites()) == ["glue"]
    records.close()


def test_a_cell_that_is_trained_again_while_it_is_sent_is_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_cell(tmp_path)
    sent: list[str] = []

    def submit_(results: list[Any], client: object, **_: object) -> Submission:
        sent.extend(result.folder.name for result in results)
        os.utime(folder / "metrics.json", ns=(len(sent), min(len(sent), 2)))
        return Submission(len(results))

    monkeypatch.setattr(feed, "submit_cells", submit_)
    monkeypatch.setattr(BoardClient, "check_token", lambda _: None)
    board = BoardFeed(tmp_path, BoardClient("http://127.0.0.1:1"))
    board.close()
    board.close()
    board.close()
    assert len(sent) == 3


@pytest.mark.parametrize("words", [["token", "list"], ["token", "remove", "a"], ["export", "glue"]], ids=" ".join)
def test_a_database_with_a_wrong_name_is_not_created(
    words: list[str], run_command: Callable[..., Done], tmp_path: Path
) -> None:
    done = run_command(*words, "--database", "typo.sqlite")
    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])
    assert "typo.sqlite: no such database" in done.stderr
