"""A run whose score is undefined does not hide the others in a table or a comparison."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from claf2.benchmarking import comparison, gate
from claf2.benchmarking.aggregation import summarize_bench
from claf2.benchmarking.cells import Cell
from claf2.benchmarking.runs import CELL_FILE, SeedRun, TaskRuns, collapse_reason
from claf2.benchmarking.submission import _format_predictions
from claf2.benchmarking.summary import format_summary
from claf2.board.pages import export_page
from claf2.errors import RunError
from claf2.evaluation.predictions import to_json_line
from claf2.metrics import Prediction, undefined
from claf2.runtime.files import write_json
from claf2.task import tasks

GOLD = ["entailment", "not_entailment"] * 10
ROWS = [Prediction(str(n), gold, GOLD[0] if n % 3 else gold) for n, gold in enumerate(GOLD)]


def write_cell(out: Path, model: str, seed: int, lines: list[str], **best: Any) -> None:
    folder = out / model / f"rte-{seed}"
    write_json(
        folder / CELL_FILE, {**asdict(Cell("glue", model, model, "rte", seed, "bert", "glue/rte_bert")), "failure": ""}
    )
    (folder / "predictions").mkdir()
    (folder / "predictions/rte-valid.jsonl").write_text("".join(f"{line}\n" for line in lines))
    (folder / "metrics.json").write_text(json.dumps({"best": best}))
    write_json(folder / "run.json", {"recipe": "x"})


def test_a_table_shows_the_other_runs(tmp_path: Path) -> None:
    """Also where an older version has written a score and NaN."""
    good = [to_json_line(row) for row in ROWS]
    bad = [json.dumps({**asdict(row), "score": float("nan")}) for row in ROWS]
    for model, seed, lines, best in (
        ("one", 1, good, {"valid/accuracy": 65.0}),
        ("one", 2, bad, {"valid/accuracy": 50.0, "valid/loss": float("nan")}),
        ("two", 1, good, {"valid/accuracy": 65.0}), ("two", 2, good, {"valid/accuracy": 65.0}),
        ("none", 1, [to_json_line(undefined(row)) for row in ROWS], {"valid/accuracy": None}),
    ):  # fmt: skip
        write_cell(tmp_path, model, seed, lines, **best)
    summary = summarize_bench(tmp_path)
    cells = {row.model: row.cells[0] for row in summary.rows}
    assert all(cell is not None for cell in cells.values())
    found = {model: (cell.values, cell.mean, cell.collapsed) for model, cell in cells.items() if cell}
    assert found == {
        "one": ((65.0, None), 65.0, (2,)), "two": ((65.0, 65.0), 65.0, ()), "none": ((None,), None, (1,)),
    }  # fmt: skip
    assert cells["two"] is not None
    assert cells["two"].low is not None
    assert "65.00 (1 missing) (1 collapsed)" in format_summary(summary)
    assert "NaN" not in export_page(summary).split("</style>")[-1].split("<script")[0]


def runs(*predictions: list[Prediction], task: str = "rte") -> TaskRuns:
    seeds = [SeedRun(Path("x"), seed, {}, rows) for seed, rows in enumerate(predictions, start=1)]
    return TaskRuns(tasks.get(task), seeds, "recipe", {"valid": "sha"})


def test_a_comparison_names_the_task_without_a_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    collapsed = [undefined(row) for row in ROWS]
    folders = {
        one: {"rte": runs(ROWS, ROWS), "wnli": runs(ROWS, ROWS)},
        other: {"rte": runs(ROWS, ROWS), "wnli": runs(ROWS, collapsed)},
    }
    monkeypatch.setattr(comparison, "load_runs", folders.get)
    result = comparison.compare_models(one, other)
    assert [task.task for task in result.tasks] == ["rte"]
    assert result.missing == ["wnli (the score of run 2 of 2 is undefined: it collapsed)"]
    assert "- not compared: wnli (the score of run 2 of 2" in comparison.format_comparison(result)
    del folders[one]["rte"]
    with pytest.raises(RunError, match=r"there is nothing to compare: .*wnli \(the score of run 2 of 2 is undefined"):
        comparison.compare_models(one, other)


def test_a_gate_names_a_candidate_without_a_score() -> None:
    """Before the baseline is scored with what is stored beside the candidate's predictions."""
    tags = ["B-PS", "O"]
    rows = [Prediction(str(n), tags, tags, details={"tokens": ["김", "철"]}) for n in range(20)]
    stored = gate._to_stored(runs(rows, rows, task="klue_ner"))
    candidate = runs([undefined(rows[0]), *rows[1:]], rows, task="klue_ner")
    with pytest.raises(RunError, match="klue_ner, the candidate: the score of run 1 of 2 is undefined"):
        gate._run_task_gate("klue_ner", stored, candidate, 1.0, 0.05, None, needs_evidence=False)


@pytest.mark.parametrize("task", ["klue_mrc", "klue_ner", "klue_dp", "wos", "stsb", "squad", "klue_re", "rte"])
def test_no_metric_is_computed_from_undefined_predictions(task: str) -> None:
    metric = tasks.get(task).metrics[0]
    rows = [undefined(Prediction(str(n), ["O"], ["O"])) for n in range(3)]
    assert collapse_reason(metric, rows, tasks.get(task).labels) == "its score is undefined"


def test_an_undefined_prediction_is_not_submitted() -> None:
    with pytest.raises(RunError, match="there are undefined predictions"):
        _format_predictions([ROWS[0], replace(ROWS[1], prediction=None)])


def test_a_score_of_another_metric_of_that_name_has_no_interval(tmp_path: Path) -> None:
    """The task klue_sts reports an F1, and the registered metric f1 cannot score its numbers."""
    lines = [to_json_line(Prediction(str(n), n % 5, n % 5 + 0.5, n % 5 + 0.5)) for n in range(20)]
    folder = tmp_path / "m/klue_sts-1"
    cell = asdict(Cell("klue", "m", "m", "klue_sts", 1, "bert", "klue/sts_bert"))
    write_json(folder / CELL_FILE, {**cell, "failure": ""})
    (folder / "predictions").mkdir()
    (folder / "predictions/klue_sts-valid.jsonl").write_text("".join(f"{line}\n" for line in lines))
    write_json(folder / "metrics.json", {"best": {"valid/pearson": 100.0, "valid/f1": 100.0}})
    write_json(folder / "run.json", {"recipe": "x"})
    pearson, f1 = summarize_bench(tmp_path).rows[0].cells
    assert pearson is not None
    assert f1 is not None
    assert (pearson.mean, f1.mean, f1.low) == (100.0, 100.0, None)
    assert pearson.low is not None
