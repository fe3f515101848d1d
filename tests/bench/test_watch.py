"""The watch: which cells are trained when, and what becomes of them. Training is replaced by writing its files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from claf2.benchmarking.cell_queue import CellQueue, CellState
from claf2.benchmarking.cells import write_cell
from claf2.benchmarking.curve import CurveAnalysis
from claf2.benchmarking.curve_report import CurveReport, read_verdicts
from claf2.benchmarking.matrix import CellJob, CellOutcome, Progress
from claf2.benchmarking.watch import CheckpointLister, WatchPlan, watch_checkpoints
from claf2.cli.watch import watch_command
from claf2.errors import Claf2Error, ConfigError, RunError
from claf2.evaluation.predictions import predictions_path, to_json_line
from claf2.metrics import Prediction
from claf2.models.source import weights_digest
from claf2.runtime.files import write_json
from claf2.task import suites
from claf2.training.kept_steps import write_manifest

EXAMPLES = 60


def add_checkpoint(run: Path, *steps: int) -> None:
    for step in steps:
        write_json(run / f"steps/step-{step:09d}/manifest.json", {"step": step, "files": {}})


def finish(job: CellJob, right: float = 0.5) -> None:
    """Write what a finished cell leaves."""
    folder, task = Path(job.folder), job.cell.task
    write_cell(folder, job.cell, "")
    gold = ["entailment", "not_entailment"] * (EXAMPLES // 2)
    wrong = {"entailment": "not_entailment", "not_entailment": "entailment"}
    count = round(EXAMPLES * right)
    rows = [Prediction(str(n), g, g if (n * 7) % EXAMPLES < count else wrong[g]) for n, g in enumerate(gold)]
    predictions_path(folder, task, "valid").parent.mkdir(exist_ok=True)
    predictions_path(folder, task, "valid").write_text("".join(f"{to_json_line(row)}\n" for row in rows))
    write_json(folder / "metrics.json", {"best": {"valid/accuracy": 100 * right}})


@dataclass
class Line:
    """A backend that calls a function for each job, and another one whenever there is none."""

    train: Callable[[CellJob], CellOutcome | None]
    idle: Callable[[], None] = lambda: None
    workers: int = 1
    trained: list[tuple[int | None, str, int]] = field(default_factory=list)

    def map(self, function: Any, jobs: Iterable[CellJob | None], pause: float = 1.0) -> Iterator[Any]:
        for job in jobs:
            if job is None:
                self.idle()
                continue
            outcome = self.train(job)
            if outcome is not None and not outcome.busy and not outcome.failure:
                self.trained.append((job.cell.step, job.cell.task, job.cell.seed))
            yield job, outcome


def train(job: CellJob) -> CellOutcome:
    finish(job)
    return CellOutcome(seconds=2.0)


def make_plan(*seeds: int, tasks: tuple[str, ...] = ("rte",), retries: int = 1) -> WatchPlan:
    return WatchPlan(
        suites.get("glue"), seeds or (1,), "bert", tasks, ("--data_reader.source", "sample"), retries=retries
    )


def start(run: Path, backend: Line, *seeds: int, tasks: tuple[str, ...] = ("rte",), **settings: Any) -> CellQueue:
    plan = make_plan(*seeds, tasks=tasks, retries=settings.pop("retries", 1))
    return watch_checkpoints(
        CheckpointLister(str(run)), plan, run.parent / "out", backend=backend, **{"poll": 1e-9, **settings}
    )


@pytest.fixture
def configured_run(tmp_path: Path) -> Path:
    """The folder of a pre-training."""
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.fixture
def run(configured_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, with folders of cells that are named without reading BaseConfigs, which takes most of the time."""
    for module in ("cell_queue", "watch"):
        monkeypatch.setattr(
            f"claf2.benchmarking.{module}.cell_dir",
            lambda out, cell: out / f"step-{cell.step}" / f"{cell.task}-{cell.seed}",
        )
    return configured_run


@pytest.mark.parametrize("inside", ["", "steps"])
def test_checkpoints_are_what_has_a_manifest(run: Path, inside: str) -> None:
    add_checkpoint(run, 20, 100)
    (run / "steps/step-000000030").mkdir()
    (run / "steps/.step-000000040.new").mkdir()
    shutil.copytree(run / "steps/step-000000020", run / "steps/notes")
    lister = CheckpointLister(str(run / inside))
    assert [(model.name, model.step) for model in lister.checkpoints()] == [("run", 20), ("run", 100)]
    assert all(Path(model.weights).is_absolute() for model in lister.checkpoints())


