"""An experiment: a BaseConfig and its overrides, typed, frozen and complete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from claf2.adapters import Adapter
from claf2.config.recipe import recipe_values
from claf2.config.schema import (
    BatchSection,
    DataReaderSection,
    MixSection,
    OptimizerSection,
    RuntimeSection,
    TrainerSection,
)
from claf2.corpus.section import CorpusSection
from claf2.data.samplers import Sampler
from claf2.errors import RunError, nearest
from claf2.heads import Featurizer, Head
from claf2.metrics import Metric
from claf2.models import ModelSpec, Wrapper
from claf2.registry import digest
from claf2.task import Task
from claf2.tokenizers import SubwordTokenizer, WordTokenizer
from claf2.training.callbacks import CallbackSpec
from claf2.training.objectives import Objective
from claf2.training.optim import Optimizer, Schedule
from claf2.training.trainers import Trainer

__all__ = ["Experiment", "TaskConfig"]


@dataclass(frozen=True)
class TaskConfig:
    """One task of an experiment: its data, its head, and how it is trained among others."""

    task: Task
    data: DataReaderSection
    featurizer: Featurizer
    iterator: BatchSection
    head: Head[Any, Any]
    mix: MixSection
    dropout: float | None
    """Dropout before the head's last layer; ``None`` keeps the encoder's own."""
    corpus: CorpusSection | None = None
    """The text of a task that trains on a corpus."""
    single_task: Experiment | None = None
    """With several tasks: this task as an experiment of its own, by its own recipe."""

    @property
    def selection_key(self) -> str:
        """The score that selects the task's best checkpoint."""
        metric: Metric = self.task.metrics[0]
        return metric.selects


@dataclass(frozen=True)
class Experiment:
    """One experiment, typed and checked. It names data, weights and tokenizer; ``claf2.runs.resolve`` finds them."""

    name: str
    tasks: Mapping[str, TaskConfig]
    """Its tasks by name; usually one."""
    token: tuple[WordTokenizer, SubwordTokenizer] | None
    model: ModelSpec
    adapter: Adapter | None
    """The part of the encoder that is trained; ``None``: all of it."""
    wrappers: Mapping[str, Wrapper]
    """What changes the model before training, by name."""
    trainer_config: TrainerSection
    trainer: Trainer
    optimizer_config: OptimizerSection
    optimizer: Optimizer
    schedule: Schedule
    sampler: Sampler
    objectives: Mapping[str, Objective]
    """What changes inputs or loss, by name."""
    seed: int
    runtime: RuntimeSection
    callbacks: Mapping[str, CallbackSpec]
    """What observes the run, by name."""
    values: dict[str, Any]
    """The filled config: itself a valid BaseConfig."""
    origins: dict[str, str]
    recipe: dict[str, Any]
    """The values without those that a comparison may vary."""
    overrides: tuple[str, ...] = ()

    @property
    def only_task(self) -> TaskConfig:
        """The experiment's single task.

        Raises:
            RunError: when there are several.
        """
        return self.tasks[self.task_name()]

    def task_name(self, task: str | None = None) -> str:
        """Return the name of one of the experiment's tasks.

        Args:
            task: its name; ``None``: the experiment's single task.

        Raises:
            RunError: when there is no task of that name, or none is named and there are several.
        """
        if task is None and len(self.tasks) > 1:
            raise RunError(f"this run has several tasks: name one of {', '.join(self.tasks)} with --task")
        if task is not None and task not in self.tasks:
            raise RunError(f"this run has no task {task!r}: {nearest(task, self.tasks)}")
        return next(iter(self.tasks)) if task is None else task

    def select_task(self, task: str) -> Experiment:
        """Return the experiment with one of its tasks only.

        Raises:
            RunError: when it has no task of that name.
        """
        return replace(self, tasks={task: self.tasks[self.task_name(task)]})

    def digest(self) -> str:
        """Return the digest of everything in the config that the run's numbers depend on: all but its folder, the name
        of the weights, and `runtime`. The content of weights and data is digested separately."""
        values = {key: value for key, value in self.values.items() if key not in ("runtime", "plugins")}
        values["trainer"] = {**values["trainer"], "log_dir": None, "verbose_step_count": None}
        trainer_name = values["trainer"]["name"]
        values["trainer"][trainer_name] = recipe_values(values["trainer"][trainer_name], type(self.trainer))
        model = values["model"]
        name = model["name"]
        values["model"] = {"name": name, name: {**model[name], "pretrained_model_name": None}}
        values["model"] |= {key: model[key] for key in ("peft", "wrappers") if model.get(key) is not None}
        if "tasks" in values:  # a list, since the order of tasks decides fresh weights and batches
            values["tasks"] = [
                [name, config.single_task and config.single_task.digest()] for name, config in self.tasks.items()
            ]
        return digest([values, self.runtime.precision])

    def recipe_digest(self) -> str:
        """Return the digest of what scores in one table must share: all but model, seed, paths and `runtime`."""
        identities = [config.task.identity() for config in self.tasks.values()]
        return digest([self.recipe, self.runtime.precision, *identities])
