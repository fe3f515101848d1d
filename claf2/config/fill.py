"""The first pass, fill: a BaseConfig, updated by the command line, with every default."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from claf2.adapters import NO_ADAPTER
from claf2.config import claf, source
from claf2.config.plugins import load_plugins
from claf2.config.schema import (
    SELECTORS,
    SHARED_SELECTORS,
    Selector,
    experiment_type,
    iter_fields,
    parse_value,
    section_of,
    union_members,
)
from claf2.errors import ConfigError, RegistryError
from claf2.models import PRUNING_FIELDS
from claf2.registry import digest
from claf2.task import tasks

__all__ = ["FilledConfig", "complete", "diff", "error_prefix", "fill"]

logger = logging.getLogger("claf2")


@dataclass(frozen=True)
class FilledConfig:
    """A complete config: values with every default, and the origin of each."""

    name: str
    values: dict[str, Any]
    origins: dict[str, str]
    selected: dict[str, str]
    """Path of a selector → the name that it selects."""
    overrides: tuple[str, ...] = ()
    tasks: Mapping[str, FilledConfig] = field(default_factory=dict)
    """With several tasks, each as an experiment of its own."""


def fill(name: str, overrides: Sequence[str | source.Override] = (), plugins: Sequence[str] = ()) -> FilledConfig:
    """Read a BaseConfig, apply the overrides, and add every default.

    Args:
        name: the name or path of a BaseConfig.
        overrides: words of the command line, or overrides.
        plugins: files or modules to load besides those that the BaseConfig names.

    Raises:
        ConfigError: naming the field that is wrong.
    """
    path = source.find_config(name)
    values, origins = source.read_config(path)
    words = source.parse_overrides(overrides)
    recorded = tuple(text for word in words for text in word.words())
    values["plugins"] = load_plugins(values.get("plugins"), path.parent, words, plugins)
    folder = path.stem if name.endswith(source.FOUND) else name
    for word in [word for word in words if word.key == "tasks"]:
        if "data_reader" in values:
            problem = f"{name} already describes a task"
            hint = "leave out --base_config, or name all tasks in --tasks A,B"
            raise ConfigError("tasks", problem, origin=word.channel, hint=hint)
        names = [config_name.strip() for config_name in (word.text or "").split(",")]
        values["tasks"] = _name_entries([{"base_config": config_name} for config_name in names if config_name])
        words.remove(word)
        # Each combination of tasks has a folder of its own. File names are limited to 255 bytes.
        together = "+".join(values["tasks"])
        together = together if len(together) <= 100 else f"{together[:100]}-{digest(together)[:8]}"
        folder = str(PurePosixPath(folder).with_name(together))
    if "log_dir" not in _object(values, "trainer"):
        source.set_path(values, "trainer.log_dir", f"logs/{folder}")
    return complete(name, values, origins, words, recorded)


def _object(values: Mapping[str, Any], key: str, *, within: str = "") -> Mapping[str, Any]:
    """Return the object at a key, of the section ``within``; an empty one where the key is missing.

    Raises:
        ConfigError: when the value is not an object.
    """
    value = values.get(key)
    if value is not None and not isinstance(value, dict):
        raise ConfigError(f"{within}.{key}".lstrip("."), f"{value!r} is not an object")
    return value or {}


def complete(
    name: str,
    values: dict[str, Any],
    origins: dict[str, str],
    words: Sequence[source.Override],
    overrides: tuple[str, ...],
) -> FilledConfig:
    """Complete values that were read.

    Args:
        name: the name of the BaseConfig.
        values: what it says; changed in place.
        origins: dotted path → where its value comes from; changed in place.
        words: the overrides to apply.
        overrides: all words of the command line, which the result records.
    """
    entries = claf.translate(values, origins)
    if entries:
        values["tasks"] = _name_entries(entries)
    if "tasks" in values:
        return _fill_tasks(name, values, origins, words, overrides)
    annotations, selected = _complete_sections(values, origins, words, SELECTORS)
    claf.adopt_published_tokenizer(values)
    return FilledConfig(name, values, {**dict.fromkeys(annotations, "default"), **origins}, selected, overrides)


SHARED_SECTIONS = ("token", "seed_num", "runtime", "plugins")
"""Sections that several tasks share."""

SECTIONS = (
    "data_reader", "iterator", "mix", "token", "model", "trainer", "optimizer", "sampler", "objectives", "seed_num",
    "runtime", "plugins", "tasks",
)  # fmt: skip
"""All sections; a task must not have the name of one."""

ENCODER_FIELDS = ("pretrained_model_name", "revision", "architecture", *PRUNING_FIELDS)
"""Fields of the model block that several tasks share."""


PEFT = "model.peft.name"
"""The selector of the part of the encoder that is trained, which several tasks share."""


def _fill_tasks(
    name: str,
    values: dict[str, Any],
    origins: dict[str, str],
    words: Sequence[source.Override],
    overrides: tuple[str, ...],
) -> FilledConfig:
    """Complete what several tasks share, and each task as an experiment of its own."""
    entries = values.pop("tasks")
    if not isinstance(entries, dict) or not entries:
        raise ConfigError("tasks", "names no task", hint="write {NAME: {base_config: 'glue/rte_bert'}}")
    read = {task: _read_entry(task, entry, origins) for task, entry in entries.items()}
    shared_words, task_words = _route_words(values, read, words)
    annotations, selected = _complete_sections(values, origins, shared_words, SHARED_SELECTORS)
    claf.adopt_published_tokenizer(values)
    encoder = _object(_object(values, "model"), selected["model.name"])
    tasks_filled = {}
    for task, (task_values, task_origins) in read.items():
        task_values |= {key: values[key] for key in SHARED_SECTIONS}
        with error_prefix(f"tasks.{task}"):
            _object(task_values, "trainer")
            named = [word.text for word in task_words[task] if _selector_path(word, SELECTORS) == "model.name"]
            model_name = str([_object(task_values, "model").get("name", "encoder"), *named][-1])
            given = _object(_object(task_values, "model"), model_name)
            for key in ENCODER_FIELDS:
                if key in encoder or key in given:
                    source.set_path(task_values, f"model.{model_name}.{key}", encoder.get(key))
            _share_adapter(task_values, _object(values, "model").get("peft"))
            source.set_path(task_values, "trainer.log_dir", f"{values['trainer']['log_dir']}/{task}")
            tasks_filled[task] = complete(f"{name}:{task}", task_values, task_origins, task_words[task], ())
            if tasks_filled[task].values["model"].get("peft") != _object(values, "model").get("peft"):
                raise ConfigError("model.peft", "can only be set for the whole run", hint="use --model.peft.name")
    values["tasks"] = {
        task: {key: value for key, value in filled.values.items() if key not in SHARED_SECTIONS}
        for task, filled in tasks_filled.items()
    }
    origins = {**dict.fromkeys(annotations, "default"), **origins}
    for task, filled in tasks_filled.items():
        origins |= {f"tasks.{task}.{path}": origin for path, origin in filled.origins.items()}
    return FilledConfig(name, values, origins, selected, overrides, tasks_filled)


def _share_adapter(task_values: dict[str, Any], peft: Any) -> None:
    """Give a task the adapter of the run: the tasks train the same part of the encoder."""
    if peft is not None:
        source.set_path(task_values, "model.peft", json.loads(json.dumps(peft)))
    elif isinstance(task_values.get("model"), dict) and task_values["model"].pop("peft", None) is not None:
        logger.warning("model.peft of a task is not used: several tasks share the encoder; set model.peft of the run")


@contextmanager
def error_prefix(path: str) -> Iterator[None]:
    """Prefix the path of every ``ConfigError`` of the block with ``path``."""
    try:
        yield
    except ConfigError as error:
        inner = f"{path}.{error.path}" if error.path else path
        raise ConfigError(inner, error.problem, origin=error.origin, hint=error.hint) from None


def _read_entry(task: str, entry: Any, origins: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values and origins of an entry of section `tasks`, merged into the BaseConfig that it names."""
    path = f"tasks.{task}"
    if not isinstance(entry, dict):
        raise ConfigError(path, "is not an object", origin=origins.get(path))
    if not re.fullmatch(r"\w[\w-]*", task) or task in SECTIONS:
        hint = "use letters, digits, - and _, but not the name of a section: the name is used for folders"
        raise ConfigError(path, "is not a valid name for a task", hint=hint)
    for key in SHARED_SECTIONS:
        if key in entry:
            origin = origins.get(f"{path}.{key}")
            raise ConfigError(f"{path}.{key}", "can only be set for the whole run", origin=origin, hint=f"set {key}")
    own_values = {key: value for key, value in entry.items() if key != "base_config"}
    own_origins = {
        key.removeprefix(f"{path}."): origin for key, origin in origins.items() if key.startswith(f"{path}.")
    }
    if "base_config" not in entry:
        return own_values, own_origins
    with error_prefix(path):
        values, config_origins = source.read_config(source.find_config(str(entry["base_config"])))
    if "tasks" in values:
        raise ConfigError(f"{path}.base_config", "has several tasks itself", origin=origins.get(path))
    return source.deep_merge(values, own_values), {**config_origins, **own_origins}


