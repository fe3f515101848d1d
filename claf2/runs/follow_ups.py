"""The runs on single tasks that follow a run on several: their experiments, and their lengths in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from claf2.config import Experiment, replace_values
from claf2.errors import RunError
from claf2.models import PRUNING_FIELDS
from claf2.runs.resolve import Run
from claf2.training.checkpoint import task_best_dir
from claf2.training.trainers import FollowUpRun

__all__ = ["describe_follow_ups", "follow_up_experiment"]


def describe_follow_ups(experiment: Experiment, follow_ups: Sequence[FollowUpRun]) -> str:
    """Return the lengths of the runs that follow the shared stage, because its own length does not bound them."""
    lengths = []
    for task in dict.fromkeys(follow_up.task for follow_up in follow_ups):
        single = experiment.tasks[task].single_task or experiment
        steps, epochs = single.trainer_config.num_steps, single.trainer_config.num_epochs
        lengths.append(f"{task} {f'{epochs:g} epochs' if steps is None else f'{steps} steps'}")
    return (
        f"after the shared stage, {len(follow_ups)} runs on single tasks follow: {', '.join(lengths)}; "
        "--tasks.num_steps N or --tasks.num_epochs N sets their lengths"
    )


def follow_up_experiment(run: Run, follow_up: FollowUpRun) -> Experiment:
    """Return the experiment of a follow-up run: one task's own, in a folder inside the run's.

    Raises:
        RunError: when the run has only one task.
    """
    tasks, start = run.experiment.tasks, run.experiment.model.pretrained_model_name
    experiment = tasks[follow_up.task].single_task
    if experiment is None:
        raise RunError("a run of one task has no further stages: name several in section tasks")
    refined = str(task_best_dir(run.folder, follow_up.task, tasks))
    kind = experiment.values["model"]["name"]
    block = f"model.{kind}"
    values: dict[str, Any] = {
        f"{block}.pretrained_model_name": refined if follow_up.from_refined else start,
        "trainer.log_dir": str(run.folder / "stages" / follow_up.stage / follow_up.task),
    }
    if follow_up.from_refined:
        values["token"] = None  # the tokenizer and the size are those of the refined model
        values |= {f"{block}.{name}": None for name in PRUNING_FIELDS if name in experiment.values["model"][kind]}
    return replace_values(experiment, values)
