"""The summary of a bench: what was measured of which models, in the form that reports are made from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

__all__ = [
    "Cell",
    "Column",
    "Comparison",
    "Failure",
    "Published",
    "Row",
    "Setting",
    "Summary",
    "Versus",
    "best",
    "comparisons",
    "number",
    "read",
    "series",
]

AS_IN_RECIPE = "as in the recipe"
"""The value of an option that a row does not override."""


@dataclass(frozen=True)
class Column:
    """One score of one task."""

    task: str
    key: str
    """The score's key, such as ``valid/accuracy``."""
    label: str
    """What heads the column, such as ``rte (accuracy)``."""
    lower_is_better: bool = False


@dataclass(frozen=True)
class Versus:
    """A cell beside the one that it is compared with; which one that is, ``Summary.versus`` says."""

    delta: float | None
    p: float | None = None
    verdict: str = ""


@dataclass(frozen=True)
class Cell:
    """One row's score in one column."""

    values: tuple[float | None, ...] = ()
    """One for each of the row's seeds, in their order; none: it failed, or the score is undefined."""
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    """The ends of the band around the mean; what band that is, ``Summary.band`` says."""
    collapsed: tuple[int, ...] = ()
    """The seeds that learnt nothing."""
    mark: str = ""
    """A mark of significance; what it means, ``Summary.marks`` says."""
    versus: Versus | None = None


@dataclass(frozen=True)
class Row:
    """One model, at one step of its pre-training, fine-tuned in one way."""

    model: str
    seeds: tuple[int, ...]
    cells: tuple[Cell | None, ...]
    """One for each column, in their order; none: not measured."""
    step: int | None = None
    """The pre-training step: rows that differ in nothing else make a line of the chart."""
    recipe: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What was overridden, such as ``learning_rate`` → ``3e-5``."""
    average: float | None = None

    def settings(self) -> dict[str, str]:
        """Return what the row was trained with, as words: the recipe, and each option as on the command line."""
        return {"recipe": self.recipe, **{f"--{name}": str(value) for name, value in self.options.items()}}

    def variant(self) -> str:
        """Return the recipe and the overrides as one line of words."""
        return words(self.settings())


@dataclass(frozen=True)
class Published:
    """A row of scores that others published."""

    model: str
    source: str
    scores: tuple[float | None, ...]
    """One for each column, in their order."""
    split: str = ""
    verified: bool = False
    """Whether the numbers were checked against their source."""
    average: float | None = None


@dataclass(frozen=True)
class Failure:
    """A run that has no scores, and why."""

    model: str
    task: str
    seed: int
    reason: str
    step: int | None = None
    variant: str = ""


@dataclass(frozen=True)
class Summary:
    """All that a report shows.

    Raises:
        ValueError: when a row has not one entry for each column.
    """

    suite: str
    columns: tuple[Column, ...] = ()
    rows: tuple[Row, ...] = ()
    published: tuple[Published, ...] = ()
    failures: tuple[Failure, ...] = ()
    title: str = ""
    notes: str = ""
    when: str = ""
    """An ISO 8601 time."""
    band: str = "95 % band of the mean over seeds"
    versus: str = ""
    """What cells are compared with, such as ``the best row of the column``."""
    marks: Mapping[str, str] = field(default_factory=lambda: {"*": "p < 0.05", "**": "p < 0.01"})
    """What each mark of significance says."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                raise ValueError(f"{row.model!r} has {len(row.cells)} cells for {len(self.columns)} columns")
        for each in self.published:
            if len(each.scores) != len(self.columns):
                raise ValueError(f"{each.model!r} has {len(each.scores)} scores for {len(self.columns)} columns")


def read(record: Summary | Mapping[str, Any]) -> Summary:
    """Return the summary that a mapping holds, as of a JSON file.

    Raises:
        ValueError: when something is missing or of the wrong kind; it says what and where.
    """
    return TypeAdapter(Summary).validate_python(record)


def number(value: float | None) -> float | None:
    """Return the value, or nothing where it is none or not finite."""
    return value if value is not None and math.isfinite(value) else None


def best(values: Sequence[float | None], *, lower_is_better: bool = False) -> set[int]:
    """Return the places of the best value, all of them where several look the same to two decimals; nothing is the best
    of one."""
    known = {place: round(value, 2) for place, each in enumerate(values) if (value := number(each)) is not None}
    if len(known) < 2:
        return set()
    top = min(known.values()) if lower_is_better else max(known.values())
    return {place for place, value in known.items() if value == top}


def series(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """Return the checkpoints of each model and variant in the order of their steps, where there are two or more."""
    found: dict[tuple[str, str], dict[int, Row]] = {}
    for row in rows:
        if row.step is not None:
            found.setdefault((row.model, row.variant()), {})[row.step] = row
    return {name: [own[step] for step in sorted(own)] for name, own in found.items() if len(own) > 1}


@dataclass(frozen=True)
class Setting:
    """Rows that differ in one option only: the row of each value, and what they have in common."""

    model: str
    step: int | None
    others: str
    rows: Mapping[str, Row]


@dataclass(frozen=True)
class Comparison:
    """One option, its values, and wherever two or more of them were tried with all else the same."""

    option: str
    values: tuple[str, ...]
    settings: tuple[Setting, ...]


def comparisons(rows: Sequence[Row]) -> list[Comparison]:
    """Return what can be said option by option; the recipe counts as one."""
    options = dict.fromkeys(name for row in rows for name in row.settings())
    return [found for option in options if (found := _comparison(option, rows)).settings]


def _comparison(option: str, rows: Sequence[Row]) -> Comparison:
    groups: dict[tuple[str, int | None, frozenset[tuple[str, str]]], dict[str, Row]] = {}
    for row in rows:
        others = row.settings()
        value = others.pop(option, AS_IN_RECIPE)
        groups.setdefault((row.model, row.step, frozenset(others.items())), {}).setdefault(value, row)
    settings = []
    for (model, step, _), own in groups.items():
        if len(own) > 1:
            others = next(iter(own.values())).settings()
            others.pop(option, None)
            settings.append(Setting(model, step, words(others), own))
    values = sorted(dict.fromkeys(value for each in settings for value in each.rows), key=_place)
    return Comparison(option, tuple(values), tuple(settings))


def _place(value: str) -> tuple[int, float]:
    """Order what the recipe says before numbers, these by size, before words as they come."""
    try:
        return (0, 0.0) if value == AS_IN_RECIPE else (1, float(value))
    except ValueError:
        return (2, 0.0)


def words(settings: Mapping[str, str]) -> str:
    """Return settings as one line: the recipe bare, options with their names."""
    return " ".join(_words(settings))


def _words(settings: Mapping[str, str]) -> Iterator[str]:
    for name, value in settings.items():
        if name != "recipe":
            yield f"{name} {value}"
        elif value:
            yield value