def _route_words(
    values: Mapping[str, Any],
    read: Mapping[str, tuple[dict[str, Any], dict[str, str]]],
    words: Sequence[source.Override],
) -> tuple[list[source.Override], dict[str, list[source.Override]]]:
    """Return the overrides of what the tasks share, and those of each task.

    ``--rte.batch_size`` and ``--tasks.rte.batch_size`` set a field of task rte. A field that the tasks do not share,
    and one that begins with ``tasks.``, is set for every task that has it.
    """
    # Which fields there are depends on what is selected, so drafts are completed first to learn their fields.
    draft = json.loads(json.dumps(values))
    selecting = [word for word in words if _selector_path(word, SHARED_SELECTORS)]
    shared_fields = _complete_sections(draft, {}, selecting, SHARED_SELECTORS)[0]
    task_fields = {}
    for task, (task_values, _) in read.items():
        with error_prefix(f"tasks.{task}"):
            task_draft = json.loads(json.dumps(task_values))
            task_fields[task] = list(_complete_sections(task_draft, {}, [], SELECTORS)[0])
    shared_words: list[source.Override] = []
    every_task: dict[str, list[source.Override]] = {task: [] for task in read}
    one_task: dict[str, list[source.Override]] = {task: [] for task in read}
    for word in words:
        key = word.key.removeprefix("tasks.")
        first, _, rest = key.partition(".")
        if first in read and rest:
            one_task[first].append(_check_task_word(replace(word, key=rest), task_fields[first], word.key))
        elif key == word.key and (word in selecting or source.matching_paths(word, shared_fields)):
            shared_words.append(word)
        else:
            inner = replace(word, key=key)
            matching = [task for task, paths in task_fields.items() if source.matching_paths(inner, paths)]
            if not matching:
                all_paths = [f"tasks.{task}.{path}" for task, paths in task_fields.items() for path in paths]
                source.resolve_path(word, [*shared_fields, *all_paths])  # raises, with the nearest names
            for task in matching:
                every_task[task].append(_check_task_word(inner, task_fields[task], word.key))
    # What is set for one task takes precedence over what is set for all.
    return shared_words, {task: [*task_words, *one_task[task]] for task, task_words in every_task.items()}


