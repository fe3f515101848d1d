"""The schema of a BaseConfig: its sections, and the blocks that selectors put beside them."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, create_model

from claf2.heads import heads
from claf2.models import models
from claf2.objectives import objectives
from claf2.optim import optimizers, schedules
from claf2.registry import Component, Registry, varies
from claf2.samplers import samplers
from claf2.task import tasks
from claf2.tokenizers import subwords, words
from claf2.trainers import trainers

__all__ = [
    "DATASET",
    "SELECTORS",
    "SHARED",
    "Mix",
    "MixedTrainerSection",
    "Selector",
    "experiment_type",
    "fields",
    "options",
    "section_of",
]


class DataReader(Component):
    """Section `data_reader`: what is measured, and where its files are."""

    dataset: str
    """The task; its block holds how examples become features."""
    source: Literal["local", "hub", "sample"] = varies("local")
    """Local files, the hub's copy, or a generated miniature of the task."""
    data_dir: str | None = varies(None)
    """The folder that relative files are in; `null`: `$CLAF2_DATA_DIR`, else the working directory."""
    train_file_path: str | None = varies(None)
    """`null`: the task's own file name."""
    valid_file_path: str | None = varies(None)
    """`null`: the task's own file name."""
    valid_fraction: float | None = Field(None, gt=0, lt=1)
    """Cut this part of the training file off for validation, the same rows for every seed."""


class Mix(Component):
    """Section `mix`: how a task stands beside others; alone it says nothing."""

    loss_weight: float = Field(1.0, ge=0, allow_inf_nan=False)
    """What its loss is multiplied by; with 0 it is judged and not trained on."""
    average_weight: float = Field(1.0, ge=0, allow_inf_nan=False)
    """What its deciding score counts in the average."""


class BatchSection(Component):
    """Section `iterator`: how many rows at a time, over all devices."""

    batch_size: int = Field(32, ge=1)
    eval_batch_size: int = Field(64, ge=1)


class WordSection(Component):
    """Section `token.tokenizer.word`."""

    name: str = "bert_basic"


class SubwordSection(Component):
    """Section `token.tokenizer.subword`."""

    name: str = "wordpiece"


class LegacyVocab(Component):
    """CLaF's `token.feature.vocab`, with the one meaning that it can have here."""

    pretrained_path: str | None = None
    """The subword tokenizer's own `vocab_path`, once more."""
    pretrained_token: Literal["all"] = "all"


class LegacyIndexer(Component):
    """CLaF's `token.feature.indexer`."""

    do_tokenize: Literal[False] = False


class LegacyFeature(Component):
    """CLaF's `token.feature`."""

    vocab: LegacyVocab = LegacyVocab()
    indexer: LegacyIndexer = LegacyIndexer()


class Token(Component):
    """Section `token`: a tokenizer put together; without the section the model's own is used."""

    names: list[Literal["feature"]] = Field(["feature"], min_length=1, max_length=1)
    types: list[Literal["feature"]] = Field(["feature"], min_length=1, max_length=1)
    feature: LegacyFeature = LegacyFeature()


class Model(Component):
    """Section `model`."""

    name: str = "encoder"
    """What the model answers; its block holds encoder and head."""


class TrainerSection(Component):
    """Section `trainer`: how long, how often to look, which score decides."""

    name: str = "finetune"
    """How the run is staged."""
    log_dir: str = varies("logs/run")
    """The folder that the run leaves behind."""
    num_epochs: float = Field(3.0, gt=0)
    num_steps: int | None = Field(None, ge=1)
    """Optimizer steps; when given, it wins over `num_epochs`."""
    early_stopping_threshold: int | None = Field(None, ge=1)
    """Stop after this many evaluations without a better score; `null`: never."""
    metric_key: str | None = None
    """The score that selects the best checkpoint; `null`: the first of the task's own."""
    verbose_step_count: int = varies(100, ge=1)
    """Steps between two lines of the log."""
    eval_and_save_step_count: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)] | Literal["epoch"] = (
        "epoch"
    )
    """Steps between two evaluations; below 1, a fraction of an epoch."""
    grad_max_norm: float | None = Field(1.0, gt=0)
    """Gradients are scaled down to this norm; `null`: they are not."""
    gradient_accumulation_steps: int = Field(1, ge=1)
    """An optimizer step takes `batch_size` times this many rows, added up in as many parts."""


