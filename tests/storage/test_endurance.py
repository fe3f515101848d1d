"""Uploads that are killed, files that are large, and another number of processes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from storage_servers import BUCKET, Proxy, S3Server

from claf2.storage.checkpoints import list_checkpoints, pull_checkpoint
from claf2.storage.objects import open_folder

KILLS = 100
"""On each of the servers."""

PUSHER = """
import os, sys
from pathlib import Path
from claf2.storage import leases
from claf2.storage.checkpoints import push_checkpoint
leases.SETTLE_SECONDS = 0.02
for line in sys.stdin:
    child = os.fork()
    if not child:
        push_checkpoint(Path(sys.argv[1]), line.strip(), verify=False)
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""
"""Uploads a folder to each URL that it reads, in a process of its own, and prints its id and how it ended. Importing
everything once for all of them saves most of the time."""

MEASURED = """
import sys
from pathlib import Path
from claf2.storage.objects import open_folder
def peak(_=0):
    global highest
    lines = Path("/proc/self/status").read_text().splitlines()
    highest = max(highest, *(int(line.split()[1]) for line in lines if line.startswith("RssAnon")))
highest = 0
file, url, target = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
def count(size):
    global received
    received += size
    peak()
received = 0
open_folder(url).upload("large", file, "0" * 64, peak)
open_folder(url).download("large", target, count)
print(received, highest)
"""


@contextmanager
def pusher(step: Path) -> Iterator[Callable[[str, Callable[[int], None]], int]]:
    """Start a process that uploads a folder; the function that is yielded takes a URL, and what is done with the id of
    the uploading process."""
    command = [sys.executable, "-c", PUSHER, str(step)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def upload(url: str, begun: Callable[[int], None]) -> int:
            stdin.write(f"{url}\n")
            stdin.flush()
            begun(int(stdout.readline()))
            return int(stdout.readline())

        yield upload
        stdin.close()


def kill(child: int) -> None:
    """Kill a process, if it has not ended."""
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)


@pytest.mark.slow
def test_nobody_sees_part_of_an_upload_that_was_killed(
    server: S3Server, make_step: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(0)
    contents = {"model.bin": chance.randbytes(9 << 20)} | {f"part{i}.bin": chance.randbytes(300_000) for i in range(5)}
    step, proxy = make_step(**contents), Proxy(server.port)
    total, number, killed, completed = sum(map(len, contents.values())), 0, 0, 0
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    with pusher(step) as upload:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        while killed < KILLS:
            url = f"s3://{BUCKET}/killed/{number}"

            def kill_after(child: int) -> None:
                proxy.after = (proxy.sent + chance.randrange(total), lambda: kill(child))

            status = upload(url, kill_after)
            proxy.after = None
            proxy.wait()
            killed += status != 0
            stored = list_checkpoints(url)
            for checkpoint in stored:  # what is seen is complete: pull compares all digests
                pull_checkpoint(checkpoint.url, tmp_path / f"cache{number}")
            if status == 0 or chance.random() < 0.3:
                there = {entry.path.partition("/")[2]: entry.size for entry in open_folder(url).list()}
                missing = sum(len(content) for name, content in contents.items() if there.get(name) != len(content))
                before = proxy.sent
                assert upload(url, lambda child: None) == 0
                # Besides the bytes, a request needs a few kilobytes of headers.
                assert proxy.sent - before <= (0 if stored else missing) + 60_000
                assert [checkpoint.step for checkpoint in list_checkpoints(url)] == [100]
                pull_checkpoint(f"{url}/step-000000100", tmp_path / f"cache{number}")
                completed += 1
                number += 1
    proxy.close()
    assert completed > 5


@pytest.mark.slow
@pytest.mark.parametrize("size", [5 << 30], ids=["5GB"])
def test_a_large_file_needs_little_memory(
    size: int, rclone: S3Server, keys: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.disk_usage(tmp_path).free < 2 * size:  # the server keeps a copy, and other tests need room
        pytest.skip(f"needs {2 * size >> 30} GiB of free disk")
    _check_memory(size, rclone, tmp_path, monkeypatch)


def test_a_file_of_some_parts_needs_little_memory(
    rclone: S3Server, keys: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _check_memory(96 << 20, rclone, tmp_path, monkeypatch)


def _check_memory(size: int, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    file = tmp_path / "sparse"
    with file.open("wb") as opened:
        opened.truncate(size)
    url = f"s3://{BUCKET}/large"
    command = [sys.executable, "-c", MEASURED, str(file), url, "/dev/null"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    received, peak = map(int, done.stdout.split())
    assert received == size
    assert peak < 128 << 10, "KiB"
    open_folder(url).delete(["large"])


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


@pytest.mark.slow
def test_two_processes_upload_once_and_resume_what_one_has_uploaded(
    moto: S3Server, keys: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.endpoint)
    url = f"s3://{BUCKET}/processes"
    phases = json.dumps([{"until": 8, "batch_size": 16, "max_seq_length": 64}])
    train = [
        "-m", "claf2", "train", "--base_config", "scratch/pretrain", "--sample", "--trainer.pretrain.phases", phases,
        "--keep_step_count", "4", "--eval_and_save_step_count", "4", "--device", "cpu",
    ]  # fmt: skip
    store = ["--runtime.callbacks.store", json.dumps({"url": url, "resumable": True})]
    subprocess.run([sys.executable, *train, *store, "--log_dir", str(tmp_path / "one")], check=True)
    step = list_checkpoints(url)[0].url
    pulled = [sys.executable, "-m", "claf2", "pull", step, "--run", str(tmp_path / "two")]
    subprocess.run(pulled, check=True)
    other = ["--runtime.callbacks.store", json.dumps({"url": f"{url}/two"})]
    words = ["-m", "claf2", "train", "--base_config", str(tmp_path / "two/config.json"), "--resume", *other]
    subprocess.run([*TORCHRUN, *words, "--log_dir", str(tmp_path / "two")], check=True)
    assert [checkpoint.step for checkpoint in list_checkpoints(f"{url}/two")] == [4, 8]
    (changed,) = (entry["changed"] for entry in json.loads((tmp_path / "two/run.json").read_text())["resumed"])
    assert any("world_size" in str(change) or "process" in str(change) for change in changed), changed
    losses = [json.loads((tmp_path / run / "metrics.json").read_text())["best"]["valid/loss"] for run in ("one", "two")]
    # The masks are the same; only dropout is drawn by each process.
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
