"""Real models behind a service: vectors, several tasks, and what is said about them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from language_models import save_language_model
from transformers import AutoModel, AutoTokenizer

import claf2
from claf2.errors import RunError
from claf2.retrieval.encoders import open_encoder
from claf2.serving.app import create_service_app
from claf2.serving.limits import RequestLimits, ServiceSettings
from claf2.serving.replay import stored_rows
from claf2.serving.service import open_service


@pytest.fixture(scope="module")
def several(model_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two tasks on one encoder."""
    folder = tmp_path_factory.mktemp("several") / "run"
    claf2.train(
        tasks=["glue/rte_bert", "squad/v1_bert"], sample=True, log_dir=folder, num_steps=2,
        pretrained_model_name=str(model_folder()), max_seq_length=64,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def client(run: Path) -> Iterator[TestClient]:
    with TestClient(create_service_app(open_service(ServiceSettings({"m": run})))) as client:
        yield client


@pytest.fixture(scope="module")
def several_tasks(several: Path) -> Iterator[TestClient]:
    with TestClient(create_service_app(open_service(ServiceSettings({"m": several})))) as client:
        yield client


TEXTS = ["a good film", "서울 은 도시 이다", "the " * 200, ""]


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_vectors_are_those_of_the_encoder_alone(client: TestClient, run: Path, pooling: str) -> None:
    answers = client.post("/embed", params={"pooling": pooling}, json=[{"text": text} for text in TEXTS]).json()
    best = run / "best"
    tokenizer, encoder = AutoTokenizer.from_pretrained(best), AutoModel.from_pretrained(best).eval()
    for text, answer in zip(TEXTS, answers, strict=True):
        inputs = tokenizer(text, truncation=True, max_length=64, return_tensors="pt")
        with torch.inference_mode():
            hidden = encoder(**inputs).last_hidden_state[0]
        expected = {"mean": hidden.mean(0), "cls": hidden[0], "max": hidden.amax(0)}[pooling]
        np.testing.assert_allclose(answer["vector"], expected.numpy(), atol=1e-5)
    assert [answer["truncated"] for answer in answers] == [False, False, True, False]
    assert all(
        float(np.float32(number)) != number or number in (0, 1) or len(str(number)) < 14
        for number in answers[0]["vector"]
    )


def test_a_vector_does_not_depend_on_the_texts_beside_it(client: TestClient) -> None:
    together = client.post("/embed", json=[{"text": text} for text in TEXTS]).json()
    for text, answer in zip(TEXTS, together, strict=True):
        alone = client.post("/embed", json={"text": text}).json()
        np.testing.assert_allclose(alone["vector"], answer["vector"], atol=1e-5)


def test_vectors_are_counted_for_the_task_whose_encoder_makes_them(run: Path) -> None:
    with TestClient(create_service_app(open_service(ServiceSettings({"m": run})))) as client:
        assert client.post("/embed", json=[{"text": "a"}, {"text": 1}]).status_code == 200
        text = client.get("/metrics").text
    for status in (200, 422):
        assert f'claf2_requests_total{{model="m",status="{status}",task="nsmc"}} 1.0' in text


def test_an_encoder_decoder_that_ranks_choices_is_asked_for_them_and_has_no_vectors(tmp_path: Path) -> None:
    (tmp_path / "bart").mkdir()
    words = ["--model.name", "rank", "--pretrained_model_name", str(save_language_model("bart", tmp_path / "bart"))]
    words += ["--log_dir", str(tmp_path / "run"), "--num_steps", "2", "--max_seq_length", "300"]
    claf2.train(claf2.load("jglue/jcommonsenseqa_bert", sample=True, argv=words))
    (row, *_) = stored_rows(tmp_path / "run")
    assert row.request.keys() == {"id", "question", "choices"}
    service = open_service(ServiceSettings({"m": tmp_path / "run"}))
    assert service.descriptions["m"]["tasks"]["jcommonsenseqa"]["fields"] == ["question", "choices"]
    with TestClient(create_service_app(service)) as client:
        page = client.get("/").text
        assert '<textarea name="choices"' in page
        refused = client.post("/embed", json={"text": "a"})
    assert refused.status_code == 422
    assert refused.json()["detail"] == "this model is an encoder-decoder; give an encoder, such as BERT or E5"
    with pytest.raises(RunError, match="is an encoder-decoder; give an encoder"):
        open_encoder(tmp_path / "run")


@pytest.mark.slow
def test_tasks_are_told_apart_and_long_texts_are_cut_and_said_so(
    several_tasks: TestClient,
) -> None:
    pair = {"text_a": "A dog runs.", "text_b": "An animal moves."}
    answer = several_tasks.post("/predict", params={"task": "rte"}, json=pair).json()
    assert (answer["task"], answer["truncated"]) == ("rte", False)
    assert answer["prediction"] in ("entailment", "not_entailment")
    long = several_tasks.post("/predict", params={"task": "rte"}, json={**pair, "text_a": "dog " * 300}).json()
    assert long["truncated"]
    question = {"question": "Where?", "context": "He was born in the city . " * 30}
    answer = several_tasks.post("/predict", params={"task": "squad"}, json=question).json()
    assert not answer["truncated"]  # a long context is divided into windows
    wrong = several_tasks.post("/predict", params={"task": "squad"}, json=[pair, question]).json()
    assert wrong[0]["status"] == 422
    assert wrong[1]["prediction"] == answer["prediction"]
    assert "?task= one of" in several_tasks.post("/predict", json=pair).json()["detail"]


@pytest.mark.slow
def test_the_page_asks_for_the_fields_of_each_task(
    several_tasks: TestClient,
) -> None:
    page = several_tasks.get("/").text
    for field in ("text_a", "text_b", "question", "context"):
        assert f'<textarea name="{field}"' in page
    sent = {"model": "m", "task": "squad", "question": "Where?", "context": "in the city"}
    assert several_tasks.post("/", data=sent).status_code == 200
    fields = several_tasks.get("/openapi.json").json()["components"]["schemas"]["Request"]["properties"]
    assert fields.keys() == {"id", "text", "text_a", "text_b", "question", "context"}


@pytest.mark.slow
def test_an_export_says_what_it_comes_from_and_has_no_vectors(onnx_export: Path, run: Path) -> None:
    settings = ServiceSettings({"e": onnx_export, "r": run}, requests=RequestLimits())
    with TestClient(create_service_app(open_service(settings))) as client:
        info = client.get("/info").json()["models"]
        assert (info["e"]["engine"], info["r"]["engine"]) == ("onnxruntime", "torch")
        assert info["e"]["batching"]["rule"] == "exact"
        origin: dict[str, Any] = info["e"]["provenance"]["origin"]
        recipe = json.loads((run / "run.json").read_text())["recipe"]
        assert origin["recipe"] == recipe == info["r"]["provenance"]["recipe"]
        refused = client.post("/embed", params={"model": "e"}, json={"text": "a"})
        assert (refused.status_code, "serve the run itself" in refused.json()["detail"]) == (422, True)
        stored = [json.loads(line) for line in (run / "predictions/nsmc-valid.jsonl").read_text().splitlines()[:20]]
        assert info["e"]["tasks"]["nsmc"]["scores"]["valid"]["examples"] == 200
        assert stored


def test_vectors_of_a_sentence_encoder_are_those_that_it_was_trained_to_make(
    model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """By the pooling of the run, without prefixes."""
    claf2.train(
        "embed/korsts_zero_shot", sample=True, log_dir=tmp_path, pretrained_model_name=str(model_folder()),
        pooling="max", prefix_a="a ", prefix_b="a ",
    )  # fmt: skip
    with TestClient(create_service_app(open_service(ServiceSettings({"m": tmp_path})))) as client:
        texts = [{"text": f"a {text}"} for text in TEXTS[:2]]
        one, two = client.post("/embed", json=texts).json()
        pair = {"text_a": TEXTS[0], "text_b": TEXTS[1]}
        answer = client.post("/predict", json=pair).json()
    assert one["pooling"] == two["pooling"] == "max"
    vectors = [np.array(vector["vector"]) / np.linalg.norm(vector["vector"]) for vector in (one, two)]
    assert answer["prediction"] == pytest.approx(float(vectors[0] @ vectors[1]), abs=1e-5)
