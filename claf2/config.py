"""The experiment: typed, frozen, complete. Three passes, never mixed: fill → validate → build (``run.py``)."""

from __future__ import annotations

import json
import logging
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, create_model
from pydantic_core import to_jsonable_python

from claf2 import overrides as source
from claf2.errors import ConfigError, RegistryError
from claf2.heads import Featurizer, Head, heads
from claf2.models import ModelSpec, models
from claf2.optim import Optimizer, Schedule, optimizers, schedules
from claf2.registry import Component, Registry, digest, load_plugin, varies
from claf2.task import Task, tasks
from claf2.tokenizers import Subword, Word, subwords, words
from claf2.trainers import Trainer, trainers

__all__ = ["Experiment", "Filled", "diff", "fill", "json_schema", "load", "validate"]

logger = logging.getLogger("claf2")


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


class Iterator_(Component):
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
    eval_and_save_step_count: int | float | Literal["epoch"] = "epoch"
    """Steps between two evaluations; below 1, a fraction of an epoch."""
    grad_max_norm: float | None = Field(1.0, gt=0)
    """Gradients are scaled down to this norm; `null`: they are not."""
    gradient_accumulation_steps: int = Field(1, ge=1)
    """An optimizer step takes `batch_size` times this many rows, added up in as many parts."""


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


SELECTORS = (
    Selector("data_reader.dataset", "", tasks),
    Selector("model.name", "encoder", models),
    Selector("trainer.name", "finetune", trainers),
    Selector("optimizer.op_type", "adamw", optimizers),
    Selector("optimizer.lr_scheduler_type", "warmup_linear", schedules),
    Selector("token.tokenizer.word.name", "bert_basic", words),
    Selector("token.tokenizer.subword.name", "wordpiece", subwords),
)


@dataclass(frozen=True)
class Filled:
    """The first pass: a complete dictionary, every default in it, and where each value came from."""

    name: str
    values: dict[str, Any]
    origins: dict[str, str]
    selected: dict[str, str]
    """Selector path → the name that it selects."""
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """The second pass: one experiment, typed and checked, ready to be built."""

    name: str
    task: Task
    data: DataReader
    featurizer: Featurizer
    iterator: Iterator_
    token: tuple[Word, Subword] | None
    model: ModelSpec
    head: Head
    trainer: TrainerSection
    stage: Trainer
    optimizer: OptimizerSection
    update: Optimizer
    schedule: Schedule
    seed: int
    runtime: Runtime
    values: dict[str, Any]
    """The filled config: itself a valid BaseConfig."""
    origins: dict[str, str]
    recipe: dict[str, Any]
    """The values without what a comparison may vary."""
    overrides: tuple[str, ...] = ()

    def digest(self) -> str:
        """Return the digest of all that the run's numbers depend on: everything but paths and runtime."""
        free = {key: value for key, value in self.values.items() if key not in ("runtime", "plugins")}
        free["trainer"] = {**free["trainer"], "log_dir": None, "verbose_step_count": None}
        return digest(free)

    def recipe_digest(self) -> str:
        """Return the digest by which scores may stand in one table: without model, seed, paths and runtime."""
        return digest([self.recipe, self.task.identity()])


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


def fill(name: str, overrides: Sequence[str] = (), plugins: Sequence[str] = ()) -> Filled:
    """Read a BaseConfig, apply the command line, and add every default."""
    path = source.find(name)
    values, origins = source.read(path)
    given = list(dict.fromkeys([*(values.get("plugins") or []), *plugins]))
    for plugin in given:
        load_plugin(plugin)
    values["plugins"] = given
    rest = []
    for override in source.parse_arguments(overrides):
        chosen = [s.path for s in SELECTORS if s.path == override.key or s.path.endswith(f".{override.key}")]
        if len(chosen) == 1 and override.text is not None and override.key != "name":
            source.put(values, chosen[0], override.text)
            origins[chosen[0]] = override.origin
        else:
            rest.append(override)
    selected = {selector.path: _selection(values, selector, origins) for selector in SELECTORS}
    kind = _experiment_type(selected)
    fields = dict(_fields(kind))
    for override in rest:
        target = source.resolve(override, fields)
        text = "true" if override.text is None else override.text
        source.put(values, target, _typed(text, fields[target]))
        origins[target] = override.origin
    _drop_unselected(values, selected)
    if "log_dir" not in (values.get("trainer") or {}):
        source.put(values, "trainer.log_dir", f"logs/{path.stem if name.endswith(source.SUFFIXES) else name}")
    _add_defaults(values, kind)
    return Filled(name, values, {**dict.fromkeys(fields, "default"), **origins}, selected, tuple(overrides))


