"""The second pass, validate: a filled config → an Experiment, typed, frozen and complete."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ValidationError

from claf2.adapters import Adapter
from claf2.config import source
from claf2.config.fill import FilledConfig, complete, error_prefix, fill
from claf2.config.pretraining import check_pretraining, longest_rows
from claf2.config.recipe import recipe_values
from claf2.config.schema import (
    DATASET,
    SELECTORS,
    SHARED_SELECTORS,
    BatchSection,
    DataReaderSection,
    MixSection,
    OptimizerSection,
    RuntimeSection,
    TrainerSection,
    experiment_type,
    iter_fields,
)
from claf2.corpus.section import CorpusSection
from claf2.data.samplers import MtDnnSampler, Sampler
from claf2.errors import ConfigError, RunError, field_problem, nearest
from claf2.heads import Featurizer, Head, SingleLabelHead, heads
from claf2.metrics import Metric
from claf2.models import ModelSpec, Wrapper, models, wrappers
from claf2.registry import digest
from claf2.task import Task, tasks
from claf2.tokenizers import SubwordTokenizer, WordTokenizer
from claf2.training.callbacks import CallbackSpec, callbacks
from claf2.training.objectives import Objective, objectives
from claf2.training.optim import Optimizer, Schedule
from claf2.training.trainers import Trainer

__all__ = ["Experiment", "TaskConfig", "json_schema", "load", "validate"]

logger = logging.getLogger("claf2")


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
        if len(self.tasks) > 1:
            raise RunError(f"this run has several tasks: name one of {', '.join(self.tasks)} with --task")
        return next(iter(self.tasks.values()))

    def select_task(self, task: str) -> Experiment:
        """Return the experiment with one of its tasks only.

        Raises:
            RunError: when it has no task of that name.
        """
        if task not in self.tasks:
            raise RunError(f"this run has no task {task!r}: {nearest(task, self.tasks)}")
        return replace(self, tasks={task: self.tasks[task]})

    def with_values(self, values: Mapping[str, Any]) -> Experiment:
        """Return the experiment with other values: dotted path → value."""
        changed = json.loads(json.dumps(self.values))
        for path, value in values.items():
            source.set_path(changed, path, value)
        return validate(complete(self.name, changed, dict(self.origins), [], self.overrides))

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


def load(name: str, overrides: Sequence[str | source.Override] = (), plugins: Sequence[str] = ()) -> Experiment:
    """Fill and validate an experiment.

    Args:
        name: the name or path of a BaseConfig.
        overrides: words of the command line, e.g. ``["--learning_rate", "3e-5"]``, or overrides.
        plugins: files or modules with further components.

    Raises:
        ConfigError: if a field is wrong; the message names it, the origin of its value, and how to fix it.
    """
    return validate(fill(name, overrides, plugins))


def validate(filled: FilledConfig) -> Experiment:
    """Check a filled config, and return it as an Experiment.

    Raises:
        ConfigError: naming the first field that is wrong.
    """
    kind = experiment_type(filled.selected)
    own_values = {key: value for key, value in filled.values.items() if key != "tasks"}
    try:
        sections: Any = kind.model_validate_json(json.dumps(own_values), strict=True)
    except ValidationError as error:
        raise _config_error(error, filled, kind) from None
    model_name = filled.selected["model.name"]
    block = filled.values["model"][model_name]
    _check_legacy(filled)
    recipe = recipe_values(own_values, kind)
    if filled.tasks:
        task_configs = {task: _validate_task(task, task_filled) for task, task_filled in filled.tasks.items()}
        recipe["tasks"] = {
            task: config.single_task and config.single_task.recipe for task, config in task_configs.items()
        }
        sampler = getattr(sections.sampler, sections.sampler.name)
        if models.get(model_name).head is not None:
            problem = f"{model_name!r} supports only one kind of task"
            raise ConfigError("model.name", problem, hint="use bert_for_multi; for one task: --TASK.model.name")
    else:
        task_configs = _single_task(sections, filled)
        sampler = MtDnnSampler()
    optimizer, trainer = sections.optimizer, getattr(sections.trainer, sections.trainer.name)
    active_objectives = _given_blocks(sections.objectives, objectives.names())
    active_wrappers = _given_blocks(sections.model.wrappers, wrappers.names())
    _check_tasks(task_configs, trainer, sampler, active_objectives, filled)
    _check_metric_key(sections.trainer.metric_key, task_configs, filled)
    corpora = {task: (config.task.head, config.corpus) for task, config in task_configs.items()}
    check_pretraining(corpora, sections.trainer, trainer, filled.origins)
    return Experiment(
        name=filled.name,
        tasks=task_configs,
        token=_tokenizer_parts(sections.token),
        model=ModelSpec(**{key: block[key] for key in ModelSpec.model_fields if key in block}),
        adapter=_adapter(sections, task_configs, trainer),
        wrappers=active_wrappers,
        trainer_config=sections.trainer,
        trainer=trainer,
        optimizer_config=optimizer,
        optimizer=getattr(optimizer, optimizer.op_type),
        schedule=getattr(optimizer, optimizer.lr_scheduler_type),
        sampler=sampler,
        objectives=active_objectives,
        seed=sections.seed_num,
        runtime=sections.runtime,
        callbacks=_given_blocks(sections.runtime.callbacks, callbacks.names()),
        values=filled.values,
        origins=filled.origins,
        recipe=recipe,
        overrides=filled.overrides,
    )


def _given_blocks(section: Any, names: Sequence[str]) -> dict[str, Any]:
    """Return the optional blocks of a section that are given, by name."""
    return {name: block for name in names if (block := getattr(section, name, None)) is not None}


def _adapter(sections: Any, task_configs: Mapping[str, TaskConfig], trainer: Trainer) -> Adapter | None:
    """Return the adapter of section `model.peft`; refuse one that a task, an objective or a later stage cannot use."""
    if (section := sections.model.peft) is None:
        return None
    adapter: Adapter = getattr(section, section.name)
    adapter.check({task: config.head for task, config in task_configs.items()})
    if not adapter.can_merge and any(follow_up.from_refined for follow_up in trainer.follow_ups(task_configs)):
        problem = f"later stages cannot begin with {section.name!r}, which cannot be merged"
        raise ConfigError("model.peft.name", problem, hint="use 'lora', or --trainer.name finetune")
    if adapter.extra_tokens and sections.objectives.relations is not None:
        problem = f"{section.name!r} adds tokens to the student alone, and relations need the same tokens"
        raise ConfigError("model.peft.name", problem, hint="use 'lora', or objectives.distil")
    return adapter


def _check_tasks(
    task_configs: Mapping[str, TaskConfig],
    trainer: Trainer,
    sampler: Sampler,
    active_objectives: Mapping[str, Objective],
    filled: FilledConfig,
) -> None:
    """Refuse components that name unknown tasks, and weights that leave nothing to train or to average."""
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
        if origin.startswith(("command line", "argument")) and set(section) & {"trainer", "optimizer", "objectives"}:
            logger.warning("%s has no effect: this run does not train any task on its own", path)


def _check_metric_key(key: str | None, task_configs: Mapping[str, TaskConfig], filled: FilledConfig) -> None:
    """Refuse the name of a score that no evaluation has, where the metrics of the tasks name their scores."""
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


def _single_task(sections: Any, filled: FilledConfig) -> dict[str, TaskConfig]:
    """Return the task of an experiment with one task."""
    dataset, name = filled.selected[DATASET.path], filled.selected["model.name"]
    task, model_kind = tasks.get(dataset), models.get(name)
    head_type = heads.get(model_kind.head or task.head)
    block = filled.values["model"][name]
    data_block = getattr(sections.data_reader, dataset)
    corpus = data_block if task.is_corpus else None
    featurizer = data_block
    if corpus is not None:  # evaluates rows that the corpus has made
        featurizer = head_type.featurizer(max_seq_length=longest_rows(sections.trainer))
    _check_head(name, task, filled)
    if sections.data_reader.shots is not None and not issubclass(head_type, SingleLabelHead):
        problem = f"task {task.name!r} has no single label per row to draw by"
        raise ConfigError("data_reader.shots", problem, origin=filled.origins.get("data_reader.shots"), hint="use null")
    featurizer = featurizer.for_task(task)
    config = TaskConfig(
        task=_in_language(task, featurizer.lang_code),
        data=sections.data_reader,
        featurizer=featurizer,
        iterator=sections.iterator,
        head=head_type(**{key: block[key] for key in head_type.model_fields}),
        mix=sections.mix,
        dropout=block["dropout"],
        corpus=corpus,
    )
    return {task.name: config}


def _validate_task(name: str, filled: FilledConfig) -> TaskConfig:
    """Return one task of several, which is an experiment of its own as well."""
    with error_prefix(f"tasks.{name}"):
        single_task = validate(filled)
    return replace(single_task.only_task, single_task=single_task)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a BaseConfig with the blocks of everything registered, for editors."""
    one, several = (
        experiment_type({selector.path: selector.registry.names() for selector in selectors}).model_json_schema()
        for selectors in (SELECTORS, SHARED_SELECTORS)
    )
    description = "Experiments by name; an entry updates the BaseConfig that its `base_config` names."
    entries = {"type": "object", "description": description}
    return {
        **one,
        "$defs": {**several["$defs"], **one["$defs"]},
        "properties": {**one["properties"], "sampler": several["properties"]["sampler"], "tasks": entries},
        "required": [],
        "anyOf": [{"required": ["data_reader"]}, {"required": ["tasks"]}],
    }


