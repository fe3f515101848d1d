"""The formats of a BaseConfig file: JSON, YAML and Jsonnet → its values, each tagged with the file that sets it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

from claf2.errors import ConfigError, first_line

__all__ = ["SUFFIXES", "origins", "read_tagged", "untag"]

SUFFIXES = (".json", ".jsonnet", ".yaml", ".yml")
"""The suffixes of BaseConfigs."""


def read_tagged(path: Path) -> Any:
    """Return the values of a file, each tagged with the file that sets it.

    Raises:
        ConfigError: when the file is not valid JSON, YAML or Jsonnet, or its values are no JSON values.
    """
    readers = {".json": _parse_json, ".yaml": _parse_yaml, ".yml": _parse_yaml}
    try:
        if path.suffix in readers:
            return _tag(readers[path.suffix](path), str(path))
        return _evaluate_jsonnet(path, (path.resolve(),))
    except (UnicodeDecodeError, RecursionError) as error:
        problem = "is nested too deeply" if isinstance(error, RecursionError) else f"not in UTF-8: {error.reason}"
        raise ConfigError("base_config", problem, origin=str(path)) from None


def _unique(pairs: list[tuple[Any, Any]], path: Path) -> dict[str, Any]:
    """Return the object of some pairs of key and value."""
    keys = [key if isinstance(key, str) else json.dumps(key) for key, _ in pairs]
    duplicate = next((key for key in keys if keys.count(key) > 1), None)
    if duplicate is not None:
        raise ConfigError(duplicate, "is duplicated in one object", origin=str(path))
    return dict(zip(keys, (value for _, value in pairs), strict=True))


def _parse_json(path: Path) -> Any:
    text = path.read_text(encoding="utf-8-sig")
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _unique(pairs, path))
    except json.JSONDecodeError as error:
        raise ConfigError("base_config", f"not JSON: {error.msg}", origin=f"{path}:{error.lineno}") from error
    except ValueError as error:  # a number of thousands of digits
        raise ConfigError("base_config", f"not JSON: {error}", origin=str(path)) from None


def _parse_yaml(path: Path) -> Any:
    """Parse YAML whose plain values are those of JSON, as in YAML 1.2: ``5e-5`` is a number, and ``no`` is text."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
            _unique([(self.construct_object(key, deep=True), value) for key, value in node.value], path)
            return super().construct_mapping(node, deep)

    Loader.yaml_implicit_resolvers = {}
    resolvers = {"null": r"null|Null|NULL|~|", "bool": r"true|True|TRUE|false|False|FALSE", "merge": "<<"}
    resolvers |= {"int": r"[-+]?(0|[1-9]\d*)", "float": r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?"}
    for tag, pattern in resolvers.items():
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"(?:{pattern})$"), None)
    text = path.read_text(encoding="utf-8-sig")
    try:
        return json.loads(json.dumps(yaml.load(text, Loader)))
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError("base_config", f"not YAML: {error.problem}", origin=f"{path}{line}") from None
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise ConfigError("base_config", f"not YAML with values of JSON: {error}", origin=str(path)) from None


ORIGIN = "\0origin"
"""The key of an object that stands for a plain value and its origin while Jsonnet files are evaluated."""


def _evaluate_jsonnet(path: Path, ancestors: tuple[Path, ...]) -> Any:
    """Return the values of a Jsonnet file, each tagged with the file that sets it.

    Imported files are evaluated and tagged first, and their values are passed on in the place of their text. What is
    not tagged after the evaluation was set by this file itself.

    Args:
        path: the file.
        ancestors: the file itself and the files that import it.
    """
    try:
        import _jsonnet
    except ImportError as error:
        raise ConfigError(
            "base_config", "reading .jsonnet files needs the package jsonnet", origin=str(path),
            hint="pip install jsonnet",
        ) from error  # fmt: skip
    errors: list[ConfigError] = []

    def import_file(folder: str, name: str) -> tuple[str, bytes]:
        imported = Path(os.path.normpath(Path(folder) / name))
        try:
            if not imported.is_file():
                raise ConfigError("base_config", f"imports {name}, which does not exist", origin=str(path))
            if imported.resolve() in ancestors:
                raise ConfigError("base_config", f"{name} imports itself", origin=str(path))
            tagged = _evaluate_jsonnet(imported, (*ancestors, imported.resolve()))
        except ConfigError as error:
            errors.append(error)  # Jsonnet turns every exception into a RuntimeError of its own
            raise
        return str(imported), json.dumps(tagged).encode()

    try:
        text = path.read_text(encoding="utf-8-sig")
        values = json.loads(_jsonnet.evaluate_snippet(str(path), text, import_callback=import_file))
    except RuntimeError as error:
        if errors:
            raise errors[0] from None
        hint = "a BaseConfig consists of objects, lists, plain values, import, + and +:"
        if "max stack frames" in first_line(error):
            hint = "a value or a function refers to itself without end"
        raise ConfigError("base_config", f"Jsonnet: {first_line(error)}", origin=str(path), hint=hint) from error
    return _tag(values, str(path))


def _tag(values: Any, origin: str) -> Any:
    """Return values with an origin for each that has none."""
    if not isinstance(values, dict):
        return {ORIGIN: [values, origin]}
    return values if ORIGIN in values else {key: _tag(value, origin) for key, value in values.items()}


def untag(values: Any) -> Any:
    """Return values without origins."""
    if isinstance(values, list):
        return [untag(value) for value in values]
    if not isinstance(values, dict):
        return values
    return untag(values[ORIGIN][0]) if ORIGIN in values else {key: untag(value) for key, value in values.items()}


def origins(tagged: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """Yield (dotted path, origin) of every value; an object has the origin of its first value."""
    if ORIGIN in tagged:
        yield path, tagged[ORIGIN][1]
        return
    for key, value in tagged.items():
        inner = list(origins(value, f"{path}.{key}" if path else key))
        if path and inner and key == next(iter(tagged)):
            yield path, inner[0][1]
        yield from inner