class MixedTrainerSection(TrainerSection):
    """Section `trainer` of several tasks."""

    keep: Literal["metric_key", "each"] = "metric_key"
    """Keep the checkpoint that is best by `metric_key`, or each task's own best one."""
    task_early_stopping_threshold: int | None = Field(None, ge=1)
    """After this many evaluations without a better score of its own a task rests and leaves its steps to the others;
    `null`: never."""


class SamplerSection(Component):
    """Section `sampler`: how several tasks are mixed."""

    name: str = "mtdnn"


class OptimizerSection(Component):
    """Section `optimizer`."""

    op_type: str = "adamw"
    learning_rate: float = Field(5e-5, gt=0)
    lr_scheduler_type: str = "warmup_linear"


class Runtime(Component):
    """Section `runtime`: what changes the speed and not the score."""

    device: str = varies("auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$")
    workers: int = varies(1, ge=0)
    """Threads that prepare batches ahead."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """In what numbers passes are made; weights and optimizer stay in fp32. It moves scores, so it is of the recipe."""
    padding: Literal["auto", "pack", "split", "keep"] = varies("auto")
    """What becomes of padding: `pack` computes nothing for it, `split` cuts a batch by length into micro-batches whose
    gradients add up, `keep` leaves it; `auto`: `pack` where the architecture allows and nothing is compiled, else
    `split`."""
    micro_batch_overhead: int | None = varies(None, ge=0)
    """What a micro-batch costs besides its tokens, in tokens; `null`: 256 on a CPU, 8192 on a GPU."""
    max_tokens_per_micro_batch: int | None = varies(None, ge=1)
    """The most tokens of a micro-batch, padding included: a large batch fits into little memory."""
    activation_checkpointing: bool = varies(False)
    """Compute activations again in the backward pass instead of keeping them."""
    compile: bool = varies(False)
    """Compile the model with `torch.compile`, lengths rounded up to multiples of 32."""
    engine: Literal["ddp", "fsdp"] = varies("ddp")
    """How several processes share a model: `ddp`, each has it whole; `fsdp`, each has a share of weights, gradients and
    optimizer state (FSDP2), for encoders that do not fit one device."""
    cpu_offload: bool = varies(False)
    """With `fsdp`: keep the shares in the host's memory."""
    deterministic: bool = varies(True)
    """Let PyTorch use deterministic kernels only."""
    cache_dir: str | None = varies(None)
    """Where features, samples and fetched models are kept; `null`: `$CLAF2_CACHE`, else `~/.cache/claf2`."""


@dataclass(frozen=True)
class Selector:
    """A field that decides which block stands beside it."""

    path: str
    default: str
    registry: Registry[Any]


DATASET = Selector("data_reader.dataset", "", tasks)

SELECTORS = (
    DATASET,
    Selector("model.name", "encoder", models),
    Selector("trainer.name", "finetune", trainers),
    Selector("optimizer.op_type", "adamw", optimizers),
    Selector("optimizer.lr_scheduler_type", "warmup_linear", schedules),
    Selector("token.tokenizer.word.name", "bert_basic", words),
    Selector("token.tokenizer.subword.name", "wordpiece", subwords),
)
"""The selectors of an experiment on one task."""

SHARED = (*(each for each in SELECTORS if each is not DATASET), Selector("sampler.name", "mtdnn", samplers))
"""Those of an experiment on several tasks, each of which is an experiment of its own in section `tasks`."""


