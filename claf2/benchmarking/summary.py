"""The summary of a bench: the scores of its models, as data that reports are made from, and as a Markdown table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import TypeAdapter

__all__ = [
    "COST_NAMES",
    "FULL",
    "GRID_NOTE",
    "Column",
    "Costs",
    "Delta",
    "Failure",
    "GridChoice",
    "PublishedRow",
    "Row",
    "ScoreCell",
    "Summary",
    "VariantDelta",
    "finite_or_none",
    "format_costs",
    "format_options",
    "format_summary",
    "format_to_full",
    "read_summary",
]  # fmt: skip


FULL = "full"
"""The name of the recipe itself among variants."""

COST_NAMES = {
    "trained_parameters": "trained parameters", "megabytes": "MB", "stored": "MB a task", "seconds": "seconds",
    "memory": "peak memory, MiB",
    "p50": "p50, ms", "p99": "p99, ms",
}  # fmt: skip
"""Field of ``Costs`` → the head of its column."""

WHOLE_FROM = 1000
"""From here on, costs are shown as whole numbers."""

GRID_NOTE = (
    "The best score of a grid is too high, since it was chosen on the examples that it is the score of. The score on "
    "other examples is that of the variant which is best on a random half of the examples, on the other half, averaged "
    "over 200 splits; half of the examples choose a little worse than all."
)
"""What a reader of a grid's table needs to know."""


@dataclass(frozen=True)
class Column:
    """One score of one task."""

    task: str
    key: str
    """The score's key, such as ``valid/accuracy``."""
    label: str
    """The column's head, such as ``rte (accuracy)``."""
    lower_is_better: bool = False


@dataclass(frozen=True)
class Delta:
    """The difference between a cell and its reference, which ``Summary.reference`` describes."""

    value: float | None
    """In points: the mean of the cell minus that of the reference."""
    p: float | None = None
    verdict: str = ""


@dataclass(frozen=True)
class VariantDelta:
    """The difference between a variant and the recipe itself, ``full``."""

    value: float
    """In points: the mean of the variant minus that of ``full``."""
    low: float
    """The lower end of the 90 % interval."""
    high: float
    verdict: str
    """Whether non-inferiority is shown within ``Summary.margin``; or ``collapsed``: a run learned nothing."""
    paired: bool = False
    """The variant was made of the very runs of ``full``, so the result holds for these."""


@dataclass(frozen=True)
class Costs:
    """What a row costs: sizes of its model, and means over its runs."""

    parameters: float | None = None
    trained_parameters: float | None = None
    megabytes: float | None = None
    """The size of the weights."""
    stored: float | None = None
    """The size of what a task adds to a shared model, in MB: its adapter and head, or else all weights."""
    seconds: float | None = None
    """The time of a training."""
    memory: float | None = None
    """The peak memory of a training, in MiB: that of the GPU where there is one."""
    p50: float | None = None
    """The median latency of one row, in milliseconds."""
    p99: float | None = None


@dataclass(frozen=True)
class GridChoice:
    """The best variant of a grid in one column, and what its score is worth: the best of several scores on the same
    examples is too high by chance."""

    model: str
    grid: str
    column: str
    """The label of the column."""
    variants: int
    """How many variants the grid has."""
    best: str
    """The name of the variant with the best score."""
    score: float
    nested: float
    """The score of the choice on examples that it was not made on: the best variant on a random half of the examples,
    scored on the other half, averaged over many splits."""
    lower_is_better: bool = False

    @property
    def optimism(self) -> float:
        """By how many points the best score is better than the nested one."""
        return self.nested - self.score if self.lower_is_better else self.score - self.nested


