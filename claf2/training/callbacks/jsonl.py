"""``metrics.jsonl``: the scores of every evaluation."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from claf2.runtime.files import format_json, write_text
from claf2.training.callbacks import Callback

if TYPE_CHECKING:
    from claf2.evaluation.report import Report
    from claf2.training.state import State

__all__ = ["JsonlLogger"]


logger = logging.getLogger("claf2")


class JsonlLogger(Callback):
    """``metrics.jsonl``: one line per evaluation. A resumed run first drops the lines of steps that it takes again, and
    lines that cannot be read: a kill may leave a part of one."""

    def __init__(self, path: Path, step: int) -> None:
        lines = path.read_bytes().split(b"\n") if path.exists() else []
        *whole, _ = lines or [b""]
        steps = [_step(line) for line in whole]
        if None in steps:
            logger.warning("%s: dropped %d lines that cannot be read", path, steps.count(None))
        kept = [line for line, own_step in zip(whole, steps, strict=True) if own_step is not None and own_step <= step]
        write_text(path, "".join(line.decode() + "\n" for line in kept))
        self._file: TextIO = path.open("a", encoding="utf-8")

    def on_report(self, state: State, report: Report, logs: Mapping[str, float | None]) -> None:
        self._file.write(format_json({"step": state.step, "epoch": state.epoch + 1, **logs}) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _step(line: bytes) -> int | None:
    """Return the step of a line; ``None`` where it cannot be read."""
    try:
        step = json.loads(line.decode())["step"]
    except (ValueError, KeyError, TypeError, RecursionError):  # UnicodeDecodeError is a ValueError
        return None
    return step if isinstance(step, int) else None