def experiment_type(selected: Mapping[str, str | list[str]]) -> type[BaseModel]:
    """Make the schema of an experiment whose blocks are those of the selected names (of all, where a list is given)."""
    key = tuple((path, chosen if isinstance(chosen, str) else tuple(chosen)) for path, chosen in selected.items())
    if key not in _made:
        _made[key] = _make(selected)
    return _made[key]


_made: dict[tuple[Any, ...], type[BaseModel]] = {}


def _make(selected: Mapping[str, str | list[str]]) -> type[BaseModel]:

    def section(base: type[BaseModel], *selectors: str, **more: Any) -> Any:
        blocks: dict[str, Any] = dict(more)
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
    token: Any = create_model("Token", __base__=Token, tokenizer=with_default(tokenizer))
    own: dict[str, Any]
    if DATASET.path in selected:
        own = {
            "data_reader": section(DataReader, DATASET.path),
            "iterator": with_default(BatchSection),
            "mix": with_default(Mix),
            "trainer": with_default(section(TrainerSection, "trainer.name")),
        }
    else:
        own = {
            "sampler": with_default(section(SamplerSection, "sampler.name")),
            "trainer": with_default(section(MixedTrainerSection, "trainer.name")),
        }
    return create_model(
        "BaseConfig",
        __base__=Component,
        **own,
        token=(token | None, varies(None)),
        model=with_default(section(Model, "model.name")),
        optimizer=with_default(section(OptimizerSection, "optimizer.op_type", "optimizer.lr_scheduler_type")),
        objectives=with_default(_objectives()),
        seed_num=(int, varies(42, ge=0)),
        runtime=(Runtime, Field(default_factory=Runtime, json_schema_extra={"recipe": False})),
        plugins=(list[str], varies([])),
    )


def _objectives() -> type[BaseModel]:
    """Return section `objectives`: a block for each, absent unless given."""
    blocks: dict[str, Any] = {name: (objectives.get(name) | None, None) for name in objectives.names()}
    about = "Section `objectives`: what changes the loss; `null`: it does not."
    return create_model("Objectives", __base__=Component, __doc__=about, **blocks)


def _block(path: str, name: str, selected: Mapping[str, str | list[str]]) -> type[BaseModel]:
    """Return the schema of the block that stands beside a selector."""
    if path == "data_reader.dataset":
        return heads.get(tasks.get(name).head).featurizer
    if path == "model.name":
        kind = models.get(name)
        answer = kind.head or _chosen_head(selected)
        both = {**kind.model_fields, **(heads.get(answer).model_fields if answer else {})}
        if not answer and isinstance(selected["model.name"], str):
            del both["dropout"]  # of several tasks each has its own
        typed: Any = {key: (field.annotation, field) for key, field in both.items()}
        return create_model(name, __base__=Component, **typed)
    selector = next(each for each in (*SELECTORS, *SHARED) if each.path == path)
    member: type[BaseModel] = selector.registry.get(name)
    return member


def _chosen_head(selected: Mapping[str, str | list[str]]) -> str | None:
    dataset = selected.get(DATASET.path)
    return tasks.get(dataset).head if isinstance(dataset, str) else None


def fields(kind: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted path, annotation) of every field that holds a value, and of sections that may be left out."""
    for name, field in kind.model_fields.items():
        inner = section_of(field.annotation)
        if inner is None or type(None) in options(field.annotation):
            yield f"{prefix}{name}", field.annotation
        if inner is not None:
            yield from fields(inner, f"{prefix}{name}.")


def section_of(annotation: Any) -> type[BaseModel] | None:
    """Return the section that an annotation stands for, optional or not."""
    return next((each for each in options(annotation) if isinstance(each, type) and issubclass(each, BaseModel)), None)


def options(annotation: Any) -> tuple[Any, ...]:
    """Return the alternatives of a union, or the one annotation itself."""
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if union else (annotation,)
