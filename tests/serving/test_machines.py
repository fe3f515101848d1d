"""Machines behind a service: questions about a collection, and several tasks in one pass."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

import claf2
from claf2.cli.main import main
from claf2.cli.serve import _make_collections
from claf2.errors import RunError
from claf2.retrieval.index import IndexSettings, build_index
from claf2.retrieval.passages import Passage
from claf2.serving.app import create_service_app
from claf2.serving.limits import Collection, RequestLimits, ServiceSettings
from claf2.serving.service import open_service

TEXTS = [
    "the king of the city lived in the north. he was born in the capital.",
    "the queen of the city lived in the south. she ran and ate.",
    "a dog and a cat sat in the house.",
]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on questions, which has learned little."""
    folder = tmp_path_factory.mktemp("reader") / "run"
    claf2.train("squad/v1_bert", sample=True, log_dir=folder, pretrained_model_name="scratch", num_steps=2)
    return folder


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of a few passages."""
    folder = tmp_path_factory.mktemp("index") / "index"
    build_index(folder, map(Passage, TEXTS), IndexSettings("words"))
    return folder


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a classifier, a tagger and a task about pairs on one encoder."""
    folder = tmp_path_factory.mktemp("several") / "run"
    claf2.train(
        tasks=["glue/sst_bert", "wnut17/ner_bert", "glue/rte_bert"], pretrained_model_name="scratch", sample=True,
        log_dir=folder, argv=["--num_steps", "2", "--tasks.num_steps", "2"],
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def client(reader: Path, index: Path, several: Path) -> Iterator[TestClient]:
    settings = ServiceSettings(
        {"qa": reader, "nlu": several}, requests=RequestLimits(max_passages=3, max_requests=8),
        collections={"qa": Collection(index, k=2)},
    )  # fmt: skip
    with TestClient(create_service_app(open_service(settings)), raise_server_exceptions=False) as client:
        yield client


QUESTION = "where is the king of the city?"


def test_an_answer_is_that_of_the_machine(client: TestClient, reader: Path, index: Path) -> None:
    machine = claf2.QaMachine(index, reader, k=2)
    sent: list[dict[str, Any]] = [
        {"question": QUESTION, "id": "x"},
        {"question": "the dog", "k": 1},
        {"question": "zzz"},
    ]
    answers = client.post("/answer", params={"model": "qa"}, json=sent).json()
    for request, answer in zip(sent, answers, strict=True):
        expected = claf2.QaMachine(index, reader, k=int(request.get("k", 2))).ask(str(request["question"])).to_json()
        scores = [(each.pop("score"), other.pop("score")) for each, other in zip(
            answer["answers"], expected["answers"], strict=True)]  # fmt: skip
        assert all(one == pytest.approx(other, abs=1e-5) for one, other in scores)
        assert answer.pop("score") == (
            None if expected["score"] is None else pytest.approx(expected["score"], abs=1e-5)
        )
        assert answer == {**{key: value for key, value in expected.items() if key != "score"},
                          "id": answer["id"], "model": "qa"}  # fmt: skip
    assert [answer["id"] for answer in answers] == ["x", "2", "3"]
    assert [len(answer["passages"]) for answer in answers] == [2, 1, 0]
    assert answers[0]["answer"] in answers[0]["passage"]["text"]
    assert (answers[2]["answer"], answers[2]["passage"]) == (None, None)
    assert answers[2]["reason"] == "no passage has a term of the question"
    assert machine.ask(QUESTION).answer == answers[0]["answer"]


@pytest.mark.parametrize(("request_", "reason"), [
    ({"question": " "}, "a question is empty"),
    ({"question": "king", "k": 4}, "whole number from 1 to 3"),
    ({"question": "king", "k": True}, "whole number from 1 to 3"),
    ({"question": "king", "k": "2"}, "whole number from 1 to 3"),
    ({"question": 7}, "malformed"),
    ({"text": "king"}, "needs question, and may have k"),
    ({"question": "king", "context": "a"}, "needs question, and may have k"),
])  # fmt: skip
def test_a_bad_question_fails_alone(client: TestClient, request_: dict[str, Any], reason: str) -> None:
    alone = client.post("/answer", params={"model": "qa"}, json=request_)
    assert (alone.status_code, reason in alone.json()["detail"]) == (422, True), alone.text
    first, second = client.post("/answer", params={"model": "qa"}, json=[request_, {"question": QUESTION}]).json()
    assert (first["status"], reason in first["detail"]) == (422, True)
    assert second["passages"]


def test_several_tasks_in_one_pass(client: TestClient, several: Path) -> None:
    texts = ["the king lived in the city", "a film"]
    service = client.app.state.service  # type: ignore[attr-defined]
    passes: list[int] = []
    encoder = service.models.models["nlu"].answerer.model("sst").engine.encoder.encoder
    hook = encoder.register_forward_hook(lambda *_: passes.append(1))
    requests = [{"text": text} for text in texts]
    answers = client.post("/predict", params={"model": "nlu", "tasks": "sst, wnut17"}, json=requests).json()
    assert len(passes) == 1  # of both texts for both tasks
    understood = client.post("/understand", params={"model": "nlu"}, json=requests).json()
    assert len(passes) == 2
    hook.remove()
    machine = claf2.NluMachine(several, ["sst", "wnut17"])
    for text, answer, other in zip(texts, answers, understood, strict=True):
        expected = machine(text)
        for task, prediction in expected.predictions.items():
            alone = client.post("/predict", params={"model": "nlu", "task": task}, json={"text": text}).json()
            shared = answer["tasks"][task]
            assert shared["prediction"] == alone["prediction"] == prediction.prediction
            assert shared["score"] == pytest.approx(alone["score"], abs=1e-6)
            assert other["tasks"][task]["score"] == pytest.approx(shared["score"], abs=1e-6)
        assert (list(answer), list(answer["tasks"]["sst"])) == (
            ["id", "tasks", "truncated", "model"], ["prediction", "score", "details"],
        )  # fmt: skip
        assert other["slots"] == expected.to_json()["slots"]
    assert [answer["id"] for answer in understood] == ["1", "2"]
    only = client.post(
        "/understand", params={"model": "nlu", "tasks": "sst"}, json={"text": "a film", "id": "x"}
    ).json()
    assert (only["id"], list(only["tasks"]), only["slots"]) == ("x", ["sst"], {})


@pytest.mark.parametrize(("path", "model", "field"), [("/answer", "qa", "question"), ("/embed", "nlu", "text")])
def test_an_id_that_is_no_text_fails_alone(client: TestClient, path: str, model: str, field: str) -> None:
    sent = [{field: "king", "id": "\ud800"}, {field: "king"}]
    alone = client.post(path, params={"model": model}, content=json.dumps(sent[0]))
    assert (alone.status_code, "id contains a lone surrogate" in alone.text) == (422, True)
    first, second = client.post(path, params={"model": model}, content=json.dumps(sent)).json()
    assert (first["id"], first["status"], second["id"]) == ("?", 422, "2")


@pytest.mark.parametrize(("path", "params", "reason"), [
    ("/predict", {"model": "nlu", "task": "sst", "tasks": "sst"}, "cannot be used together"),
    ("/predict", {"model": "nlu", "tasks": "sst,zzz"}, "no such task 'zzz': ?tasks= some of sst,wnut17,rte"),
    ("/predict", {"model": "nlu", "tasks": ","}, "name tasks: ?tasks= some of"),
    ("/understand", {"model": "nlu", "tasks": "rte"}, "no such task 'rte': ?tasks= some of sst,wnut17"),
    ("/understand", {"model": "qa"}, "no task that asks about a single text"),
    ("/answer", {"model": "nlu"}, "--index nlu=INDEX"),
    ("/answer", {}, "name one: ?model=qa"),
])  # fmt: skip
def test_a_machine_that_does_not_exist_is_refused(
    client: TestClient, path: str, params: dict[str, str], reason: str
) -> None:
    response = client.post(path, params=params, json={"question" if path == "/answer" else "text": "a"})
    assert (response.status_code, reason in response.json()["detail"]) == (422, True), response.text


def test_requests_that_one_task_cannot_read_are_refused(client: TestClient) -> None:
    response = client.post("/predict", params={"model": "nlu", "tasks": "sst,rte"}, json={"text": "a"})
    assert (response.status_code, "text_a" in response.json()["detail"]) == (422, True)


def test_the_interface_and_the_counters_know_them(client: TestClient, index: Path) -> None:
    document = client.get("/openapi.json").json()
    assert {"/answer", "/understand"} <= document["paths"].keys()
    assert document["components"]["schemas"]["Question"]["properties"]["k"]["maximum"] == 3
    page = client.get("/docs").text
    assert "/answer" in page
    client.post("/answer", params={"model": "qa"}, json={"question": QUESTION})
    text = client.get("/metrics").text
    assert 'claf2_requests_total{model="qa",status="200",task="squad"}' in text
    assert 'claf2_requests_total{model="nlu",status="200",task="wnut17"}' in text
    assert 'claf2_request_seconds_count{route="/answer"}' in text
    info = client.get("/info").json()["models"]
    assert info["qa"]["collection"]["index"] == index.name
    assert info["qa"]["collection"]["passages"] == len(TEXTS)
    assert info["nlu"]["collection"] is None


def test_the_page_asks_the_collection(client: TestClient) -> None:
    page = client.get("/").text
    assert "Answers from 3 passages, of which 2 are read." in page
    answered = client.post("/", data={"model": "qa", "task": "", "question": QUESTION})
    best = client.post("/answer", params={"model": "qa"}, json={"question": QUESTION}).json()
    assert (answered.status_code, f"<p>{best['passage']['text']}</p>" in answered.text) == (200, True)
    nothing = client.post("/", data={"model": "qa", "task": "", "question": "zzz"}).text
    assert "No answer: no passage has a term of the question." in nothing
    wrong = client.post("/", data={"model": "nlu", "task": "", "question": "a"})
    assert (wrong.status_code, "has no passages to read" in wrong.text) == (422, True)


def test_routes_that_no_model_answers_are_left_out(service: Callable[..., Any]) -> None:
    with TestClient(create_service_app(service())) as client:
        paths = client.get("/openapi.json").json()["paths"]
        assert "/answer" not in paths
        assert "/understand" in paths
        assert client.post("/answer", json={"question": "a"}).status_code in (404, 405)


def test_a_full_queue_refuses_several_tasks(service: Callable[..., Any], stand_in: Callable[..., Any]) -> None:
    model = stand_in(tasks=("x", "y"))
    app = create_service_app(service(model, limits={"max_queue": 1}))
    with TestClient(app) as client, ThreadPoolExecutor(1) as pool:
        sent = pool.submit(client.post, "/understand", json={"text": "wait"})
        while client.get("/health").json()["in_progress"]["a"] == 0:
            pass
        refused = client.post("/predict", params={"tasks": "x,y"}, json={"text": "a"})
        assert (refused.status_code, "retry-after" in refused.headers) == (429, True)
        model.gate.set()
        assert sent.result().json()["tasks"]["y"]["prediction"] == 1


def test_an_index_is_that_of_a_model_or_of_all() -> None:
    models = {"a": Path("a"), "b": Path("b")}
    given = {"passages": 7, "method": None, "threshold": 1.5, "search_weight": 0.5}
    every = _make_collections(models, {**given, "indexes": ("x=1/index",)})
    assert {name: collection.index for name, collection in every.items()} == dict.fromkeys("ab", Path("x=1/index"))
    assert (every["a"].k, every["a"].threshold, every["a"].search_weight) == (7, 1.5, 0.5)
    assert list(_make_collections(models, {**given, "indexes": ("b=x",)})) == ["b"]
    with pytest.raises(RunError, match="'a' has an index already"):
        _make_collections(models, {**given, "indexes": ("a=x", "y")})


def test_what_cannot_read_an_index_is_refused(several: Path, index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", str(several), "--index", str(index), "--port", "0"])
    assert "does not extract answers" in capsys.readouterr().err
