"""The experiment: typed, frozen, complete. Three passes, never mixed: fill → validate → build (``run.py``)."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ValidationError

from claf2 import overrides as source
from claf2.errors import ConfigError, RunError, nearest
from claf2.fill import Filled, complete, diff, fill, within
from claf2.heads import Featurizer, Head, heads
from claf2.models import ModelSpec, models
from claf2.objectives import Objective, objectives
from claf2.optim import Optimizer, Schedule
from claf2.registry import digest
from claf2.samplers import MtDnn, Sampler
from claf2.schema import (
    DATASET,
    SELECTORS,
    SHARED,
    BatchSection,
    DataReader,
    Mix,
    OptimizerSection,
    Runtime,
    TrainerSection,
    experiment_type,
    fields,
    section_of,
)
from claf2.task import Task, tasks
from claf2.tokenizers import Subword, Word
from claf2.trainers import Trainer

__all__ = ["Experiment", "Filled", "Part", "diff", "fill", "json_schema", "load", "validate"]

logger = logging.getLogger("claf2")


@dataclass(frozen=True)
class Part:
    """One task of an experiment: its data, and what answers."""

    task: Task
    data: DataReader
    featurizer: Featurizer
    iterator: BatchSection
    head: Head
    mix: Mix
    dropout: float | None
    """Dropout before the head's last layer; ``None`` keeps the encoder's own."""
    alone: Experiment | None = None
    """The task as an experiment of its own, by its own recipe; ``None`` where that is the one at hand."""


@dataclass(frozen=True)
class Experiment:
    """The second pass: one experiment, typed and checked, ready to be built."""

    name: str
    parts: Mapping[str, Part]
    """Its tasks by name; mostly one."""
    token: tuple[Word, Subword] | None
    model: ModelSpec
    trainer: TrainerSection
    stage: Trainer
    optimizer: OptimizerSection
    update: Optimizer
    schedule: Schedule
    sampler: Sampler
    objectives: Mapping[str, Objective]
    """What changes the loss, by name."""
    seed: int
    runtime: Runtime
    values: dict[str, Any]
    """The filled config: itself a valid BaseConfig."""
    origins: dict[str, str]
    recipe: dict[str, Any]
    """The values without what a comparison may vary."""
    overrides: tuple[str, ...] = ()

    @property
    def part(self) -> Part:
        """The one task.

        Raises:
            RunError: when there are several.
        """
        if len(self.parts) > 1:
            raise RunError(f"this run has several tasks: name one of {', '.join(self.parts)} with --task")
        return next(iter(self.parts.values()))

    @property
    def task(self) -> Task:
        """The one task's row."""
        return self.part.task

    @property
    def data(self) -> DataReader:
        """Where the one task's data is."""
        return self.part.data

    @property
    def featurizer(self) -> Featurizer:
        """How the one task's examples become features."""
        return self.part.featurizer

    @property
    def iterator(self) -> BatchSection:
        """The one task's batches."""
        return self.part.iterator

    @property
    def head(self) -> Head:
        """What answers the one task."""
        return self.part.head

    def only(self, task: str) -> Experiment:
        """Return the experiment as if it had one of its tasks only.

        Raises:
            RunError: when it has no task of that name.
        """
        if task not in self.parts:
            raise RunError(f"this run has no task {task!r}: {nearest(task, self.parts)}")
        return replace(self, parts={task: self.parts[task]})

    def varied(self, values: Mapping[str, Any]) -> Experiment:
        """Return the experiment with other values at some paths."""
        changed = json.loads(json.dumps(self.values))
        for path, value in values.items():
            source.put(changed, path, value)
        return validate(complete(self.name, changed, dict(self.origins), [], self.overrides))

    def digest(self) -> str:
        """Return the digest of all that the run's numbers depend on but weights and what is in the data's files:
        everything but the run's folder and runtime."""
        free = {key: value for key, value in self.values.items() if key not in ("runtime", "plugins")}
        free["trainer"] = {**free["trainer"], "log_dir": None, "verbose_step_count": None}
        chosen = free["model"]["name"]
        free["model"] = {"name": chosen, chosen: {**free["model"][chosen], "pretrained_model_name": None}}
        if "tasks" in free:  # in their order, by which fresh weights and batches come about
            free["tasks"] = [[name, part.alone and part.alone.digest()] for name, part in self.parts.items()]
        return digest([free, self.runtime.precision])

    def recipe_digest(self) -> str:
        """Return the digest by which scores may stand in one table: without model, seed, paths and runtime."""
        identities = [part.task.identity() for part in self.parts.values()]
        return digest([self.recipe, self.runtime.precision, *identities])


