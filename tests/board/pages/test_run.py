"""The page of a run: what it gets wrong, its curves and where it comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from board_cells import write_cell
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from claf2.benchmarking.aggregation import summarize_bench
from claf2.benchmarking.cells import Cell
from claf2.board.pages import Site, render_run
from claf2.board.pages.folder import export_bench
from claf2.board.pages.mistakes import ErrorKind, confusion_matrix, count_errors, list_mistakes
from claf2.board.pages.run import RunDetails, make_run_page
from claf2.board.pages.suite import RowRuns
from claf2.cli.bench import bench_report
from claf2.metrics import Prediction
from claf2.task import tasks


def predict(gold: Any, answer: Any, **more: Any) -> Prediction:
    return Prediction("x", gold, answer, **more)


def test_a_confusion_matrix_counts_pairs_and_names_labels_in_their_order() -> None:
    rows = [predict("b", "a"), predict("b", "b"), predict("b", "a"), predict("a", "a"), predict("c", None)]
    matrix = confusion_matrix(rows, ["b", "a"])
    assert matrix is not None
    assert (matrix.labels, matrix.counts) == (("b", "a"), ((1, 2), (0, 1)))
    assert [[matrix.shade(row, column) for column in (0, 1)] for row in (0, 1)] == [[2, 4], [0, 6]]


def test_answers_that_are_no_labels_have_no_confusion_matrix() -> None:
    assert confusion_matrix([predict(1.0, 2.0)], []) is None
    assert confusion_matrix([predict(["O"], ["O"])], []) is None
    assert confusion_matrix([predict(str(n), str(n)) for n in range(41)], []) is None
    assert confusion_matrix([], ["a", "b"]) is None


@pytest.mark.parametrize(
    ("gold", "answer", "kinds"),
    [
        pytest.param("a", "b", [("a", "b")], id="label"),
        pytest.param("a", "a", [], id="right"),
        pytest.param(["O", "B-X", "I-X"], ["O", "B-Y", "I-X"], [("B-X", "B-Y")], id="tags"),
        pytest.param({"relations": ["r", "s"]}, {"relations": ["r", "t"]}, [("s", "t")], id="parse"),
        pytest.param(["d-s-v", "d-t-w"], ["d-s-v"], [("d-t-w", "(missing)")], id="slot missing"),
        pytest.param(["d-s-v"], ["d-s-v", "d-t-x"], [("(nothing)", "d-t-x")], id="slot added"),
        pytest.param(["yes", "y"], "y", [], id="answer"),
        pytest.param(["yes"], "", [("an answer", "no answer")], id="no answer given"),
        pytest.param(["yes"], "no", [("an answer", "another answer")], id="other answer"),
        pytest.param([], "yes", [("no answer", "an answer")], id="unanswerable"),
        pytest.param([], "", [], id="rightly none"),
        pytest.param(1.0, 2.0, [], id="number"),
        pytest.param("a", None, [], id="undefined"),
    ],
)  # fmt: skip
def test_kinds_of_errors_follow_from_the_answers(gold: Any, answer: Any, kinds: list[tuple[str, str]]) -> None:
    assert list(count_errors([predict(gold, answer)])) == [ErrorKind(*kind, 1) for kind in kinds]


def test_the_most_frequent_kinds_come_first() -> None:
    rows = [predict("a", "b"), predict("c", "d"), predict("c", "d")]
    assert [(kind.gold, kind.count) for kind in count_errors(rows)] == [("c", 2), ("a", 1)]


def test_the_most_confident_errors_come_first() -> None:
    rows = [
        Prediction(str(n), "a", answer, score, {"probabilities": {"a": 1 - score, "b": score}})
        for n, (answer, score) in enumerate([("b", 0.6), ("a", 0.99), ("b", 0.9), ("b", 0.7)])
    ]
    mistakes = list_mistakes(rows, lambda row: row.gold == row.prediction, most=2)
    assert [(each.id, each.confidence) for each in mistakes] == [("2", 0.9), ("3", 0.7)]
    assert mistakes[0].alternatives[0] == ("b", 0.9)


def test_the_numbers_farthest_from_gold_come_first() -> None:
    rows = [Prediction(str(n), 3.0, answer) for n, answer in enumerate([2.0, 5.0, 3.2])]
    mistakes = list_mistakes(rows, tasks.get("klue_sts").metrics[0].is_right)
    assert [(each.id, each.prediction) for each in mistakes] == [("1", "5.000"), ("0", "2.000")]


def test_of_tags_the_entities_that_differ_are_shown() -> None:
    tags = ["B-PS", "I-PS", "O", "B-LC"]
    tokens = {"tokens": ["김", "철", " ", "서울"]}
    (mistake,) = list_mistakes([predict(tags, ["B-PS", "I-PS", "O", "O"], details=tokens)], lambda row: False)
    assert (mistake.gold, mistake.prediction) == ("LC 서울", "no other entity")
    (mistake,) = list_mistakes([predict(tags, ["O", "O", "O", "B-LC"])], lambda row: False)
    assert mistake.gold == "PS tokens 1 to 2"


def test_runs_of_the_same_row_are_linked(example_run: RunDetails) -> None:
    digests = {("mnli", 11): example_run.digest, ("mnli", 12): "m12", ("rte", 12): "r12", ("rte", 11): "r11"}
    page = make_run_page(example_run, RowRuns("row", digests))
    assert [(link.label, link.digest, link.current) for link in page.seeds] == [
        ("11", example_run.digest, True), ("12", "m12", False),
    ]  # fmt: skip
    assert [(link.label, link.digest) for link in page.tasks] == [("mnli", example_run.digest), ("rte", "r11")]


def test_scores_come_before_losses_and_a_link_needs_an_address(example_run: RunDetails) -> None:
    page = make_run_page(example_run)
    assert [key for key, _ in page.scores] == ["valid/accuracy", "valid/loss", "train/loss"]
    assert page.checkpoint_url.startswith("https://")
    assert dict(page.provenance)["versions"] == "claf2 0.1.0 · torch 2.13.0"
    assert json.loads(page.config)["optimizer"] == {"name": "adamw"}


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A bench with two models, of which one run failed."""
    for model, seed, failure in (("a", 1, ""), ("a", 2, ""), ("b", 1, ""), ("b", 2, "out of memory")):
        write_cell(tmp_path / "bench", model, "rte", seed, failure=failure)
    return tmp_path / "bench"


