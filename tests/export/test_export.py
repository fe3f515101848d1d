"""Exports: the outputs of PyTorch, the scores of the run, and the same answers in any batch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import claf2
from claf2.export import open_answerer
from claf2.export.build import export_run
from claf2.runs.locate import locate_splits
from claf2.runs.resolve import open_run

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a small classifier."""
    folder = tmp_path_factory.mktemp("exported") / "run"
    claf2.train("scratch/nsmc", sample=True, log_dir=folder, num_steps=3)
    return folder


@pytest.fixture(scope="module")
def export(run: Path) -> Path:
    """Its export."""
    folder = run.parent / "export"
    export_run(run, folder)
    return folder


def test_an_export_has_the_outputs_and_the_scores_of_its_run(run: Path, export: Path) -> None:
    parity = json.loads((export / "parity.json").read_text())
    assert set(parity["differences"]) == {"1x7", "5x100", "3x2"}
    assert max(parity["differences"].values()) < 1e-5
    before, after = (
        [json.loads(line) for line in (folder / "predictions/nsmc-valid.jsonl").read_text().splitlines()]
        for folder in (run, export)
    )
    assert [row["prediction"] for row in before] == [row["prediction"] for row in after]
    assert [row["score"] for row in before] == pytest.approx([row["score"] for row in after], abs=1e-5)


def test_rows_are_answered_alike_in_any_batch(run: Path, export: Path) -> None:
    answerer = open_answerer(export)
    assert answerer.exact_batching
    (splits,) = locate_splits(open_run(run).experiment).values()
    encoded = answerer.encode("nsmc", list(splits["valid"].examples()))
    alone = [prediction for request in encoded for prediction in answerer.answer("nsmc", [request])]
    assert alone == answerer.answer("nsmc", encoded) == answerer.answer_by_length("nsmc", encoded)
