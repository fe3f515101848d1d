"""The first pass, fill: what a BaseConfig says, the command line laid over it, and every default."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from claf2 import overrides as source
from claf2.errors import ConfigError, RegistryError
from claf2.registry import load_plugin
from claf2.schema import SELECTORS, SHARED, Selector, experiment_type, fields, options, section_of
from claf2.task import tasks

__all__ = ["Filled", "complete", "diff", "fill", "within"]

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
    parts: Mapping[str, Filled] = dataclasses.field(default_factory=dict)
    """Of several tasks: each as an experiment of its own."""


def fill(name: str, overrides: Sequence[str] = (), plugins: Sequence[str] = ()) -> Filled:
    """Read a BaseConfig, apply the command line, and add every default."""
    path = source.find(name)
    values, origins = source.read(path)
    given = list(dict.fromkeys([*(values.get("plugins") or []), *plugins]))
    for plugin in given:
        load_plugin(plugin)
    values["plugins"] = given
    words = source.parse_arguments(overrides)
    if "log_dir" not in _object(values, "trainer"):
        source.put(values, "trainer.log_dir", f"logs/{path.stem if name.endswith(source.SUFFIXES) else name}")
    for word in [each for each in words if each.key == "tasks"]:
        names = [each.strip() for each in (word.text or "").split(",")]
        values["tasks"] = _entries([{"base_config": each} for each in names if each])
        words.remove(word)
    return complete(name, values, origins, words, tuple(overrides))


def _object(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the object at a key; nothing where there is none.

    Raises:
        ConfigError: when something else stands there.
    """
    found = values.get(key)
    if found is not None and not isinstance(found, dict):
        raise ConfigError(key, f"{found!r} is no object")
    return found or {}


def complete(
    name: str,
    values: dict[str, Any],
    origins: dict[str, str],
    words: Sequence[source.Override],
    overrides: tuple[str, ...],
) -> Filled:
    """Complete what was read, with these words of the command line."""
    _translate(values)
    if "tasks" in values:
        return _fill_several(name, values, origins, words, overrides)
    known, selected = _complete(values, origins, words, SELECTORS)
    return Filled(name, values, {**dict.fromkeys(known, "default"), **origins}, selected, overrides)


COMMON = ("token", "seed_num", "runtime", "plugins")
"""Sections that several tasks have in common."""


SECTIONS = (
    "data_reader", "iterator", "mix", "token", "model", "trainer", "optimizer", "sampler", "objectives", "seed_num",
    "runtime", "plugins", "tasks",
)  # fmt: skip
"""What no task may be called."""

ENCODER = ("pretrained_model_name", "revision", "architecture")
"""Fields of the model block that several tasks have in common."""


def _fill_several(
    name: str,
    values: dict[str, Any],
    origins: dict[str, str],
    words: Sequence[source.Override],
    overrides: tuple[str, ...],
) -> Filled:
    """Complete what several tasks share, and each of them as an experiment of its own."""
    given = values.pop("tasks")
    if not isinstance(given, dict) or not given:
        raise ConfigError("tasks", "names no task", hint="{NAME: {base_config: 'glue/rte_bert'}}")
    read = {task: _read_part(task, each, origins) for task, each in given.items()}
    mine, others = _route(values, read, words)
    known, selected = _complete(values, origins, mine, SHARED)
    block = _object(_object(values, "model"), selected["model.name"])
    parts = {}
    for task, (own, own_origins) in read.items():
        own |= {key: values[key] for key in COMMON}
        with within(f"tasks.{task}"):
            _object(own, "trainer")
            named = [word.text for word in others[task] if _selector(word, SELECTORS) == "model.name"]
            chosen = str([_object(own, "model").get("name", "encoder"), *named][-1])
            _object(_object(own, "model"), chosen)
            for key in ENCODER:
                source.put(own, f"model.{chosen}.{key}", block[key])
            source.put(own, "trainer.log_dir", f"{values['trainer']['log_dir']}/{task}")
            parts[task] = complete(f"{name}:{task}", own, own_origins, others[task], ())
    values["tasks"] = {
        task: {key: each for key, each in part.values.items() if key not in COMMON} for task, part in parts.items()
    }
    origins = {**dict.fromkeys(known, "default"), **origins}
    for task, part in parts.items():
        origins |= {f"tasks.{task}.{path}": origin for path, origin in part.origins.items()}
    return Filled(name, values, origins, selected, overrides, parts)