@dataclass(frozen=True)
class ScoreCell:
    """The score of one row in one column. Scores are on 0–100, except where a metric has no upper bound."""

    values: tuple[float | None, ...] = ()
    """One per seed of the row, in their order; ``None``: the run failed, or the score is undefined."""
    mean: float | None = None
    low: float | None = None
    """The lower end of the interval around the mean, which ``Summary.interval`` describes."""
    high: float | None = None
    collapsed: tuple[int, ...] = ()
    """The seeds whose runs learned nothing."""
    mark: str = ""
    """A mark of significance; ``Summary.marks`` explains it."""
    delta: Delta | None = None
    to_full: VariantDelta | None = None
    """The difference to the recipe itself, if the row is a variant of it."""


@dataclass(frozen=True)
class Row:
    """One model, at one step of its pre-training, fine-tuned in one way."""

    model: str
    seeds: tuple[int, ...]
    cells: tuple[ScoreCell | None, ...]
    """One per column, in their order; ``None``: not measured."""
    step: int | None = None
    """The pre-training step. Rows that differ only in it are one line of the chart."""
    recipe: str = ""
    options: Mapping[str, object] = field(default_factory=dict)
    """The overridden fields, such as ``learning_rate`` → ``3e-5``."""
    average: float | None = None
    variant_name: str = ""
    """Empty for the recipe itself."""
    costs: Costs = Costs()

    def training_options(self) -> dict[str, str]:
        """Return the recipe, and each override as on the command line: ``--learning_rate`` → ``3e-5``."""
        return {"recipe": self.recipe, **{f"--{name}": str(value) for name, value in self.options.items()}}

    def variant(self) -> str:
        """Return the name of the variant, the recipe and the overrides as one line."""
        options = format_options(self.training_options())
        return f"{self.variant_name}: {options}" if self.variant_name else options


def format_options(options: Mapping[str, str]) -> str:
    """Return training options as one line: the recipe by its value, the others by name and value."""
    texts = (value if name == "recipe" else f"{name} {value}" for name, value in options.items())
    return " ".join(filter(None, texts))


@dataclass(frozen=True)
class PublishedRow:
    """A row of published scores."""

    model: str
    source: str
    scores: tuple[float | None, ...]
    """One per column, in their order."""
    split: str = ""
    verified: bool = False
    """Whether the scores were checked against their source."""
    average: float | None = None


@dataclass(frozen=True)
class Failure:
    """A run without scores, and the reason."""

    model: str
    task: str
    seed: int
    reason: str
    step: int | None = None
    variant: str = ""


@dataclass(frozen=True)
class Summary:
    """Everything that a report shows.

    Raises:
        ValueError: if a row does not have one entry per column.
    """

    suite: str
    columns: tuple[Column, ...] = ()
    rows: tuple[Row, ...] = ()
    published: tuple[PublishedRow, ...] = ()
    failures: tuple[Failure, ...] = ()
    title: str = ""
    notes: str = ""
    when: str = ""
    """An ISO 8601 time."""
    interval: str = "95 % confidence interval of the mean"
    """What ``low`` and ``high`` of the cells are."""
    reference: str = ""
    """What cells are compared with, such as ``the best row of the column``."""
    marks: Mapping[str, str] = field(default_factory=lambda: {"*": "p < 0.05", "**": "p < 0.01"})
    """Mark of significance → its meaning."""
    margin: float = 1.0
    """By how many points a variant may be worse than the recipe itself to be called non-inferior."""
    grids: tuple[GridChoice, ...] = ()

    @property
    def has_variants(self) -> bool:
        """Whether a row is a variant."""
        return any(row.variant_name for row in self.rows)

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                raise ValueError(f"row {row.model!r}: expected {len(self.columns)} cells, got {len(row.cells)}")
        for published in self.published:
            if len(published.scores) != len(self.columns):
                raise ValueError(
                    f"published row {published.model!r}: expected {len(self.columns)} scores, "
                    f"got {len(published.scores)}"
                )


def read_summary(record: Summary | Mapping[str, object]) -> Summary:
    """Return a mapping, such as the content of ``bench.json``, as a summary.

    Raises:
        ValueError: if an entry is missing or has the wrong type; the message says which.
    """
    return TypeAdapter(Summary).validate_python(record)


