"""How variants score against the recipe itself, what they cost, and what the best of a grid is worth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Protocol

import numpy as np

from claf2.benchmarking.cells import Cell, MeasuredCell
from claf2.benchmarking.noninferiority import classify_noninferiority, estimate_paired_difference
from claf2.benchmarking.runs import Floats, ScoredRuns
from claf2.benchmarking.statistics import compare_runs
from claf2.benchmarking.summary import Column, Costs, GridChoice, Row, VariantDelta
from claf2.benchmarking.variants import grid_name
from claf2.errors import Claf2Error

__all__ = ["THESE_RUNS", "ScoreRows", "add_differences", "choose_from_grids", "measure_costs"]

COLLAPSED = "collapsed"
"""The verdict where a run learned nothing: the scores of such runs say nothing about a variant."""

THESE_RUNS = "of these runs only"
"""What a verdict adds where both sides have one seed, so that it says nothing about other seeds."""

ALPHA = 0.05
TABLE_RESAMPLES = 1000
HALVINGS = 200
"""How many times the examples are split in halves, to choose on one and score on the other."""


class ScoreRows(Protocol):
    """Scores the cells of a row in a column."""

    def __call__(self, position: int, cells: Sequence[MeasuredCell]) -> ScoredRuns | None:
        """Return the runs scored by the column at a position; ``None`` if one has no score."""


@dataclass(frozen=True)
class _Pair:
    """The finished cells of a variant and of the recipe itself in one column."""

    full: Sequence[MeasuredCell]
    variant: Sequence[MeasuredCell]

    @property
    def is_paired(self) -> bool:
        """Whether the variant was made of the runs of the recipe itself."""
        cell = self.variant[0].cell
        return cell.export is not None and cell.overrides == self.full[0].cell.overrides


def add_differences(
    columns: Sequence[Column], rows: Sequence[Row], groups: Sequence[Sequence[MeasuredCell]], score: ScoreRows,
    margin: float,
) -> list[Row]:  # fmt: skip
    """Return the rows with the difference of each variant to the recipe itself in every column.

    Args:
        columns: the columns.
        rows: the rows.
        groups: the cells of each row.
        score: scores cells.
        margin: by how many points a variant may be worse.
    """
    changed = list(rows)
    for index, group in enumerate(groups):
        full = _find_full(group[0].cell, groups)
        if full is None:
            continue
        cells = list(rows[index].cells)
        for position, column in enumerate(columns):
            cell = cells[position]
            pair = _pair_up(column, groups[full], group)
            if cell is not None and pair is not None:
                delta = _compare_pair(pair, position, column, score, margin)
                origin = rows[full].cells[position]
                if delta is not None and (cell.collapsed or (origin is not None and origin.collapsed)):
                    delta = replace(delta, verdict=COLLAPSED)
                cells[position] = replace(cell, to_full=delta)
        changed[index] = replace(changed[index], cells=tuple(cells))
    return changed


def _find_full(cell: Cell, groups: Sequence[Sequence[MeasuredCell]]) -> int | None:
    """Return the row of the recipe itself for a variant: that whose overrides the variant adds to."""
    if not cell.variant:
        return None
    matching = {
        index: len(other.overrides)
        for index, group in enumerate(groups)
        if not (other := group[0].cell).variant
        and (other.model, other.step, other.weights, other.recipe) == (cell.model, cell.step, cell.weights, cell.recipe)
        and cell.overrides[: len(other.overrides)] == other.overrides
    }
    # A row with the same overrides is that of the variant, without its name; an export adds none.
    added_to = {index: length for index, length in matching.items() if length < len(cell.overrides)}
    chosen = matching if cell.export is not None else added_to or matching
    return max(chosen, key=lambda index: chosen[index]) if chosen else None


def _pair_up(column: Column, full: Sequence[MeasuredCell], variant: Sequence[MeasuredCell]) -> _Pair | None:
    by_seed = [
        {result.cell.seed: result for result in group if result.cell.task == column.task and result.scores}
        for group in (full, variant)
    ]
    if not all(by_seed):
        return None
    first, second = by_seed
    pair = _Pair([first[seed] for seed in sorted(first)], [second[seed] for seed in sorted(second)])
    if not pair.is_paired:
        return pair
    shared = sorted(first.keys() & second.keys())
    return _Pair([first[seed] for seed in shared], [second[seed] for seed in shared]) if shared else None


def _compare_pair(pair: _Pair, position: int, column: Column, score: ScoreRows, margin: float) -> VariantDelta | None:
    first, second = score(position, pair.full), score(position, pair.variant)
    if first is None or second is None:
        return None
    try:
        difference = (
            estimate_paired_difference(first, second, alpha=ALPHA, resamples=TABLE_RESAMPLES)
            if pair.is_paired
            else compare_runs(first, second, level=1 - 2 * ALPHA, resamples=TABLE_RESAMPLES, for_noninferiority=True)
        )
    except Claf2Error:  # evaluated on other data, or undefined in many resamples
        return None
    verdict: str = classify_noninferiority(
        difference, margin * first.scale / 100.0, lower_is_better=column.lower_is_better
    )
    if not pair.is_paired and difference.about == "runs":  # one seed each: nothing is known about other seeds
        verdict = f"{verdict}, {THESE_RUNS}"
    return VariantDelta(difference.value, difference.low, difference.high, verdict, pair.is_paired)


def choose_from_grids(
    columns: Sequence[Column], rows: Sequence[Row], groups: Sequence[Sequence[MeasuredCell]], score: ScoreRows
) -> tuple[GridChoice, ...]:
    """Return the best variant of each grid in each column, with its score on examples that it was not chosen on."""
    grids: dict[tuple[str, int | None, str, int | None, str], list[int]] = {}
    for index, group in enumerate(groups):
        cell = group[0].cell
        if name := grid_name(cell.variant):
            # One file of variants can be used with several recipes: each has a grid of its own.
            grids.setdefault((cell.model, cell.step, cell.weights, _find_full(cell, groups), name), []).append(index)
    choices = []
    for (model, step, *_, name), indices in grids.items():
        label = model if step is None else f"{model} step {step}"
        for position, column in enumerate(columns):
            scored = {
                rows[index].variant_name: runs
                for index in indices
                if (runs := score(position, [c for c in groups[index] if c.cell.task == column.task and c.scores]))
            }
            examples = [runs.examples for runs in scored.values()]  # with gold tags, which are lists
            if len(scored) > 1 and all(others == examples[0] for others in examples):
                choices.append(_choose(label, name, column, scored))
    return tuple(choices)


def _choose(model: str, grid: str, column: Column, scored: Mapping[str, ScoredRuns]) -> GridChoice:
    names, sign = list(scored), -1.0 if column.lower_is_better else 1.0
    means = [float(scored[name].scores.mean()) for name in names]
    best = int(np.argmax(sign * np.array(means)))
    n, rng = len(scored[names[0]].examples), np.random.default_rng(0)
    halves = np.zeros((HALVINGS, n))
    for half in halves:
        half[rng.permutation(n)[: n // 2]] = 1.0
    # Either half chooses once.
    nested = [
        _score_choice(scored.values(), chosen_on, scored_on, sign)
        for chosen_on, scored_on in ((halves, 1.0 - halves), (1.0 - halves, halves))
    ]
    return GridChoice(
        model, grid, column.label, len(names), names[best], means[best], fmean(nested),
        column.lower_is_better,
    )  # fmt: skip


def _score_choice(scored: Iterable[ScoredRuns], chosen_on: Floats, scored_on: Floats, sign: float) -> float:
    first, second = (
        np.stack([np.mean([resampler.scores(counts) for resampler in runs.resamplers], axis=0) for runs in scored])
        for counts in (chosen_on, scored_on)
    )
    winners = np.where(np.isfinite(first), sign * first, -np.inf).argmax(axis=0)
    return float(np.nanmean(second[winners, np.arange(second.shape[1])]))


def measure_costs(group: Sequence[MeasuredCell]) -> Costs:
    """Return what the cells of a row cost, from the provenance of their runs."""
    known = [result.provenance for result in group if result.provenance is not None]
    # A run that was resumed records the seconds since then only.
    whole = [record for record in known if not record.get("resumed")]

    def mean(*names: str, scale: float = 1.0, records: Sequence[Mapping[str, object]] = known) -> float | None:
        values = [value for record in records if (value := _first_number(record, names)) is not None]
        return fmean(values) * scale if values else None

    latencies = [latency for record in known if isinstance(latency := record.get("latency"), dict)]
    p50, p99 = ([_first_number(latency, (name,)) for latency in latencies] for name in ("p50", "p99"))
    return Costs(
        parameters=mean("parameters"), trained_parameters=mean("trained_parameters"),
        megabytes=mean("weight_bytes", scale=1e-6), stored=mean("adapter_bytes", "weight_bytes", scale=1e-6),
        seconds=mean("train_seconds", records=whole),
        memory=mean("peak_gpu_memory_mib", "peak_memory_mib"), p50=p50[0] if p50 else None, p99=p99[0] if p99 else None,
    )  # fmt: skip


def _first_number(record: Mapping[str, object], names: Sequence[str]) -> float | None:
    values = (record.get(name) for name in names)
    return next((float(value) for value in values if isinstance(value, int | float)), None)