def test_a_run_may_have_no_checkpoint_yet_but_must_exist(run: Path) -> None:
    assert CheckpointLister(str(run)).checkpoints() == []
    with pytest.raises(RunError, match="no such folder; start the pre-training first"):
        CheckpointLister(str(run / "nowhere"))
    with pytest.raises(RunError, match="has no checkpoints: folders step-N"):
        start(run, Line(train), once=True)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ftp://host/run", "unknown kind of URL"),
        ("s3://key:secret@bucket/run", r"^s3://bucket/run: the URL of a store must not contain keys"),
    ],
    ids=["scheme", "keys"],
)
def test_a_wrong_url_is_not_waited_for(url: str, problem: str) -> None:
    with pytest.raises(RunError, match=problem):
        CheckpointLister(url)


def test_once_says_why_nothing_could_be_listed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: CheckpointLister) -> None:
        raise RunError("the server refuses")

    monkeypatch.setattr(CheckpointLister, "_list_folder", fail)
    with pytest.raises(RunError, match="the server refuses"):
        start(run, Line(train), once=True)


def test_a_file_is_no_folder_of_a_bench(run: Path) -> None:
    (run.parent / "out").write_text("")
    add_checkpoint(run, 1)
    with pytest.raises(RunError, match="out: cannot be the folder of a bench: File exists; give another"):
        start(run, Line(train), once=True)


def test_two_runs_of_one_name_need_two_folders(run: Path) -> None:
    other = run.parent / "other/run"
    for folder in (run, other):
        add_checkpoint(folder, 10)

    def watch(target: Path) -> None:
        watch_checkpoints(
            CheckpointLister(str(target)), make_plan(), run.parent / "out", backend=Line(train), once=True
        )

    watch(run)
    watch(run / "steps")
    with pytest.raises(RunError, match=f"holds the curve of {run}; give another folder with --out"):
        watch(other)
    (run.parent / "out/watch.json").write_text("{")
    with pytest.raises(RunError, match=f"not JSON: .*; delete it if the folder is that of {run}$"):
        watch(run)