def finite_or_none(value: float | None) -> float | None:
    """Return the value if it is a finite number, else ``None``."""
    return value if value is not None and math.isfinite(value) else None


def format_summary(summary: Summary) -> str:
    """Return a summary as a Markdown table. Published rows are in italics."""
    header = ["model", *(column.label for column in summary.columns), "average"]
    lines = [header, ["---"] * len(header)]
    for row in summary.rows:
        name = row.model if row.step is None else f"{row.model} step {row.step}"
        seeds = f"{len(row.seeds)} seed{'s' * (len(row.seeds) > 1)}"
        lines.append([f"{name}, {row.variant()} ({seeds})", *map(_format_cell, row.cells), _format_score(row.average)])
    for published in summary.published:
        source = f"{published.source}{'' if published.verified else ' †'}, {published.split}"
        scores = [_format_score(score) for score in (*published.scores, published.average)]
        lines.append([f"*{published.model}* ({source})", *scores])
    parts = [f"# {summary.suite}", _format_lines(lines), *_format_variants(summary), summary.notes]
    if summary.failures:
        failures = [f"- {run.model}, {run.task}, seed {run.seed}: {run.reason}" for run in summary.failures]
        parts.append("Failed:\n\n" + "\n".join(failures))
    marks = "; ".join(f"{mark} {meaning}" for mark, meaning in summary.marks.items())
    parts.append(
        f"Mean over seeds, with the {summary.interval} in parentheses. {marks}, compared with {summary.reference}. "
        "Rows in italics are published scores; †: not checked against the source."
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def _format_lines(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _format_variants(summary: Summary) -> list[str]:
    """Return the tables of variants: differences to the recipe itself, costs, and choices from grids."""
    if not summary.has_variants:
        return []
    header = ["variant", *(column.label for column in summary.columns), *COST_NAMES.values()]
    lines = [header, ["---"] * len(header)]
    for row in summary.rows:
        deltas = [format_to_full(cell.to_full if cell else None) for cell in row.cells]
        lines.append([f"{row.model}, {row.variant_name or FULL}", *deltas, *format_costs(row.costs)])
    parts = [
        f"Difference to `{FULL}` in points, with its 90 % interval, and whether non-inferiority is shown within "
        f"{summary.margin:g} points. An export is compared with the very runs that it was made of; others are compared "
        "over seeds and examples.",
        _format_lines(lines),
    ]
    if summary.grids:
        header = ["grid", "column", "best of", "", "score", "on other examples", "optimism"]
        lines = [header, ["---"] * len(header)]
        lines += [
            [
                f"{choice.model}, {choice.grid}", choice.column, str(choice.variants), choice.best,
                f"{choice.score:.2f}", f"{choice.nested:.2f}", f"{choice.optimism:.2f}",
            ]
            for choice in summary.grids
        ]  # fmt: skip
        parts += [GRID_NOTE, _format_lines(lines)]
    return parts


def format_to_full(delta: VariantDelta | None) -> str:
    """Return the difference between a variant and the recipe itself, with its interval and the verdict."""
    if delta is None:
        return ""
    return f"{delta.value:+.2f} ({delta.low:+.2f} to {delta.high:+.2f}) {delta.verdict}"


def format_costs(costs: Costs) -> list[str]:
    """Return the costs of a row as texts, in the order of ``COST_NAMES``; ``–`` where one is not known."""
    return [_format_cost(name, getattr(costs, name)) for name in COST_NAMES]


def _format_cost(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    if name == "trained_parameters" or value >= WHOLE_FROM:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _format_cell(cell: ScoreCell | None) -> str:
    if cell is None:
        return ""
    missing = sum(value is None for value in cell.values)
    interval = "" if cell.low is None or cell.high is None else f" ({cell.low:.2f} to {cell.high:.2f})"
    notes = f" ({missing} missing)" if missing else ""
    notes += f" ({len(cell.collapsed)} collapsed)" if cell.collapsed else ""
    return f"{_format_score(cell.mean)}{cell.mark}{interval}{notes}"


def _format_score(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
