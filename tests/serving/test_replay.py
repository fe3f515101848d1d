"""``claf2 serve --check``: the server answers what was scored, or it says that it does not."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claf2 import config
from claf2.cli.main import main
from claf2.data.samples import generate
from claf2.errors import RunError
from claf2.heads import Request, heads
from claf2.metrics import Prediction
from claf2.runs.train import train
from claf2.serving.replay import find_difference, is_request, stored_rows, to_request
from claf2.task import tasks


def check(*words: object) -> int:
    """Run ``claf2 serve --check``, and return the exit code."""
    with pytest.raises(SystemExit) as caught:
        main(["serve", *map(str, words), "--check"])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_a_run_answers_what_was_scored(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(run) == 0
    assert "nsmc: 200 rows, " in capsys.readouterr().out


def test_other_answers_are_named_and_end_with_3(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "other"
    shutil.copytree(run, folder)
    path = folder / "predictions/nsmc-valid.jsonl"
    first, *lines = path.read_text(encoding="utf-8").splitlines()
    changed = json.loads(first)
    changed["prediction"] = "0" if changed["prediction"] == "1" else "1"
    path.write_text("\n".join([json.dumps(changed), *lines]) + "\n", encoding="utf-8")
    assert check(folder) == 3
    output = capsys.readouterr().out
    assert f"differs: row {changed['id']}: stored" in output
    assert "1 with another answer" in output


@pytest.mark.slow
def test_a_server_that_runs_already_is_asked(
    run: Path, start_server: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    server = start_server("--model", f"x={run}", CLAF2_SERVE_TOKEN="secret")
    assert check(run, "--url", server.url, "--token", "secret") == 0
    assert check(run, "--url", server.url) == 2
    assert check("--model", f"x={run}", "--model", f"y={run}", "--url", server.url, "--token", "secret") == 2
    assert "serves x, but not y" in capsys.readouterr().err
    server.stop()
    assert check(run, "--url", server.url) == 2
    assert "check that the server runs" in capsys.readouterr().err


@pytest.mark.slow
def test_an_export_answers_with_the_same_bytes_and_a_changed_one_is_refused(
    onnx_export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for batching in ([], ["--no-batching"], ["--max-batch-tokens", 100_000, "--batches", 1], ["--batches", 3]):
        assert check(onnx_export, *batching) == 0
        assert "200 rows, 200 with the stored bytes, 0 with another answer" in capsys.readouterr().out
    folder = tmp_path / "changed"
    shutil.copytree(onnx_export, folder)
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"x")
    assert check(folder) == 2
    assert "export the run again" in capsys.readouterr().err


PREDICTION = Prediction("a", "1", "1", 0.25, {"probabilities": {"0": 0.75, "1": 0.25}})


@pytest.mark.parametrize(("changes", "exact", "differs", "is_equal"), [
    ({}, True, False, True),
    ({"score": 0.2500001}, True, True, False),
    ({"score": 0.2500001}, False, False, False),
    ({"score": 0.2501}, False, True, False),
    ({"score": None}, False, True, False),
    ({"prediction": "0"}, False, True, False),
    ({"details": {"probabilities": {"1": 0.25, "0": 0.75}}}, True, True, False),
    ({"details": {"probabilities": {"0": 0.75}}}, False, True, False),
    ({"details": None}, False, True, False),
    ({"id": "b"}, False, True, False),
])  # fmt: skip
def test_answers_are_compared(changes: dict[str, Any], exact: bool, differs: bool, is_equal: bool) -> None:
    answer = dataclasses.asdict(PREDICTION) | {"model": "m", "truncated": False} | changes
    difference, is_same = find_difference(PREDICTION, answer, exact=exact)
    assert (bool(difference), is_same) == (differs, is_equal)


HEADS = sorted({tasks.get(name).head for name in tasks.names() if not tasks.get(name).is_corpus})


@pytest.mark.parametrize(("head", "kind"), [*zip(HEADS, HEADS, strict=True), ("rank", "classify"), ("rank", "choice")])
def test_a_row_of_each_kind_is_a_request_that_makes_the_same_example(head: str, kind: str) -> None:
    task = next(task for task in map(tasks.get, tasks.names()) if task.head == kind and not task.is_corpus)
    member = heads.get(head)()
    examples, fields = list(generate(task, "train", 5)), member.fields_for(task)
    assert is_request(fields, examples[0]) == (head != "embed_in_batch")
    for example in examples if head != "embed_in_batch" else ():
        request = json.loads(json.dumps(to_request(fields, example)))
        made = member.request(Request(task, request))
        assert made.id == example.id
        assert list(made.texts()) == list(example.texts())


def test_predictions_of_other_rows_are_refused(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(run, folder)
    path = folder / "predictions/nsmc-valid.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(reversed(lines)) + "\n", encoding="utf-8")
    with pytest.raises(RunError, match="belong to other rows"):
        stored_rows(folder)
    with pytest.raises(RunError, match="has no split 'test'"):
        stored_rows(run, "test")


def test_tasks_whose_rows_are_no_requests_are_not_compared(
    model_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--pretrained_model_name", str(model_folder()), "--source", "sample", "--log_dir", str(tmp_path / "run")]
    train(config.load("embed/korquad_zero_shot", words))
    assert check(tmp_path / "run") == 2
    assert "it has no stored answers that a request could ask for" in capsys.readouterr().err


def test_mistakes_in_the_command_are_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, reason in [
        ((), "there is nothing to serve"),
        ((run, "--model", "a"), "write NAME=FOLDER"),
        ((run, run), "two models are called 'nsmc'"),
        ((run, "--split", "x"), "write NAME=SHARE"),
        ((run, "--split", "x=1"), "no model 'x'"),
        ((run.parent,), "neither a run nor an export"),
    ]:
        assert check(*words) == 2
        assert reason in capsys.readouterr().err
