"""The pages of a bench's folder, as one file."""

from __future__ import annotations

import json
from pathlib import Path

from claf2.benchmarking.aggregation import group_by_row
from claf2.benchmarking.cells import CellResult, list_cells
from claf2.benchmarking.curve_report import read_verdicts
from claf2.benchmarking.summary import Summary
from claf2.board.pages import export_page
from claf2.board.pages.run import RunDetails
from claf2.board.pages.suite import RowRuns
from claf2.registry import digest

__all__ = ["export_bench"]

LEARNING_CURVE = "metrics.jsonl"
"""The file of a run with the scores of each evaluation."""


def export_bench(folder: Path, summary: Summary) -> str:
    """Return the pages of a bench and of its finished runs as one HTML file, to be written as UTF-8.

    Args:
        folder: the folder of the bench.
        summary: its summary.

    Raises:
        RunError: if a cell is damaged, or predictions are missing.
    """
    rows = group_by_row(list_cells(folder))
    row_runs = [
        RowRuns(
            digest([result.source for result in row])[:16],
            {(result.cell.task, result.cell.seed): result.digest for result in row if result.scores},
        )
        for row in rows
    ]
    runs = (_read_run(result) for row in rows for result in row if result.scores)
    return export_page(summary, row_runs, runs, read_verdicts(folder))


def _read_run(result: CellResult) -> RunDetails:
    path = result.folder / LEARNING_CURVE
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else []
    curve = [record for line in lines if (record := _parse_line(line))]
    return RunDetails(
        result.digest, result.cell, result.scores, result.provenance or {}, curve, result.predictions("valid")
    )


def _parse_line(line: str) -> dict[str, object] | None:
    try:  # a kill may leave a part of a line
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("step"), int) else None
