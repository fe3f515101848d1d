"""Exports: the outputs of PyTorch, the scores of the run, the same answers in any batch, and nothing that changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import claf2
from claf2.cli.main import claf2 as command
from claf2.errors import ConfigError, RunError
from claf2.evaluation.predictions import to_json_line
from claf2.export import build, open_answerer
from claf2.export.build import ExportSource, export_run
from claf2.export.folder import ExportFolder
from claf2.runs.locate import locate_splits
from claf2.runs.resolve import open_run
from claf2.runtime.files import DIGESTS, sha256


def lines(folder: Path) -> list[str]:
    return (folder / "predictions/nsmc-valid.jsonl").read_text(encoding="utf-8").splitlines()


def requests(run: Path) -> list[Any]:
    (splits,) = locate_splits(open_run(run).experiment).values()
    return list(splits["valid"].examples())


def test_an_export_has_the_outputs_and_the_scores_of_its_run(exported_run: Path, export: Path) -> None:
    parity = json.loads((export / "parity.json").read_text())
    assert set(parity["differences"]) == {"1x7", "2x64", "5x2"}
    assert 0 < max(parity["differences"].values()) < 1e-5
    before, after = ([json.loads(line) for line in lines(folder)] for folder in (exported_run, export))
    assert [row["prediction"] for row in before] == [row["prediction"] for row in after]
    assert [row["score"] for row in before] == pytest.approx([row["score"] for row in after], abs=1e-5)
    assert parity["scores"]["origin"]["valid/accuracy"] == parity["scores"]["export"]["valid/accuracy"]
    assert parity["bytes"] == (export / "model.onnx").stat().st_size
    best = json.loads((exported_run / "metrics.json").read_text())["best"]
    assert parity["scores"]["origin"]["valid/accuracy"] == best["valid/accuracy"]


@pytest.mark.parametrize("threads", [1, 2])
def test_rows_are_answered_alike_in_any_batch(threads: int, exported_run: Path, export: Path) -> None:
    answerer = open_answerer(export, threads=threads)
    assert answerer.exact_batching
    encoded = answerer.encode("nsmc", requests(exported_run))
    scored = [json.loads(line) for line in lines(export)]
    expected = [to_json_line(claf2.Prediction(**{**row, "gold": None})) for row in scored]
    for size in (1, 7, len(encoded)):
        parts = [encoded[start : start + size] for start in range(0, len(encoded), size)]
        answers = [to_json_line(prediction) for part in parts for prediction in answerer.answer("nsmc", part)]
        assert answers == expected


def test_an_export_is_evaluated_and_predicts_like_a_run(copied: Callable[[], Path], exported_run: Path) -> None:
    folder = copied()
    before = lines(folder)
    (folder / "predictions/nsmc-valid.jsonl").unlink()
    report = claf2.evaluate(folder)
    assert lines(folder) == before
    assert report.logs() == pytest.approx(claf2.evaluate(exported_run).logs(), abs=1e-5)
    predictor = claf2.Predictor(folder)
    assert predictor.labels == ["0", "1"]
    first = requests(exported_run)[0]
    assert to_json_line(replace(predictor(id=first.id, text=first.text_a), gold=first.label)) == before[0]
    with pytest.raises(RunError, match="no task 'mrpc'"):
        claf2.Predictor(folder, "mrpc")
    # It needs nothing of the folder that it was made in.
    moved = folder.rename(folder.with_name("moved"))
    assert claf2.Predictor(moved)(text=first.text_a).score == predictor(text=first.text_a).score


@pytest.mark.parametrize("name", ["valid", "nsmc/valid"])  # of a run of one task, and of several
def test_changed_validation_data_do_not_replace_the_predictions(name: str, copied: Callable[[], Path]) -> None:
    folder = copied()
    before = lines(folder)
    answering, digests = folder / "answering.json", folder / DIGESTS
    content = json.loads(answering.read_text())
    content["origin"]["data"] = {name: "the digest of other data"}
    answering.write_text(json.dumps(content))
    digests.write_text(json.dumps({**json.loads(digests.read_text()), "answering.json": sha256(answering)}))
    with pytest.raises(RunError, match="the valid data of nsmc have changed since the training; restore them, or"):
        claf2.evaluate(folder)
    assert lines(folder) == before


@pytest.mark.parametrize("name", ["model.onnx", "answering.json", "experiment.json", "tokenizer.json", "config.json"])
def test_an_export_that_has_changed_is_refused_by_name(name: str, copied: Callable[[], Path]) -> None:
    folder = copied()
    path = folder / name
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    with pytest.raises(RunError, match=rf"{name}: changed since it was saved.*claf2 export RUN -o \S+copy --overwrite"):
        claf2.Predictor(folder)
    path.unlink()
    with pytest.raises(RunError, match=r"missing|is not a run|has no best"):
        claf2.Predictor(folder)


def test_labels_and_features_of_another_claf2_are_refused(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from claf2.heads import LabelFeaturizer

    monkeypatch.setattr(LabelFeaturizer, "version", 99)
    with pytest.raises(RunError, match="other labels or features for the task; export the run again"):
        ExportFolder(export)


def test_another_processor_and_another_runtime_are_said(
    export: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ExportFolder(export)
    assert caplog.text == ""
    monkeypatch.setattr("claf2.export.folder.processor_flags", lambda: ("x86_64", "avx"))
    ExportFolder(export)
    assert "was evaluated with another kind of processor, so its answers may differ" in caplog.text
    monkeypatch.setattr("claf2.export.folder.importlib.metadata.version", lambda name: "0.1")
    ExportFolder(export)
    assert "with another kind of processor and ONNX Runtime 1." in caplog.text


def test_the_folder_names_what_answers_depend_on_and_no_place(exported_run: Path, export: Path) -> None:
    answering = json.loads((export / "answering.json").read_text())
    run = json.loads((exported_run / "run.json").read_text())
    assert answering["labels"] == ["0", "1"]
    assert answering["featurizer"]["max_seq_length"] == 64
    assert answering["batching"] == "exact"
    for name in ("recipe", "experiment", "data", "tokenizer"):
        assert answering["origin"][name] == run[name]
    assert str(Path(torch.__file__).parent).encode() not in (export / "model.onnx").read_bytes()
    assert str(Path(claf2.__file__).parent).encode() not in (export / "model.onnx").read_bytes()


def test_only_an_export_is_replaced_and_only_if_that_is_wanted(exported_run: Path, copied: Callable[[], Path]) -> None:
    folder = copied()
    with pytest.raises(RunError, match="holds an export: add --overwrite"):
        export_run(exported_run, folder)
    (folder / "answering.json").unlink()
    with pytest.raises(RunError, match="is not the folder of an export: give an empty or a new one with -o"):
        export_run(exported_run, folder, overwrite=True)


def test_a_file_is_not_replaced_by_an_export(exported_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(RunError, match=r"notes\.txt is a file; give another folder with -o"):
            export_run(exported_run, file, overwrite=overwrite)
    assert (file.read_text(), [path.name for path in tmp_path.iterdir()]) == ("mine", ["notes.txt"])


def test_a_run_without_predictions_is_refused_before_the_work(exported_run: Path, tmp_path: Path) -> None:
    path = exported_run / "predictions/nsmc-valid.jsonl"
    aside = path.rename(path.with_suffix(".aside"))
    try:
        with pytest.raises(RunError, match=r"nsmc-valid\.jsonl: missing; write it again with `claf2 evaluate RUN`"):
            export_run(exported_run, tmp_path / "export")
    finally:
        aside.rename(path)
    assert not (tmp_path / "export").exists()


def test_a_missing_library_is_named(exported_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claf2.training.callbacks.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"onnx is not installed.*pip install 'claf2\[onnx\]'"):
        export_run(exported_run, tmp_path / "export")


def test_a_model_may_be_changed_first_and_the_command_says_how_it_scores(
    exported_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def constant(source: ExportSource) -> ExportSource:
        module: Any = source.model
        with torch.no_grad():
            module.classifier.weight.zero_()
            module.classifier.bias.copy_(torch.tensor([0.0, 1.0]))
        return replace(source, changes=(*source.changes, "answers 1"))

    export = export_run(exported_run, tmp_path / "constant", changes=[constant])
    assert {prediction.prediction for prediction in export.report.tasks["nsmc"].predictions} == {"1"}
    assert json.loads((tmp_path / "constant/answering.json").read_text())["changes"] == ["answers 1"]
    assert len(export.origin["valid"]) == len(export.report.tasks["nsmc"].predictions)
    assert "(run: " in export.summary()


def test_a_model_with_few_positions_is_compared_up_to_its_longest_input(tmp_path: Path) -> None:
    architecture = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32,
                    "max_position_embeddings": 40}  # fmt: skip
    settings: dict[str, Any] = {"architecture": architecture, "max_seq_length": 40, "num_steps": 3}
    claf2.train("scratch/nsmc", sample=True, log_dir=tmp_path / "run", **settings)
    export_run(tmp_path / "run", tmp_path / "export")
    assert set(json.loads((tmp_path / "export/parity.json").read_text())["differences"]) == {"1x7", "2x40", "5x2"}


def test_an_export_that_fails_leaves_no_folder_and_the_one_before(
    exported_run: Path, export: Path, copied: Callable[[], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(source: Any, rows: Any, int8: Any, origin: Any, folder: Path) -> Any:
        shutil.copytree(export, folder, dirs_exist_ok=True)
        (folder / DIGESTS).unlink()

    def fail(*_: Any) -> Any:
        raise RunError("out of memory")

    monkeypatch.setattr(build, "_fill", fill)
    monkeypatch.setattr(build, "_compare", fail)
    before = copied()
    with pytest.raises(RunError, match="out of memory"):
        export_run(exported_run, before, overwrite=True)
    ExportFolder(before)
    with pytest.raises(RunError, match="out of memory"):
        export_run(exported_run, tmp_path / "new")
    monkeypatch.setattr(build, "_compare", lambda *_: {"1x7": 0.0})
    monkeypatch.setattr(build, "_evaluate", fail)
    with pytest.raises(RunError, match="out of memory"):
        export_run(exported_run, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


@pytest.mark.slow
def test_the_command_exports_and_every_command_takes_the_export(exported_run: Path, tmp_path: Path) -> None:
    runner, out = CliRunner(), str(tmp_path / "export")
    done = runner.invoke(command, ["export", str(exported_run), "-o", out, "--int8", "dynamic"])
    assert done.exit_code == 0, done.output
    assert "valid/accuracy: " in done.output
    assert runner.invoke(command, ["evaluate", out]).exit_code == 0
    predicted = runner.invoke(command, ["predict", out, "--text", "영화 훌륭하다"])
    assert json.loads(predicted.output.splitlines()[-1])["prediction"] in ("0", "1")
    repeated = runner.invoke(command, ["export", str(exported_run), "-o", out])
    assert "add --overwrite" in str(repeated.exception)


def test_a_folder_that_cannot_be_made_is_named(exported_run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"file/x cannot be created: .*; give another folder with -o"):
        export_run(exported_run, tmp_path / "file" / "x")
