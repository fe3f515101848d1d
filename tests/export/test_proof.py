"""An export ends in a proof: difference, interval, flips, costs, and an exit code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import claf2
from claf2.benchmarking.proof import prove_export
from claf2.cli.export import export_command
from claf2.export.build import Export, export_run

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a small classifier, with 200 validation rows."""
    folder = tmp_path_factory.mktemp("proven") / "run"
    claf2.train("scratch/nsmc", sample=True, log_dir=folder, num_steps=2)
    return folder


@pytest.fixture(scope="module")
def export(run: Path) -> Export:
    """Its export."""
    return export_run(run, run.parent / "export")


def invoke(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(export_command, [str(word) for word in words], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.return_value, done.stdout


def read_parity(folder: Path) -> dict[str, Any]:
    parity: dict[str, Any] = json.loads((folder / "parity.json").read_text())
    return parity


def test_the_exit_code_is_three_unless_non_inferiority_is_shown(run: Path, tmp_path: Path) -> None:
    code, text = invoke(run, "-o", tmp_path, "--no-costs")
    assert code == 3, "200 rows cannot show one point"
    assert ": not shown within 1\n0 of 200 answers differ" in text
    code, text = invoke(run, "-o", tmp_path, "--no-costs", "--overwrite", "--non-inferior", 2)
    assert code == 0
    assert ": non-inferior within 2\n" in text
    parity = read_parity(tmp_path)
    assert parity["noninferiority"]["verdict"] == "non-inferior"
    assert "costs" not in parity
    assert max(parity["differences"].values()) < 1e-5, "what was there before is kept"


def test_flips_are_listed_by_id(run: Path, export: Export) -> None:
    rows = export.origin["valid"]
    turned = {row.id for row in rows[:30]}
    other = {"0": "1", "1": "0"}
    origin = [replace(row, prediction=other[row.prediction]) if row.id in turned else row for row in rows]
    result = prove_export(run, replace(export, origin={"valid": origin}), costs=False)
    stored = read_parity(export.folder)["noninferiority"]
    assert stored["changed"] == 30
    assert {*stored["gained"], *stored["lost"]} == turned
    assert len(stored["gained"]) - len(stored["lost"]) == round(2 * result.difference.value)


@pytest.mark.slow
def test_costs_of_both_are_measured(run: Path, export: Export) -> None:
    prove_export(run, export)
    costs = read_parity(export.folder)["costs"]
    assert [model["name"] for model in costs["models"]] == ["run, torch fp32", "export, onnx fp32"]
    assert all(model["megabytes"] > 0 and model["memory"] > 0 for model in costs["models"])
    assert [(entry["rows"], entry["tokens"]) for entry in costs["latencies"]] == [(1, 64), (1, 64)]
