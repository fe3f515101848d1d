"""The second pass, validate: a filled config → an Experiment, typed, frozen and complete."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from claf2.adapters import Adapter
from claf2.config import checks, source
from claf2.config.experiment import Experiment, TaskConfig
from claf2.config.fill import FilledConfig, complete, error_prefix, fill
from claf2.config.pretraining import check_pretraining, longest_rows
from claf2.config.recipe import recipe_values
from claf2.config.schema import DATASET, experiment_type
from claf2.data.samplers import MtDnnSampler
from claf2.errors import ConfigError
from claf2.heads import SingleLabelHead, heads
from claf2.models import ModelSpec, models, wrappers
from claf2.task import Task, tasks
from claf2.tokenizers import SubwordTokenizer, WordTokenizer
from claf2.training.callbacks import callbacks
from claf2.training.objectives import objectives
from claf2.training.trainers import Trainer

__all__ = ["load", "replace_values", "validate"]


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


def replace_values(experiment: Experiment, values: Mapping[str, Any]) -> Experiment:
    """Return the experiment with other values: dotted path → value."""
    changed = json.loads(json.dumps(experiment.values))
    for path, value in values.items():
        source.set_path(changed, path, value)
    return validate(complete(experiment.name, changed, dict(experiment.origins), [], experiment.overrides))


def validate(filled: FilledConfig) -> Experiment:
    """Check a filled config, and return it as an Experiment.

    Raises:
        ConfigError: naming the first field that is wrong.
    """
    experiment = _validate_sections(filled)
    checks.check_runtime(experiment)
    return experiment


def _validate_sections(filled: FilledConfig) -> Experiment:
    """Validate an experiment, or one of its tasks, except for section `runtime`, which all tasks share."""
    kind = experiment_type(filled.selected)
    own_values = {key: value for key, value in filled.values.items() if key != "tasks"}
    try:
        sections: Any = kind.model_validate_json(json.dumps(own_values), strict=True)
    except ValidationError as error:
        raise checks.schema_error(error, filled, kind) from None
    model_name = filled.selected["model.name"]
    block = filled.values["model"][model_name]
    checks.check_vocab_paths(filled)
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
    checks.check_tasks(task_configs, trainer, sampler, active_objectives, filled)
    checks.check_score_name(sections.trainer.metric_key, task_configs, filled)
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
    checks.check_head(name, task, filled)
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
        single_task = _validate_sections(filled)
    return replace(single_task.only_task, single_task=single_task)


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
