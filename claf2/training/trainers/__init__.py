"""Trainers: how a run is staged around the one loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from claf2.errors import ConfigError
from claf2.registry import Component, Registry

if TYPE_CHECKING:
    from claf2.corpus.section import Phase
    from claf2.heads import Head
    from claf2.training.kept_steps import KeptSteps
    from claf2.training.loop import TrainingContext

__all__ = ["EvaluationTrainer", "FollowUpRun", "Trainer", "register_trainer", "trainers"]


@dataclass(frozen=True)
class FollowUpRun:
    """A run on one task, by the task's own recipe, that follows a run on several tasks."""

    stage: str
    """The name of the stage: its folder, and its column in the table of stages."""
    task: str
    from_refined: bool
    """Whether it starts from the weights that the run on several tasks has made, or from those that it started with."""


class Trainer(Component, ABC):
    """A way to stage a run; its fields are the block of section `trainer` with its name."""

    trains: ClassVar[bool] = True
    """Whether it takes steps. Otherwise the training data becomes no batches."""

    @abstractmethod
    def run(self, context: TrainingContext) -> None:
        """Train ``context.model``; ``context.state`` then says where the run stands."""

    def check(self, heads: Mapping[str, Head[Any, Any]]) -> None:
        """Refuse the heads of a run that cannot be staged this way.

        Args:
            heads: task → its head.

        Raises:
            ConfigError: naming the task.
        """

    def num_steps(self) -> int | None:
        """Return the number of optimizer steps that the block states; ``None``: section `trainer` says how long to
        train."""
        return None

    def kept_steps(self) -> KeptSteps | None:
        """Return which steps to keep besides the best one, if any."""
        return None

    def all_phases(self) -> Sequence[Phase]:
        """Return the phases with batches and rows of one size each; empty unless the run trains on a corpus."""
        return ()

    def follow_ups(self, tasks: Collection[str]) -> list[FollowUpRun]:
        """Return the runs on single tasks that come after ``run``."""
        return []


class EvaluationTrainer(Trainer):
    """A way to take no step, and to evaluate the model as it is."""

    trains: ClassVar[bool] = False

    def check(self, heads: Mapping[str, Head[Any, Any]]) -> None:
        for task, head in heads.items():
            if not head.binds and not head.is_untrained:  # it has weights of its own, which nothing has trained
                name = trainers.name_of(type(self))
                problem = f"{name!r} takes no step, and the head of task {task!r} would stay random"
                hint = "use --model.name rank_causal, rank or rank_mask, or a sentence encoder's: embed, embed_in_batch"
                raise ConfigError("trainer.name", problem, hint=hint)

    def run(self, context: TrainingContext) -> None:
        from claf2.training.loop import evaluate_and_save

        context.model.eval()
        evaluate_and_save(context)


trainers: Registry[type[Trainer]] = Registry("trainer", home="claf2.training.trainers")
"""The registered trainers."""
register_trainer = trainers.register
