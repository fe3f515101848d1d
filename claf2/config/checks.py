"""Checks of a filled config that concern several fields, and the errors of single ones in one line."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from pydantic import BaseModel, ValidationError

from claf2.config import source
from claf2.config.experiment import Experiment, TaskConfig
from claf2.config.fill import FilledConfig, error_prefix
from claf2.config.schema import iter_fields
from claf2.data.samplers import Sampler
from claf2.errors import ConfigError, field_problem, nearest
from claf2.heads import heads
from claf2.models import models
from claf2.task import Task
from claf2.training.objectives import Objective
from claf2.training.trainers import Trainer

__all__ = ["check_head", "check_runtime", "check_score_name", "check_tasks", "check_vocab_paths", "schema_error"]

logger = logging.getLogger("claf2")


def schema_error(error: ValidationError, filled: FilledConfig, kind: type[BaseModel]) -> ConfigError:
    """Return the first error of pydantic as one line."""
    first = error.errors()[0]
    path = ".".join(key for key in first["loc"] if isinstance(key, str))
    known = [name for name, _ in iter_fields(kind)]
    if first["type"] == "extra_forbidden":
        return ConfigError(path, "no such field", origin=filled.origins.get(path), hint=source.suggest(path, known))
    while path and path not in known and not any(name.startswith(f"{path}.") for name in known):
        path = path.rpartition(".")[0]  # pydantic appends the member of a union to the path
    problem = field_problem(first).replace("Input should", "should")
    value = "" if first["type"] in ("missing", "value_error") else f"{first['input']!r} "  # a validator names it itself
    return ConfigError(path, f"{value}{problem}", origin=filled.origins.get(path))


def check_vocab_paths(filled: FilledConfig) -> None:
    """Refuse CLaF's second vocabulary path where it differs from the first.

    Raises:
        ConfigError: naming the field.
    """
    if not (token := filled.values.get("token")):
        return
    chosen = token["tokenizer"]["subword"][filled.selected["token.tokenizer.subword.name"]]["vocab_path"]
    repeated = token["feature"]["vocab"]["pretrained_path"]
    if repeated not in (None, chosen):
        path = "token.feature.vocab.pretrained_path"
        problem = f"{repeated!r} differs from the subword tokenizer's vocab_path {chosen!r}"
        raise ConfigError(path, problem, origin=filled.origins.get(path), hint="leave it out")


def check_head(name: str, task: Task, filled: FilledConfig) -> None:
    """Refuse a model whose head does not answer the task.

    Raises:
        ConfigError: naming the field.
    """

    def fits(head: str | None) -> bool:
        return head in (None, task.head) or heads.get(str(head)).replaces(task.head)

    if fits(models.get(name).head):
        return
    fitting = [other for other in models.names() if fits(models.get(other).head)]
    raise ConfigError(
        "model.name",
        f"{name!r} has head {models.get(name).head!r}, but task {task.name!r} needs {task.head!r}",
        origin=filled.origins.get("model.name"),
        hint="use " + ", ".join(fitting),
    )


def check_tasks(
    task_configs: Mapping[str, TaskConfig],
    trainer: Trainer,
    sampler: Sampler,
    active_objectives: Mapping[str, Objective],
    filled: FilledConfig,
) -> None:
    """Refuse components that name unknown tasks, and weights that leave nothing to train or to average.

    A section of a task that has no effect in this run is only logged, as a warning.

    Raises:
        ConfigError: naming the field.
    """
    follow_ups = trainer.follow_ups(task_configs)
    if follow_ups and not filled.tasks:
        raise ConfigError("trainer.name", "needs several tasks", hint="name them with --tasks")
    for field_name in ("loss_weight", "average_weight"):
        if filled.tasks and not any(getattr(config.mix, field_name) for config in task_configs.values()):
            raise ConfigError(f"mix.{field_name}", "must be positive for at least one task")
    sampler.check(task_configs)
    trainer.check({task: config.head for task, config in task_configs.items()})
    for name, objective in active_objectives.items():
        with error_prefix(f"objectives.{name}"):
            objective.check(task_configs)
    for path, origin in filled.origins.items() if filled.tasks and not follow_ups else ():
        section = path.split(".")[2:3] if path.startswith("tasks.") else []
        if source.is_override(origin) and set(section) & {"trainer", "optimizer", "objectives"}:
            logger.warning("%s has no effect: this run does not train any task on its own", path)


def check_score_name(key: str | None, task_configs: Mapping[str, TaskConfig], filled: FilledConfig) -> None:
    """Refuse the name of a score that no evaluation has, where the metrics of the tasks name their scores.

    Raises:
        ConfigError: naming the field.
    """
    several = len(task_configs) > 1
    known = {"average"} if several else set()
    for task, config in task_configs.items():
        prefix = f"{task}/" if several else ""
        keys = [metric.keys for metric in config.task.metrics]
        if key is None or (not all(keys) and key.startswith(prefix)):
            return
        known |= {f"{prefix}{name}" for name in {"loss"}.union(*keys)}
    if key not in known:
        problem = f"{key!r} is not a score of this {'run' if several else 'task'}"
        origin = filled.origins.get("trainer.metric_key")
        raise ConfigError("trainer.metric_key", problem, origin=origin, hint=nearest(str(key), known))


def check_runtime(experiment: Experiment) -> None:
    """Refuse settings of `runtime` that contradict each other, the adapter or a head.

    Raises:
        ConfigError: naming the field.
    """
    runtime, adapter = experiment.runtime, experiment.adapter
    fsdp = runtime.engine == "fsdp"
    is_quantized = adapter is not None and adapter.is_quantized
    is_shardable = all(config.head.is_shardable for config in experiment.tasks.values())
    refusals = (
        (runtime.padding == "pack" and runtime.compile, "padding", "a packed encoder cannot be compiled", "use split"),
        (fsdp and runtime.compile, "engine", "a compiled model cannot be sharded", "use --compile false"),
        (fsdp and is_quantized, "engine", "quantized weights cannot be sharded", "use --engine ddp"),
        (fsdp and not is_shardable, "engine", "this head cannot be sharded", "use --engine ddp"),
        (not fsdp and runtime.cpu_offload, "cpu_offload", "ddp has no shards to offload", "use --engine fsdp"),
    )
    for is_refused, field_name, problem, hint in refusals:
        if is_refused:
            path = f"runtime.{field_name}"
            raise ConfigError(path, problem, origin=experiment.origins.get(path), hint=hint)
