"""The sources of a config: BaseConfig files and the command line → values, and the origin of each."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claf2.adapters import adapters
from claf2.config.formats import SUFFIXES, origins, read_tagged, untag
from claf2.errors import ConfigError, nearest
from claf2.task import shipped_dir

__all__ = [
    "TEXT",
    "Override",
    "deep_merge",
    "find_config",
    "is_option",
    "is_override",
    "iter_leaves",
    "list_configs",
    "matching_paths",
    "parse_json",
    "parse_overrides",
    "read_config",
    "resolve_path",
    "set_path",
]

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
    "sequence_max_length": "max_seq_length",
}
"""Names that users of `transformers` and CLaF know → the field."""


OPTIONS = ("base_config", "tasks", "plugin", "sample", "resume", "overwrite", "from_run", "changed")
"""What is said of an experiment besides its fields: options of the command line, and arguments in Python."""

TEXT = object()
"""The value of an override that was given as text."""


@dataclass(frozen=True)
class Override:
    """One field that is set besides the BaseConfig: by words of the command line, or by an argument in Python."""

    key: str
    """The field's path, or a unique suffix of it, as the user wrote it."""
    text: str | None
    """The value as on the command line; ``None`` for a flag without a value."""
    value: Any = TEXT
    """The value itself, where it was given in Python."""

    @classmethod
    def of_value(cls, key: str, value: Any) -> Override:
        """Return the override that sets a field to a value of Python.

        Raises:
            ConfigError: when a BaseConfig cannot hold such a value.
        """
        plain = os.fspath(value) if isinstance(value, os.PathLike) else value
        try:
            text = plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
        except (TypeError, ValueError) as error:
            problem = f"{value!r:.80} cannot be written to a BaseConfig: {error}"
            hint = "use numbers, text, booleans, None, lists and dictionaries"
            raise ConfigError(key, problem, origin="argument", hint=hint) from None
        return cls(key, text, plain if isinstance(plain, str) else json.loads(text))

    @property
    def channel(self) -> str:
        """How the value was given, for messages."""
        return "command line" if self.value is TEXT else "argument"

    @property
    def origin(self) -> str:
        """Where the value came from, for messages."""
        return f"{self.channel} --{self.key}" if self.value is TEXT else f"{self.channel} {self.key}"

    def words(self) -> list[str]:
        """Return the words that set the field on the command line."""
        if self.text is None:
            return [f"--{self.key}"]
        return [f"--{self.key}={self.text}"] if is_option(self.text) else [f"--{self.key}", self.text]


def is_override(origin: str) -> bool:
    """Say whether a value with this origin was given as an override, and not read from a file."""
    return origin.startswith(("command line", "argument"))


def is_option(word: str) -> bool:
    """Say whether a word names a field. A text such as ``-- x`` does not, and is a value."""
    return re.match(r"--[^\s=-]", word) is not None


def parse_overrides(arguments: Sequence[str | Override]) -> list[Override]:
    """Read ``--a.b V``, ``--a.b=V``, ``a.b=V`` and ``--flag`` (true); overrides are returned as they are.

    Raises:
        ConfigError: for any other word.
    """
    overrides: list[Override] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        if isinstance(word, Override):
            overrides.append(word)
            continue
        key, equals, value = word.removeprefix("--").partition("=")
        if equals and key and not key.startswith("-"):
            overrides.append(Override(key, value))
        elif not is_option(word):
            raise ConfigError(word, "is not an option", origin="command line", hint=_option_hint(word))
        elif words and isinstance(words[0], str) and not is_option(words[0]):
            overrides.append(Override(key, str(words.pop(0))))
        else:
            overrides.append(Override(key, None))
    return overrides


def _option_hint(word: str) -> str:
    """Return what a word may have been meant for that is neither an option nor a value."""
    if Path(word).suffix in FOUND or word in list_configs():
        return f"a BaseConfig is named by --base_config {word}, and several by --tasks A,B with commas"
    key = word.lstrip("-").partition("=")[0]
    if not re.fullmatch(r"[A-Za-z_][\w.]*", key):
        return "write --FIELD VALUE or FIELD=VALUE, and quotation marks around a value with spaces"
    return f"write --{key} VALUE or {key}=VALUE"


NUMBER = re.compile(r"(?<![\w.+-])[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?(?![\w.+-])")
"""A number as people write it: also ``.5``, ``5.`` and ``+5``, which JSON does not know."""


def parse_json(text: str) -> Any:
    """Parse a value of JSON. Outside of texts, numbers may be written as people write them.

    Raises:
        ValueError: when it is not JSON.
    """

    def plain(match: re.Match[str]) -> str:
        whole, point, fraction = match[1].partition(".")
        sign = "-" if match[0].startswith("-") else ""
        return f"{sign}{int(whole or 0)}{point}{fraction or point.replace('.', '0')}{match[2] or ''}"

    try:
        return json.loads(text if '"' in text else NUMBER.sub(plain, text))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def matching_paths(override: Override, paths: Iterable[str]) -> list[str]:
    """Return the full paths that an override's key may mean: the key is a full path, or the end of one."""
    known = sorted(paths)
    key = ALIASES.get(override.key, override.key)
    return [key] if key in known else [path for path in known if path.endswith(f".{key}")]