def test_a_report_has_the_pages_of_its_runs(bench: Path, tmp_path: Path, show: Any) -> None:
    path = tmp_path / "report.html"
    done = CliRunner().invoke(bench_report, [str(bench), "-o", str(path)], catch_exceptions=False)
    assert done.exit_code == 0
    page = show(path)
    assert page.locator(".view.other").count() == 3
    assert page.locator(".view.other:visible").count() == 0
    page.locator("#table td.score a").first.click()
    page.wait_for_selector(".view.other .learning canvas")
    assert page.locator("h1:visible").all_inner_texts() == ["a on rte"]
    assert page.evaluate("board.runs.charts.length") == 2
    page.get_by_role("navigation", name="Seed").get_by_text("2").click()
    assert "seed 2" in page.locator(".facts:visible").inner_text()
    page.go_back()
    assert "seed 1" in page.locator(".facts:visible").inner_text()
    page.get_by_role("link", name="glue").click()
    assert page.locator("#table").is_visible()
    assert page.locator(".view.other:visible").count() == 0


def test_a_report_without_scripts_has_the_pages_of_its_runs(bench: Path, tmp_path: Path, show: Any) -> None:
    path = tmp_path / "report.html"
    path.write_text(export_bench(bench, summarize_bench(bench)), encoding="utf-8")
    page = show(path, java_script_enabled=False)
    page.locator("#table td.score a").first.click()
    assert page.locator("h1:visible").all_inner_texts() == ["a on rte"]
    assert page.locator(".confusion:visible").count() == 1
    assert page.get_by_text("The curves need JavaScript.").first.is_visible()


def test_a_damaged_learning_curve_is_left_out(bench: Path) -> None:
    for path in bench.glob("*/*/metrics.jsonl"):
        path.write_text('{"step": 10, "valid/accuracy": 50.0}\n{"step": 20, "val')
    text = export_bench(bench, summarize_bench(bench))
    assert text.count('{"label": "valid/accuracy", "loss": false, "points": [{"step": 10, "mean": 50.0}]}') == 3


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.sampled_from(["O", "B-X", "I-X", "<b>", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["relations", "heads"]), inner),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(JSON, JSON, JSON), max_size=4))
def test_answers_of_any_kind_have_a_page(rows: list[tuple[Any, Any, Any]]) -> None:
    """A board shows what was submitted, and the task may be one that is not known here."""
    cell = Cell("glue", "m", "m", "unknown task", 1, "bert", "x")
    predictions = [
        Prediction("x", gold, answer, 0.5, {"probabilities": {"a": more}, "tokens": more})
        for gold, answer, more in rows
    ]
    text = render_run(RunDetails("d" * 64, cell, {"valid/x": 1.0}, {}, [], predictions), None, Site())
    assert "<b>" not in text
