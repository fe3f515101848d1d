"""The schema of a BaseConfig: its sections, and the blocks that a selector chooses."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, create_model

from claf2.adapters import NO_ADAPTER, adapters
from claf2.config.runtime_section import RuntimeSection
from claf2.config.source import parse_json
from claf2.config.token_section import SubwordSection, TokenSection, WordSection
from claf2.corpus.section import CorpusSection
from claf2.data.samplers import samplers
from claf2.heads import heads
from claf2.models import ModelSpec, models, wrappers
from claf2.registry import LARGEST, Component, Registry, UserPath, not_in_recipe
from claf2.task import Task, tasks
from claf2.tokenizers import subword_tokenizers, word_tokenizers
from claf2.training.callbacks import callbacks
from claf2.training.objectives import objectives
from claf2.training.optim import optimizers, schedules
from claf2.training.trainers import trainers

__all__ = [
    "DATASET",
    "NOT_WRITTEN",
    "SELECTORS",
    "SHARED_SELECTORS",
    "BatchSection",
    "DataReaderSection",
    "MixSection",
    "MultiTaskTrainerSection",
    "OptimizerSection",
    "PeftSection",
    "RuntimeSection",
    "Selector",
    "TrainerSection",
    "experiment_type",
    "iter_fields",
    "json_schema",
    "parse_value",
    "section_of",
    "union_members",
]


class DataReaderSection(Component):
    """Section `data_reader`: the task, and where its files are."""

    dataset: str
    """The task; its block says how examples become features."""
    source: Literal["local", "hub", "sample"] = not_in_recipe("local")
    """Local files, the hub's copy, or a small generated sample of the task."""
    data_dir: Annotated[str | None, UserPath] = not_in_recipe(None)
    """The folder that relative paths start from; `null`: `$CLAF2_DATA_DIR`, else the working directory."""
    train_file_path: str | None = not_in_recipe(None)
    """`null`: the task's own file name."""
    valid_file_path: str | None = not_in_recipe(None)
    """`null`: the task's own file name."""
    valid_fraction: float | None = Field(None, gt=0, lt=1)
    """Use this share of the training file for validation, the same rows for every seed."""
    shots: int | None = Field(None, ge=1, le=LARGEST, json_schema_extra={"recipe": "if set", "written": False})
    """Train on this many rows of each label, drawn by the seed; `null`: on all rows. For tasks with one label a row."""


class MixSection(Component):
    """Section `mix`: the weights of a task among several; a single task does not use it."""

    loss_weight: float = Field(1.0, ge=0, le=LARGEST)
    """The factor of its loss; with 0 the task is evaluated but not trained."""
    average_weight: float = Field(1.0, ge=0, le=LARGEST)
    """The weight of the task's score in the average."""


class BatchSection(Component):
    """Section `iterator`: the rows of a batch, over all devices."""

    batch_size: int = Field(32, ge=1, le=LARGEST)
    eval_batch_size: int = Field(64, ge=1, le=LARGEST)


class ModelSection(Component):
    """Section `model`."""

    name: str = "encoder"
    """The kind of model; its block describes encoder and head."""


class PeftSection(Component):
    """Section `model.peft`: which part of the encoder is trained; without it, all of it. The heads always are."""

    name: str = NO_ADAPTER
    """The method; its block has its fields."""


class TrainerSection(Component):
    """Section `trainer`: how long to train, how often to evaluate, and which score selects the best checkpoint."""

    name: str = "finetune"
    """The training procedure: `finetune`, `mtdnn` in two stages, `pretrain` on a corpus, or `zero_shot` and
    `in_context`, which take no step."""
    log_dir: Annotated[str, UserPath] = not_in_recipe("logs/run")
    """The folder of the run."""
    num_epochs: float = Field(3.0, gt=0, le=LARGEST)
    num_steps: int | None = Field(None, ge=1, le=LARGEST)
    """Optimizer steps; takes precedence over `num_epochs`."""
    early_stopping_threshold: int | None = Field(None, ge=1, le=LARGEST)
    """Stop after this many evaluations without a better score; `null`: never."""
    metric_key: str | None = None
    """The score that selects the best checkpoint; `null`: the task's first one."""
    verbose_step_count: int = not_in_recipe(100, ge=1, le=LARGEST)
    """Steps between two log lines."""
    eval_and_save_step_count: (
        Annotated[int, Field(ge=1, le=LARGEST)] | Annotated[float, Field(gt=0, lt=1)] | Literal["epoch"]
    ) = "epoch"
    """Steps between two evaluations; below 1, a fraction of an epoch."""
    grad_max_norm: float | None = Field(1.0, gt=0, le=LARGEST)
    """Gradients are clipped to this norm; `null`: not clipped."""
    gradient_accumulation_steps: int = Field(1, ge=1, le=LARGEST)
    """Micro-batches of `batch_size` rows per optimizer step."""


