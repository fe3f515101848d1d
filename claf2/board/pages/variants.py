"""The variants of a bench on the page of a suite, as plain data and text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from claf2.benchmarking.summary import COST_NAMES, FULL, GRID_NOTE, Row, Summary, format_costs, format_to_full
from claf2.board.pages.numbers import format_step

__all__ = ["VariantRow", "VariantTable", "make_variant_table"]


@dataclass(frozen=True)
class VariantRow:
    """A variant or the recipe itself: the differences between both, and what it costs."""

    name: str
    deltas: Sequence[str]
    """One per column of the summary."""
    costs: Sequence[str]
    """One per head of ``VariantTable.costs``."""


@dataclass(frozen=True)
class VariantTable:
    """The variants of a bench."""

    rows: Sequence[VariantRow]
    costs: Sequence[str]
    """The heads of the columns of costs."""
    grid_note: str
    """What the score of the best of a grid is worth."""


def make_variant_table(summary: Summary) -> VariantTable | None:
    """Return the variants of a summary; ``None`` if it has only the recipe itself."""
    if not summary.has_variants:
        return None
    return VariantTable([_make_row(row) for row in summary.rows], list(COST_NAMES.values()), GRID_NOTE)


def _make_row(row: Row) -> VariantRow:
    step = "" if row.step is None else format_step(row.step)
    name = " · ".join(filter(None, (row.model, step, row.variant_name or FULL)))
    return VariantRow(
        name, [format_to_full(cell.to_full if cell else None) for cell in row.cells], format_costs(row.costs)
    )
