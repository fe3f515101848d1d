"""Suites: every task with every seed, resumed, reported beside what was published, and submitted."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from claf2 import overrides, suite
from claf2.errors import RunError
from claf2.suite import Cell
from claf2.task import Published, Suite, suites, tasks

SHORT = ["--data_reader.source", "sample", "--num_steps", "2"]
ALL = sorted({suites.get(name).name for name in suites.names()})


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


def test_the_table_has_means_and_bands_and_says_what_is_undefined() -> None:
    one = Suite(
        name="x", columns={"a": ("valid/f",)}, configs={}, recipes=("r",),
        published=(Published(model="old", source="a paper †", split="test", scores={"a": (71.0,)}),),
    )  # fmt: skip
    cells = [Cell("m", "a", seed, "", scores=(score,)) for seed, score in ((1, 60.0), (2, 64.0))]
    text = suite.table(one, cells)
    assert "| m (2 seeds) | 62.00 ± 2.83 | 62.00 |" in text
    assert "| *old* (a paper †, test) | 71.00 | 71.00 |" in text
    text = suite.table(one, [*cells, Cell("m", "a", 3, "", scores=(None,)), Cell("m", "a", 4, "", failure="no file")])
    assert "62.00 ± 2.83 (1 undefined) |  |" in text
    assert "- m, a, seed 4: no file" in text


def test_cells_are_kept_resumed_and_reported(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    model = str(model_folder())

    def measure(*names: str, seeds: tuple[int, ...] = (1,), words: tuple[str, ...] = ()) -> list[Cell]:
        return suite.measure(
            suites.get("glue"), [model], tasks=names, seeds=seeds, recipe="bert", folder=tmp_path,
            overrides=[*SHORT, *words],
        )  # fmt: skip

    first = measure("cola")
    stamp = (Path(first[0].folder) / "metrics.json").stat().st_mtime_ns
    cells = measure("cola", "mnli", seeds=(1, 2))
    assert {(cell.task, cell.seed) for cell in cells} == {("cola", 1), ("cola", 2), ("mnli", 1), ("mnli", 2)}
    assert (Path(first[0].folder) / "metrics.json").stat().st_mtime_ns == stamp  # not trained again
    mnli = next(cell for cell in cells if cell.task == "mnli")
    assert len(mnli.scores) == 2
    assert None not in mnli.scores
    changed = measure("cola", words=("--learning_rate", "1e-3"))
    assert changed[-1].folder != first[0].folder
    assert changed[-1].recipe != first[0].recipe
    record = json.loads((tmp_path / "suite.json").read_text())
    assert len(record["cells"]) == 5
    assert len(record["averages"]) == 2  # another recipe is another row
    with pytest.raises(RunError, match="--seed_num is set for each cell: say --seeds"):
        measure("cola", words=("--seed_num", "7"))
    with pytest.raises(RunError, match="is of suite 'glue': give 'klue' a folder of its own"):
        suite.measure(suites.get("klue"), [model], tasks=["ynat"], seeds=[1], recipe="bert", folder=tmp_path)
    for damaged in ("[]", '{"suite": "glue", "cells": [null]}', '{"suite": "glue", "cells": [{"foo": 1}]}', "\\x00"):
        (tmp_path / "suite.json").write_text(damaged)
        with pytest.raises(RunError, match=r"suite\.json: (damaged|not JSON)"):
            measure("cola")
    assert "*roberta-large*" in (tmp_path / "suite.md").read_text()


def test_other_weights_in_the_same_folder_are_measured_anew(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    """Checkpoints are often written over each other: an old score must not stand for new weights."""
    model = tmp_path / "model"
    shutil.copytree(model_folder(), model)

    def stamp() -> int:
        (cell,) = suite.measure(
            suites.get("glue"), [str(model)], tasks=["cola"], seeds=[1], recipe="bert", folder=tmp_path / "out",
            overrides=SHORT,
        )  # fmt: skip
        assert not cell.failure
        return (Path(cell.folder) / "metrics.json").stat().st_mtime_ns

    first = stamp()
    assert stamp() == first
    weights = load_file(model / "model.safetensors")
    save_file({name: each * 1.01 for name, each in weights.items()}, model / "model.safetensors", {"format": "pt"})
    assert stamp() > first


def test_a_cell_that_fails_does_not_stop_the_others(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    words = ["--num_steps", "2", "--data_dir", str(tmp_path)]
    (tmp_path / "glue_data/CoLA").mkdir(parents=True)
    rows = "".join(f"x\t{n % 2}\t\tthe film {n}\n" for n in range(8))
    for split in ("train", "dev"):
        (tmp_path / f"glue_data/CoLA/{split}.tsv").write_text(rows)
    cells = suite.measure(
        suites.get("glue"), [str(model_folder())], tasks=["rte", "cola"], seeds=[1], recipe="bert",
        folder=tmp_path / "out", overrides=words,
    )  # fmt: skip
    assert "no such file" in cells[0].failure
    assert cells[1].scores
    with pytest.raises(RunError, match="suite 'glue' has no 'ynat'; it has cola, sst"):
        suite.measure(suites.get("glue"), ["m"], tasks=["ynat"], seeds=[1], recipe="bert", folder=tmp_path)


def test_a_submission_is_in_the_official_form(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    data = tmp_path / "glue_data"
    for folder in ("CoLA", "STS-B", "diagnostic"):
        (data / folder).mkdir(parents=True)
    (data / "CoLA/test.tsv").write_text("index\tsentence\n0\tthe film\n1\ta dog\n")
    (data / "STS-B/test.tsv").write_text("index\tsentence1\tsentence2\n0\tthe film\ta dog\n")
    (data / "diagnostic/diagnostic.tsv").write_text("index\tsentence1\tsentence2\n0\tthe film\ta dog\n")
    glue = suites.get("glue")
    words = [*SHORT, "--data_dir", str(tmp_path)]
    suite.measure(
        glue, [str(model_folder())], tasks=["cola", "stsb", "mnli"], seeds=[1], recipe="bert", folder=tmp_path / "out",
        overrides=words,
    )  # fmt: skip
    missing = suite.submit(glue, tmp_path / "out", tmp_path / "s.zip")
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
        suite.submit(suites.get("klue"), tmp_path / "out", tmp_path / "x.zip")