class MultiTaskTrainerSection(TrainerSection):
    """Section `trainer` of several tasks."""

    keep: Literal["metric_key", "each"] = "metric_key"
    """Keep the checkpoint that is best by `metric_key`, or the best one of each task."""
    task_early_stopping_threshold: int | None = Field(None, ge=1, le=LARGEST)
    """Pause a task after this many evaluations without a better score of its own; its steps go to the others. `null`:
    never."""


class SamplerSection(Component):
    """Section `sampler`: how several tasks are mixed."""

    name: str = "mtdnn"


class OptimizerSection(Component):
    """Section `optimizer`."""

    op_type: str = "adamw"
    learning_rate: float = Field(5e-5, gt=0, le=LARGEST)
    lr_scheduler_type: str = "warmup_linear"


@dataclass(frozen=True)
class Selector:
    """A field that chooses the block of its section."""

    path: str
    default: str
    registry: Registry[Any]


DATASET = Selector("data_reader.dataset", "", tasks)
"""The selector of a task's data."""

SELECTORS = (
    DATASET,
    Selector("model.name", "encoder", models),
    Selector("model.peft.name", NO_ADAPTER, adapters),
    Selector("trainer.name", "finetune", trainers),
    Selector("optimizer.op_type", "adamw", optimizers),
    Selector("optimizer.lr_scheduler_type", "warmup_linear", schedules),
    Selector("token.tokenizer.word.name", "bert_basic", word_tokenizers),
    Selector("token.tokenizer.subword.name", "wordpiece", subword_tokenizers),
)
"""The selectors of an experiment on one task."""

SHARED_SELECTORS = (
    *(selector for selector in SELECTORS if selector is not DATASET),
    Selector("sampler.name", "mtdnn", samplers),
)
"""The selectors of an experiment on several tasks, each of which is an experiment of its own in section `tasks`."""


NOT_WRITTEN: dict[str, Any] = {"written": False}
"""The mark of a field whose default is left out of a complete config, so that the config of a run does not depend on
which plug-ins happen to be loaded."""


def experiment_type(selected: Mapping[str, str | list[str]]) -> type[BaseModel]:
    """Return the schema of an experiment whose blocks are those of the selected names (of all names in a list)."""
    chosen_names = tuple((path, name if isinstance(name, str) else tuple(name)) for path, name in selected.items())
    # A plug-in that is loaded between two experiments adds sections to the second.
    key = (chosen_names, *(tuple(registry.names()) for registry in (objectives, wrappers, callbacks)))
    if key not in _schemas:
        _schemas[key] = _make_schema(selected)
    return _schemas[key]


_schemas: dict[tuple[Any, ...], type[BaseModel]] = {}


def _make_schema(selected: Mapping[str, str | list[str]]) -> type[BaseModel]:
    def section(base: type[BaseModel], *selectors: str, **extra: Any) -> Any:
        blocks: dict[str, Any] = dict(extra)
        for path in selectors:
            chosen = selected[path]
            for name in [chosen] if isinstance(chosen, str) else chosen:
                block = _block(path, name, selected)
                default = block.model_construct if isinstance(chosen, str) else None
                blocks[name] = (block, Field(default_factory=default)) if default else (block | None, None)
        return create_model(base.__name__, __base__=base, __doc__=base.__doc__, **blocks)

    def with_default(kind: Any) -> Any:
        return (kind, Field(default_factory=kind.model_construct))

    tokenizer = create_model(
        "Tokenizer",
        __base__=Component,
        word=with_default(section(WordSection, "token.tokenizer.word.name")),
        subword=with_default(section(SubwordSection, "token.tokenizer.subword.name")),
    )
    token: Any = create_model("Token", __base__=TokenSection, tokenizer=with_default(tokenizer))
    sections: dict[str, Any]
    if DATASET.path in selected:
        sections = {
            "data_reader": section(DataReaderSection, DATASET.path),
            "iterator": with_default(BatchSection),
            "mix": with_default(MixSection),
            "trainer": with_default(section(TrainerSection, "trainer.name")),
        }
    else:
        sections = {
            "sampler": with_default(section(SamplerSection, "sampler.name")),
            "trainer": with_default(section(MultiTaskTrainerSection, "trainer.name")),
        }
    runtime: Any = create_model("RuntimeSection", __base__=RuntimeSection, callbacks=with_default(_callbacks_section()))
    return create_model(
        "BaseConfig",
        __base__=Component,
        **sections,
        token=(token | None, not_in_recipe(None)),
        model=with_default(
            section(
                ModelSection,
                "model.name",
                peft=(section(PeftSection, "model.peft.name") | None, _left_out()),
                wrappers=(_wrappers_section() | None, Field(None, json_schema_extra={"recipe": "if set"})),
            )
        ),
        optimizer=with_default(section(OptimizerSection, "optimizer.op_type", "optimizer.lr_scheduler_type")),
        objectives=with_default(_objectives_section()),
        seed_num=(int, not_in_recipe(42, ge=0, lt=2**63)),
        runtime=(runtime, Field(default_factory=runtime, json_schema_extra={"recipe": False})),
        plugins=(list[str], not_in_recipe([])),
    )


