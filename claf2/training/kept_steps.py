"""Checkpoints that a run keeps on its way: which steps, what is in their folders, and which of them are deleted again.

Each is a folder `steps/step-000100000/` that `transformers` loads, as it loads `best/`, with a `manifest.json` that
names every file with its size and digest. The folder appears at once when it is complete.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claf2.runtime.files import sha256, write_json

__all__ = ["MANIFEST", "KeptSteps", "list_steps", "remove_step", "step_dir", "write_manifest"]

MANIFEST = "manifest.json"
"""The file that says what is in a kept checkpoint; it is written last."""

STEP_PREFIX = "step-"
STEP_DIGITS = 9
"""The length of the number in the name of a folder."""


@dataclass(frozen=True)
class KeptSteps:
    """Which steps of a run are kept: every ``interval`` steps, and the last one, however the run ends.

    Of these, the latest ``last`` stay, and for good those whose number is a multiple of ``every``; all of them where
    ``last`` is ``None``.
    """

    interval: int
    last: int | None = None
    every: int | None = None

    def is_due(self, step: int, total_steps: int) -> bool:
        """Say whether to keep the weights after ``step``."""
        return step % self.interval == 0 or step == total_steps

    def superseded(self, steps: Iterable[int]) -> list[int]:
        """Return which of the steps that are stored need not be kept any longer."""
        ordered = sorted(steps)
        if self.last is None:
            return []
        return [step for step in ordered[: -self.last] if self.every is None or step % self.every]


def step_dir(run_dir: Path, step: int) -> Path:
    """Return the folder of a kept step."""
    return run_dir / "steps" / f"{STEP_PREFIX}{step:0{STEP_DIGITS}d}"


def list_steps(run_dir: Path) -> list[int]:
    """Return the steps that are kept in the folder of a run, ascending."""
    folders = (run_dir / "steps").glob(f"{STEP_PREFIX}*/{MANIFEST}")
    numbers = (path.parent.name.removeprefix(STEP_PREFIX) for path in folders)
    # Not copies that a user has made beside them.
    return sorted(int(number) for number in numbers if len(number) == STEP_DIGITS and number.isdecimal())


def remove_step(run_dir: Path, step: int) -> None:
    """Delete a kept step. It disappears at once, so that nobody reads half of it."""
    folder = step_dir(run_dir, step)
    # `recover_dirs` deletes what a kill leaves under this name.
    removed = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(removed, ignore_errors=True)
    os.replace(folder, removed)
    shutil.rmtree(removed)


def write_manifest(folder: Path, step: int, digests: Mapping[str, Any]) -> None:
    """Write what is in a folder, and what it was made from.

    Args:
        folder: the folder of a checkpoint with all its other files.
        step: the number of the step.
        digests: what the weights depend on, such as the digests of experiment, data and tokenizer.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {
        str(path.relative_to(folder)): {"size": path.stat().st_size, "sha256": sha256(path)}
        for path in paths
        if path.name != MANIFEST
    }
    write_json(folder / MANIFEST, {"step": step, **digests, "files": files})
