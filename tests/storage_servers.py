"""Real S3 servers on loopback, and a proxy before them that counts, delays, refuses and breaks off."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

KEY, SECRET = "AKIDEXAMPLE0000", "wJalrXUtnFEMIK7MDENGbPxRfiCYSECRETKEY"
BUCKET = "claf2-bucket"


@dataclass(frozen=True)
class S3Server:
    """A server that runs."""

    name: str
    endpoint: str
    creates_exclusively: bool
    """Whether it creates an object only if it is absent, when it is asked to."""

    @property
    def port(self) -> int:
        return int(self.endpoint.rpartition(":")[2])


@contextmanager
def moto_server(folder: Path) -> Iterator[S3Server]:
    """`moto_server`: in memory; keeps conditional requests, and looks at no signature."""
    command = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", "0"]
    with _server(command, folder / "moto.log", r"Running on (http://127\.0\.0\.1:\d+)") as endpoint:
        with urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT")) as answer:
            assert answer.status == 200
        yield S3Server("moto", endpoint, True)


@contextmanager
def rclone_server(folder: Path) -> Iterator[S3Server]:
    """`rclone serve s3`: on the disk; checks signatures, and overwrites what should be created only if absent."""
    (folder / "rclone" / BUCKET).mkdir(parents=True)
    command = [
        str(Path(sys.executable).with_name("rclone")), "serve", "s3", str(folder / "rclone"), "--addr", "127.0.0.1:0",
        "--auth-key", f"{KEY},{SECRET}", "--config", "",
    ]  # fmt: skip
    with _server(command, folder / "rclone.log", r"\[(http://127\.0\.0\.1:\d+)/\]") as endpoint:
        yield S3Server("rclone", endpoint, False)


def missing_servers() -> list[str]:
    """Return the programs that are not installed."""
    return [name for name in ("moto_server", "rclone") if shutil.which(Path(sys.executable).with_name(name)) is None]


@contextmanager
def _server(command: list[str], log: Path, pattern: str) -> Iterator[str]:
    """Run a server that prints its address."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    lines: list[str] = []
    drain: threading.Thread | None = None
    try:
        for line in process.stdout:
            lines.append(line)
            found = re.search(pattern, line)
            if found is not None:
                break
        else:
            raise AssertionError(f"{command[0]} ended: {''.join(lines)}")
        output = process.stdout
        drain = threading.Thread(target=lambda: log.write_text("".join(output)), daemon=True)
        drain.start()
        yield found.group(1)
    finally:
        process.terminate()
        process.wait()
        if drain is not None:
            drain.join()
        process.stdout.close()


@dataclass
class Proxy:
    """Passes connections on to a server.

    Args:
        port: the server's.
    """

    port: int
    sent: int = 0
    """The bytes from clients so far."""
    requests: int = 0
    answer: bytes | None = None
    """What is answered to every request instead of asking the server."""
    is_silent: bool = False
    """Whether nothing is passed on or answered."""
    after: tuple[int, Callable[[], None]] | None = None
    """A number of bytes, and what is done once so many have been passed on."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._open: list[socket.socket] = []
        self._serving: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, and end all connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        with self._lock:
            for connection in self._open:
                _end(connection)

    def wait(self) -> None:
        """Wait until all connections have ended, those of clients that were killed included: what they have sent may
        still be on its way."""
        while self._serving:
            self._serving.pop().join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.append(client)
            serving = threading.Thread(target=self._serve, args=(client,), daemon=True)
            serving.start()
            self._serving.append(serving)  # only now: another thread may wait for it at once

    def _serve(self, client: socket.socket) -> None:
        if self.answer is not None or self.is_silent:
            with suppress(OSError):
                while client.recv(1 << 16):
                    self.requests += 1
                    if self.answer is not None:
                        client.sendall(self.answer)
                        break
            _end(client)
            return
        server = socket.create_connection(("127.0.0.1", self.port))
        with self._lock:
            self._open.append(server)
        back = threading.Thread(target=_pipe, args=(server, client, lambda data: None), daemon=True)
        back.start()
        _pipe(client, server, self._count)
        back.join()
        client.close()
        server.close()

    def _count(self, data: bytes) -> None:
        with self._lock:
            self.sent += len(data)
            due = self.after if self.after is not None and self.sent >= self.after[0] else None
            if due is not None:
                self.after = None
        if due is not None:
            due[1]()


def _pipe(source: socket.socket, target: socket.socket, seen: Callable[[bytes], None]) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            seen(data)
            target.sendall(data)
    for connection in (source, target):
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
