"""MT-DNN: one stage on all tasks, then each task again from its weights (Liu et al., 2019)."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from claf2.errors import ConfigError, nearest
from claf2.training.trainers import FollowUpRun, Trainer, register_trainer

if TYPE_CHECKING:
    from claf2.training.loop import TrainingContext


@register_trainer("mtdnn")
class MtDnnTrainer(Trainer):
    """Refine the encoder on all tasks, then fine-tune it on each by the task's own recipe. The runs on single tasks are
    stored in `stages/fine_tuned/<task>/` and `stages/single/<task>/`, and `stages.md` compares their scores."""

    fine_tune: bool = True
    """Whether each task is fine-tuned from the refined encoder."""
    single: bool = True
    """Whether each task is also trained from the weights that the first stage started with, for comparison."""
    alone: list[str] | None = None
    """The tasks that have follow-up runs; `null`: all."""

    def run(self, context: TrainingContext) -> None:
        from claf2.training.loop import fit

        fit(context)

    def follow_ups(self, tasks: Collection[str]) -> list[FollowUpRun]:
        unknown = set(self.alone or ()) - set(tasks)
        if unknown:
            name = min(unknown)
            raise ConfigError("trainer.mtdnn.alone", f"{name!r} is not a task of this run", hint=nearest(name, tasks))
        chosen = [task for task in tasks if self.alone is None or task in self.alone]
        single = [FollowUpRun("single", task, from_refined=False) for task in chosen if self.single]
        return single + [FollowUpRun("fine_tuned", task, from_refined=True) for task in chosen if self.fine_tune]
