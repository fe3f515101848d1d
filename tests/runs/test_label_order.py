"""A model whose outputs are in another order than the task's labels gives the same scores as in the task's order."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

import claf2
from claf2.errors import ChangedError
from claf2.evaluation.predictions import read_predictions
from claf2.evaluation.report import Report
from claf2.metrics import Prediction
from claf2.runs.inference import evaluate_run
from claf2.runtime.files import sha256


def reverse_outputs(folder: Path) -> None:
    """Reverse the outputs of a stored classifier and their names, so that it means the same."""
    settings = json.loads((folder / "config.json").read_text())
    names = [settings["id2label"][index] for index in sorted(settings["id2label"], key=int)][::-1]
    settings["id2label"] = dict(enumerate(names))
    settings["label2id"] = {name: index for index, name in enumerate(names)}
    (folder / "config.json").write_text(json.dumps(settings))
    weights = load_file(folder / "model.safetensors")
    for name in ("classifier.weight", "classifier.bias"):
        weights[name] = weights[name].flip(0).contiguous()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    if (folder / "sha256.json").is_file():
        digests = json.loads((folder / "sha256.json").read_text())
        (folder / "sha256.json").write_text(json.dumps({name: sha256(folder / name) for name in digests}))


def train_from(model: Path, folder: Path, resume: bool = False) -> Report:
    """Train so little that nothing changes."""
    return claf2.train(
        "glue/mrpc_bert", pretrained_model_name=str(model), sample=True, log_dir=folder, max_seq_length=32, num_steps=1,
        learning_rate=1e-12, lr_scheduler_type="constant", resume=resume,
    )  # fmt: skip


@pytest.fixture(scope="module")
def places(model_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs, ``ordered`` and ``reversed``: of a classifier, and of the same with its outputs
    reversed."""
    place = tmp_path_factory.mktemp("labels")
    claf2.train("glue/mrpc_bert", pretrained_model_name=str(model_folder()), sample=True, log_dir=place / "first",
                max_seq_length=32, num_steps=2)  # fmt: skip
    for name in ("ordered", "reversed"):
        shutil.copytree(place / "first/best", place / f"{name}-model")
        if name == "reversed":
            reverse_outputs(place / f"{name}-model")
        train_from(place / f"{name}-model", place / name)
    return place


def predictions(run: Path) -> list[Prediction]:
    return read_predictions(run / "predictions/mrpc-valid.jsonl")


def scores(run: Path) -> dict[str, float]:
    best: dict[str, float] = json.loads((run / "metrics.json").read_text())["best"]
    return {name: best[f"valid/{name}"] for name in ("accuracy", "f1", "accuracy_and_f1")}


def test_scores_and_probabilities_are_in_the_order_of_the_task(places: Path) -> None:
    assert scores(places / "reversed") == scores(places / "ordered")
    rows = list(zip(predictions(places / "reversed"), predictions(places / "ordered"), strict=True))
    assert {prediction.prediction for _, prediction in rows} <= {"0", "1"}
    for row, expected in rows:
        assert row.prediction == expected.prediction
        details, expected_details = row.details or {}, expected.details or {}
        assert list(details["probabilities"]) == ["0", "1"]
        assert details["probabilities"] == pytest.approx(expected_details["probabilities"], abs=1e-6)
    assert json.loads((places / "reversed/best/config.json").read_text())["id2label"] == {"0": "0", "1": "1"}
    assert claf2.Predictor(places / "reversed").labels == ["0", "1"]


def test_a_checkpoint_in_another_order_is_evaluated_in_that_of_the_task(places: Path, tmp_path: Path) -> None:
    shutil.copytree(places / "ordered", tmp_path / "run")
    reverse_outputs(tmp_path / "run/best")
    logs = evaluate_run(tmp_path / "run").logs()
    assert {name: logs[f"valid/{name}"] for name in scores(places / "ordered")} == scores(places / "ordered")


def test_a_run_that_was_trained_in_another_order_is_not_resumed(places: Path, tmp_path: Path) -> None:
    assert "label_order" not in json.loads((places / "ordered/run.json").read_text())
    shutil.copytree(places / "reversed", tmp_path / "run")
    train_from(places / "reversed-model", tmp_path / "run", resume=True)
    provenance = json.loads((tmp_path / "run/run.json").read_text())
    assert provenance.pop("label_order") == {"mrpc": [1, 0]}
    (tmp_path / "run/run.json").write_text(json.dumps(provenance))
    with pytest.raises(ChangedError, match="label_order has changed since the run began"):
        train_from(places / "reversed-model", tmp_path / "run", resume=True)
