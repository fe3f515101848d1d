"""``claf2 serve --check --url`` against addresses and servers of all kinds, and tokens that cannot be sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from claf2.cli.main import main
from claf2.errors import RunError
from claf2.metrics import Prediction
from claf2.serving.replay import ReplayRow, check_server, replay_predictions

Answer = tuple[int, bytes] | list[tuple[int, bytes]]

ROW = ReplayRow("words", {"id": "x", "text": "a"}, Prediction("x", "1", "1", 0.5, None))
ANSWER = {"id": "x", "prediction": "1", "score": 0.5, "details": None}


def info(engine: str, rule: str) -> bytes:
    """Return what a server says about its only model."""
    return json.dumps({"models": {"a": {"engine": engine, "batching": {"rule": rule}}}}).encode()


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[str, list[str]]]]:
    """Start servers that answer some paths, each with its status and content, or with several in turn, and that close
    the connection after a 429; return the URL and the paths asked."""
    servers: list[ThreadingHTTPServer] = []

    def start(answers: dict[str, Answer]) -> tuple[str, list[str]]:
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                path = self.path.partition("?")[0]
                asked.append(path)
                found = answers.get(path, (404, b"no such page"))
                status, content = found.pop(0) if isinstance(found, list) else found
                self.close_connection = status == 429
                self.send_response(status)
                self.send_header("Retry-After", "0")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return f"http://127.0.0.1:{server.server_port}", asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


Serve = Callable[..., tuple[str, list[str]]]


def test_the_path_of_the_url_belongs_to_the_server(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("claf2.serving.replay.stored_rows", lambda folder, split: [ROW])
    answer = json.dumps(ANSWER).encode()
    url, asked = serve({"/new/info": (200, info("torch", "close")), "/new/predict": (200, answer)})
    for address in (f"{url}/new", f"{url}/new/"):
        replay = check_server(address, {"a": tmp_path})["a"]
        assert (replay.rows, replay.equal_bytes) == (1, 1)
    assert asked == ["/new/info", "/new/predict"] * 2
    with pytest.raises(RunError, match="the server answers 404"):
        check_server(url, {"a": tmp_path})


@pytest.mark.parametrize("url", [
    "http://127.0.0.1:99999", "http://127.0.0.1:abc", "http://[::1", "ftp://127.0.0.1", "127.0.0.1:8000", "",
])  # fmt: skip
def test_an_address_that_cannot_be_one_is_named(url: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not the address of a server; write http://HOST:PORT"):
        check_server(url, {"a": tmp_path})


def test_an_address_without_a_server_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="check that the server runs"):
        check_server(f"http://{'a' * 70}.invalid", {"a": tmp_path})  # too long for the name of a host


@pytest.mark.parametrize("content", [
    b"<html></html>", b"\xff", b"[]", b"{}", b'{"models": ["a"]}', b'{"models": {"a": {}}}', b'{"models": {"a": 1}}',
], ids=repr)  # fmt: skip
def test_another_server_is_named(serve: Serve, content: bytes, tmp_path: Path) -> None:
    url, _ = serve({"/info": (200, content)})
    with pytest.raises(RunError, match="this is not a claf2 server; give the address that claf2 serve prints"):
        check_server(url, {"a": tmp_path})


@pytest.mark.parametrize("content", [b"<html></html>", b"[]"], ids=repr)
def test_an_answer_that_is_none_is_named(serve: Serve, content: bytes) -> None:
    url, _ = serve({"/predict": (200, content)})
    with pytest.raises(RunError, match="this is not a claf2 server"):
        replay_predictions(url, [ROW], exact=True)


def test_a_long_error_in_korean_is_shown_in_part(serve: Serve) -> None:
    url, _ = serve({"/predict": (500, b"x" + "가".encode() * 200)})
    with pytest.raises(RunError, match="row x: the server answers 500: x가가"):
        replay_predictions(url, [ROW], exact=True)


def test_a_server_that_is_full_is_asked_again_over_another_connection(serve: Serve) -> None:
    url, asked = serve({"/predict": [(429, b"{}"), (200, json.dumps(ANSWER).encode())]})
    assert replay_predictions(url, [ROW], exact=True).equal_bytes == 1
    assert asked == ["/predict"] * 2


@pytest.mark.parametrize(("engine", "rule", "differences"), [
    ("torch", "close", 0), ("torch", "single", 0), ("onnxruntime", "close", 0), ("onnxruntime", "single", 1),
    ("onnxruntime", "exact", 1),
])  # fmt: skip
def test_last_digits_count_where_batches_keep_them(
    serve: Serve, engine: str, rule: str, differences: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("claf2.serving.replay.stored_rows", lambda folder, split: [ROW])
    answer = json.dumps({**ANSWER, "score": 0.5 + 1e-8}).encode()
    url, _ = serve({"/info": (200, info(engine, rule)), "/predict": (200, answer)})
    assert len(check_server(url, {"a": tmp_path})["a"].differences) == differences


@pytest.mark.parametrize("token", ["비밀", "s\xe9cret", " secret", "secret ", "sec\nret", "secret\n", "a\tb", ""])
@pytest.mark.parametrize("words", [(), ("--check", "--url", "http://127.0.0.1:1")], ids=" ".join)
def test_a_token_that_no_client_can_send_is_refused_at_the_start(
    words: tuple[str, ...], token: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["serve", str(tmp_path), "--token", token, *words])
    lines = capsys.readouterr().err.splitlines()
    assert (caught.value.code, len(lines)) == (2, 1)
    assert "must be one line of ASCII characters, without spaces around it; choose another one" in lines[0]


def test_a_token_of_the_environment_is_checked_too_and_others_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for token, reason in (("비밀", "the token"), ("a", "neither a run"), ("a b:~!c", "neither a run")):
        monkeypatch.setenv("CLAF2_SERVE_TOKEN", token)
        with pytest.raises(SystemExit):
            main(["serve", str(tmp_path)])
        assert reason in capsys.readouterr().err
