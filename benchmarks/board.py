"""Measure a board: durable writes a second from concurrent clients, and what a kill and a restart lose.

The server is a process of its own, `claf2 board serve`, on a free port of this machine. Every write is one cell with
the predictions for 277 examples, the size of RTE's development set, and is answered after it is on the disk.

    python benchmarks/board.py                     # rates and times with 8 clients, in a folder of the temporary disk
    python benchmarks/board.py --database URL      # the same on PostgreSQL
    python benchmarks/board.py --kills 5           # 1,000 writes, while the server is killed and started again
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from claf2.benchmarking.cells import Cell
from claf2.board.cell_record import CellRecord
from claf2.board.submit import BoardClient

COMMAND = [sys.executable, "-c", "from claf2.cli.main import main; main()", "board"]
EXAMPLES = 277
LABELS = ("entailment", "not_entailment")


def make_bodies(count: int) -> list[tuple[str, bytes]]:
    """Return the digests and the records of different cells."""
    bodies = []
    for number in range(count):
        chance = random.Random(number)
        lines: list[dict[str, Any]] = []
        for row in range(EXAMPLES):
            share = chance.random()
            lines.append({
                "id": f"rte-{row}", "gold": LABELS[row % 2], "prediction": LABELS[share < 0.4], "score": share,
                "details": {"probabilities": {LABELS[0]: share, LABELS[1]: 1 - share}},
            })  # fmt: skip
        score = 100 * sum(line["gold"] == line["prediction"] for line in lines) / EXAMPLES
        cell = Cell("glue", f"model {number}", f"model {number}", "rte", 1, "bert", "glue/rte_bert")
        provenance = {
            "recipe": "r",
            "experiment": "e",
            "data": {"valid": "v"},
            "tokenizer": "t",
            "weights": str(number),
        }
        content = {
            "version": 2, "cell": asdict(cell), "scores": {"valid/accuracy": score}, "provenance": provenance,
            "predictions": {"valid": lines},
        }  # fmt: skip
        record = CellRecord.model_validate_json(json.dumps(content))
        bodies.append((record.digest, record.model_dump_json().encode()))
    return bodies


def ask(url: str, path: str) -> Any:
    """Return an answer of the board at a URL."""
    with BoardClient(url, pause=0.1) as client:
        return client.get(path)


class Server:
    """A board in a process of its own."""

    def __init__(self, database: str, port: int = 0) -> None:
        options = ["serve", "--database", database, "--port", str(port)]
        self.process = subprocess.Popen([*COMMAND, *options], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the board did not start")
        self.url = line.split()[-1]
        ask(self.url, "/api/health")

    @property
    def port(self) -> int:
        """The port."""
        return urlsplit(self.url).port or 0

    def cpu_seconds(self) -> float:
        """Return the time that the process has had a processor."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        """End the process without giving it a chance to do anything."""
        self.process.kill()
        self._close()

    def stop(self) -> None:
        """Ask the process to end."""
        self.process.terminate()
        self._close()

    def _close(self) -> None:
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def add_token(database: str) -> str:
    """Return a token for a board."""
    command = [*COMMAND, "token", "add", f"bench-{os.getpid()}", "--database", database]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def put_all(url: str, token: str, bodies: Sequence[tuple[str, bytes]]) -> Iterator[tuple[int, float]]:
    """Yield the status and the seconds of each write, over one connection."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    for digest, body in bodies:
        started = time.perf_counter()
        connection.request("PUT", f"/api/cells/{digest}", body, headers)
        response = connection.getresponse()
        response.read()
        yield response.status, time.perf_counter() - started


def measure_rate(database: str, clients: int, count: int) -> None:
    """Print how many writes are done in a second, and how long they take."""
    bodies = make_bodies(count)
    token, server = add_token(database), Server(database)
    print(f"{count} cells of {len(bodies[0][1])} bytes, {clients} clients, load {os.getloadavg()[0]:.1f}")
    warm_up = list(put_all(server.url, token, bodies[: clients * 4]))
    assert {status for status, _ in warm_up} == {201}
    shares = [bodies[clients * 4 + number :: clients] for number in range(clients)]
    started, cpu = time.perf_counter(), server.cpu_seconds()
    with ThreadPoolExecutor(clients) as pool:
        results = [
            each for part in pool.map(lambda share: list(put_all(server.url, token, share)), shares) for each in part
        ]
    seconds, cpu = time.perf_counter() - started, server.cpu_seconds() - cpu
    assert {status for status, _ in results} == {201}
    times = sorted(seconds for _, seconds in results)
    p50, p99 = (1000 * times[int(share * (len(times) - 1))] for share in (0.5, 0.99))
    print(f"{len(results) / seconds:.0f} durable writes a second; p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    print(f"the server takes {1000 * cpu / len(results):.2f} ms of a processor for a write")
    stored = ask(server.url, "/api/contents")
    print(f"{len(stored)} of {count} cells are stored")
    server.stop()


def write_through_kills(database: str, clients: int, count: int, kills: int) -> dict[str, int]:
    """Write cells while the server is killed and started again, and return how many of those that were answered are
    lost, how many are stored twice, how many were answered, and how many are stored."""
    bodies, token = make_bodies(count), add_token(database)
    server = Server(database)
    port, answered, lock = server.port, set(), threading.Lock()

    def write(share: Sequence[tuple[str, bytes]]) -> None:
        with BoardClient(server.url, token, attempts=1000, pause=0.05, longest_pause=0.5) as client:
            for digest, body in share:
                client.put(CellRecord.model_validate_json(body))
                with lock:
                    answered.add(digest)

    with ThreadPoolExecutor(clients) as pool:
        futures = [pool.submit(write, bodies[number::clients]) for number in range(clients)]
        for number in range(1, kills + 1):
            while len(answered) < number * count // (kills + 1) and not all(future.done() for future in futures):
                time.sleep(0.005)
            server.kill()
            with lock:
                known = set(answered)
            server = Server(database, port)
            lost = known - set(ask(server.url, "/api/contents"))
            if lost:
                return {"lost": len(lost), "doubled": 0, "answered": len(answered), "stored": -1}
        for future in futures:
            future.result()
    listed = [cell["cell"]["model"] for cell in ask(server.url, "/api/cells")]
    changes = ask(server.url, "/api/version")["changes"]
    server.stop()
    return {
        "lost": count - len(set(listed)), "doubled": len(listed) - len(set(listed)) + changes - len(listed),
        "answered": len(answered), "stored": len(listed),
    }  # fmt: skip


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", help="an SQLite file or a URL [default: a new file in a temporary folder]")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = options.database or str(Path(folder) / "board.sqlite")
        if options.kills:
            print(write_through_kills(database, options.clients, options.count, options.kills))
        else:
            measure_rate(database, options.clients, options.count)


if __name__ == "__main__":
    main()