@contextmanager
def within(path: str) -> Iterator[None]:
    """Let what is wrong inside be said of the section at this path."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{path}.{error.path}", error.problem, origin=error.origin, hint=error.hint) from None


def _read_part(task: str, entry: Any, origins: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what one entry of section `tasks` says, laid over the BaseConfig that it names."""
    path = f"tasks.{task}"
    if not isinstance(entry, dict):
        raise ConfigError(path, "is no object", origin=origins.get(path))
    if not re.fullmatch(r"\w[\w-]*", task) or task in SECTIONS:
        hint = "letters, digits, - and _, and no section: folders are named after it"
        raise ConfigError(path, "is no name for a task", hint=hint)
    for key in COMMON:
        if key in entry:
            raise ConfigError(f"{path}.{key}", "is of the whole run", origin=origins.get(f"{path}.{key}"), hint=key)
    own = {key: value for key, value in entry.items() if key != "base_config"}
    named = {key.removeprefix(f"{path}."): each for key, each in origins.items() if key.startswith(f"{path}.")}
    if "base_config" not in entry:
        return own, named
    with within(path):
        values, read = source.read(source.find(str(entry["base_config"])))
    if "tasks" in values:
        raise ConfigError(f"{path}.base_config", "has several tasks itself", origin=origins.get(path))
    return source.merge(values, own), {**read, **named}


def _route(
    values: Mapping[str, Any],
    read: Mapping[str, tuple[dict[str, Any], dict[str, str]]],
    words: Sequence[source.Override],
) -> tuple[list[source.Override], dict[str, list[source.Override]]]:
    """Say which words are of what the tasks share, and which are of each task.

    ``--rte.batch_size`` and ``--tasks.rte.batch_size`` are of task rte; what the tasks do not share, and what begins
    with ``tasks.``, is of every task that has such a field.
    """
    draft = json.loads(json.dumps(values))
    chosen = [each for each in words if _selector(each, SHARED)]
    shared = _complete(draft, {}, chosen, SHARED)[0]
    fields_of = {}
    for task, (own, _) in read.items():
        with within(f"tasks.{task}"):
            fields_of[task] = list(_complete(json.loads(json.dumps(own)), {}, [], SELECTORS)[0])
    mine: list[source.Override] = []
    others: dict[str, list[source.Override]] = {task: [] for task in read}
    named: dict[str, list[source.Override]] = {task: [] for task in read}
    for word in words:
        key = word.key.removeprefix("tasks.")
        first, _, rest = key.partition(".")
        if first in read and rest:
            named[first].append(_of_a_task(replace(word, key=rest), fields_of[first], word.key))
        elif key == word.key and (word in chosen or source.fitting(word, shared)):
            mine.append(word)
        else:
            inner = replace(word, key=key)
            fitting = [task for task, paths in fields_of.items() if source.fitting(inner, paths)]
            if not fitting:
                every = [*shared, *(f"tasks.{task}.{path}" for task, paths in fields_of.items() for path in paths)]
                source.resolve(word, every)
            for task in fitting:
                others[task].append(_of_a_task(inner, fields_of[task], word.key))
    return mine, {task: [*words, *named[task]] for task, words in others.items()}


def _of_a_task(word: source.Override, paths: Sequence[str], typed: str) -> source.Override:
    """Return a word for one task, unless it sets what the whole run has in common."""
    for path in source.fitting(word, paths):
        if path.split(".")[0] in COMMON or path.rsplit(".", 1)[-1] in (*ENCODER, "log_dir"):
            raise ConfigError(typed, "is of the whole run", origin="command line", hint=f"--{path.rsplit('.', 1)[-1]}")
    return word


