"""Trainers: how a run is staged around the one loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from claf2.registry import Component, Registry

if TYPE_CHECKING:
    from claf2.loop import Job

__all__ = ["Later", "Trainer", "register_trainer", "trainers"]


@dataclass(frozen=True)
class Later:
    """A run on one task, by its own recipe, that comes after a job on several."""

    stage: str
    task: str
    refined: bool
    """Whether it begins with what the job has made, or with what the job began with."""


class Trainer(Component, ABC):
    """A way to stage a run; its fields are the block of the trainer section that is named after it."""

    @abstractmethod
    def run(self, job: Job) -> None:
        """Train ``job.model``; ``job.state`` says in the end where the run stands."""

    def later(self, tasks: Collection[str]) -> list[Later]:
        """Return the runs on single tasks that come after the job."""
        return []


trainers: Registry[type[Trainer]] = Registry("trainer", home="claf2.trainers")
register_trainer = trainers.register