def _check_task_word(word: source.Override, paths: Sequence[str], typed: str) -> source.Override:
    """Return an override of one task; refuse it where the tasks share the field."""
    for path in source.matching_paths(word, paths):
        field = path.rsplit(".", 1)[-1]
        if (
            path.startswith("model.peft")
            or path.split(".")[0] in SHARED_SECTIONS
            or field in (*ENCODER_FIELDS, "log_dir")
        ):
            problem = "can only be set for the whole run"
            option = field if not path.startswith("model.peft") else PEFT if path == "model.peft" else path
            raise ConfigError(typed, problem, origin=word.channel, hint=f"use --{option}")
    return word


def _selector_path(word: source.Override, selectors: Sequence[Selector]) -> str | None:
    """Return the path of the selector that an override sets; ``None`` where it sets another field."""
    paths = [selector.path for selector in selectors]
    matches = [path for path in paths if path == word.key or path.endswith(f".{word.key}")]
    return matches[0] if len(matches) == 1 and word.text is not None and word.key != "name" else None


def _complete_sections(
    values: dict[str, Any], origins: dict[str, str], words: Sequence[source.Override], selectors: Sequence[Selector]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Apply overrides and defaults in place; return the annotation of each field, and the selected names."""
    # Selectors come first: they decide which other fields exist.
    rest = []
    for word in words:
        path = _selector_path(word, selectors)
        if path:
            source.set_path(values, path, word.text)
            origins[path] = word.origin
        else:
            rest.append(word)
    selected = {selector.path: _selection(values, selector, origins) for selector in selectors}
    kind = experiment_type(selected)
    annotations = dict(iter_fields(kind))
    for word in rest:
        target = source.resolve_path(word, annotations)
        text = "true" if word.text is None else word.text
        value = parse_value(text, annotations[target]) if word.value is source.TEXT else word.value
        source.set_path(values, target, value)
        origins[target] = word.origin
        for selector in selectors:  # one inside a section that is set as a whole is read too late
            if selector.path.startswith(f"{target}.") and value is not None:
                name = value if isinstance(value, str) else _selection(values, selector, origins)
                if name != selected[selector.path]:
                    hint = f"set its fields one by one, as with --{selector.path} {name}"
                    raise ConfigError(target, "cannot be set as a whole", origin=word.origin, hint=hint)
    _drop_unselected(values, selected, selectors)
    if selected.get(PEFT) == NO_ADAPTER and isinstance(values.get("model"), dict):
        _object(values["model"], "peft", within="model")
        values["model"].pop("peft", None)  # as if it were left out, in digests as well
    _add_defaults(values, kind)
    return annotations, selected


def _name_entries(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return entries of section `tasks` by the names of their tasks."""
    named: dict[str, Any] = {}
    for entry in entries:
        config = entry.get("base_config")
        values = source.read_config(source.find_config(config))[0] if config else entry
        if "tasks" in values:
            raise ConfigError("tasks", f"{config} has several tasks itself")
        reader = values.get("data_reader")
        dataset = str(reader.get("dataset", "")) if isinstance(reader, dict) else ""
        name = tasks.get(dataset).name if dataset in tasks.names() else dataset
        if name in named:
            hint = "name the entries of section tasks yourself"
            raise ConfigError("tasks", f"task {name!r} is duplicated", hint=hint)
        named[name] = entry
    return named


def diff(first: FilledConfig, second: FilledConfig) -> list[tuple[str, Any, Any]]:
    """Return (path, first value, second value) of every field in which two filled configs differ; ``None`` where a
    value is missing."""
    before, after = dict(source.iter_leaves(first.values)), dict(source.iter_leaves(second.values))
    paths = sorted(before.keys() | after.keys())
    return [(path, before.get(path), after.get(path)) for path in paths if before.get(path) != after.get(path)]


def _selection(values: Mapping[str, Any], selector: Selector, origins: Mapping[str, str]) -> str:
    value: Any = values
    for key in selector.path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    chosen = selector.default if value is None else value
    origin = origins.get(selector.path)
    if chosen == "":
        raise ConfigError(selector.path, "is missing", hint="it names the task; `claf2 tasks list` prints all names")
    if not isinstance(chosen, str):
        raise ConfigError(selector.path, f"{chosen!r} is not a name", origin=origin)
    try:
        selector.registry.get(chosen)
    except RegistryError as error:
        raise ConfigError(selector.path, str(error), origin=origin) from None
    return chosen


def _drop_unselected(values: dict[str, Any], selected: Mapping[str, str], selectors: Sequence[Selector]) -> None:
    """Remove the blocks of names that are not selected, with a warning for each."""
    for selector in selectors:
        *parents, last = selector.path.split(".")
        section: Any = values
        for key in parents:
            section = section.get(key) if isinstance(section, dict) else None
        if isinstance(section, dict):
            path = ".".join(parents)
            kept = {name for other, name in selected.items() if other.rsplit(".", 1)[0] == path} | {*parents, last}
            for name in [key for key in section if key in selector.registry.names() and key not in kept]:
                del section[name]
                logger.warning("%s.%s is not used: %s is %r", path, name, selector.path, selected[selector.path])


def _add_defaults(values: dict[str, Any], kind: type[BaseModel]) -> None:
    """Add the default of each field that is not given, in place. ``null`` stays where a section may be left out."""
    for name, field_info in kind.model_fields.items():
        inner = section_of(field_info.annotation)
        left_out = values.get(name, field_info.default) is None and type(None) in union_members(field_info.annotation)
        if inner is None or left_out:
            extra = field_info.json_schema_extra
            written = not field_info.is_required() and not (isinstance(extra, dict) and extra.get("written") is False)
            if name not in values and written:
                values[name] = to_jsonable_python(field_info.get_default(call_default_factory=True))
        else:
            values[name] = {} if values.get(name) is None else values[name]
            if isinstance(values[name], dict):
                _add_defaults(values[name], inner)