def load(name: str, overrides: Sequence[str] = (), plugins: Sequence[str] = ()) -> Experiment:
    """Fill and validate an experiment.

    Args:
        name: the name or path of a BaseConfig.
        overrides: words of the command line, e.g. ``["--learning_rate", "3e-5"]``.
        plugins: files or modules with components of the user's own.

    Raises:
        ConfigError: with the full path of what is wrong, where it came from, and the way out.
    """
    return validate(fill(name, overrides, plugins))


def validate(filled: Filled) -> Experiment:
    """Check a filled config and take it apart into typed parts."""
    kind = experiment_type(filled.selected)
    own = {key: value for key, value in filled.values.items() if key != "tasks"}
    try:
        whole: Any = kind.model_validate_json(json.dumps(own), strict=True)
    except ValidationError as error:
        raise _config_error(error, filled, kind) from None
    model_type = models.get(filled.selected["model.name"])
    block = filled.values["model"][filled.selected["model.name"]]
    _check_legacy(filled)
    if filled.parts:
        parts = {task: _alone(task, each) for task, each in filled.parts.items()}
        recipe = {
            **_recipe(own, kind),
            "tasks": {task: each.alone and each.alone.recipe for task, each in parts.items()},
        }
        sampler = getattr(whole.sampler, whole.sampler.name)
        if model_type.head is not None:
            problem = f"{filled.selected['model.name']!r} answers one kind of task"
            raise ConfigError("model.name", problem, hint="bert_for_multi; of one task: --TASK.model.name")
    else:
        parts = _one_part(whole, filled)
        recipe, sampler = _recipe(own, kind), MtDnn()
    optimizer, stage = whole.optimizer, getattr(whole.trainer, whole.trainer.name)
    chosen = {name: each for name in objectives.names() if (each := getattr(whole.objectives, name)) is not None}
    _check_tasks(parts, stage, sampler, chosen, filled)
    return Experiment(
        name=filled.name,
        parts=parts,
        token=_tokenizer(whole.token, filled),
        model=model_type(**{key: block[key] for key in model_type.model_fields if key in block}),
        trainer=whole.trainer,
        stage=stage,
        optimizer=optimizer,
        update=getattr(optimizer, optimizer.op_type),
        schedule=getattr(optimizer, optimizer.lr_scheduler_type),
        sampler=sampler,
        objectives=chosen,
        seed=whole.seed_num,
        runtime=whole.runtime,
        values=filled.values,
        origins=filled.origins,
        recipe=recipe,
        overrides=filled.overrides,
    )


def _check_tasks(
    parts: Mapping[str, Part], stage: Trainer, sampler: Sampler, changes: Mapping[str, Objective], filled: Filled
) -> None:
    """Refuse what names tasks that are not there, and what would leave nothing to train or to average."""
    later = stage.later(parts)
    if later and not filled.parts:
        raise ConfigError("trainer.name", "trains tasks one after another", hint="name them in section tasks")
    for field_name in ("loss_weight", "average_weight"):
        if filled.parts and not any(getattr(part.mix, field_name) for part in parts.values()):
            raise ConfigError(f"mix.{field_name}", "is 0 for all tasks")
    sampler.check(parts)
    for name, objective in changes.items():
        with within(f"objectives.{name}"):
            objective.check(parts)
    for path, origin in filled.origins.items() if filled.parts and not later else ():
        within_task = path.split(".")[2:3] if path.startswith("tasks.") else []
        if origin.startswith("command line") and set(within_task) & {"trainer", "optimizer", "objectives"}:
            logger.warning("%s is for that task alone: this run has no such stage", path)


