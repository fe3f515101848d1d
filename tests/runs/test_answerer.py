"""The answerer: requests to rows and back, one by one and together, for one task and for several."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

import claf2
from claf2.errors import RunError
from claf2.metrics import Prediction
from claf2.models.encoder import EncoderWithHeads
from claf2.runs.answerer import Answerer, SharedRequest

LONG = "영화 훌륭하다 " * 40


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a small classifier."""
    folder = tmp_path_factory.mktemp("answerer") / "run"
    claf2.train("scratch/nsmc", sample=True, log_dir=folder, num_steps=3)
    return folder


@pytest.fixture(scope="module")
def answerer(run: Path) -> Answerer:
    return Answerer.open(run)


def test_a_request_is_encoded_as_in_training_and_says_what_was_cut(answerer: Answerer) -> None:
    short, long = answerer.encode("nsmc", [{"id": "a", "text": "영화 훌륭하다"}, {"id": "b", "text": LONG}])
    assert (short.example.id, long.example.id) == ("a", "b")
    assert (short.truncated, long.truncated) == (False, True)
    assert long.tokens == len(long.features[0]["input_ids"]) == 64 > short.tokens
    assert (answerer.tasks, answerer.labels("nsmc"), answerer.exact_batching) == (["nsmc"], ["0", "1"], False)


def test_answers_keep_the_order_of_requests_whatever_their_lengths(answerer: Answerer) -> None:
    requests = [{"id": str(size), "text": "영화 훌륭하다 지루하다 "[: 3 * size]} for size in (1, 3, 2, 4)]
    encoded = answerer.encode("nsmc", requests)
    together = answerer.answer("nsmc", encoded)
    assert [prediction.id for prediction in together] == ["1", "3", "2", "4"]
    for request, prediction in zip(encoded, together, strict=True):
        (alone,) = answerer.answer("nsmc", [request])
        assert (alone.id, alone.prediction) == (prediction.id, prediction.prediction)
        assert alone.score == pytest.approx(prediction.score, abs=1e-6)
    assert answerer.answer("nsmc", []) == []


def test_what_is_asked_of_a_task_that_is_not_there_is_named(answerer: Answerer) -> None:
    with pytest.raises(RunError, match="there is no task 'mrpc'; it is one of nsmc"):
        answerer.encode("mrpc", [{"text": "x"}])


def test_a_predictor_says_that_a_text_was_cut(run: Path) -> None:
    predictor = claf2.Predictor(run)
    short, long = predictor.predict([{"text": "영화"}, {"text": LONG}])
    assert "truncated" not in (short.details or {})
    assert (long.details or {})["truncated"] is True


def test_threads_take_turns(answerer: Answerer) -> None:
    # Packing notes the layout of a pass in the model, so two passes at once would mix their rows.
    encoded = answerer.encode("nsmc", [{"text": "영화 훌륭하다"}, {"text": LONG}, {"text": "가"}])
    expected = answerer.answer("nsmc", encoded)
    results: list[list[Prediction]] = []
    threads = [
        threading.Thread(target=lambda: results.extend(answerer.answer("nsmc", encoded) for _ in range(8)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 32


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on tasks with heads of different kinds."""
    folder = tmp_path_factory.mktemp("tasks") / "run"
    claf2.train(
        tasks=["glue/rte_bert", "glue/stsb_bert", "squad/v1_bert"], pretrained_model_name="scratch", sample=True,
        log_dir=folder, argv=["--num_steps", "3", "--tasks.num_steps", "3"],
    )  # fmt: skip
    return folder


def test_tasks_of_one_encoder_are_answered_in_one_pass(several: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answerer = Answerer.open(several)
    requests: list[dict[str, Any]] = [{"text_a": "a film", "text_b": "the film"}, {"text_a": "a", "text_b": "b"}]
    pair_tasks = ("rte", "stsb")
    encoded = {task: answerer.encode(task, requests) for task in pair_tasks}
    passes: list[int] = []
    model: Any = answerer.model("rte").engine
    assert isinstance(model, EncoderWithHeads)
    assert answerer.model("stsb").engine is model
    model.encoder.encoder.register_forward_hook(lambda *_: passes.append(1))
    single = {task: answerer.answer(task, encoded[task]) for task in pair_tasks}
    assert len(passes) == 2
    requests_of_both = answerer.encode_all(pair_tasks, requests)
    assert [request.tokens for request in requests_of_both] == [request.tokens for request in encoded["rte"]]
    together = answerer.answer_all(requests_of_both)
    assert len(passes) == 3
    for task, predictions in single.items():
        for alone, shared in zip(predictions, (answers[task] for answers in together), strict=True):
            value, other = (p.score if task == "rte" else p.prediction for p in (alone, shared))
            assert value == pytest.approx(other, abs=1e-6)
    # Another text is another pass, and nothing is remembered after the block.
    other = answerer.encode("stsb", requests[1:])[0]
    answerer.answer_all([SharedRequest({"rte": encoded["rte"][0], "stsb": other})])
    assert len(passes) == 5
    assert answerer.answer_all([]) == []


def test_the_windows_of_a_text_stay_one_request(several: Path) -> None:
    answerer = Answerer.open(several, tasks=["squad"])
    context = "the king of the city " * 120
    requests = [
        {"id": "long", "question": "who?", "context": context},
        {"id": "short", "question": "who?", "context": "a king"},
        {"id": "cut", "question": "who is it? " * 40, "context": "a king"},
    ]
    encoded = answerer.encode("squad", requests)
    assert [len(request.features) > 1 for request in encoded] == [True, False, False]
    assert [request.truncated for request in encoded] == [False, False, True]
    assert encoded[0].tokens == sum(len(feature["input_ids"]) for feature in encoded[0].features)
    predictions = answerer.answer("squad", encoded)
    assert [prediction.id for prediction in predictions] == ["long", "short", "cut"]
    assert predictions[0].prediction in context
    for request, prediction in zip(encoded, predictions, strict=True):
        (alone,) = answerer.answer("squad", [request])
        assert alone.score == pytest.approx(prediction.score, abs=1e-5)


def test_encoders_that_differ_are_not_shared(several: Path) -> None:
    from claf2.models.shared_encoder import join_heads
    from claf2.runs.resolve import open_run

    models = {task: open_run(several, task).model() for task in ("rte", "stsb")}
    with torch.no_grad():
        next(models["rte"].encoder.parameters()).add_(1.0)
    assert join_heads(models) is None
