"""What tests of pre-trainings do with runs: interrupt them, and compare what they leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from stored import last_bytes

from claf2.runs.train import train


def outcome(folder: Path) -> dict[str, bytes]:
    """Return the bytes of metrics and weights, and those of the optimizer's state."""
    names = ["metrics.json", "metrics.jsonl", "best/model.safetensors"]
    names += sorted(str(path.relative_to(folder)) for path in folder.glob("steps/*/model.safetensors"))
    files = {name: (folder / name).read_bytes() for name in names}
    # The header of the file lists optimizer state in the order in which it was made.
    return files | last_bytes(folder)


def train_until(experiment: Any, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start or resume a run, and interrupt it after some steps."""
    count = 0

    @contextmanager
    def interrupted_once() -> Iterator[Callable[[], bool]]:
        def interrupted() -> bool:
            nonlocal count
            count += 1
            return count == steps

        yield interrupted

    with monkeypatch.context() as patch:
        patch.setattr("claf2.runs.train.interruptible", interrupted_once)
        train(experiment, resume=True)
