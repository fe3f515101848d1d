"""Two watches of one folder, killed one after the other while checkpoints appear: each cell is trained once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from claf2.runtime.files import write_json
from claf2.task import suites

DRIVER = Path(__file__).with_name("watched_cells.py")
DEADLINE = 300.0


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "the watches do not go on"
        time.sleep(0.02)


@pytest.mark.slow
def test_each_cell_is_trained_once_by_two_watches_and_five_kills(tmp_path: Path) -> None:
    run, out, last = tmp_path / "run", tmp_path / "out", 10
    run.mkdir()

    def add_checkpoint(step: int) -> None:
        write_json(run / f"steps/step-{step:09d}/manifest.json", {"step": step, "files": {}})

    def start() -> subprocess.Popen[bytes]:
        root = str(Path(__file__).parents[2])
        words = [sys.executable, str(DRIVER), str(run), str(out), str(last)]
        return subprocess.Popen(words, env={**os.environ, "PYTHONPATH": root}, stderr=subprocess.PIPE)

    def finished() -> list[Path]:
        return list(out.glob("step-*/*/metrics.json"))

    add_checkpoint(1)
    watches = [start(), start()]
    step = 1
    for kill in range(5):
        enough = len(finished()) + 5
        while len(finished()) < enough and step < last:
            step += 1
            add_checkpoint(step)
            before = len(finished())
            wait_until(lambda before=before: len(finished()) > before)  # type: ignore[misc]
        watches[kill % 2].kill()
        watches[kill % 2].communicate()
        watches[kill % 2] = start()
    while step < last:
        step += 1
        add_checkpoint(step)
    for process in watches:
        _, errors = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0, errors.decode()
    cells = {f"{step} {task}" for step in range(1, last + 1) for task in suites.get("glue").columns}
    starts = Counter((out / "journal").read_text().splitlines())
    assert set(starts) == cells
    assert len(finished()) == len(cells)
    # A watch trains one cell at a time, so that a kill interrupts one cell at most, which is then started again.
    assert starts.total() <= len(cells) + 5, {cell: count for cell, count in starts.items() if count > 1}
