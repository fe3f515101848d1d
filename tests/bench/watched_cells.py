"""A watch whose cells take no time: ``python watched_cells.py RUN OUT UNTIL``. A start is a journal line."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from claf2.benchmarking import cell_queue, watch
from claf2.benchmarking.backends import ProcessBackend
from claf2.benchmarking.cells import Cell, write_cell
from claf2.benchmarking.matrix import CellJob, CellOutcome
from claf2.errors import RunInUseError
from claf2.runtime.files import lock_dir, write_json
from claf2.task import suites


def run_cell(job: CellJob) -> CellOutcome:
    """Hold the lock of a cell's folder as a run does, and finish it unless it is finished."""
    folder = Path(job.folder)
    write_cell(folder, job.cell, "")
    try:
        with lock_dir(folder):
            if not (folder / "metrics.json").is_file():
                with (folder.parents[1] / "journal").open("a") as file:
                    file.write(f"{job.cell.step} {job.cell.task}\n")
                sum(range(2_000_000))  # a while in which a kill may come
                write_json(folder / "metrics.json", {})
    except RunInUseError:
        return CellOutcome(busy=True)
    return CellOutcome(seconds=0.1)


def cell_dir(out: Path, cell: Cell) -> Path:
    """Name the folder of a cell without reading a BaseConfig."""
    return out / f"step-{cell.step}" / cell.task


def main(run: str, out: str, until_step: str) -> None:
    watch.run_cell, watch.cell_dir, cell_queue.cell_dir = run_cell, cell_dir, cell_dir  # type: ignore[attr-defined]
    plan = watch.WatchPlan(suites.get("glue"), (1,), "bert")
    lister = watch.CheckpointLister(run)
    watch.watch_checkpoints(lister, plan, Path(out), backend=ProcessBackend(1), poll=0.1, until_step=int(until_step))


if __name__ == "__main__":
    # So that workers find the function under this name and not in __main__.
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import watched_cells

    watched_cells.main(*sys.argv[1:])
