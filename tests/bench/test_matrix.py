"""The matrix: cells trained by every backend, resumed, summarized, and submitted."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from claf2.benchmarking.aggregation import summarize_bench
from claf2.benchmarking.backends import Backend, ProcessBackend, RayBackend, SerialBackend
from claf2.benchmarking.cells import Cell, CellResult, cell_dir, list_cells, read_cell
from claf2.benchmarking.matrix import (
    BenchModel,
    CellJob,
    Progress,
    find_checkpoints,
    plan_cells,
    run_bench,
    run_cell,
)
from claf2.benchmarking.submission import write_submission
from claf2.benchmarking.summary import format_summary
from claf2.config import Experiment
from claf2.config.source import list_configs
from claf2.errors import ConfigError, RunError
from claf2.evaluation.predictions import predictions_path, read_predictions
from claf2.evaluation.report import Report
from claf2.metrics import Prediction
from claf2.runs import train as training
from claf2.runtime.files import LOCK_FILES
from claf2.task import Suite, suites, tasks

SHORT = ["--data_reader.source", "sample", "--num_steps", "2"]
ALL = sorted({suites.get(name).name for name in suites.names()})


def train_cells(
    out: Path, model: Path | str, *names: str, seeds: tuple[int, ...] = (1,), words: tuple[str, ...] = (),
    suite: str = "glue", backend: Backend | None = None, **settings: Any,
) -> list[CellResult]:  # fmt: skip
    cells = plan_cells(
        suites.get(suite), [BenchModel(str(model), str(model))], tasks=names, seeds=seeds,
        recipe=suites.get(suite).recipes[0], overrides=[*SHORT, *words],
    )  # fmt: skip
    return run_bench(cells, out, backend=backend or SerialBackend(), **settings)


@pytest.mark.parametrize("name", ALL)
def test_every_suite_names_what_exists(name: str) -> None:
    suite = suites.get(name)
    known = set(list_configs())
    for task in suite.columns:
        assert tasks.get(task).name == task
        for recipe in suite.recipes:
            assert f"{suite.configs[task]}_{recipe}" in known
    for row in suite.published:
        assert row.source
        for task, scores in row.scores.items():
            assert len(scores) == len(suite.columns[task]), (row.model, task)
            assert all(score is None or 0 < score <= 100 for score in scores)
    for task, _ in suite.submission.values():
        assert task in suite.columns


def test_an_average_takes_a_task_by_its_mean_and_none_is_left_out_silently() -> None:
    one = Suite(name="x", columns={"a": ("valid/f",), "b": ("valid/f", "valid/g")}, configs={}, recipes=("r",))
    assert one.average({"a": (50.0,), "b": (60.0, 80.0)}) == 60.0
    assert one.average({"a": (50.0,)}) is None
    assert one.average({"a": (50.0,), "b": (60.0, None)}) is None


def test_cells_are_kept_resumed_and_reported(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    model = model_folder()
    (first,) = train_cells(tmp_path, model, "cola")
    stamp = (first.folder / "metrics.json").stat().st_mtime_ns
    assert not (first.folder / "last").exists()
    got = train_cells(tmp_path, model, "cola", "mnli", seeds=(1, 2))
    assert {(result.cell.task, result.cell.seed) for result in got} == {
        ("cola", 1),
        ("cola", 2),
        ("mnli", 1),
        ("mnli", 2),
    }
    assert (first.folder / "metrics.json").stat().st_mtime_ns == stamp  # not trained again
    assert first.provenance == next(result for result in got if result.folder == first.folder).provenance
    assert len({result.digest for result in got}) == 4
    (changed,) = train_cells(tmp_path, model, "cola", words=("--learning_rate", "1e-3"))
    assert changed.folder != first.folder
    assert changed.digest != first.digest
    assert len(list_cells(tmp_path)) == 5
    summary = summarize_bench(tmp_path)
    assert summary.suite == "glue"
    assert [row.options.get("learning_rate") for row in summary.rows] == [None, "1e-3"]  # another recipe is another row
    assert [column.label for column in summary.columns] == [
        "cola (matthews)",
        "mnli (accuracy)",
        "mnli (accuracy mismatched)",
    ]
    cell = summary.rows[0].cells[1]
    assert cell
    assert cell.low is not None
    assert cell.high is not None
    assert cell.mean == pytest.approx(sum(filter(None, cell.values)) / 2)
    assert cell.low < cell.mean < cell.high
    assert "*roberta-large*" in format_summary(summary)
    with pytest.raises(RunError, match="--seed_num is set for each cell: use --seeds"):
        train_cells(tmp_path, model, "cola", words=("--seed_num", "7"))
    with pytest.raises(ConfigError, match="learning_rat"):
        train_cells(tmp_path, model, "cola", words=("--learning_rat", "7"))


def rows(out: Path) -> dict[str, float | None]:
    """Return the rows of a bench of one task: name and options → score."""
    return {f"{row.model} {row.variant()}": cell.mean for row in summarize_bench(out).rows if (cell := row.cells[0])}


def test_models_of_similar_names_have_rows_and_cells_of_their_own(
    model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["m/a", "m_a", str(tmp_path / "m/a"), str(tmp_path / "m/a").strip("/"), "./m_a"]
    for name in names:
        if not Path(name).exists():
            shutil.copytree(model_folder(), name)
    results = {name: train_cells(Path("out"), name, "cola")[0] for name in names}
    assert len({result.folder for result in results.values()}) == len(names)
    assert all(result.folder.parent.parent == Path("out") for result in results.values())
    assert [result.cell.weights for result in results.values()] == names
    assert {row.model for row in summarize_bench(Path("out")).rows} == set(names)
    assert results["m_a"].folder.parent.name == "m_a"
    assert results["m/a"].folder.parent.name.startswith("m_a-")
    stamps = {name: (result.folder / "metrics.json").stat().st_mtime_ns for name, result in results.items()}
    again = {name: train_cells(Path("out"), name, "cola")[0] for name in reversed(names)}
    assert {name: (result.folder / "metrics.json").stat().st_mtime_ns for name, result in again.items()} == stamps
    assert train_cells(Path("out"), "m/a/", "cola")[0].folder == results["m/a"].folder


@pytest.mark.parametrize("name", ["..", ".", "/", "모" * 300, "https://example.org/m.zip?a=b"])
def test_the_folder_of_any_model_is_below_that_of_the_bench(name: str, tmp_path: Path) -> None:
    (cell,) = plan_cells(
        suites.get("glue"), [BenchModel(name, name)], tasks=["cola"], seeds=[1], recipe="bert", overrides=SHORT
    )
    folder = cell_dir(tmp_path, cell)
    assert folder.resolve().parent.parent == tmp_path
    folder.mkdir(parents=True)


def test_another_setting_of_the_runtime_is_another_row(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    model = model_folder()
    (first,) = train_cells(tmp_path, model, "cola")
    (second,) = train_cells(tmp_path, model, "cola", words=("--padding", "keep"))
    (third,) = train_cells(tmp_path, model, "cola", words=("--runtime.cache_dir", str(tmp_path / "cache")))
    assert first.folder == third.folder != second.folder
    assert len(rows(tmp_path)) == 2
    assert [row.options.get("padding") for row in summarize_bench(tmp_path).rows] in ([None, "keep"], ["keep", None])


def test_a_cell_of_an_earlier_version_is_found_but_not_taken_for_another_models(
    model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("m/a", "m/b_c", "m_b/c"):
        shutil.copytree(model_folder(), name)
    (first,) = train_cells(Path("out"), "m/a", "cola")
    first.folder.parent.rename("out/m_a")
    earlier = Path("out/m_a") / first.folder.name
    stamp = (earlier / "metrics.json").stat().st_mtime_ns
    (again,) = train_cells(Path("out"), "m/a", "cola")
    assert again.folder == earlier
    assert (earlier / "metrics.json").stat().st_mtime_ns == stamp
    assert train_cells(Path("out"), "m/a", "cola", words=("--padding", "keep"))[0].folder.parent != earlier.parent
    (other,) = train_cells(Path("out"), "m/b_c", "cola")
    other.folder.parent.rename("out/m_b_c")
    (cell,) = train_cells(Path("out"), "m_b/c", "cola")
    assert cell.folder.parent != Path("out/m_b_c")
    assert {row.model for row in summarize_bench(Path("out")).rows} == {"m/a", "m/b_c", "m_b/c"}
    shutil.copytree(cell.folder, cell.folder.with_name("cola-1-000000000000"))
    with pytest.raises(RunError, match="are runs of one cell: remove the one that is outdated"):
        summarize_bench(Path("out"))


def test_rows_that_look_alike_show_what_differs(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    models = []
    for name in ("step-5", "checkpoint_5"):
        shutil.copytree(model_folder(), tmp_path / f"pre/{name}")
        models += find_checkpoints(str(tmp_path / f"pre/{name}"))
    cells = plan_cells(suites.get("glue"), models, tasks=["cola"], seeds=[1], recipe="bert", overrides=SHORT)
    run_bench(cells, tmp_path / "out", backend=SerialBackend())
    pre = tmp_path / "pre"
    assert {row.model for row in summarize_bench(tmp_path / "out").rows} == {
        f"{pre} ({pre}/step-5)", f"{pre} ({pre}/checkpoint_5)"
    }  # fmt: skip


class TenSeconds(SerialBackend):
    """A backend for which every cell takes ten seconds."""

    def map(self, function: Callable[[Any], Any], jobs: Iterable[Any], pause: float = 1.0) -> Iterator[tuple[Any, Any]]:
        for job in jobs:
            yield job, replace(function(job), seconds=10.0)


def test_the_time_left_counts_trained_cells_only(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    train_cells(tmp_path, model_folder(), "cola", "rte", seeds=(1, 2))
    left: list[float | None] = []
    train_cells(
        tmp_path, model_folder(), "cola", "rte", "sst", seeds=(1, 2, 3), backend=TenSeconds(),
        on_progress=lambda progress: left.append(progress.eta),
    )  # fmt: skip
    # cola and rte are finished with seeds 1 and 2, so five of nine cells are trained.
    assert left == [None, None, 40, 40, 40, 30, 20, 10, 0]


@pytest.mark.parametrize(("seconds", "text"), [(59.6, "00:01:00"), (86400, "24:00:00"), (360_000, "100:00:00")])
def test_the_time_left_may_be_longer_than_a_day(seconds: float, text: str) -> None:
    assert f", {text} left" in Progress(2, 1, 0, 1, seconds).format_line()


@pytest.mark.parametrize("seeds", [(), 3])
def test_seeds_are_a_list(seeds: Any) -> None:
    with pytest.raises(RunError, match="expected a list of seeds"):
        plan_cells(suites.get("glue"), [BenchModel("m", "m")], seeds=seeds, recipe="bert")


@pytest.mark.parametrize(
    "damaged", ["[]", '{"failure": ""}', '{"foo": 1}', "\\x00", '{"failure": "", "overrides": "--a", "plugins": []}']
)
def test_a_damaged_cell_is_named(damaged: str, tmp_path: Path) -> None:
    (tmp_path / "m/c").mkdir(parents=True)
    (tmp_path / "m/c/cell.json").write_text(damaged)
    with pytest.raises(RunError, match=r"cell\.json: (damaged|not JSON)"):
        list_cells(tmp_path)
    with pytest.raises(RunError, match="contains no bench"):
        list_cells(tmp_path / "m")


def test_suites_do_not_mix(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    train_cells(tmp_path, model_folder(), "cola")
    train_cells(tmp_path, model_folder(), "jcola", suite="jglue")
    with pytest.raises(RunError, match="holds cells of suites glue, jglue"):
        summarize_bench(tmp_path)


def predictions(result: CellResult) -> list[Prediction]:
    return read_predictions(predictions_path(result.folder, result.cell.task, "valid"))


@pytest.mark.slow
def test_all_backends_give_the_same_result(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'claf2[ray]'")
    backends: Mapping[str, Callable[[], Backend]] = {
        "serial": SerialBackend, "processes": lambda: ProcessBackend(2), "ray": lambda: RayBackend(cpus=1)
    }  # fmt: skip
    results = {}
    try:
        for name, make in backends.items():
            got = train_cells(tmp_path / name, model_folder(), "cola", "rte", seeds=(1, 2), backend=make(), cpus=1)
            assert not [result.failure for result in got if result.failure]
            results[name] = [(result.scores, predictions(result)) for result in got]
    finally:
        ray.shutdown()
    assert results["serial"] == results["processes"] == results["ray"]


def test_other_weights_in_the_same_folder_are_measured_anew(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    """Checkpoints are often written over each other: an old score must not stand for new weights."""
    model = tmp_path / "model"
    shutil.copytree(model_folder(), model)

    def stamp() -> int:
        (cell,) = train_cells(tmp_path / "out", model, "cola")
        assert not cell.failure
        return (cell.folder / "metrics.json").stat().st_mtime_ns

    first = stamp()
    assert stamp() == first
    weights = load_file(model / "model.safetensors")
    save_file({name: tensor * 1.01 for name, tensor in weights.items()}, model / "model.safetensors", {"format": "pt"})
    assert stamp() > first


def test_the_scores_of_a_run_that_could_not_be_replaced_are_not_those_of_the_cell(
    model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    data = tmp_path / "glue_data/CoLA"
    data.mkdir(parents=True)
    for split in ("train", "dev"):
        (data / f"{split}.tsv").write_text("".join(f"x\t{n % 2}\t\tthe film {n}\n" for n in range(8)))
    words = ("--data_reader.source", "local", "--data_dir", str(tmp_path))
    (cell,) = train_cells(tmp_path / "out", model_folder(), "cola", words=words)
    assert cell.scores
    (data / "train.tsv").write_text("not a row\n")
    (cell,) = train_cells(tmp_path / "out", model_folder(), "cola", words=words)
    assert "train.tsv" in cell.failure
    assert (cell.folder / "metrics.json").is_file()
    assert not cell.scores


def test_an_export_has_another_digest_than_its_run(tmp_path: Path) -> None:
    cell = Cell("glue", "m", "m", "sst", 1, "bert", "glue/sst_bert", (), None)
    run = CellResult(cell, tmp_path, {}, "", {"data": {"valid": "v"}})
    exports = [replace(run, cell=replace(cell, export=words)) for words in ((), ("--int8", "dynamic"))]
    assert len({result.digest for result in (run, *exports)}) == 3


def test_a_cell_that_fails_is_tried_again_and_does_not_stop_the_others(
    model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    words = ("--data_reader.source", "local", "--data_dir", str(tmp_path))
    (tmp_path / "glue_data/CoLA").mkdir(parents=True)
    rows = "".join(f"x\t{n % 2}\t\tthe film {n}\n" for n in range(8))
    for split in ("train", "dev"):
        (tmp_path / f"glue_data/CoLA/{split}.tsv").write_text(rows)
    lines: list[str] = []

    def on_progress(progress: Progress) -> None:
        lines.append(progress.format_line())

    got = train_cells(tmp_path / "out", model_folder(), "rte", "cola", words=words, retries=2, on_progress=on_progress)
    assert "no such file" in got[0].failure
    assert got[1].scores
    assert sum("failed" in line and "rte seed 1" in line for line in lines) == 3
    assert lines[-1].startswith("[2/2]")
    summary = summarize_bench(tmp_path / "out")
    assert "no such file" in summary.failures[0].reason
    with pytest.raises(RunError, match="suite 'glue' has no 'ynat'; it has cola, sst"):
        train_cells(tmp_path, "m", "ynat")


@pytest.mark.slow
def test_a_killed_worker_loses_its_cells_only(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    """A plug-in ends the process of one cell, the first time."""
    plugin = tmp_path / "dies.py"
    plugin.write_text(
        "import os, pathlib, signal, multiprocessing\n"
        "flag = pathlib.Path(__file__).with_suffix('.died')\n"
        "if multiprocessing.parent_process() and not flag.exists():\n"
        "    flag.touch()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    cells = plan_cells(
        suites.get("glue"), [BenchModel("m", str(model_folder()))],
        tasks=["cola", "rte", "sst"], seeds=[1], recipe="bert",
        overrides=SHORT, plugins=[str(plugin)],
    )  # fmt: skip
    got = run_bench(cells, tmp_path / "out", backend=ProcessBackend(2), cpus=1)
    assert plugin.with_suffix(".died").exists()
    assert all(result.scores for result in got)


HOLD = """
import sys, time
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("locked", flush=True)
time.sleep(600)
"""


def test_a_lock_ends_with_its_process_even_if_that_is_killed(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    (cell,) = plan_cells(
        suites.get("glue"), [BenchModel("m", str(model_folder()))], tasks=["cola"], seeds=[1], recipe="bert",
        overrides=SHORT,
    )  # fmt: skip
    job = CellJob(cell, str(cell_dir(tmp_path, cell)))
    Path(job.folder).mkdir(parents=True)
    lock = str(Path(job.folder) / LOCK_FILES[0])
    with subprocess.Popen([sys.executable, "-c", HOLD, lock], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        try:
            assert holder.stdout.readline() == "locked\n"
            assert run_cell(job).busy
            assert not list(tmp_path.glob("*/*/metrics.json"))
        finally:
            holder.kill()
    outcome = run_cell(job)
    assert not outcome.busy
    assert not outcome.failure
    assert read_cell(Path(job.folder)).scores
    assert not run_cell(job).busy, "the lock was released"


@pytest.mark.slow
def test_two_benches_in_one_folder(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    """Each cell is trained by one of them, and a bench that was killed is resumed."""
    start = [
        sys.executable, "-c", "from claf2.cli.main import main; main()", "bench", "run", "--suite", "glue", "--models",
        str(model_folder()), "--tasks", "cola,sst,rte", "--seeds", "1-2", "--out", str(tmp_path), "--sample",
        "--num_steps", "30",
    ]  # fmt: skip
    both = [subprocess.Popen(start, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    while not list(tmp_path.glob("*/*/metrics.json")):
        time.sleep(0.1)
        assert both[0].poll() is None or both[1].poll() is None
    os.kill(both[0].pid, signal.SIGKILL)
    for bench in both:
        bench.communicate()
    ended = subprocess.run(start, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert len(list_cells(tmp_path)) == 6
    assert all(result.scores for result in list_cells(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_bench_that_is_stopped_saves_its_cells(
    workers: str, model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """The signal reaches the bench only; the same command goes on."""
    start = [
        sys.executable, "-c", "from claf2.cli.main import main; main()", "bench", "run", "--suite", "glue", "--models",
        str(model_folder()), "--tasks", "cola,rte", "--seeds", "1", "--out", str(tmp_path), "--sample",
        "--num_steps", "2000", "--eval_and_save_step_count", "2000", "--verbose_step_count", "1", "--workers", workers,
    ]  # fmt: skip
    with subprocess.Popen(start, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as bench:
        while sum("Step: 2/" in path.read_text() for path in tmp_path.glob("*/*/train.log")) < int(workers):
            time.sleep(0.1)
            assert bench.poll() is None
        bench.terminate()
        _, errors = bench.communicate(timeout=120)
    assert bench.returncode == 130, errors[-2000:]
    assert "Traceback" not in errors
    assert len(list(tmp_path.glob("*/*/last/state.json"))) == int(workers)


def test_checkpoints_are_found_with_their_steps(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    for step in (100, 20, 3):
        shutil.copytree(model_folder(), tmp_path / f"pre/step-{step}")
    models = find_checkpoints(str(tmp_path / "pre/step-*"))
    assert [model.step for model in models] == [3, 20, 100]
    cells = plan_cells(suites.get("glue"), models, tasks=["cola"], seeds=[1], recipe="bert", overrides=SHORT)
    run_bench(cells, tmp_path / "out", backend=SerialBackend())
    summary = summarize_bench(tmp_path / "out")
    assert {row.step for row in summary.rows} == {3, 20, 100}
    assert {row.model for row in summary.rows} == {str(tmp_path / "pre")}
    with pytest.raises(RunError, match="no such files"):
        find_checkpoints(str(tmp_path / "post/*"))


def test_a_submission_is_in_the_official_form(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    data = tmp_path / "glue_data"
    for folder in ("CoLA", "STS-B", "diagnostic"):
        (data / folder).mkdir(parents=True)
    (data / "CoLA/test.tsv").write_text("index\tsentence\n0\tthe film\n1\ta dog\n")
    (data / "STS-B/test.tsv").write_text("index\tsentence1\tsentence2\n0\tthe film\ta dog\n")
    (data / "diagnostic/diagnostic.tsv").write_text("index\tsentence1\tsentence2\n0\tthe film\ta dog\n")
    glue = suites.get("glue")
    train_cells(tmp_path / "out", model_folder(), "cola", "stsb", "mnli", words=("--data_dir", str(tmp_path)))
    missing = write_submission(glue, tmp_path / "out", tmp_path / "s.zip")
    assert "RTE.tsv: rte was not trained" in missing
    with zipfile.ZipFile(tmp_path / "s.zip") as archive:
        assert set(archive.namelist()) == {"CoLA.tsv", "STS-B.tsv", "AX.tsv"}
        lines = {name: archive.read(name).decode().splitlines() for name in archive.namelist()}
    assert lines["CoLA.tsv"][0] == "index\tprediction"
    assert [line.split("\t")[0] for line in lines["CoLA.tsv"][1:]] == ["0", "1"]
    assert lines["CoLA.tsv"][1].split("\t")[1] in ("0", "1")
    number = lines["STS-B.tsv"][1].split("\t")[1]
    assert f"{float(number):.3f}" == number
    assert lines["AX.tsv"][1].split("\t")[1] in ("entailment", "neutral", "contradiction")
    with pytest.raises(RunError, match="has no format for submissions"):
        write_submission(suites.get("klue"), tmp_path / "out", tmp_path / "x.zip")


def test_a_full_disk_fails_the_cell_in_flight(
    model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = training.train

    def full(experiment: Experiment, **words: bool) -> Report:
        if "cola" in experiment.tasks:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return train(experiment, **words)

    monkeypatch.setattr(training, "train", full)
    got = train_cells(tmp_path, model_folder(), "cola", "rte", retries=0)
    assert "No space left on device" in got[0].failure
    assert got[1].scores
    monkeypatch.undo()
    assert all(result.scores for result in train_cells(tmp_path, model_folder(), "cola", "rte"))


def test_a_bug_keeps_its_traceback(
    model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(experiment: Experiment, **words: bool) -> Report:
        raise KeyError("x")

    monkeypatch.setattr(training, "train", broken)
    (result,) = train_cells(tmp_path, model_folder(), "cola", retries=0)
    log = result.folder / "failure.log"
    assert result.failure == f"KeyError: 'x'; its traceback is in {log}"
    assert 'in broken\n    raise KeyError("x")' in log.read_text()
    monkeypatch.undo()
    (result,) = train_cells(tmp_path, model_folder(), "cola")
    assert result.scores
    assert not log.exists()


def test_a_bench_with_workers_imports_nothing_heavy_itself(tmp_path: Path) -> None:
    """Workers need not wait until the process that starts them has imported torch."""
    script = tmp_path / "bench.py"
    script.write_text(
        "import sys, claf2\n"
        "class Workers:\n"
        "    workers = 2\n"
        "    def map(self, function, jobs):\n"
        "        sys.exit(str([name for name in ('torch', 'transformers') if name in sys.modules]))\n"
        f"claf2.bench('glue', ['m'], tasks=['cola'], sample=True, out={str(tmp_path / 'out')!r}, backend=Workers())\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"