def test_a_store_that_cannot_be_listed_is_reported_once(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    add_checkpoint(run, 20)
    lister = CheckpointLister(str(run))
    known = lister.checkpoints()

    def refuse() -> Iterator[Any]:
        raise OSError("no route to host")

    with monkeypatch.context() as patch:
        patch.setattr(lister, "_list_folder", refuse)
        assert lister.checkpoints() == lister.checkpoints() == known
    assert lister.checkpoints() == known
    assert [record.message.split(":")[-1] for record in caplog.records if record.levelname == "WARNING"] == [
        " no route to host; trying again"
    ]


def test_ends_first_then_halves_seed_by_seed(run: Path) -> None:
    add_checkpoint(run, 10, 20, 30, 40, 50)
    backend = Line(train)
    start(run, backend, 1, 2, tasks=("rte", "mrpc"), once=True)
    assert [step for step, task, seed in backend.trained if seed == 1 and task == "rte"] == [50, 10, 30, 40, 20]
    assert [task for _, task, _ in backend.trained[:4]] == ["rte", "mrpc", "rte", "mrpc"]
    assert [seed for *_, seed in backend.trained] == [1] * 10 + [2] * 10
    assert len(set(backend.trained)) == 20


def test_a_new_checkpoint_is_measured_at_once(run: Path) -> None:
    add_checkpoint(run, 10, 20, 30, 40)
    backend = Line(train)

    def train_and_add(job: CellJob) -> CellOutcome:
        if len(backend.trained) == 2:
            add_checkpoint(run, 50)
        return train(job)

    backend.train = train_and_add
    start(run, backend, 1, 2, until_step=50)
    assert [step for step, *_ in backend.trained] == [40, 10, 30, 50, 20, 50, 10, 30, 40, 20]


def test_the_watch_waits_for_checkpoints_until_a_step(run: Path) -> None:
    steps = iter((10, 20, 30))
    backend = Line(train, idle=lambda: add_checkpoint(run, next(steps)))
    lines: list[str] = []

    def on_progress(progress: Progress) -> None:
        lines.append(progress.format_line())

    start(run, backend, until_step=20, on_progress=on_progress)
    assert [step for step, *_ in backend.trained] == [10, 20]
    assert next(steps) == 30
    assert lines == [
        "[1/1] 0 running, 0 failed, 00:00:00 left  step 10 rte seed 1",
        "[2/2] 0 running, 0 failed, 00:00:00 left  step 20 rte seed 1",
    ]


def test_the_watch_ends_at_a_step_between_two_checkpoints(run: Path) -> None:
    steps = iter((10, 20, 30))
    backend = Line(train, idle=lambda: add_checkpoint(run, next(steps)))
    start(run, backend, until_step=25)
    assert [step for step, *_ in backend.trained] == [10, 20]
    assert list(steps) == []


def test_finished_cells_are_not_trained_again(run: Path) -> None:
    add_checkpoint(run, 10, 20)
    first, second = Line(train), Line(train)
    start(run, first, once=True)
    start(run, second, 1, 2, once=True)
    assert len(first.trained) == 2
    assert [seed for *_, seed in second.trained] == [2, 2]


def test_cells_of_a_checkpoint_that_was_replaced_are_trained_again(run: Path) -> None:
    def write_manifest(weights: str) -> None:
        files = {
            "config.json": {"sha256": "c" * 64},
            "model.safetensors": {"sha256": weights},
            "notes.txt": {"sha256": "n" * 64},
        }
        write_json(run / "steps/step-000000010/manifest.json", {"step": 10, "files": files})

    def train_and_record(job: CellJob) -> CellOutcome:
        finish(job)
        write_json(Path(job.folder) / "run.json", {"weights": job.weights_digest})
        return CellOutcome()

    for weights, trained in (("a" * 64, 1), ("a" * 64, 0), ("b" * 64, 1), ("b" * 64, 0)):
        write_manifest(weights)
        backend = Line(train_and_record)
        start(run, backend, once=True)
        assert len(backend.trained) == trained


def test_weights_have_the_same_digest_by_their_manifest(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    step = tmp_path / "steps/step-000000010"
    shutil.copytree(model_folder(), step)
    write_manifest(step, 10, {})
    (checkpoint,) = CheckpointLister(str(tmp_path)).checkpoints()
    assert checkpoint.weights_digest == weights_digest(step)


def test_a_cell_that_another_watch_trains_is_waited_for(run: Path) -> None:
    add_checkpoint(run, 10, 20)
    jobs: list[CellJob] = []

    def other_has_it(job: CellJob) -> CellOutcome:
        if job.cell.step == 20 and not jobs:
            jobs.append(job)
            return CellOutcome(busy=True)
        return train(job)

    backend = Line(other_has_it, idle=lambda: finish(jobs[0]))
    queue = start(run, backend, once=True)
    assert backend.trained == [(10, "rte", 1)] or len(backend.trained) == 2
    assert {queued.state for step in queue.steps for queued in queue.cells(step)} == {CellState.DONE}


def test_a_checkpoint_that_is_removed_costs_its_own_cells_only(run: Path) -> None:
    add_checkpoint(run, 10, 20)

    def remove(job: CellJob) -> CellOutcome:
        if job.cell.step == 20:
            shutil.rmtree(run / "steps/step-000000020", ignore_errors=True)
            return CellOutcome(failure="model: no such folder")
        return train(job)

    backend = Line(remove)
    queue = start(run, backend, 1, 2, once=True)
    assert backend.trained == [(10, "rte", 1), (10, "rte", 2)]
    states = [queued.state for queued in queue.cells(20)]
    # The first failed while it was trained, and may have been asked for again before the folder was looked at.
    assert states == [CellState.FAILED, CellState.DROPPED] or states == [CellState.DROPPED, CellState.DROPPED]
    assert queue.cells(20)[0].failure == "model: no such folder"


@pytest.mark.parametrize("outcome", [CellOutcome(failure="bad"), None], ids=["fails", "dies"])
def test_a_cell_that_fails_is_trained_again_so_often(run: Path, outcome: CellOutcome | None) -> None:
    add_checkpoint(run, 10)
    attempts: list[CellJob] = []

    def fail(job: CellJob) -> CellOutcome | None:
        attempts.append(job)
        return outcome

    queue = start(run, Line(fail), retries=2, once=True)
    assert len(attempts) == 3
    assert queue.cells(10)[0].state is CellState.FAILED
    assert queue.cells(10)[0].failure == (outcome.failure if outcome else "its process died")
    if outcome is None:
        record = json.loads((Path(attempts[0].folder) / "cell.json").read_text())
        assert record["failure"] == "its process died"


def test_mistakes_are_found_before_there_is_a_checkpoint(configured_run: Path) -> None:
    plan = WatchPlan(suites.get("glue"), (1,), "bert", ("rte",), ("--learning_rat", "1"))
    with pytest.raises(ConfigError, match="learning_rat"):
        watch_checkpoints(
            CheckpointLister(str(configured_run)), plan, configured_run / "out", backend=Line(train), once=True
        )


def report_on(run: Path, told: list[str]) -> CurveReport:
    analysis = CurveAnalysis(["rte"], resamples=50)
    return CurveReport(run.parent / "out", "glue", "run", analysis, [lambda _, text: told.append(text)])


def test_each_verdict_is_told_once_and_in_the_order_of_steps(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    add_checkpoint(run, 10, 20, 30)
    told: list[str] = []

    def improve(job: CellJob) -> CellOutcome:
        finish(job, (job.cell.step or 0) / 50 + job.cell.seed / 60)
        return CellOutcome()

    start(run, Line(improve), 1, 2, 3, once=True, on_ended=report_on(run, told).update)
    assert [text.split(":")[0] for text in told] == ["step 10", "step 20", "step 30"]
    curve = json.loads((run.parent / "out/curve.json").read_text())
    assert [(point["step"], point["complete"]) for point in curve["points"]] == [(10, True), (20, True), (30, True)]
    assert [verdict["reference"] for verdict in curve["previous"]] == [10, 20]
    assert "| 30 |" in (run.parent / "out/curve.md").read_text()
    start(run, Line(improve), 1, 2, 3, once=True, on_ended=report_on(run, told).update)
    assert len(told) == 3
    assert json.loads((run.parent / "out/curve.json").read_text()) == curve


def test_a_verdict_is_told_again_if_it_has_changed(run: Path) -> None:
    add_checkpoint(run, 10, 20)
    told: list[str] = []
    start(run, Line(train), 1, 2, once=True, on_ended=report_on(run, told).update)
    first = list(told)
    start(run, Line(train), 1, 2, once=True, on_ended=report_on(run, told).update)
    assert told == first

    def train_better(job: CellJob) -> CellOutcome:
        finish(job, 0.9)
        return CellOutcome()

    start(run, Line(train_better), 1, 2, 3, once=True, on_ended=report_on(run, told).update)
    assert len(told) == 4
    assert told[2:] == read_verdicts(run.parent / "out") != first


def test_a_score_that_is_undefined_does_not_end_the_watch(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def scores(*_: Any, **__: Any) -> Any:
        raise Claf2Error("undefined in too many resamples")

    monkeypatch.setattr(CurveAnalysis, "scores", scores)
    add_checkpoint(run, 10)
    told: list[str] = []
    start(run, Line(train), 1, 2, once=True, on_ended=report_on(run, told).update)
    assert told == ["step 10: average unknown"]
    assert "step 10 has no score in the curve: undefined in too many resamples" in caplog.text


def test_the_curve_shows_the_seeds_that_are_done(run: Path) -> None:
    add_checkpoint(run, 10, 20)
    seen: list[list[tuple[int, int, bool]]] = []
    report = report_on(run, [])

    def look(queue: CellQueue) -> None:
        report.update(queue)
        seen.append([(point.step, point.tasks["rte"].seeds, point.complete) for point in report.curve().points])

    start(run, Line(train), 1, 2, once=True, on_ended=look)
    assert seen[:4] == [
        [(20, 1, False)],
        [(10, 1, False), (20, 1, False)],
        [(10, 1, False), (20, 2, True)],
        [(10, 2, True), (20, 2, True)],
    ]


def test_who_listens_cannot_end_the_watch(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(curve: Any, text: str) -> None:
        raise ValueError("dead")

    add_checkpoint(run, 10)
    report = CurveReport(run.parent / "out", "glue", "run", CurveAnalysis(["rte"], resamples=50), [refuse])
    start(run, Line(train), 1, 2, once=True, on_ended=report.update)
    assert "the verdict on step 10 could not be passed on: dead" in caplog.text


def test_the_command_says_what_failed(configured_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_checkpoint(configured_run, 10)
    monkeypatch.setattr("claf2.cli.watch._make_backend", lambda *_: Line(lambda _: CellOutcome(failure="too warm")))
    words = [
        str(configured_run),
        "--suite",
        "glue",
        "--tasks",
        "rte",
        "--seeds",
        "1",
        "--once",
        "--sample",
        "--poll",
        "0.001",
    ]
    result = CliRunner().invoke(watch_command, [*words, "--out", str(configured_run / "out")], standalone_mode=False)
    assert result.return_value == 2
    assert "step 10, rte, seed 1: too warm" in result.output