def resolve_path(override: Override, paths: Iterable[str]) -> str:
    """Return the full path that an override's key means.

    Raises:
        ConfigError: when it matches none, or more than one.
    """
    known = sorted(paths)
    matches = matching_paths(override, known)
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ConfigError(override.key, "is ambiguous", origin=override.channel, hint="use " + " or ".join(matches))
    key = ALIASES.get(override.key, override.key)
    fields = [path for path in known if f".{path}".partition(f".{key}.")[1]]
    if fields:
        hint = f"set its fields one by one, as with --{fields[0]} VALUE"
        raise ConfigError(override.key, "cannot be set as a whole", origin=override.channel, hint=hint)
    raise ConfigError(override.key, "no such field", origin=override.channel, hint=suggest(key, known))


def suggest(key: str, known: Sequence[str]) -> str:
    """Return a hint for an unknown path: the selector of an adapter whose field it is, paths with the same last key, or
    those with a similar spelling."""
    method, dot, _ = key.removeprefix("model.").removeprefix("peft.").partition(".")
    if dot and method in adapters.names() and not any(path.startswith(f"model.peft.{method}.") for path in known):
        return f"add --model.peft.name {method}"
    last = key.rsplit(".", 1)[-1]
    elsewhere = [path for path in known if path.rsplit(".", 1)[-1] == last]
    if elsewhere:
        return "did you mean " + " or ".join(elsewhere) + "?"
    option = nearest(key, OPTIONS, limit=1)
    if option.startswith("did you mean"):
        return option.replace("did you mean", "did you mean the option")
    hint = nearest(key, known)
    if hint.startswith("did you mean"):
        return hint
    ends = {path.rsplit(".", 1)[-1]: path for path in known}
    close = re.findall(r"'([^']+)'", nearest(last, ends)) if nearest(last, ends).startswith("did") else []
    return "did you mean " + " or ".join(ends[end] for end in close) + "?" if close else hint


def set_path(values: dict[str, Any], path: str, value: Any) -> None:
    """Set the value at a dotted path, creating the objects on the way."""
    *parents, last = path.split(".")
    for key in parents:
        if not isinstance(values.get(key), dict):
            values[key] = {}
        values = values[key]
    values[last] = value


def deep_merge(values: Mapping[str, Any], updates: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``values`` updated with ``updates``; objects are merged, other values replaced."""
    merged = dict(values)
    for key, value in updates.items():
        current = merged.get(key)
        merged[key] = deep_merge(current, value) if isinstance(current, dict) and isinstance(value, dict) else value
    return merged


def iter_leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted path, value) of everything that is not an object, and of empty objects."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from iter_leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def config_dirs() -> list[Path]:
    """Return the folders of BaseConfigs: `base_config/` in the working directory, then the shipped ones."""
    return list(dict.fromkeys([Path("base_config").resolve(), shipped_dir("base_config").resolve()]))


def list_configs() -> list[str]:
    """Return the name of every BaseConfig."""
    names = set()
    for folder in config_dirs():
        for path in folder.rglob("*"):
            if path.suffix in SUFFIXES and not any(part.startswith("_") for part in path.relative_to(folder).parts):
                names.add(path.relative_to(folder).with_suffix("").as_posix())
    return sorted(names)


FOUND = (*SUFFIXES, ".libsonnet")
"""The suffixes of files that can be named. A `.libsonnet` file is not listed: it is a base for others, and need not be
complete."""

FOLDER_ALIASES = {"jlue": "jglue"}
"""Other names of folders."""


def find_config(name: str) -> Path:
    """Return the file of a BaseConfig, given by name (``klue/korquad_bert``) or path.

    Raises:
        ConfigError: when there is none.
    """
    given = Path(name).expanduser()
    if given.suffix in FOUND and given.is_file():
        return given
    first, _, rest = name.partition("/")
    name = f"{FOLDER_ALIASES[first]}/{rest}" if first in FOLDER_ALIASES else name
    for folder in config_dirs():
        for suffix in FOUND:
            path = folder / (name.removesuffix(Path(name).suffix if name.endswith(FOUND) else "") + suffix)
            if path.is_file():
                return path
    known = list_configs()
    # `rte` means one of glue/rte_bert, glue/rte_roberta …: what follows the slash begins like it.
    same_start = [config for config in known if config.rpartition("/")[2].split("_")[0] == name.rpartition("/")[2]]
    hint = f"did you mean {' or '.join(map(repr, same_start[:4]))}?" if same_start else nearest(name, known)
    raise ConfigError("base_config", f"no BaseConfig {name!r}", hint=hint)


def read_config(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Read a BaseConfig.

    Returns:
        Its values, and for each dotted path the file that sets the value.

    Raises:
        ConfigError: when the file is not valid JSON, YAML or Jsonnet, or is not an object.
    """
    tagged = read_tagged(path)
    values = untag(tagged)
    if not isinstance(values, dict):
        raise ConfigError("base_config", "a BaseConfig must be a single JSON object", origin=str(path))
    return values, dict(origins(tagged, ""))
