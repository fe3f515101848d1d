"""Where a run stands between two steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["State"]


@dataclass
class State:
    """Everything that ``fit`` remembers between two steps besides weights, optimizer and generators. It is saved as
    JSON in `last/`."""

    epoch: int = 0
    """The epoch of the next step, from 0."""
    position: int = 0
    """The steps taken in this epoch."""
    step: int = 0
    """The steps taken in all."""
    best_score: float | None = None
    best_step: int | None = None
    best_epoch: int | None = None
    best: dict[str, float | None] = field(default_factory=dict)
    """All scores of the best evaluation."""
    unimproved: int = 0
    """Evaluations since the best one."""
    loss_sum: float = 0.0
    """The sum of the losses of the steps since the last evaluation."""
    loss_steps: int = 0
    """The number of those steps."""
    oom_splits: int = 0
    """How often micro-batches are halved before they are computed, because larger ones did not fit into memory."""
    rows: int = 0
    """The rows trained on in all, each counted as often as it was seen."""
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    """With several tasks, for each: its best ``score``, the ``step`` and ``logs`` of that evaluation, and the
    evaluations ``unimproved`` since."""
    best_files: dict[str, str] = field(default_factory=dict)
    """Task → the digest of the files of its best checkpoint. A checkpoint of a later evaluation than this state, after
    which the run was killed, has another one."""
    paused: list[str] = field(default_factory=list)
    """The tasks that are left out of this epoch."""
    finished: bool = False
