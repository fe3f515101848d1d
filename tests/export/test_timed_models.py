"""Latencies of real runs and exports, by the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import claf2
from claf2.benchmarking.timed_models import TimedModel, measure_memory, time_models
from claf2.cli.latency import latency_command
from claf2.errors import RunError
from claf2.export.build import export_run

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a small classifier."""
    folder = tmp_path_factory.mktemp("timed") / "run"
    claf2.train("scratch/nsmc", sample=True, log_dir=folder, num_steps=2)
    return folder


@pytest.fixture(scope="module")
def export(run: Path) -> Path:
    """Its export."""
    folder = run.parent / "export"
    export_run(run, folder)
    return folder


def test_a_run_and_its_export_are_measured_side_by_side(run: Path, export: Path, tmp_path: Path) -> None:
    words = [run, export, "--rows", "1,2", "--tokens", "8,16", "--precision", "fp32", "--precision", "bf16"]
    words += ["--passes", 5, "--threads", 1, "--format", "json", "--chart", tmp_path / "latency.svg"]
    threads = torch.get_num_threads()
    done = CliRunner().invoke(latency_command, [str(word) for word in words], standalone_mode=False)
    assert done.exception is None
    assert torch.get_num_threads() == threads
    stored = json.loads(done.stdout)
    names = ["run, torch fp32", "run, torch bf16", "export, onnx fp32"]
    assert [model["name"] for model in stored["models"]] == names, "an export has one format"
    assert all(0.5 < model["megabytes"] < 10 for model in stored["models"])
    shapes = [(1, 8), (2, 8), (1, 16), (2, 16)]
    assert [(entry["name"], entry["rows"], entry["tokens"]) for entry in stored["latencies"]] == [
        (name, *shape) for shape in shapes for name in names
    ]
    assert stored["threads"] == 1
    assert "</svg>" in (tmp_path / "latency.svg").read_text()


def test_an_engine_computes_what_it_is_said_to(run: Path, export: Path) -> None:
    outputs = {}
    for folder in (run, export):
        (outputs[folder],) = TimedModel(folder, threads=1).make_pass(3, 11)()  # type: ignore[misc]
        assert outputs[folder].logits.shape == (3, 2)
    assert torch.allclose(outputs[run].logits, outputs[export].logits, atol=1e-5), "the same random tokens"
    bf16 = TimedModel(run, precision="bf16").make_pass(3, 11)()[0].logits  # type: ignore[index]
    assert not torch.equal(bf16.float(), outputs[run].logits)


def test_rows_are_computed_alone_where_the_engine_answers_so(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = TimedModel(export, threads=1)
    monkeypatch.setattr(model._loaded.engine, "batching", "single")
    alone = model.make_pass(3, 11)()
    assert [len(outputs.logits) for outputs in alone] == [1, 1, 1]  # type: ignore[attr-defined]


@pytest.mark.slow
def test_memory_is_measured_in_a_process_of_its_own(run: Path) -> None:
    few, many = (measure_memory(run, (rows, 100)) for rows in (1, 400))
    assert 0 < few < many


def test_what_cannot_be_measured_is_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"run, torch fp32: cannot compute 1 rows of 3000 tokens: .*; give --tokens up"):
        time_models([run], [(1, 3000)])
    for option in ("--rows=0", "--tokens=a", "--rows=", "--tokens=1,,2"):
        with pytest.raises(RunError, match=r"expected numbers from 1 with commas"):
            CliRunner().invoke(latency_command, [str(run), option], standalone_mode=False, catch_exceptions=False)
    claf2.train("scratch/klue_dp", sample=True, log_dir=tmp_path / "parser", num_steps=2)
    with pytest.raises(RunError, match="its head also reads first, last, pos"):
        time_models([tmp_path / "parser"], [(1, 8)])
