"""What notifications cost a training step: ``python benchmarks/notifications.py``.

Takes steps of a small network, in turns with and without a notifier that gets an event every few steps, for receivers
on the loopback interface that accept, are dead, answer after 6 s, or answer 429 or 500. Prints the median ratio of the
wall time of neighboring turns with its quartiles, and what does not depend on how busy the machine is: the CPU time of
``send`` for an event and as a share of a step, and that of the threads that send. An event every few steps is far more
than a run has: there, events are checkpoints, evaluations and ends.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

RECEIVERS = ("accepts", "dead", "slow", "429", "500")

SERVER = """
import sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
behavior = sys.argv[1]
class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        if behavior == "slow":
            time.sleep(6)
        self.send_response(int(behavior) if behavior.isdigit() else 200)
        if behavior == "429":
            self.send_header("Retry-After", "2")
        self.end_headers()
    def log_message(self, *_):
        pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


def main() -> None:
    """Measure each receiver."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=60, help="turns with and without a notifier, for each receiver")
    parser.add_argument("--steps", type=int, default=20, help="steps of a turn")
    parser.add_argument("--every", type=int, default=10, help="steps between two events")
    parser.add_argument("--receivers", nargs="+", choices=RECEIVERS, default=RECEIVERS)
    options = parser.parse_args()
    print(f"{options.pairs} pairs of {options.steps} steps, an event every {options.every} steps")
    print(f"{'receiver':<10} {'ms/step':>8} {'wall time':>28} {'send':>12} {'of a step':>10} {'threads':>10}")
    for name in options.receivers:
        measure(name, options.pairs, options.steps, options.every)


def measure(name: str, pairs: int, steps: int, every: int) -> None:
    """Measure with one receiver, and print a row."""
    from claf2.notifications.events import Event
    from claf2.notifications.notifier import open_notifier

    port, server = start(name)
    os.environ["CLAF2_NOTIFY_URLS"] = f"json://127.0.0.1:{port}/benchmark"
    step = make_step()
    wall: list[float] = []
    turns: list[Turn] = []
    with tempfile.TemporaryDirectory() as folder:
        notifier = open_notifier(Path(folder), "benchmark")
        assert notifier is not None
        for number in range(2 + 2 * pairs):  # the first pair warms up
            is_notified = (number + number // 2) % 2 == 1  # which comes first changes from pair to pair
            turn = Turn(is_notified, time.perf_counter(), time.process_time(), time.thread_time())
            for count in range(steps):
                step()
                if is_notified and count % every == 0:
                    before = time.thread_time()
                    notifier.send(Event("result", f"turn {number}, step {count}: accuracy 71.3, +0.9"))
                    turn.send += time.thread_time() - before
            turn.end()
            turns.append(turn)
            if number > 1 and number % 2:
                on, off = sorted(turns[-2:], key=lambda turn: not turn.is_notified)
                wall.append(on.wall / off.wall)
        notifier.close()
    if server is not None:
        server.kill()
        server.wait()
    own = sum(turn.loop for turn in turns[2:])
    on, off = ([turn for turn in turns[2:] if turn.is_notified is side] for side in (True, False))
    # The threads of receivers also work in turns without events, in which they send what came before.
    threads = sum(turn.process - turn.loop for turn in turns[2:])
    sending = sum(turn.send for turn in on)
    share = sending / sum(turn.loop for turn in on)
    print(
        f"{name:<10} {1000 * sum(turn.wall for turn in off) / steps / pairs:>8.1f} {spread(wall):>28} "
        f"{1e6 * sending / pairs / len(range(0, steps, every)):>9.0f} us {100 * share:>8.2f} % "
        f"{100 * threads / own:>8.2f} %",
        flush=True,
    )


@dataclass
class Turn:
    """The times of a turn, in seconds: first when it began, then how long it took."""

    is_notified: bool
    wall: float
    process: float
    """CPU time of the process."""
    loop: float
    """CPU time of the thread that takes the steps."""
    send: float = 0.0

    def end(self) -> None:
        """Turn the times of the beginning into durations."""
        self.wall = time.perf_counter() - self.wall
        self.process = time.process_time() - self.process
        self.loop = time.thread_time() - self.loop


def spread(ratios: list[float]) -> str:
    """Return the median of ratios and their quartiles, as changes in percent."""
    low, median, high = (100 * (value - 1) for value in statistics.quantiles(ratios, n=4))
    return f"{median:+.2f} % ({low:+.2f} to {high:+.2f})"


def start(name: str) -> tuple[int, subprocess.Popen[str] | None]:
    """Start a receiver in a process of its own, and return its port; a dead one is a port that no one listens on."""
    if name == "dead":
        with socket.create_server(("127.0.0.1", 0)) as unused:
            return int(unused.getsockname()[1]), None
    server = subprocess.Popen([sys.executable, "-c", SERVER, name], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    return int(server.stdout.readline()), server


def make_step() -> Callable[[], None]:
    """Return a function that takes an optimizer step of a small network, of a few milliseconds."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = torch.nn.TransformerEncoderLayer(128, 4, 256, batch_first=True)
    optimizer = torch.optim.AdamW(model.parameters())
    inputs = torch.randn(8, 32, 128)

    def step() -> None:
        model(inputs).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


if __name__ == "__main__":
    main()
