"""Jsonnet or JSON, and the command line → one dictionary, with where each value came from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from claf2.errors import ConfigError, nearest
from claf2.task import shipped

__all__ = ["Override", "find", "fitting", "merge", "names", "parse_arguments", "put", "read", "resolve"]

SUFFIXES = (".json", ".jsonnet")

ALIASES = {
    "per_device_train_batch_size": "iterator.batch_size",
    "per_device_eval_batch_size": "iterator.eval_batch_size",
    "num_train_epochs": "trainer.num_epochs",
    "max_steps": "trainer.num_steps",
    "model_name_or_path": "pretrained_model_name",
    "output_dir": "trainer.log_dir",
    "warmup_ratio": "warmup_proportion",
    "seed": "seed_num",
    "eval_steps": "trainer.eval_and_save_step_count",
    "max_grad_norm": "trainer.grad_max_norm",
    "train_file": "data_reader.train_file_path",
    "validation_file": "data_reader.valid_file_path",
}
"""What users of `transformers` call a field."""


@dataclass(frozen=True)
class Override:
    """One value from the command line: the key as it was typed, and the text; ``None``: a flag without a value."""

    key: str
    text: str | None

    @property
    def origin(self) -> str:
        """Where the value came from, for messages."""
        return f"command line --{self.key}"


def parse_arguments(arguments: Sequence[str]) -> list[Override]:
    """Read ``--a.b V``, ``--a.b=V``, ``a.b=V`` and ``--flag`` (true).

    Raises:
        ConfigError: for a word that is none of these.
    """
    overrides: list[Override] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        key, equals, value = word.removeprefix("--").partition("=")
        if equals and key:
            overrides.append(Override(key, value))
        elif not word.startswith("--"):
            raise ConfigError(word, "is no option", origin="command line", hint=f"write --{key} VALUE or {key}=VALUE")
        elif words and not words[0].startswith("--"):
            overrides.append(Override(key, words.pop(0)))
        else:
            overrides.append(Override(key, None))
    return overrides


def fitting(override: Override, paths: Iterable[str]) -> list[str]:
    """Return the full paths that an override's key, a full path or the end of one, may stand for."""
    known = sorted(paths)
    key = ALIASES.get(override.key, override.key)
    return [key] if key in known else [path for path in known if path.endswith(f".{key}")]


def resolve(override: Override, paths: Iterable[str]) -> str:
    """Return the full path that an override's key stands for.

    Raises:
        ConfigError: when it fits none, or more than one.
    """
    known = sorted(paths)
    fits = fitting(override, known)
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise ConfigError(override.key, "fits more than one field", origin="command line", hint=" or ".join(fits))
    key = ALIASES.get(override.key, override.key)
    raise ConfigError(override.key, "no such field", origin="command line", hint=suggest(key, known))


def suggest(key: str, known: Sequence[str]) -> str:
    """Return a hint for an unknown path: the same last key elsewhere first, else what is spelt alike."""
    last = key.rsplit(".", 1)[-1]
    elsewhere = [path for path in known if path.rsplit(".", 1)[-1] == last]
    if elsewhere:
        return "did you mean " + " or ".join(elsewhere) + "?"
    hint = nearest(key, known)
    if hint.startswith("did you mean"):
        return hint
    ends = {path.rsplit(".", 1)[-1]: path for path in known}
    close = re.findall(r"'([^']+)'", nearest(last, ends)) if nearest(last, ends).startswith("did") else []
    return "did you mean " + " or ".join(ends[end] for end in close) + "?" if close else hint


def put(values: dict[str, Any], path: str, value: Any) -> None:
    """Set the value at a dotted path, making the objects on the way."""
    *way, last = path.split(".")
    for key in way:
        if not isinstance(values.get(key), dict):
            values[key] = {}
        values = values[key]
    values[last] = value


