"""Variants: the third axis of a bench. Each is the recipe with some fields changed, an export of it, or both.

A file of variants is a JSON object: name → fields and their values, and under ``export`` the arguments of an export.
The variant ``full`` is the recipe itself. It always comes first, and the others are compared with it. A list as the
value of a field that takes no list makes a grid: a variant of each value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

from claf2 import config
from claf2.benchmarking.summary import FULL
from claf2.config.source import Override
from claf2.errors import ConfigError, RunError
from claf2.runtime.files import read_json

__all__ = ["BEFORE_EXPORT", "Variant", "expand_variants", "grid_name", "read_variants", "takes_list"]

EXPORT = "export"
BEFORE_EXPORT = " (before export)"
"""The end of the name of a run that is in a bench only because a variant exports it."""
NAME = re.compile(r"[\w.+-][\w.+ -]{0,39}")
"""The name of an entry, which is a part of the name of a folder."""
LARGEST_GRID = 100


@dataclass(frozen=True)
class Variant:
    """One variant; that without a name is the recipe itself."""

    name: str = ""
    overrides: tuple[str, ...] = ()
    """What it changes, as words of the command line."""
    export: tuple[str, ...] | None = None
    """The arguments of the export, as words of the command line; ``None``: the run itself is measured."""


def read_variants(path: Path) -> dict[str, Any]:
    """Read a file of variants.

    Raises:
        RunError: if it is no JSON object.
    """
    if not path.is_file():
        raise RunError(f"{path}: there is no such file; give a JSON file of variants")
    entries = read_json(path)
    return dict(entries)


IsValue: TypeAlias = Callable[[Mapping[str, Any], str, Any], bool]
"""Whether a list is a value of a field of a variant with these other fields, rather than a grid of values."""


def expand_variants(entries: Mapping[str, Any], is_value: IsValue) -> list[Variant]:
    """Return the variants of a file, ``full`` first, those of a grid one after the other.

    Args:
        entries: name → fields.
        is_value: says which lists are values.

    Raises:
        RunError: if a name cannot be that of a folder, an entry is not an object, or ``full`` changes something.
    """
    variants = [Variant()]
    for name, fields in entries.items():
        if not NAME.fullmatch(name):
            raise RunError(f"variant {name!r:.60}: a name has up to 40 letters, digits, spaces and . + - _; rename it")
        if not isinstance(fields, Mapping) or not isinstance(fields.get(EXPORT, {}), Mapping):
            raise RunError(f'variant {name!r}: expected an object such as {{"learning_rate": 1e-5, "export": {{}}}}')
        if name == FULL:
            if fields:
                raise RunError("variant 'full' is the recipe itself: give what all variants share on the command line")
            continue
        exported = fields.get(EXPORT)
        words = None if exported is None else _to_words(exported)
        own = {key: value for key, value in fields.items() if key != EXPORT}
        single = {key: value for key, value in own.items() if not isinstance(value, list)}
        grid = {key: value for key, value in own.items() if key not in single and not is_value(single, key, value)}
        fixed = {key: value for key, value in own.items() if key not in grid}
        points = list(product(*grid.values()))
        if not 0 < len(points) <= LARGEST_GRID:
            raise RunError(f"variant {name!r}: a grid of {len(points)} variants; give 1 to {LARGEST_GRID}")
        for point in points:
            chosen = dict(zip(grid, point, strict=True))
            label = ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in chosen.items())
            full_name = f"{name}/{label}" if grid else name
            variants.append(Variant(full_name, _to_words({**fixed, **chosen}), words))
    _check_distinct(variants)
    return variants


def _check_distinct(variants: Sequence[Variant]) -> None:
    seen: dict[tuple[object, object], str] = {}
    for variant in variants:
        other = seen.setdefault((variant.overrides, variant.export), variant.name)
        if other != variant.name:
            raise RunError(f"variants {other or FULL!r} and {variant.name!r} are the same: remove one of them")


def _to_words(fields: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(word for key, value in fields.items() for word in Override.of_value(key, value).words())


def grid_name(variant: str) -> str:
    """Return the name of the grid that a variant belongs to; empty if it belongs to none, as the run that a member
    exports."""
    name, slash, _ = variant.partition("/")
    return name if slash and not variant.endswith(BEFORE_EXPORT) else ""


def takes_list(configs: Sequence[str], recipe: str, words: Sequence[str], plugins: Sequence[str]) -> IsValue:
    """Return a function that says whether a field of any BaseConfig of a suite takes a list as its value.

    Args:
        configs: the names of the BaseConfigs, without the recipe.
        recipe: the suffix of their names.
        words: the overrides of all variants.
        plugins: files or modules to load before.
    """

    def is_value(fields: Mapping[str, Any], key: str, value: Any) -> bool:
        own = _to_words({**fields, key: value})
        for name in configs:
            try:
                config.load(f"{name}_{recipe}", [*words, *own], plugins)
            except ConfigError:
                continue
            return True
        return False

    return is_value
