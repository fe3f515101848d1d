"""Measure a service: what micro-batching gains, and how long requests take below saturation.

Two servers of the same run or export run side by side: one answers requests together, the other one each alone. They
are asked in turns, in pairs whose order alternates, so that a machine that becomes slower or faster meanwhile slows
both. Texts have a number of tokens: the words of a validation row are repeated, and cut.

    python benchmarks/serve.py RUN [--tokens 16 128] [--clients 32] [--pairs 9] [--requests 256]
    python benchmarks/serve.py RUN --latency [--share 0.5]

The second form sends requests at a share of the rate that the first one reaches, at random times, and compares the 99th
percentile of the latency with 2 x (time of a batch + wait).
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

COMMAND = [sys.executable, "-c", "from claf2.cli.main import main; main()", "serve"]
MAX_WAIT = 5.0
"""Milliseconds that a request waits for others at most."""


class Server:
    """``claf2 serve`` as a process of its own, on a free port."""

    def __init__(self, *words: str) -> None:
        self.process = subprocess.Popen([*COMMAND, *words, "--port", "0"], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the server did not start")
        self.address = urlsplit(line.split()[-1]).netloc

    def get(self, path: str) -> str:
        """Return what the server says at a path."""
        connection = http.client.HTTPConnection(self.address)
        connection.request("GET", path)
        text = connection.getresponse().read().decode()
        connection.close()
        return text

    def cpu_seconds(self) -> float:
        """Return the time that the process has had a processor."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """Ask the process to end."""
        self.process.terminate()
        self.process.wait()


def make_bodies(run: Path, tokens: int, count: int) -> list[bytes]:
    """Return requests of about as many tokens, made of the words of validation rows."""
    from claf2.export import open_answerer
    from claf2.serving.replay import stored_rows

    answerer = open_answerer(run)
    rows = stored_rows(run)[:count]
    bodies = []
    for number in range(count):
        row = rows[number % len(rows)]
        text_field = next(name for name, value in row.request.items() if name != "id" and isinstance(value, str))
        words = str(row.request[text_field]).split() * tokens
        low, high = 1, len(words)
        while low < high:  # the most words that fit
            middle = (low + high + 1) // 2
            request = {**row.request, text_field: " ".join(words[:middle])}
            (encoded,) = answerer.encode(row.task, [request])
            low, high = (middle, high) if encoded.tokens <= tokens else (low, middle - 1)
        bodies.append(json.dumps({**row.request, text_field: " ".join(words[:low])}, ensure_ascii=False).encode())
    return bodies


def post_all(server: Server, bodies: Sequence[bytes], clients: int) -> tuple[float, list[float]]:
    """Send requests from several clients at once; return the seconds of all, and those of each."""
    times: list[float] = []

    def post(share: Sequence[bytes]) -> None:
        connection = http.client.HTTPConnection(server.address, timeout=600)
        for body in share:
            started = time.perf_counter()
            connection.request("POST", "/predict", body)
            response = connection.getresponse()
            content = response.read()
            assert response.status == 200, content
            times.append(time.perf_counter() - started)
        connection.close()

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        for future in [pool.submit(post, bodies[number::clients]) for number in range(clients)]:
            future.result()
    return time.perf_counter() - started, times


def compare(run: Path, tokens: int, given: argparse.Namespace) -> None:
    """Print how many requests a second are answered with and without batches, as a ratio."""
    bodies = make_bodies(run, tokens, given.requests)
    together, alone = Server(str(run), "--max-wait", str(MAX_WAIT)), Server(str(run), "--no-batching")
    ratios, rates, cpu_ratios = [], [], []
    for pair in range(-1, given.pairs):
        seconds, cpu = {}, {}
        for server in (together, alone) if pair % 2 else (alone, together):
            before = server.cpu_seconds()
            seconds[server], _ = post_all(server, bodies, given.clients)
            cpu[server] = server.cpu_seconds() - before
        if pair >= 0:  # the first pair warms up
            ratios.append(seconds[alone] / seconds[together])
            cpu_ratios.append(cpu[alone] / cpu[together])
            rates.append((len(bodies) / seconds[together], len(bodies) / seconds[alone]))
    with_batches, without = np.median(rates, axis=0)
    low, middle, high = np.quantile(ratios, [0.1, 0.5, 0.9])
    print(
        f"{tokens:>4} tokens, {given.clients} clients: {with_batches:.0f} requests a second together, "
        f"{without:.0f} alone, ratio {middle:.2f} (80 % of {given.pairs} pairs: {low:.2f} to {high:.2f}); "
        f"of processor time {np.median(cpu_ratios):.2f}; load {os.getloadavg()[0]:.1f}"
    )
    together.stop()
    alone.stop()


def read_batches(server: Server) -> dict[str, float]:
    """Return the sums and counts of the server's counters of batches."""
    names = ("claf2_batch_seconds_sum", "claf2_batch_seconds_count", "claf2_batch_requests_sum")
    lines = [line.rsplit(" ", 1) for line in server.get("/metrics").splitlines() if line.startswith(names)]
    return {name.partition("{")[0]: float(value) for name, value in lines}


def measure_latency(run: Path, tokens: int, given: argparse.Namespace) -> None:
    """Print the latency of requests that come at random times, at a share of the highest rate."""
    bodies = make_bodies(run, tokens, given.requests)
    server = Server(str(run), "--max-wait", str(MAX_WAIT))
    post_all(server, bodies, given.clients)
    seconds, _ = post_all(server, bodies, given.clients)
    rate = given.share * len(bodies) / seconds
    before = read_batches(server)
    times: list[float] = []
    chance = random.Random(tokens)
    connections = threading.local()

    def post(body: bytes, due: float) -> None:
        if not hasattr(connections, "open"):
            connections.open = http.client.HTTPConnection(server.address, timeout=600)
        connections.open.request("POST", "/predict", body)
        connections.open.getresponse().read()
        times.append(time.perf_counter() - due)

    with ThreadPoolExecutor(64) as pool:
        due = time.perf_counter()
        for body in bodies * 4:
            due += chance.expovariate(rate)
            time.sleep(max(0.0, due - time.perf_counter()))
            pool.submit(post, body, due)
    counts: dict[str, Any] = {name: value - before[name] for name, value in read_batches(server).items()}
    batch = counts["claf2_batch_seconds_sum"] / counts["claf2_batch_seconds_count"]
    rows = counts["claf2_batch_requests_sum"] / counts["claf2_batch_seconds_count"]
    p50, p99 = np.quantile(times, [0.5, 0.99])
    limit = 2 * (batch + MAX_WAIT / 1000)
    print(
        f"{tokens:>4} tokens, {rate:.0f} requests a second ({given.share:.0%} of the highest rate): "
        f"p50 {1000 * p50:.1f} ms, p99 {1000 * p99:.1f} ms; batches of {rows:.1f} in {1000 * batch:.1f} ms, "
        f"so 2 x (batch + wait) is "
        f"{1000 * limit:.1f} ms; load {os.getloadavg()[0]:.1f}"
    )
    server.stop()


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN|EXPORT")
    parser.add_argument("--tokens", type=int, nargs="+", default=[16, 128])
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--share", type=float, default=0.5)
    given = parser.parse_args()
    for tokens in given.tokens:
        (measure_latency if given.latency else compare)(given.run, tokens, given)


if __name__ == "__main__":
    main()
