"""MT-DNN: a mixed stage, then each task again from what it has made (Liu et al., 2019)."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from claf2.errors import ConfigError, nearest
from claf2.trainers import Later, Trainer, register_trainer

if TYPE_CHECKING:
    from claf2.loop import Job


@register_trainer("mtdnn")
class MtDnn(Trainer):
    """Refine the encoder on all tasks, then fine-tune it on each, by the task's own recipe. The runs of single tasks
    are in `stages/fine_tuned/<task>/` and `stages/single/<task>/`, and their scores side by side in `stages.md`."""

    fine_tune: bool = True
    """Whether each task is fine-tuned from the refined encoder."""
    single: bool = True
    """Whether each task is also trained from the weights that the mixed stage began with, to compare."""
    alone: list[str] | None = None
    """The tasks that are trained alone; `null`: all."""

    def run(self, job: Job) -> None:
        from claf2.loop import fit

        fit(job)

    def later(self, tasks: Collection[str]) -> list[Later]:
        unknown = set(self.alone or ()) - set(tasks)
        if unknown:
            path = "trainer.mtdnn.alone"
            raise ConfigError(path, f"{min(unknown)!r} is no task of this run", hint=nearest(min(unknown), tasks))
        chosen = [task for task in tasks if self.alone is None or task in self.alone]
        single = [Later("single", task, refined=False) for task in chosen if self.single]
        return single + [Later("fine_tuned", task, refined=True) for task in chosen if self.fine_tune]
