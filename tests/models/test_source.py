"""Where models come from: folders, archives, URLs; and what is refused."""

from __future__ import annotations

import http.server
import io
import json
import logging
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from claf2.errors import ModelError
from claf2.models.source import resolve_model
from claf2.runtime.files import default_cache_dir, sha256


def archive(kind: str, marker: str, inner: str = "model/") -> bytes:
    """Return an archive of a model folder whose config.json holds ``marker``."""
    content = json.dumps({"marker": marker}).encode()
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as zipped:
            zipped.writestr(f"{inner}config.json", content)
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            entry = tarfile.TarInfo(f"{inner}config.json")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


class Server:
    """A web server on loopback: paths to bytes."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.gets: list[tuple[str, int]] = []
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = owner.files.get(self.path)
                tag = f'"{hash(body)}"'
                code = 404 if body is None else 304 if self.headers.get("If-None-Match") == tag else 200
                owner.gets.append((self.path, code))
                self.send_response(code)
                self.send_header("ETag", tag)
                if code == 200 and body is not None:
                    self.send_header("Content-Length", str(len(body) + (100 if "short" in self.path else 0)))
                self.end_headers()
                if code == 200 and body is not None:
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                return None

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.thread = threading.Thread(target=self.http.serve_forever)
        self.thread.start()

    def stop(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.stop()


def marker(folder: Path | str) -> str:
    return str(json.loads((Path(folder) / "config.json").read_text())["marker"])


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize("inner", ["", "model/", "a/b/"])
def test_archives(kind: str, inner: str, tmp_path: Path) -> None:
    path = tmp_path / f"m.{kind}"
    path.write_bytes(archive(kind, "one", inner))
    assert marker(resolve_model(str(path), cache=tmp_path / "cache")) == "one"
    path.write_bytes(archive(kind, "two", inner))
    assert marker(resolve_model(str(path), cache=tmp_path / "cache")) == "two"


def test_a_folder_is_itself_and_an_unknown_name_is_the_hubs(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m/config.json").write_text("{}")
    assert resolve_model(str(tmp_path / "m"), cache=tmp_path) == tmp_path / "m"
    assert resolve_model("klue/bert-base", cache=tmp_path) == "klue/bert-base"
    assert resolve_model("bert-base-cased", cache=tmp_path) == "bert-base-cased"


def test_two_urls_with_one_basename_do_not_collide(server: Server, tmp_path: Path) -> None:
    server.files = {"/a/m.zip": archive("zip", "one"), "/b/m.zip": archive("zip", "two")}
    assert marker(resolve_model(f"{server.url}/a/m.zip", cache=tmp_path)) == "one"
    assert marker(resolve_model(f"{server.url}/b/m.zip", cache=tmp_path)) == "two"
    assert marker(resolve_model(f"{server.url}/a/m.zip", cache=tmp_path)) == "one"
    assert server.gets == [("/a/m.zip", 200), ("/b/m.zip", 200), ("/a/m.zip", 304)]
    server.files["/a/m.zip"] = archive("zip", "three")
    assert marker(resolve_model(f"{server.url}/a/m.zip", cache=tmp_path)) == "three"


def test_a_server_out_of_reach_leaves_the_copy(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    server.files = {"/m.zip": archive("zip", "one")}
    assert marker(resolve_model(f"{server.url}/m.zip", cache=tmp_path)) == "one"
    server.stop()
    assert marker(resolve_model(f"{server.url}/m.zip", cache=tmp_path)) == "one"
    with pytest.raises(ModelError, match="cannot be reached"):
        resolve_model(f"{server.url}/other.zip", cache=tmp_path)


def damage(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def test_a_download_that_has_changed_is_downloaded_again(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("claf2"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("claf2"), "handlers", [])  # what an earlier test has left counts twice
    server.files = {"/m.zip": archive("zip", "one")}
    url = f"{server.url}/m.zip"
    folder = resolve_model(url, cache=tmp_path)
    (download,) = (path for path in (tmp_path / "downloads").iterdir() if path.suffix != ".json")
    (memo,) = (tmp_path / "downloads").glob("*.json")
    damage(download)
    assert resolve_model(url, cache=tmp_path) == folder
    assert sha256(download) == download.name
    assert [record.getMessage() for record in caplog.records] == [
        f"{download}: changed since it was downloaded: downloaded again"
    ]
    damage(memo)
    assert resolve_model(url, cache=tmp_path) == folder
    assert f"{memo}: damaged" in caplog.text
    assert server.gets == [("/m.zip", 200)] * 3
    damage(download)
    server.files.clear()
    with pytest.raises(ModelError, match="the server answers 404"):
        resolve_model(url, cache=tmp_path)


def test_a_changed_download_does_not_stand_in_for_a_server(tmp_path: Path) -> None:
    server = Server()
    server.files = {"/m.zip": archive("zip", "one")}
    resolve_model(f"{server.url}/m.zip", cache=tmp_path)
    server.stop()
    (download,) = (path for path in (tmp_path / "downloads").iterdir() if path.suffix != ".json")
    damage(download)
    with pytest.raises(ModelError, match="cannot be reached"):
        resolve_model(f"{server.url}/m.zip", cache=tmp_path)


def test_what_is_refused(server: Server, tmp_path: Path) -> None:
    def refused(name: str, reason: str) -> None:
        with pytest.raises(ModelError, match=reason) as caught:
            resolve_model(name, cache=tmp_path / "cache")
        assert "\n" not in str(caught.value)

    for kind in ("zip", "tar.gz"):
        (tmp_path / f"cut.{kind}").write_bytes(archive(kind, "x" * 2000)[:-60])
        refused(str(tmp_path / f"cut.{kind}"), "archive")
    (tmp_path / "text.zip").write_text("no archive")
    refused(str(tmp_path / "text.zip"), "neither a folder nor a complete archive")
    (tmp_path / "empty").mkdir()
    refused(str(tmp_path / "empty"), r"the folder has no config\.json")
    refused(str(tmp_path / "emptyy"), "no such file or folder; did you mean 'empty'")
    server.files = {"/short.zip": archive("zip", "x")}
    refused(f"{server.url}/short.zip", r"bytes; download it again|cannot be reached")
    refused(f"{server.url}/none.zip", "the server answers 404")
    assert not list((tmp_path / "cache").rglob(".unpack-*"))


def test_an_archive_cannot_write_outside(tmp_path: Path) -> None:
    path = tmp_path / "evil.tar.gz"
    path.write_bytes(archive("tar.gz", "x", "../../"))
    with pytest.raises(ModelError, match="archive"):
        resolve_model(str(path), cache=tmp_path / "a/b/cache")
    assert not list(tmp_path.rglob("config.json"))


def test_the_cache_is_where_the_variable_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLAF2_CACHE", str(tmp_path))
    assert default_cache_dir() == tmp_path
