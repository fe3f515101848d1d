"""The matrix: every model, task and seed, by whoever trains them, resumed, reported, and submitted."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from claf2 import overrides
from claf2 import run as training
from claf2.bench import collect
from claf2.bench.backends import Backend, Here, Processes, RayCluster
from claf2.bench.matrix import Measured, Model, Progress, cells, checkpoints, found, run
from claf2.bench.submission import submit
from claf2.config import Experiment
from claf2.errors import ConfigError, RunError
from claf2.metrics import Prediction
from claf2.report import Report
from claf2.store import read_predictions
from claf2.task import Suite, suites, tasks

SHORT = ["--data_reader.source", "sample", "--num_steps", "2"]
ALL = sorted({suites.get(name).name for name in suites.names()})


def measure(
    out: Path, model: Path | str, *names: str, seeds: tuple[int, ...] = (1,), words: tuple[str, ...] = (),
    suite: str = "glue", backend: Backend | None = None, **settings: Any,
) -> list[Measured]:  # fmt: skip
    wanted = cells(
        suites.get(suite), [Model(str(model), str(model))], tasks=names, seeds=seeds,
        recipe=suites.get(suite).recipes[0], overrides=[*SHORT, *words],
    )  # fmt: skip
    return run(wanted, out, backend=backend or Here(), **settings)


@pytest.mark.parametrize("name", ALL)
def test_every_suite_names_what_exists(name: str) -> None:
    each = suites.get(name)
    known = set(overrides.names())
    for task in each.columns:
        assert tasks.get(task).name == task
        for recipe in each.recipes:
            assert f"{each.configs[task]}_{recipe}" in known
    for row in each.published:
        assert row.source
        for task, scores in row.scores.items():
            assert len(scores) == len(each.columns[task]), (row.model, task)
            assert all(score is None or 0 < score <= 100 for score in scores)
    for task, _ in each.submission.values():
        assert task in each.columns


def test_an_average_takes_a_task_by_its_mean_and_none_is_left_out_silently() -> None:
    one = Suite(name="x", columns={"a": ("valid/f",), "b": ("valid/f", "valid/g")}, configs={}, recipes=("r",))
    assert one.average({"a": (50.0,), "b": (60.0, 80.0)}) == 60.0
    assert one.average({"a": (50.0,)}) is None
    assert one.average({"a": (50.0,), "b": (60.0, None)}) is None


def test_cells_are_kept_resumed_and_reported(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    model = model_folder()
    (first,) = measure(tmp_path, model, "cola")
    stamp = (first.folder / "metrics.json").stat().st_mtime_ns
    assert not (first.folder / "last").exists()
    got = measure(tmp_path, model, "cola", "mnli", seeds=(1, 2))
    assert {(each.cell.task, each.cell.seed) for each in got} == {("cola", 1), ("cola", 2), ("mnli", 1), ("mnli", 2)}
    assert (first.folder / "metrics.json").stat().st_mtime_ns == stamp  # not trained again
    assert first.lock == next(each for each in got if each.folder == first.folder).lock
    assert len({each.digest for each in got}) == 4
    (changed,) = measure(tmp_path, model, "cola", words=("--learning_rate", "1e-3"))
    assert changed.folder != first.folder
    assert changed.digest != first.digest
    assert len(found(tmp_path)) == 5
    suite, summary = collect.summarize(tmp_path)
    assert suite.name == "glue"
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
    assert "*roberta-large*" in collect.markdown(summary)
    with pytest.raises(RunError, match="--seed_num is set for each cell: say --seeds"):
        measure(tmp_path, model, "cola", words=("--seed_num", "7"))
    with pytest.raises(ConfigError, match="learning_rat"):
        measure(tmp_path, model, "cola", words=("--learning_rat", "7"))


@pytest.mark.parametrize("damaged", ["[]", '{"failure": ""}', '{"foo": 1}', "\\x00"])
def test_a_damaged_cell_is_named(damaged: str, tmp_path: Path) -> None:
    (tmp_path / "m/c").mkdir(parents=True)
    (tmp_path / "m/c/cell.json").write_text(damaged)
    with pytest.raises(RunError, match=r"cell\.json: (damaged|not JSON)"):
        found(tmp_path)
    with pytest.raises(RunError, match="holds no bench"):
        found(tmp_path / "m")


def test_suites_do_not_mix(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    measure(tmp_path, model_folder(), "cola")
    measure(tmp_path, model_folder(), "jcola", suite="jglue")
    with pytest.raises(RunError, match="holds cells of suites glue, jglue"):
        collect.summarize(tmp_path)


def answers(each: Measured) -> list[Prediction]:
    return read_predictions(each.folder / f"predictions/{each.cell.task}-valid.jsonl")


def test_whoever_trains_the_result_is_the_same(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'claf2[ray]'")
    ways: Mapping[str, Callable[[], Backend]] = {
        "here": Here, "processes": lambda: Processes(2), "ray": lambda: RayCluster(cpus=1)
    }  # fmt: skip
    results = {}
    try:
        for name, make in ways.items():
            got = measure(tmp_path / name, model_folder(), "cola", "rte", seeds=(1, 2), backend=make(), cpus=1)
            assert not [each.failure for each in got if each.failure]
            results[name] = [(each.scores, answers(each)) for each in got]
    finally:
        ray.shutdown()
    assert results["here"] == results["processes"] == results["ray"]


def test_other_weights_in_the_same_folder_are_measured_anew(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    """Checkpoints are often written over each other: an old score must not stand for new weights."""
    model = tmp_path / "model"
    shutil.copytree(model_folder(), model)

    def stamp() -> int:
        (cell,) = measure(tmp_path / "out", model, "cola")
        assert not cell.failure
        return (cell.folder / "metrics.json").stat().st_mtime_ns

    first = stamp()
    assert stamp() == first
    weights = load_file(model / "model.safetensors")
    save_file({name: each * 1.01 for name, each in weights.items()}, model / "model.safetensors", {"format": "pt"})
    assert stamp() > first


def test_a_cell_that_fails_is_tried_again_and_does_not_stop_the_others(
    model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    words = ("--data_reader.source", "local", "--data_dir", str(tmp_path))
    (tmp_path / "glue_data/CoLA").mkdir(parents=True)
    rows = "".join(f"x\t{n % 2}\t\tthe film {n}\n" for n in range(8))
    for split in ("train", "dev"):
        (tmp_path / f"glue_data/CoLA/{split}.tsv").write_text(rows)
    lines: list[str] = []

    def tell(progress: Progress) -> None:
        lines.append(progress.line())

    got = measure(tmp_path / "out", model_folder(), "rte", "cola", words=words, retries=2, tell=tell)
    assert "no such file" in got[0].failure
    assert got[1].scores
    assert sum("failed" in line and "rte seed 1" in line for line in lines) == 3
    assert lines[-1].startswith("[2/2]")
    _, summary = collect.summarize(tmp_path / "out")
    assert "no such file" in summary.failures[0].reason
    with pytest.raises(RunError, match="suite 'glue' has no 'ynat'; it has cola, sst"):
        measure(tmp_path, "m", "ynat")


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
    wanted = cells(
        suites.get("glue"), [Model("m", str(model_folder()))], tasks=["cola", "rte", "sst"], seeds=[1], recipe="bert",
        overrides=SHORT, plugins=[str(plugin)],
    )  # fmt: skip
    got = run(wanted, tmp_path / "out", backend=Processes(2), cpus=1)
    assert plugin.with_suffix(".died").exists()
    assert all(each.scores for each in got)


def test_two_benches_in_one_folder(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    """Each cell is trained by one of them, and a bench that was killed goes on."""
    start = [
        sys.executable, "-c", "from claf2.cli import main; main()", "bench", "run", "--suite", "glue", "--models",
        str(model_folder()), "--tasks", "cola,sst,rte", "--seeds", "1-2", "--out", str(tmp_path), "--sample",
        "--num_steps", "30",
    ]  # fmt: skip
    both = [subprocess.Popen(start, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    while not list(tmp_path.glob("*/*/metrics.json")):
        time.sleep(0.1)
        assert both[0].poll() is None or both[1].poll() is None
    os.kill(both[0].pid, signal.SIGKILL)
    for each in both:
        each.communicate()
    ended = subprocess.run(start, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert len(found(tmp_path)) == 6
    assert all(each.scores for each in found(tmp_path))


def test_checkpoints_are_found_with_their_steps(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    for step in (100, 20, 3):
        shutil.copytree(model_folder(), tmp_path / f"pre/step-{step}")
    models = checkpoints(str(tmp_path / "pre/step-*"))
    assert [model.step for model in models] == [3, 20, 100]
    wanted = cells(suites.get("glue"), models, tasks=["cola"], seeds=[1], recipe="bert", overrides=SHORT)
    run(wanted, tmp_path / "out", backend=Here())
    _, summary = collect.summarize(tmp_path / "out")
    assert {row.step for row in summary.rows} == {3, 20, 100}
    assert {row.model for row in summary.rows} == {str(tmp_path / "pre")}
    with pytest.raises(RunError, match="no such files"):
        checkpoints(str(tmp_path / "post/*"))


def test_a_submission_is_in_the_official_form(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    data = tmp_path / "glue_data"
    for folder in ("CoLA", "STS-B", "diagnostic"):
        (data / folder).mkdir(parents=True)
    (data / "CoLA/test.tsv").write_text("index\tsentence\n0\tthe film\n1\ta dog\n")
    (data / "STS-B/test.tsv").write_text("index\tsentence1\tsentence2\n0\tthe film\ta dog\n")
    (data / "diagnostic/diagnostic.tsv").write_text("index\tsentence1\tsentence2\n0\tthe film\ta dog\n")
    glue = suites.get("glue")
    measure(tmp_path / "out", model_folder(), "cola", "stsb", "mnli", words=("--data_dir", str(tmp_path)))
    missing = submit(glue, tmp_path / "out", tmp_path / "s.zip")
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
    with pytest.raises(RunError, match="takes no submissions"):
        submit(suites.get("klue"), tmp_path / "out", tmp_path / "x.zip")


def test_a_full_disk_fails_the_cell_in_flight(
    model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = training.train

    def full(experiment: Experiment, **words: bool) -> Report:
        if "cola" in experiment.parts:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return train(experiment, **words)

    monkeypatch.setattr(training, "train", full)
    got = measure(tmp_path, model_folder(), "cola", "rte", retries=0)
    assert "No space left on device" in got[0].failure
    assert got[1].scores
    monkeypatch.undo()
    assert all(each.scores for each in measure(tmp_path, model_folder(), "cola", "rte"))