def _selector(word: source.Override, selectors: Sequence[Selector]) -> str | None:
    """Return the path of the one selector that a word sets."""
    chosen = [each.path for each in selectors if each.path == word.key or each.path.endswith(f".{word.key}")]
    return chosen[0] if len(chosen) == 1 and word.text is not None and word.key != "name" else None


def _complete(
    values: dict[str, Any], origins: dict[str, str], words: Sequence[source.Override], selectors: Sequence[Selector]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Set what the words say and every default; return the annotation of each field, and what is selected."""
    rest = []
    for word in words:
        path = _selector(word, selectors)
        if path:
            source.put(values, path, word.text)
            origins[path] = word.origin
        else:
            rest.append(word)
    selected = {selector.path: _selection(values, selector, origins) for selector in selectors}
    kind = experiment_type(selected)
    known = dict(fields(kind))
    for word in rest:
        target = source.resolve(word, known)
        text = "true" if word.text is None else word.text
        source.put(values, target, _typed(text, known[target]))
        origins[target] = word.origin
    _drop_unselected(values, selected, selectors)
    _add_defaults(values, kind)
    return known, selected


def _translate(values: dict[str, Any]) -> None:
    """Turn CLaF's form of several tasks (a reader with `readers` and `batch_sizes`, a model with `dropouts`) into
    section `tasks`."""
    reader = values.get("data_reader")
    if not isinstance(reader, dict) or reader.get("dataset") != FORMER_READER:
        return
    block = _object(reader, FORMER_READER)
    del values["data_reader"]
    values.pop("iterator", None)  # 1 in all of them: the sizes are those of the readers
    model: Any = _object(_object(values, "model"), "bert_for_multi")
    entries = block.get("readers")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(f"data_reader.{FORMER_READER}.readers", "is no list of objects")
    sizes, dropouts = block.get("batch_sizes") or [], model.pop("dropouts", None) or []
    for name, given in (("batch_sizes", sizes), ("dropouts", dropouts)):
        if not isinstance(given, list):
            raise ConfigError(name, f"{given!r} is no list")
        if given and len(given) != len(entries):
            raise ConfigError(name, f"has {len(given)} values for {len(entries)} readers")
    found = []
    for index, entry in enumerate(entries):
        own = json.loads(json.dumps(entry))
        dataset = own["dataset"] = str(own.get("dataset", ""))
        if isinstance(own.get(dataset), dict) and "sequence_max_length" in own[dataset]:
            own[dataset]["max_seq_length"] = own[dataset].pop("sequence_max_length")
        part: dict[str, Any] = {"data_reader": own}
        if sizes:
            part["iterator"] = {"batch_size": sizes[index]}
        if dropouts:
            part["model"] = {"encoder": {"dropout": dropouts[index]}}
        found.append(part)
    values["tasks"] = _entries(found)


def _entries(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return entries of section `tasks` under the names of their tasks."""
    named: dict[str, Any] = {}
    for entry in entries:
        whole = source.read(source.find(entry["base_config"]))[0] if "base_config" in entry else entry
        if "tasks" in whole:
            raise ConfigError("tasks", f"{entry['base_config']} has several tasks itself")
        reader = whole.get("data_reader")
        dataset = str(reader.get("dataset", "")) if isinstance(reader, dict) else ""
        name = tasks.get(dataset).name if dataset in tasks.names() else dataset
        if name in named:
            raise ConfigError("tasks", f"task {name!r} stands twice", hint="name entries of section tasks yourself")
        named[name] = entry
    return named


FORMER_READER = "multitask_bert"
"""What CLaF calls the reader of several tasks."""


def diff(first: Filled, second: Filled) -> list[tuple[str, Any, Any]]:
    """Return (path, value here, value there) of every field in which two filled configs differ; absent is ``None``."""
    here, there = dict(source.leaves(first.values)), dict(source.leaves(second.values))
    paths = sorted(here.keys() | there.keys())
    return [(path, here.get(path), there.get(path)) for path in paths if here.get(path) != there.get(path)]


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


def _drop_unselected(values: dict[str, Any], selected: Mapping[str, str], selectors: Sequence[Selector]) -> None:
    """Leave out the blocks of alternatives that are not selected, and say so."""
    for selector in selectors:
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