def validate(filled: Filled) -> Experiment:
    """Check a filled config and take it apart into typed parts."""
    kind = _experiment_type(filled.selected)
    try:
        whole: Any = kind.model_validate_json(json.dumps(filled.values), strict=True)
    except ValidationError as error:
        raise _config_error(error, filled, kind) from None
    dataset, name = filled.selected["data_reader.dataset"], filled.selected["model.name"]
    task = tasks.get(dataset)
    model_type, head_type = models.get(name), heads.get(task.head)
    block = filled.values["model"][name]
    featurizer = getattr(whole.data_reader, dataset)
    _check_head(name, model_type, task, filled)
    _check_legacy(filled)
    optimizer = whole.optimizer
    return Experiment(
        name=filled.name,
        task=_in_language(task, featurizer.lang_code),
        data=whole.data_reader,
        featurizer=featurizer,
        iterator=whole.iterator,
        token=_tokenizer(whole.token, filled),
        model=model_type(**{key: block[key] for key in model_type.model_fields}),
        head=head_type(**{key: block[key] for key in head_type.model_fields}),
        trainer=whole.trainer,
        stage=getattr(whole.trainer, whole.trainer.name),
        optimizer=optimizer,
        update=getattr(optimizer, optimizer.op_type),
        schedule=getattr(optimizer, optimizer.lr_scheduler_type),
        seed=whole.seed_num,
        runtime=whole.runtime,
        values=filled.values,
        origins=filled.origins,
        recipe=_recipe(filled.values, kind),
        overrides=filled.overrides,
    )


def diff(first: Filled, second: Filled) -> list[tuple[str, Any, Any]]:
    """Return (path, value here, value there) of every field in which two filled configs differ; absent is ``None``."""
    here, there = dict(source.leaves(first.values)), dict(source.leaves(second.values))
    paths = sorted(here.keys() | there.keys())
    return [(path, here.get(path), there.get(path)) for path in paths if here.get(path) != there.get(path)]


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a BaseConfig with the blocks of everything registered, for editors."""
    every = {selector.path: selector.registry.names() for selector in SELECTORS}
    return _experiment_type(every).model_json_schema()


def _selection(values: Mapping[str, Any], selector: Selector, origins: Mapping[str, str]) -> str:
    here: Any = values
    for key in selector.path.split("."):
        here = here.get(key) if isinstance(here, dict) else None
    chosen = selector.default if here is None else here
    origin = origins.get(selector.path)
    if chosen == "":
        raise ConfigError(selector.path, "is missing: it names the task", hint="see claf2 tasks list")
    if not isinstance(chosen, str):
        raise ConfigError(selector.path, f"{chosen!r} is not a name", origin=origin)
    try:
        selector.registry.get(chosen)
    except RegistryError as error:
        raise ConfigError(selector.path, str(error), origin=origin) from None
    return chosen


def _experiment_type(selected: Mapping[str, str | list[str]]) -> type[BaseModel]:
    """Make the schema of an experiment whose blocks are those of the selected names (of all, where a list is given)."""

    def section(base: type[BaseModel], *selectors: str, **more: Any) -> Any:
        blocks: dict[str, Any] = dict(more)
        for path in selectors:
            chosen = selected[path]
            for name in [chosen] if isinstance(chosen, str) else chosen:
                block = _block(path, name, selected)
                default = block.model_construct if isinstance(chosen, str) else None
                blocks[name] = (block, Field(default_factory=default)) if default else (block | None, None)
        return create_model(base.__name__.rstrip("_"), __base__=base, __doc__=base.__doc__, **blocks)

    def with_default(kind: Any) -> Any:
        return (kind, Field(default_factory=kind.model_construct))

    tokenizer = create_model(
        "Tokenizer",
        __base__=Component,
        word=with_default(section(WordSection, "token.tokenizer.word.name")),
        subword=with_default(section(SubwordSection, "token.tokenizer.subword.name")),
    )
    token = create_model("Token", __base__=Token, tokenizer=with_default(tokenizer))
    return create_model(
        "BaseConfig",
        __base__=Component,
        data_reader=section(DataReader, "data_reader.dataset"),
        iterator=with_default(Iterator_),
        token=(token | None, varies(None)),
        model=with_default(section(Model, "model.name")),
        trainer=with_default(section(TrainerSection, "trainer.name")),
        optimizer=with_default(section(OptimizerSection, "optimizer.op_type", "optimizer.lr_scheduler_type")),
        seed_num=(int, varies(42, ge=0)),
        runtime=(Runtime, Field(default_factory=Runtime, json_schema_extra={"recipe": False})),
        plugins=(list[str], varies([])),
    )


def _block(path: str, name: str, selected: Mapping[str, str | list[str]]) -> type[BaseModel]:
    """Return the schema of the block that stands beside a selector."""
    if path == "data_reader.dataset":
        return heads.get(tasks.get(name).head).featurizer
    if path == "model.name":
        kind = models.get(name)
        answer = kind.head or _chosen_head(selected)
        fields = {**kind.model_fields, **(heads.get(answer).model_fields if answer else {})}
        return create_model(name, __base__=Component, **{key: (f.annotation, f) for key, f in fields.items()})  # type: ignore[call-overload, no-any-return]
    selector = next(each for each in SELECTORS if each.path == path)
    kind = selector.registry.get(name)
    assert issubclass(kind, Component)
    return kind


def _chosen_head(selected: Mapping[str, str | list[str]]) -> str | None:
    dataset = selected["data_reader.dataset"]
    return tasks.get(dataset).head if isinstance(dataset, str) else None


def _fields(kind: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted path, annotation) of every field that holds a value."""
    for name, field in kind.model_fields.items():
        inner = _section_of(field.annotation)
        if inner is None:
            yield f"{prefix}{name}", field.annotation
        else:
            yield from _fields(inner, f"{prefix}{name}.")


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """Return the section that an annotation stands for, optional or not."""
    options = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    return next((each for each in options if isinstance(each, type) and issubclass(each, BaseModel)), None)


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _typed(text: str, annotation: Any) -> Any:
    """Read a value from the command line as its field wants it: as it stands for texts, else as JSON."""
    options = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    if text == "null" and type(None) in options:
        return None
    is_text = [each is str or typing.get_origin(each) is Literal for each in options if each is not type(None)]
    if all(is_text) and typing.get_args(options[0]) != (False,):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _drop_unselected(values: dict[str, Any], selected: Mapping[str, str]) -> None:
    """Leave out the blocks of alternatives that are not selected, and say so."""
    for selector in SELECTORS:
        *way, last = selector.path.split(".")
        here: Any = values
        for key in way:
            here = here.get(key) if isinstance(here, dict) else None
        if isinstance(here, dict):
            kept = {name for path, name in selected.items() if path.rsplit(".", 1)[0] == ".".join(way)} | {*way, last}
            for name in [each for each in here if each in selector.registry.names() and each not in kept]:
                del here[name]
                logger.warning("%s.%s is not used: %s is %r", ".".join(way), name, selector.path, selected[selector.path])