def merge(values: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``values`` with ``more`` laid over it, objects within objects."""
    merged = dict(values)
    for key, value in more.items():
        here = merged.get(key)
        merged[key] = merge(here, value) if isinstance(here, dict) and isinstance(value, dict) else value
    return merged


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted path, value) of everything that is no object, and of empty objects."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def folders() -> list[Path]:
    """Return where BaseConfigs are found by name: `base_config/` in the working directory, then the shipped ones."""
    return list(dict.fromkeys([Path("base_config").resolve(), shipped("base_config").resolve()]))


def names() -> list[str]:
    """Return the name of every BaseConfig that can be found."""
    found = set()
    for folder in folders():
        for path in folder.rglob("*"):
            if path.suffix in SUFFIXES and not any(part.startswith("_") for part in path.relative_to(folder).parts):
                found.add(path.relative_to(folder).with_suffix("").as_posix())
    return sorted(found)


FORMER = {"jlue": "jglue"}
"""Other names of folders."""


def find(name: str) -> Path:
    """Return the file of a BaseConfig, given by name (``klue/korquad_bert``) or path.

    Raises:
        ConfigError: when there is none.
    """
    if name.endswith(SUFFIXES) and Path(name).is_file():
        return Path(name)
    first, _, rest = name.partition("/")
    name = f"{FORMER[first]}/{rest}" if first in FORMER else name
    for folder in folders():
        for suffix in SUFFIXES:
            path = folder / (name.removesuffix(".json").removesuffix(".jsonnet") + suffix)
            if path.is_file():
                return path
    raise ConfigError("base_config", f"no BaseConfig {name!r}", hint=nearest(name, names()))


def read(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Read a BaseConfig.

    Returns:
        Its values, and for each dotted path the ``file:line`` where it was last set.

    Raises:
        ConfigError: for what is not JSON, or Jsonnet beyond ``import``, ``+`` and ``+:``.
    """
    origins = dict(_Walker(path).object(""))
    values = _evaluate(path) if path.suffix == ".jsonnet" else _parse(path)
    if not isinstance(values, dict):
        raise ConfigError("base_config", "a BaseConfig is one object", origin=str(path))
    return values, origins


def _parse(path: Path) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise ConfigError(twice, "stands twice in one object", origin=str(path))
        return dict(pairs)

    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise ConfigError("base_config", f"not JSON: {error.msg}", origin=f"{path}:{error.lineno}") from error


def _evaluate(path: Path) -> Any:
    try:
        import _jsonnet
    except ImportError as error:
        raise ConfigError(
            "base_config", "reading .jsonnet needs the package jsonnet", origin=str(path), hint="pip install jsonnet"
        ) from error
    try:
        return json.loads(_jsonnet.evaluate_file(str(path)))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError("base_config", f"Jsonnet: {reason}", origin=str(path)) from error


TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*|\#[^\n]*|/\*.*?\*/)
      | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
      | (?P<word>[A-Za-z_]\w*)
      | (?P<sign>\+:|[{}\[\],:+()])""",
    re.VERBOSE | re.DOTALL,
)


class _Walker:
    """Walks through a file in the order of evaluation: checks that it holds nothing but objects, lists, plain values,
    ``import``, ``+`` and ``+:``, and finds the line of each value."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tokens = list(self._split(path.read_text(encoding="utf-8-sig")))
        self._next = 0

    def object(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Yield (path, ``file:line``) of everything that the whole file sets."""
        yield from self._sum(prefix)
        if self._peek():
            self._refuse()

    def _split(self, text: str) -> Iterator[tuple[str, str, int]]:
        position, line = 0, 1
        while position < len(text):
            match = TOKEN.match(text, position)
            if match is None:
                self._refuse(text[position], line)
            if match.lastgroup != "space":
                yield str(match.lastgroup), match.group(), line
            line += match.group().count("\n")
            position = match.end()

    def _sum(self, prefix: str) -> Iterator[tuple[str, str]]:
        yield from self._value(prefix)
        while self._peek() == "+":
            self._take()
            yield from self._value(prefix)

    def _value(self, prefix: str) -> Iterator[tuple[str, str]]:
        kind, text, line = self._take()
        if text == "{":
            yield from self._fields(prefix)
        elif text == "(":
            yield from self._sum(prefix)
            self._take(")")
        elif text == "import":
            inner = self._path.parent / self._take()[1][1:-1]
            if not inner.is_file():
                raise ConfigError("base_config", f"imports {inner.name}, which is not there", origin=self._at(line))
            yield from _Walker(inner).object(prefix)
        elif text == "[":
            while self._peek() != "]":
                yield from ((path, origin) for path, origin in self._sum(prefix) if path == prefix)
                if self._peek() != "]":
                    self._take(",")
            self._take("]")
            yield prefix, self._at(line)
        elif kind in ("string", "number") or text in ("true", "false", "null"):
            yield prefix, self._at(line)
        else:
            self._refuse(text, line)

    def _fields(self, prefix: str) -> Iterator[tuple[str, str]]:
        while self._peek() != "}":
            kind, key, line = self._take()
            if kind not in ("string", "word"):
                self._refuse(key, line)
            path = f"{prefix}.{key.strip(chr(34) + chr(39))}".removeprefix(".")
            sign = self._take()
            if sign[1] not in (":", "+:"):
                self._refuse(sign[1], sign[2])
            yield path, self._at(line)
            yield from self._sum(path)
            if self._peek() != "}":
                self._take(",")
        self._take("}")

    def _peek(self) -> str:
        return self._tokens[self._next][1] if self._next < len(self._tokens) else ""

    def _take(self, wanted: str | None = None) -> tuple[str, str, int]:
        if self._next >= len(self._tokens) or (wanted is not None and self._peek() != wanted):
            self._refuse()
        self._next += 1
        return self._tokens[self._next - 1]

    def _at(self, line: int) -> str:
        return f"{self._path}:{line}"

    def _refuse(self, text: str | None = None, line: int | None = None) -> NoReturn:
        if text is None:
            _, text, line = self._tokens[min(self._next, len(self._tokens) - 1)] if self._tokens else ("", "", 1)
        raise ConfigError(
            "base_config", f"{text!r} has no place here", origin=self._at(line or 1),
            hint="a BaseConfig is made of objects, lists, plain values, import, + and +: only",
        )  # fmt: skip
