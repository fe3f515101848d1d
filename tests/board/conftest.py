"""What tests of the board need: databases, of which PostgreSQL is a real server that the tests start."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the board's extra is not installed: pip install 'claf2[board]'")


def postgres_programs() -> Path:
    """Return the folder of PostgreSQL's server, or skip the test."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders:
        pytest.skip("PostgreSQL is not installed: make postgres")
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'claf2[postgres]'")
    return folders[-1]


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A PostgreSQL server: the URL of its databases, without a name at the end. It listens at a socket in a folder."""
    programs = postgres_programs()
    # Not a folder of pytest, which only its own user can enter: the server refuses to run as root.
    with tempfile.TemporaryDirectory(prefix="claf2-pg-", ignore_cleanup_errors=True) as name:
        folder, prefix = Path(name), list[str]()
        if os.geteuid() == 0:
            prefix = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
            folder.chmod(0o777)
        data = folder / "data"
        command = [*prefix, str(programs / "initdb"), "-D", str(data), "-U", "board", "-A", "trust", "-E", "UTF8", "-N"]
        subprocess.run(command, check=True, capture_output=True, cwd=folder)
        control = [*prefix, str(programs / "pg_ctl"), "-D", str(data), "-w"]
        options = f"-c listen_addresses= -c unix_socket_directories={folder}"
        log = str(folder / "log")
        subprocess.run([*control, "-o", options, "-l", log, "start"], check=True, stdout=subprocess.DEVNULL, cwd=folder)
        try:
            yield f"postgresql+psycopg://board@/%s?host={folder}"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, capture_output=True, cwd=folder)


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of either kind."""
    if request.param == "sqlite":
        return str(tmp_path / "board.sqlite")
    import psycopg

    template: str = request.getfixturevalue("postgres")
    name = f"b{abs(hash(str(tmp_path)))}"
    with psycopg.connect((template % "postgres").replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return template % name
