"""Watches on several machines that share the cells of checkpoints in a store."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from claf2.benchmarking import cell_queue, shared_cells, watch
from claf2.benchmarking.cells import write_cell
from claf2.benchmarking.matrix import CellJob, CellOutcome
from claf2.benchmarking.watch import CheckpointLister, WatchPlan, watch_checkpoints
from claf2.errors import RunError
from claf2.runtime.files import write_json
from claf2.storage.checkpoints import push_checkpoint
from claf2.task import suites

GLUE = suites.get("glue")


class ThisProcess:
    """A backend that calls the function here."""

    workers = 1

    def map(self, function: Any, jobs: Iterable[CellJob | None], pause: float = 1.0) -> Iterator[Any]:
        for job in jobs:
            if job is not None:
                yield job, function(job)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Replaces the training by writing its last file; holds which machine has trained which cell."""
    cells: list[tuple[str, str]] = []

    def train(job: CellJob) -> CellOutcome:
        folder = Path(job.folder)
        cells.append((folder.parents[1].name, f"{job.cell.step} {job.cell.task}"))
        write_cell(folder, job.cell, "")
        (folder / "predictions").mkdir()
        (folder / "predictions" / f"{job.cell.task}-valid.jsonl").write_text("")
        write_json(folder / "run.json", {"weights": job.weights_digest})
        write_json(folder / "metrics.json", {"best": {"valid/accuracy": 50.0}})
        return CellOutcome(seconds=1.0)

    def name(out: Path, cell: Any) -> Path:
        return out / f"step-{cell.step}" / f"{cell.task}-{cell.seed}"

    monkeypatch.setattr(shared_cells, "run_cell", train)
    monkeypatch.setattr(cell_queue, "cell_dir", name)
    monkeypatch.setattr(watch, "cell_dir", name)
    return cells


def start(url: str, out: Path) -> None:
    plan = WatchPlan(GLUE, (1,), "bert", ("rte", "mrpc"))
    watch_checkpoints(CheckpointLister(url), plan, out, backend=ThisProcess(), poll=0.01, once=True)


def test_two_machines_train_each_cell_once(
    s3_url: str, make_step: Callable[..., Path], trained: list[tuple[str, str]], tmp_path: Path
) -> None:
    for step in (10, 20, 30):
        push_checkpoint(make_step(step), s3_url)
    machines = [threading.Thread(target=start, args=(s3_url, tmp_path / name)) for name in ("a", "b")]
    for machine in machines:
        machine.start()
    for machine in machines:
        machine.join()
    cells = [cell for _, cell in trained]
    assert sorted(cells) == sorted(f"{step} {task}" for step in (10, 20, 30) for task in ("rte", "mrpc"))
    for name in ("a", "b"):  # both machines have all results
        assert len(list((tmp_path / name).glob("*/*/metrics.json"))) == 6
        assert len(list((tmp_path / name).glob("*/*/predictions/*.jsonl"))) == 6
    trained.clear()
    start(s3_url, tmp_path / "new")  # a machine that comes later trains nothing
    assert trained == []
    assert [model.step for model in CheckpointLister(s3_url).checkpoints()] == [10, 20, 30]


def test_the_result_of_a_checkpoint_that_was_replaced_is_not_taken(
    make_step: Callable[..., Path], trained: list[tuple[str, str]], tmp_path: Path
) -> None:
    url = str(tmp_path / "store/run")
    push_checkpoint(make_step(10), f"file://{url}")
    for name, count in (("a", 2), ("b", 2)):
        start(f"file://{url}", tmp_path / name)
        assert len(trained) == count
    shutil.rmtree(url)
    push_checkpoint(make_step(10, folder="again", **{"config.json": b"{2}"}), f"file://{url}")
    start(f"file://{url}", tmp_path / "c")
    assert len(trained) == 4
    start(f"file://{url}", tmp_path / "d")
    assert len(trained) == 4


def test_an_http_server_cannot_be_watched() -> None:
    with pytest.raises(RunError, match="http servers list no files"):
        CheckpointLister("https://example.org/run")