def _add_defaults(values: dict[str, Any], kind: type[BaseModel]) -> None:
    for name, field in kind.model_fields.items():
        inner = _section_of(field.annotation)
        if inner is None or (values.get(name) is None and field.default is None):
            if name not in values and not field.is_required():
                values[name] = to_jsonable_python(field.get_default(call_default_factory=True))
        else:
            if values.get(name) is None:
                values[name] = {}
            if isinstance(values[name], dict):
                _add_defaults(values[name], inner)


def _recipe(values: Mapping[str, Any], kind: type[BaseModel]) -> dict[str, Any]:
    """Return the values without the fields that a comparison may vary."""
    kept: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("recipe") is False:
            continue
        inner = _section_of(field.annotation)
        kept[name] = values[name] if inner is None else _recipe(values[name], inner)
    return kept


def _config_error(error: ValidationError, filled: Filled, kind: type[BaseModel]) -> ConfigError:
    """Turn the first thing that pydantic found into one line."""
    first = error.errors()[0]
    path = ".".join(str(each) for each in first["loc"] if isinstance(each, str))
    known = [name for name, _ in _fields(kind)]
    if first["type"] == "extra_forbidden":
        return ConfigError(path, "no such field", origin=filled.origins.get(path), hint=source.suggest(path, known))
    while path and path not in known and not any(name.startswith(f"{path}.") for name in known):
        path = path.rpartition(".")[0]  # pydantic names the members of a union behind the field
    problem = first["msg"].replace("Input should", "should")
    given = "" if first["type"] == "missing" else f"{first['input']!r} "
    return ConfigError(path, f"{given}{problem}", origin=filled.origins.get(path))


def _check_head(name: str, model: type[ModelSpec], task: Task, filled: Filled) -> None:
    if model.head is None or model.head == task.head:
        return
    fitting = [each for each in models.names() if models.get(each).head in (None, task.head)]
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