def _left_out() -> Any:
    """Return an optional section that is written only where it is used, so that digests of experiments without it stay
    the same."""
    return Field(None, json_schema_extra={"recipe": "if set", "written": False})


def _objectives_section() -> type[BaseModel]:
    """Return section `objectives`: an optional block for each objective."""
    first = ("distil", "smart", "uncertainty")
    default = {name: None if name in first else _left_out() for name in objectives.names()}
    blocks: dict[str, Any] = {name: (objectives.get(name) | None, field) for name, field in default.items()}
    doc = "Section `objectives`: what changes inputs or loss; `null`: not used."
    return create_model("ObjectivesSection", __base__=Component, __doc__=doc, **blocks)


def _wrappers_section() -> type[BaseModel]:
    """Return section `model.wrappers`: an optional block for each wrapper."""
    blocks: dict[str, Any] = {name: (wrappers.get(name) | None, None) for name in wrappers.names()}
    doc = "Section `model.wrappers`: what changes the model before training, in the order of their names."
    return create_model("WrappersSection", __base__=Component, __doc__=doc, **blocks)


def _callbacks_section() -> type[BaseModel]:
    """Return section `runtime.callbacks`: an optional block for each callback; TensorBoard is there by default."""
    blocks: dict[str, Any] = {
        name: (callbacks.get(name) | None, Field(None, json_schema_extra=NOT_WRITTEN)) for name in callbacks.names()
    }
    blocks["tensorboard"] = (callbacks.get("tensorboard") | None, Field(default_factory=callbacks.get("tensorboard")))
    doc = "Section `runtime.callbacks`: what observes a run, in the order of their names; `null`: not used."
    return create_model("CallbacksSection", __base__=Component, __doc__=doc, **blocks)


def _block(path: str, name: str, selected: Mapping[str, str | list[str]]) -> type[BaseModel]:
    """Return the schema of the block that a selector chooses."""
    if path == DATASET.path:
        task = tasks.get(name)
        return CorpusSection if task.is_corpus else heads.get(_answering_head(task, selected)).featurizer
    if path == "model.name":
        head = models.get(name).head or _chosen_head(selected)
        fields = {**ModelSpec.model_fields, **(heads.get(head).model_fields if head else {})}
        if not head and isinstance(selected["model.name"], str):
            del fields["dropout"]  # each of several tasks has its own
        typed: Any = {key: (field.annotation, field) for key, field in fields.items()}
        return create_model(name, __base__=Component, **typed)
    selector = next(selector for selector in (*SELECTORS, *SHARED_SELECTORS) if selector.path == path)
    member: type[BaseModel] = selector.registry.get(name)
    return member


def _answering_head(task: Task, selected: Mapping[str, str | list[str]]) -> str:
    """Return the head that answers a task: the one that the model's name promises, where it may replace the task's."""
    name = selected.get("model.name")
    head = models.get(name).head if isinstance(name, str) else None
    return head if head is not None and heads.get(head).replaces(task.head) else task.head


def _chosen_head(selected: Mapping[str, str | list[str]]) -> str | None:
    dataset = selected.get(DATASET.path)
    return tasks.get(dataset).head if isinstance(dataset, str) else None


def iter_fields(kind: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted path, annotation) of every field with a value, and of optional sections."""
    for name, field in kind.model_fields.items():
        inner = section_of(field.annotation)
        if inner is None or type(None) in union_members(field.annotation):
            yield f"{prefix}{name}", field.annotation
        if inner is not None:
            yield from iter_fields(inner, f"{prefix}{name}.")


def section_of(annotation: Any) -> type[BaseModel] | None:
    """Return the section that an annotation describes, optional or not."""
    members = union_members(annotation)
    return next((member for member in members if isinstance(member, type) and issubclass(member, BaseModel)), None)


def union_members(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union; of another annotation, the annotation itself."""
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if union else (annotation,)


def parse_value(text: str, annotation: Any) -> Any:
    """Parse a value of the command line by the type of its field: text unchanged, anything else as JSON."""
    members = union_members(annotation)
    if text == "null" and type(None) in members:
        return None
    is_text = [member is str or typing.get_origin(member) is Literal for member in members if member is not type(None)]
    if all(is_text) and typing.get_args(members[0]) != (False,):
        return text
    try:
        return parse_json(text)
    except ValueError:
        return text


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