def _one_part(whole: Any, filled: Filled) -> dict[str, Part]:
    """Return the one task of an experiment."""
    dataset, name = filled.selected[DATASET.path], filled.selected["model.name"]
    task, model_type = tasks.get(dataset), models.get(name)
    head_type = heads.get(model_type.head or task.head)
    block = filled.values["model"][name]
    featurizer = getattr(whole.data_reader, dataset)
    _check_head(name, model_type, task, filled)
    part = Part(
        task=_in_language(task, featurizer.lang_code),
        data=whole.data_reader,
        featurizer=featurizer,
        iterator=whole.iterator,
        head=head_type(**{key: block[key] for key in head_type.model_fields}),
        mix=whole.mix,
        dropout=block["dropout"],
    )
    return {task.name: part}


def _alone(name: str, filled: Filled) -> Part:
    """Return one task of several, which is an experiment of its own as well."""
    with within(f"tasks.{name}"):
        alone = validate(filled)
    return replace(alone.part, alone=alone)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a BaseConfig with the blocks of everything registered, for editors."""
    one = experiment_type({each.path: each.registry.names() for each in SELECTORS}).model_json_schema()
    several = experiment_type({each.path: each.registry.names() for each in SHARED}).model_json_schema()
    about = "BaseConfigs by name; `base_config` names one that an entry is laid over."
    entries = {"type": "object", "description": about}
    return {
        **one,
        "$defs": {**several["$defs"], **one["$defs"]},
        "properties": {**one["properties"], "sampler": several["properties"]["sampler"], "tasks": entries},
        "required": [],
        "anyOf": [{"required": ["data_reader"]}, {"required": ["tasks"]}],
    }


def _recipe(values: Mapping[str, Any], kind: type[BaseModel]) -> dict[str, Any]:
    """Return the values without the fields that a comparison may vary."""
    kept: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("recipe") is False:
            continue
        inner = section_of(field.annotation)
        kept[name] = values[name] if inner is None or values[name] is None else _recipe(values[name], inner)
    return kept


def _config_error(error: ValidationError, filled: Filled, kind: type[BaseModel]) -> ConfigError:
    """Turn the first thing that pydantic found into one line."""
    first = error.errors()[0]
    path = ".".join(str(each) for each in first["loc"] if isinstance(each, str))
    known = [name for name, _ in fields(kind)]
    if first["type"] == "extra_forbidden":
        return ConfigError(path, "no such field", origin=filled.origins.get(path), hint=source.suggest(path, known))
    while path and path not in known and not any(name.startswith(f"{path}.") for name in known):
        path = path.rpartition(".")[0]  # pydantic names the members of a union behind the field
    problem = first["msg"].replace("Input should", "should")
    given = "" if first["type"] == "missing" else f"{first['input']!r} "
    return ConfigError(path, f"{given}{problem}", origin=filled.origins.get(path))


def _check_head(name: str, model: type[ModelSpec], task: Task, filled: Filled) -> None:
    def fits(head: str | None) -> bool:
        return head in (None, task.head) or heads.get(str(head)).answers == task.head

    if fits(model.head):
        return
    fitting = [each for each in models.names() if fits(models.get(each).head)]
    raise ConfigError(
        "model.name",
        f"{name!r} answers {model.head!r}, but task {task.name!r} needs {task.head!r}",
        origin=filled.origins.get("model.name"),
        hint="fitting: " + ", ".join(fitting),
    )


def _check_legacy(filled: Filled) -> None:
    """Refuse a vocabulary path that stands twice and differs."""
    token = filled.values.get("token")
    if not token:
        return
    chosen = token["tokenizer"]["subword"][filled.selected["token.tokenizer.subword.name"]]["vocab_path"]
    repeated = token["feature"]["vocab"]["pretrained_path"]
    if repeated not in (None, chosen):
        path = "token.feature.vocab.pretrained_path"
        problem = f"{repeated!r} is not the subword tokenizer's vocab_path {chosen!r}"
        raise ConfigError(path, problem, origin=filled.origins.get(path), hint="leave it out")


def _in_language(task: Task, language: str | None) -> Task:
    if language is None or language == task.language:
        return task
    return task.model_copy(
        update={"language": language, "metrics": tuple(each.for_language(language) for each in task.metrics)}
    )


def _tokenizer(token: Any, filled: Filled) -> tuple[Word, Subword] | None:
    if token is None:
        return None
    word, subword = token.tokenizer.word, token.tokenizer.subword
    return getattr(word, word.name), getattr(subword, subword.name)
