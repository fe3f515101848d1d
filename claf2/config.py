"""The experiment: typed, frozen, complete. Three passes, never mixed: fill → validate → build (``run.py``)."""

from __future__ import annotations

import json
import logging
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python

from claf2 import overrides as source
from claf2.errors import ConfigError, RegistryError
from claf2.heads import Featurizer, Head, heads
from claf2.models import ModelSpec, models
from claf2.optim import Optimizer, Schedule
from claf2.registry import digest, load_plugin
from claf2.schema import (
    SELECTORS,
    BatchSection,
    DataReader,
    OptimizerSection,
    Runtime,
    Selector,
    TrainerSection,
    experiment_type,
    fields,
    options,
    section_of,
)
from claf2.task import Task, tasks
from claf2.tokenizers import Subword, Word
from claf2.trainers import Trainer

__all__ = ["Experiment", "Filled", "diff", "fill", "json_schema", "load", "validate"]

logger = logging.getLogger("claf2")


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
    iterator: BatchSection
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
        return digest([free, self.runtime.precision])

    def recipe_digest(self) -> str:
        """Return the digest by which scores may stand in one table: without model, seed, paths and runtime."""
        return digest([self.recipe, self.runtime.precision, self.task.identity()])


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
    kind = experiment_type(selected)
    known = dict(fields(kind))
    for override in rest:
        target = source.resolve(override, known)
        text = "true" if override.text is None else override.text
        source.put(values, target, _typed(text, known[target]))
        origins[target] = override.origin
    _drop_unselected(values, selected)
    if "log_dir" not in (values.get("trainer") or {}):
        source.put(values, "trainer.log_dir", f"logs/{path.stem if name.endswith(source.SUFFIXES) else name}")
    _add_defaults(values, kind)
    return Filled(name, values, {**dict.fromkeys(known, "default"), **origins}, selected, tuple(overrides))


def validate(filled: Filled) -> Experiment:
    """Check a filled config and take it apart into typed parts."""
    kind = experiment_type(filled.selected)
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
    return experiment_type(every).model_json_schema()


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


def _typed(text: str, annotation: Any) -> Any:
    """Read a value from the command line as its field wants it: as it stands for texts, else as JSON."""
    wanted = options(annotation)
    if text == "null" and type(None) in wanted:
        return None
    is_text = [each is str or typing.get_origin(each) is Literal for each in wanted if each is not type(None)]
    if all(is_text) and typing.get_args(wanted[0]) != (False,):
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
                logger.warning(
                    "%s.%s is not used: %s is %r", ".".join(way), name, selector.path, selected[selector.path]
                )


def _add_defaults(values: dict[str, Any], kind: type[BaseModel]) -> None:
    for name, field in kind.model_fields.items():
        inner = section_of(field.annotation)
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
        inner = section_of(field.annotation)
        kept[name] = values[name] if inner is None else _recipe(values[name], inner)
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
