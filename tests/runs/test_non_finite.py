"""NaN and infinity: no score is computed from them, and no file holds them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from head_configs import CONFIGS, CORPUS_HEADS, MODELS
from safetensors.torch import load_file, save_file

import claf2
from claf2 import config
from claf2.data.features import featurize_in_memory
from claf2.errors import Claf2Error, ModelError
from claf2.evaluation.evaluate import evaluate_model
from claf2.evaluation.predictions import read_predictions, write_predictions
from claf2.evaluation.report import Report, TaskReport, compute_scores
from claf2.heads import heads
from claf2.metrics import Metric, Prediction, Scores
from claf2.runs.resolve import resolve
from claf2.runtime.files import format_json, read_json
from claf2.training.optim import Schedule


def parse_strictly(text: str) -> Any:
    """Return the value of a JSON text, in which NaN and infinity are errors."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def evaluate(folder: Path, name: str, words: tuple[str, ...], change: Callable[[Any, Any], None]) -> Report:
    """Evaluate a fresh model on four rows after a change of its weights, which sees the model and the features."""
    given = ["--pretrained_model_name", str(folder), "--data_reader.source", "sample", "--max_seq_length", "64"]
    run, data = resolve(config.load(name, [*given, *words]))
    (task,) = data
    examples = list(islice(data[task]["valid"].examples(), 4))
    task_config = run.experiment.tasks[task]
    features = featurize_in_memory(examples, task_config.featurizer, run.tokenizer, run.labels[task])
    model = run.model()
    with torch.no_grad():
        change(model, features)
    data_of_task = {task: run.evaluation_data(task, features, examples)}
    return evaluate_model(model, data_of_task, split="valid", precision=run.precision())


def test_every_head_is_covered() -> None:
    assert set(CONFIGS) == set(heads.names()) - CORPUS_HEADS


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("head", CONFIGS)
def test_no_head_predicts_from_outputs_that_are_not_finite(
    head: str, value: float, model_folder: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name, *words = CONFIGS[head]

    def spoil(model: Any, features: Any) -> None:
        for parameter in model.parameters():
            parameter.fill_(value)

    report = evaluate(model_folder(**MODELS.get(head, {})), name, tuple(words), spoil)
    ((task, task_report),) = report.tasks.items()
    assert task_report.undefined == len(task_report.predictions) == 4
    assert "4 of 4 predictions are undefined" in caplog.text
    assert all(prediction.prediction is None for prediction in task_report.predictions)
    logs = report.logs()
    assert set(logs.values()) == {None}
    # The loss of a whole batch of a training is not that of the batches of an evaluation.
    assert ("valid/loss" in logs) != heads.get(head).whole_batch
    write_predictions(tmp_path, report)
    lines = (tmp_path / f"predictions/{task}-valid.jsonl").read_text().splitlines()
    rows = [parse_strictly(line) for line in lines]
    assert [(row["id"], row["gold"]) for row in rows] == [(p.id, p.gold) for p in task_report.predictions]
    assert all(row["prediction"] is row["score"] is None for row in rows)


def test_one_undefined_prediction_makes_the_score_undefined(model_folder: Callable[..., Path]) -> None:
    """The others are what they are without it."""

    def spoil(model: Any, features: Any) -> None:
        first, *others = (set(feature["input_ids"]) for feature in features.features)
        own = first - set().union(*others)
        assert own, "the first example needs a piece that no other has"
        model.encoder.embeddings.word_embeddings.weight[list(own)] = math.nan

    finite = evaluate(model_folder(), "glue/mrpc_bert", (), lambda model, features: None).tasks["mrpc"]
    assert (finite.undefined, None in finite.scores.values()) == (0, False)
    report = evaluate(model_folder(), "glue/mrpc_bert", (), spoil).tasks["mrpc"]
    assert (report.undefined, set(report.scores.values())) == (1, {None})
    assert [prediction.prediction for prediction in report.predictions] == [
        None, *(prediction.prediction for prediction in finite.predictions[1:]),
    ]  # fmt: skip


def test_a_training_stops_where_the_outputs_become_infinite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # No rate that can be configured is large enough to be certain of it after one step.
    monkeypatch.setattr(Schedule, "factor", lambda self, step, total_steps: 1e16)
    for task in ("cola", "stsb"):
        with pytest.raises(Claf2Error, match=f"task '{task}' are NaN or infinite after step 1 .learning rate 1e.25"):
            claf2.train(
                f"glue/{task}_bert", pretrained_model_name="scratch", sample=True, log_dir=tmp_path / task,
                max_seq_length=32, num_steps=1, learning_rate=1e9, lr_scheduler_type="constant", grad_max_norm=None,
            )  # fmt: skip
        names = {path.name for path in (tmp_path / task).iterdir()}
        assert not {"best", "last", "metrics.json", "predictions"} & names
        for path in (tmp_path / task).glob("*.json*"):
            for line in path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
                parse_strictly(line)


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_weights_that_are_not_finite_are_refused(
    value: float, model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    for path in model_folder().iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    name = next(name for name in weights if name.endswith("layer.1.attention.self.query.weight"))
    weights[name][3, 2] = value
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    experiment = config.load(
        "glue/mrpc_bert", ["--pretrained_model_name", str(tmp_path), "--source", "sample", "--log_dir", str(tmp_path)]
    )
    run, _ = resolve(experiment)
    with pytest.raises(
        ModelError, match=r"its weight .*layer\.1\.attention\.self\.query\.weight holds NaN or infinity"
    ):
        run.model()


class Half(Metric):
    """A metric of a plug-in that is NaN."""

    selects = "half"

    def compute(self, predictions: Any, labels: Any) -> Scores:
        return {"half": math.nan, "other": 1.0}


def test_a_score_is_a_number_or_undefined() -> None:
    row = Prediction("0", "a", "a")
    assert compute_scores([Half()], [row], []) == {"half": None, "other": 1.0}
    report = Report("valid", {"t": TaskReport({"half": None}, math.inf, [row])})
    assert report.logs() == {"valid/half": None, "valid/loss": None}


def test_files_hold_null_and_older_ones_are_read(tmp_path: Path) -> None:
    value = {"a": [math.nan, 1.5, (math.inf, "NaN")], "b": {"c": -math.inf}}
    assert parse_strictly(format_json(value)) == {"a": [None, 1.5, [None, "NaN"]], "b": {"c": None}}
    (tmp_path / "old.json").write_text('{"valid/loss": NaN, "valid/accuracy": 46.0}')
    assert read_json(tmp_path / "old.json") == {"valid/loss": None, "valid/accuracy": 46.0}
    (tmp_path / "old.jsonl").write_text(
        '{"id": "1", "gold": "0", "prediction": "0", "score": NaN, "details": {"probabilities": [NaN, NaN]}}\n'
        '{"id": "2", "gold": "0", "prediction": "1", "score": 0.5, "details": null}\n'
    )
    assert read_predictions(tmp_path / "old.jsonl") == [Prediction("1", "0", None), Prediction("2", "0", "1", 0.5)]
