"""The formats of a BaseConfig file: JSON, YAML and Jsonnet → its values, each tagged with the file that sets it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from claf2.errors import ConfigError, first_line

__all__ = ["SUFFIXES", "origins", "read_tagged", "untag"]

SUFFIXES = (".json", ".jsonnet", ".yaml", ".yml")
"""The suffixes of BaseConfigs."""


def read_tagged(path: Path) -> Any:
    """Return the values of a file, each tagged with the file that sets it.

    Raises:
        ConfigError: when the file is not valid JSON, YAML or Jsonnet, or its values are not JSON values.
    """
    readers = {".json": _parse_json, ".yaml": _parse_yaml, ".yml": _parse_yaml}
    try:
        if path.suffix in readers:
            return _tag(readers[path.suffix](path), str(path))
        return _evaluate_jsonnet(path)
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


MERGE = "tag:yaml.org,2002:merge"
"""The tag of ``<<``, which takes over the pairs of other objects."""


def _parse_yaml(path: Path) -> Any:
    """Parse YAML whose plain values are those of JSON, as in YAML 1.2: ``5e-5`` is a number, and ``no`` is text."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
            # Before merge keys are replaced by the pairs of other objects, which the object's own ones override.
            node = super().compose_mapping_node(anchor)
            keys = [key for key, _ in node.value if key.tag != MERGE]
            _unique([(self.construct_object(key, deep=True), None) for key in keys], path)
            return node

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
TAG = """
local tag(value, origin) =
  if !std.isObject(value) then {{ [{key}]: [value, origin] }}
  else if std.objectHas(value, {key}) then value
  else {{ [name]: tag(value[name], origin) for name in std.objectFields(value) }};
tag((
{text}
), {origin})
"""
"""A Jsonnet file with an origin for each value that has none; see ``_tag``."""
ITSELF = "claf2:itself"
"""The name by which a file imports itself with tagged values."""
BOTH = '[import "{name}", (\n{text}\n)]'
"""A Jsonnet file with tagged values, and its values."""
TAGGED = re.compile(r"claf2:tagged/(\d+)/")
"""The start of the paths of files whose values are tagged, with the number of the files that import them."""


class _Imports:
    """The files that a Jsonnet file imports. Files with tagged values import such files as well."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.errors: list[ConfigError] = []
        """What was wrong with imports. Jsonnet turns every exception into a RuntimeError of its own."""
        self._chains: list[tuple[Path, ...]] = []
        """Files that import each other, the last one with tagged values."""

    def __call__(self, folder: str, name: str) -> tuple[str, bytes]:
        """Return the path and the text of an import, as Jsonnet asks for them."""
        if name == ITSELF:
            return self._tag(self.path, ())
        tagged = TAGGED.match(folder)
        chain = self._chains[int(tagged[1])] if tagged else (self.path,)
        imported = Path(os.path.normpath(Path(folder[tagged.end() :] if tagged else folder) / name))
        problem = None
        if not imported.is_file():
            problem = f"imports {name}, which does not exist"
        elif tagged and imported.resolve() in [path.resolve() for path in chain]:
            problem = f"{name} imports itself"
        if problem:
            self.errors.append(ConfigError("base_config", problem, origin=str(chain[-1])))
            raise self.errors[-1]
        return self._tag(imported, chain) if tagged else (str(imported), _read(imported))

    def _tag(self, path: Path, chain: tuple[Path, ...]) -> tuple[str, bytes]:
        self._chains.append((*chain, path))
        text = TAG.format(key=json.dumps(ORIGIN), text=_read(path).decode(), origin=json.dumps(str(path)))
        return f"claf2:tagged/{len(self._chains) - 1}/{path}", text.encode()


def _read(path: Path) -> bytes:
    return path.read_text(encoding="utf-8-sig").encode()


def _evaluate_jsonnet(path: Path) -> Any:
    """Return the values of a Jsonnet file, each tagged with the file that sets it.

    The file is evaluated as it is, and with tagged values of the imported files, which tell the origins. Where it
    computes with imported values, the second evaluation fails or differs: such values are set by the file itself.
    """
    try:
        import _jsonnet
    except ImportError as error:
        raise ConfigError(
            "base_config", "reading .jsonnet files needs the package jsonnet", origin=str(path),
            hint="pip install jsonnet",
        ) from error  # fmt: skip
    text, imports = _read(path).decode(), _Imports(path)
    try:
        # Both at once, since starting Jsonnet and parsing files take most of the time.
        both = BOTH.format(name=ITSELF, text=text)
        tagged, values = json.loads(_jsonnet.evaluate_snippet(str(path), both, import_callback=imports))
        return _take_origins(values, tagged, str(path))
    except (RuntimeError, ValueError):
        pass  # the file computes with tagged values, or is wrong itself
    try:
        return _tag(json.loads(_jsonnet.evaluate_snippet(str(path), text, import_callback=imports)), str(path))
    except RuntimeError as error:
        if imports.errors:
            raise imports.errors[0] from None
        hint = "a BaseConfig consists of objects, lists, plain values, import, + and +:"
        if "max stack frames" in first_line(error):
            hint = "a value or a function refers to itself without end"
        raise ConfigError("base_config", f"Jsonnet: {first_line(error)}", origin=str(path), hint=hint) from error


def _take_origins(values: Any, tagged: Any, origin: str) -> Any:
    """Return values with the origins of equal tagged ones, and another origin for the rest."""
    if not isinstance(tagged, dict):
        return _tag(values, origin)
    if isinstance(values, dict) and ORIGIN not in tagged:
        return {key: _take_origins(value, tagged.get(key), origin) for key, value in values.items()}
    return tagged if untag(tagged) == values else _tag(values, origin)


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
