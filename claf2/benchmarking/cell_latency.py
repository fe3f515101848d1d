"""The latency of the variants of a bench: measured at the end, in turns, and recorded in the provenance of cells."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from claf2.benchmarking.cells import CellResult
from claf2.benchmarking.exported_cells import EXPORT_FOLDER
from claf2.benchmarking.latency import LatencySubject, measure_latency
from claf2.benchmarking.timed_models import TimedModel
from claf2.errors import RunError
from claf2.runtime.files import read_json, write_json

__all__ = ["time_cells"]

TIMED_TOKENS = 128
SECONDS_PER_MODEL = 30.0

logger = logging.getLogger("claf2")


def time_cells(results: Sequence[CellResult]) -> None:
    """Measure how long the variants of each model take for one row, and record it.

    One cell of each variant is measured, since seeds and tasks change little: that of the first task and seed.

    Args:
        results: the cells of a bench.

    Raises:
        RunError: if a model was not kept, or cannot be measured.
    """
    chosen: dict[tuple[object, ...], dict[tuple[object, ...], CellResult]] = {}
    for result in results:
        if result.scores:
            cell = result.cell
            model = chosen.setdefault((cell.model, cell.weights, cell.step, cell.recipe), {})
            model.setdefault((cell.variant, cell.overrides, cell.export), result)
    for cells in chosen.values():
        by_name = {str(result.folder): result for result in cells.values()}
        subjects = [LatencySubject(name, _open(result).make_pass) for name, result in by_name.items()]
        for entry in measure_latency(subjects, [(1, TIMED_TOKENS)], max_seconds=SECONDS_PER_MODEL):
            path = by_name[entry.name].folder / "run.json"
            percentiles = {f"p{percentile}": value for percentile, value in entry.percentiles.items()}
            latency = {"rows": 1, "tokens": TIMED_TOKENS, "threads": torch.get_num_threads(), "mean": entry.mean}
            write_json(path, {**read_json(path), "latency": {**latency, **percentiles}})


def _open(result: CellResult) -> TimedModel:
    folder: Path = result.folder if result.cell.export is None else result.folder / EXPORT_FOLDER
    kept = folder / "best" if result.cell.export is None else folder
    if not kept.is_dir():
        raise RunError(f"{result.folder}: the model was not kept, so its latency cannot be measured; train with --keep")
    return TimedModel(folder)
