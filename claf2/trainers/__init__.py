"""Trainers: how a run is staged around the one loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from claf2.registry import Component, Registry

if TYPE_CHECKING:
    from claf2.loop import Job

__all__ = ["Trainer", "register_trainer", "trainers"]


class Trainer(Component, ABC):
    """A way to stage a run; its fields are the block of the trainer section that is named after it."""

    @abstractmethod
    def run(self, job: Job) -> None:
        """Train ``job.model``; ``job.state`` says in the end where the run stands."""


trainers: Registry[type[Trainer]] = Registry("trainer", home="claf2.trainers")
register_trainer = trainers.register