def _config_error(error: ValidationError, filled: FilledConfig, kind: type[BaseModel]) -> ConfigError:
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


def _check_head(name: str, task: Task, filled: FilledConfig) -> None:
    """Refuse a model whose head does not answer the task."""

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


def _check_legacy(filled: FilledConfig) -> None:
    """Refuse CLaF's second vocabulary path where it differs from the first."""
    if not (token := filled.values.get("token")):
        return
    chosen = token["tokenizer"]["subword"][filled.selected["token.tokenizer.subword.name"]]["vocab_path"]
    repeated = token["feature"]["vocab"]["pretrained_path"]
    if repeated not in (None, chosen):
        path = "token.feature.vocab.pretrained_path"
        problem = f"{repeated!r} differs from the subword tokenizer's vocab_path {chosen!r}"
        raise ConfigError(path, problem, origin=filled.origins.get(path), hint="leave it out")


def _in_language(task: Task, language: str | None) -> Task:
    """Return the task with metrics for another language of its texts."""
    if language is None or language == task.language:
        return task
    return task.model_copy(
        update={"language": language, "metrics": tuple(metric.for_language(language) for metric in task.metrics)}
    )


def _tokenizer_parts(token: Any) -> tuple[WordTokenizer, SubwordTokenizer] | None:
    if token is None:
        return None
    word, subword = token.tokenizer.word, token.tokenizer.subword
    return getattr(word, word.name), getattr(subword, subword.name)
