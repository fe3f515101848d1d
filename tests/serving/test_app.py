"""The interface of a service: answers, and what is refused and why."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient

from claf2.errors import RunError
from claf2.serving.answering import Service
from claf2.serving.app import create_service_app

MakeService = Callable[..., Service]


@pytest.fixture
def client(service: MakeService) -> Callable[..., TestClient]:
    """Make a client of a service of stand-ins; its event loop runs in a thread."""

    def make(*answerers: Any, **settings: Any) -> TestClient:
        return TestClient(create_service_app(service(*answerers, **settings)), raise_server_exceptions=False)

    return make


Clients = Callable[..., TestClient]
MakeStandIn = Callable[..., Any]


def test_one_request_and_many(client: Clients) -> None:
    with client() as service:
        answer = service.post("/predict", json={"text": "a b c", "id": "x"}).json()
        assert answer == {
            "id": "x", "prediction": 3, "score": 1 / 3, "details": {"text": "a b c"}, "truncated": False,
            "task": "words", "model": "a",
        }  # fmt: skip
        answers = service.post("/predict", json=[{"text": "a " * count} for count in range(1, 11)]).json()
        assert [answer["prediction"] for answer in answers] == list(range(1, 11))
        assert [answer["id"] for answer in answers] == [str(number) for number in range(1, 11)]
        assert [answer["truncated"] for answer in answers] == [False] * 8 + [True] * 2


def test_numbers_are_the_shortest_that_are_read_as_the_same(client: Clients) -> None:
    with client() as service:
        assert '"score": 0.3333333333333333,' in service.post("/predict", json={"text": "a"}).text


def test_a_bad_request_in_a_list_fails_alone(client: Clients) -> None:
    requests: list[dict[str, Any]] = [
        {"text": "a"}, {"text": 7}, {"id": "mine", "txt": "a"}, {"text": "a bug"}, {"text": "x" * 101},
        {"id": "\ud800", "\ud800": "a"}, {"text": "a b"},
    ]  # fmt: skip
    with client(requests={"max_characters": 100}) as service:
        response = service.post("/predict", content=json.dumps(requests))
        items = response.json()
    assert response.status_code == 200
    assert [item.get("status", 200) for item in items] == [200, 422, 422, 500, 413, 422, 200]
    assert [item["id"] for item in items] == ["1", "2", "mine", "4", "5", "?", "7"]
    assert items[2]["detail"] == "a request needs text; got: id, txt"
    assert items[3]["detail"].endswith("the log of the server says why")
    assert (items[0]["prediction"], items[6]["prediction"]) == (1, 2)


@pytest.mark.parametrize(("body", "status", "reason"), [
    ("{", 422, "not JSON"),
    ("[" * 9_000, 422, "not JSON"),
    ("\xff".encode("latin-1"), 422, "not JSON"),
    ("[]", 422, "expected a request"),
    ("7", 422, "expected a request"),
    ("[1]", 422, "expected a request"),
    ('{"a": ' + "9" * 5000 + "}", 422, "not JSON"),
    ("{}", 422, "needs text"),
    (json.dumps([{"text": "a"}] * 4), 413, "of at most 3"),
    (json.dumps({"text": "a" * 3000}), 413, "shorten the text"),
    (json.dumps({"text": "a" * 20_000}), 413, "--max-body"),
], ids=lambda value: None if isinstance(value, bytes | int) or len(value) > 20 else value)  # fmt: skip
def test_what_is_no_request_is_refused(client: Clients, body: str | bytes, status: int, reason: str) -> None:
    limits = {"max_requests": 3, "max_characters": 2000, "max_body": 10_000}
    with client(requests=limits) as service:
        response = service.post("/predict", content=body)
        assert (response.status_code, reason in response.json()["detail"]) == (status, True), response.text
        assert service.get("/health").json()["in_progress"] == {"a": 0}


HOSTILE = [
    "", " ", "\x00", "<script>alert(1)</script>", "\u202eevil",
    "a" * 5000, "😀" * 500, "́" * 300, "한글\u1112\u1161\u11ab",
    "{{7*7}}", "'; DROP TABLE", "\u2028\u2029", "\ufeffx", "%s%n", "../../etc/passwd", "\r\nX-Evil: 1",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_texts_come_back_as_they_are(client: Clients, text: str) -> None:
    with client() as service:
        answer = service.post("/predict", json={"text": text, "id": text}, headers={"x-request-id": "\x7f"})
        assert answer.status_code == 200
        assert (answer.json()["details"]["text"], answer.json()["id"]) == (text, text)
        page = service.post("/", data={"model": "a", "task": "words", "text": text})
        assert "<script>alert" not in page.text
        for name in ("model", "task"):
            wrong = service.post("/predict", params={name: text}, json={"text": "a"})
            assert wrong.status_code == 422
            assert service.post("/", data={"model": "a", "task": "words", name: text}).status_code == 422


def test_a_full_queue_is_429_and_what_was_accepted_is_answered(client: Clients, stand_in: MakeStandIn) -> None:
    model = stand_in()
    with client(model, limits={"max_queue": 4}) as service, ThreadPoolExecutor(4) as pool:
        sent = [pool.submit(service.post, "/predict", json={"text": "wait"}) for _ in range(4)]
        wait_for(lambda: service.get("/health").json()["in_progress"]["a"] == 4)
        for body in ({"text": "a"}, [{"text": "a"}] * 2):
            refused = service.post("/predict", json=body)
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
            assert "4 requests of at most 4 are in progress" in refused.json()["detail"]
        model.gate.set()
        assert [future.result().status_code for future in sent] == [200] * 4
        assert service.post("/predict", json={"text": "a"}).status_code == 200
        assert 'claf2_rejected_total{reason="queue"} 3.0' in service.get("/metrics").text


def test_the_page_has_the_status_of_what_is_wrong(client: Clients, stand_in: MakeStandIn) -> None:
    model = stand_in()
    with (
        client(model, limits={"max_queue": 1}, requests={"max_characters": 99}) as service,
        ThreadPoolExecutor() as pool,
    ):
        for text, status in (("a bug", 500), ("a" * 100, 413), ("a", 200)):
            page = service.post("/", data={"model": "a", "task": "words", "text": text})
            assert (page.status_code, "</html>" in page.text) == (status, True)
        sent = pool.submit(service.post, "/predict", json={"text": "wait"})
        wait_for(lambda: service.get("/health").json()["in_progress"]["a"] == 1)
        full = service.post("/", data={"model": "a", "task": "words", "text": "a"})
        model.gate.set()
        assert sent.result().status_code == 200
    assert (full.status_code, full.headers["retry-after"], full.headers["cache-control"]) == (429, "1", "no-store")
    assert "1 requests of at most 1 are in progress" in full.text


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is true."""
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_a_slow_model_is_504_and_a_queue_that_is_not_reached_503(client: Clients, stand_in: MakeStandIn) -> None:
    model = stand_in()
    with client(model, limits={"timeout": 0.3}) as service, ThreadPoolExecutor(2) as pool:
        first = pool.submit(service.post, "/predict", json={"text": "wait"})
        wait_for(lambda: bool(model.batches))
        second = service.post("/predict", json={"text": "a"})
        model.gate.set()
        assert (first.result().status_code, second.status_code) == (504, 503)
        assert "has not answered within 0.3 seconds" in first.result().json()["detail"]
        assert second.headers["retry-after"] == "1"
        wait_for(lambda: service.post("/predict", json={"text": "a"}).status_code == 200)


def test_the_engine_runs_in_its_own_thread_and_the_service_answers_meanwhile(
    client: Clients, stand_in: MakeStandIn
) -> None:
    model = stand_in()
    with client(model) as service, ThreadPoolExecutor(1) as pool:
        sent = pool.submit(service.post, "/predict", json={"text": "wait"})
        wait_for(lambda: bool(model.batches))
        assert service.get("/health").status_code == 200
        model.gate.set()
        assert sent.result().status_code == 200
    assert all(name.startswith("claf2-model") for name in model.threads)


@pytest.mark.parametrize(("batching", "is_thread_safe", "together", "threads"), [
    ("exact", True, True, 3), ("close", False, True, 1), ("single", True, False, 3),
])  # fmt: skip
def test_engines_are_asked_only_in_ways_that_keep_answers(
    service: MakeService, stand_in: MakeStandIn, batching: str, is_thread_safe: bool, together: bool, threads: int
) -> None:
    model = stand_in(batching=batching, is_thread_safe=is_thread_safe)
    limits = service(model, limits={"threads": 3}).models.models["a"].limits
    assert (limits.is_batching, limits.threads) == (together, threads)


def test_a_token_is_asked_for_wherever_something_is_said(client: Clients) -> None:
    with client(token="secret") as service:
        for method, path in (("GET", "/"), ("GET", "/info"), ("GET", "/metrics"), ("GET", "/docs"), ("POST", "/"),
                             ("GET", "/openapi.json"), ("POST", "/predict"), ("POST", "/embed")):  # fmt: skip
            for token in (
                None,
                "Bearer wrong",
                "Bearer secret2",
                "Bearer",
                "Basic !",
                "Basic \xff".encode("latin-1"),
                "Bearer s\xe9cret".encode("latin-1"),
            ):
                response = service.request(method, path, headers={"Authorization": token} if token else {})
                assert response.status_code == 401, (path, token)
                assert response.headers["www-authenticate"].startswith("Basic")
        assert service.get("/health").status_code == 200
        headers = {"Authorization": "Bearer secret"}
        assert service.post("/predict", json={"text": "a"}, headers=headers).status_code == 200
        assert service.get("/", auth=("anyone", "secret")).status_code == 200


def test_requests_are_divided_by_their_ids(client: Clients, stand_in: MakeStandIn) -> None:
    with client(stand_in(), stand_in(), shares={"a": 0.9, "b": 0.1}, requests={"max_requests": 2000}) as service:
        requests = [{"id": f"user-{number}", "text": "a"} for number in range(1000)]
        answers = [
            item for start in range(0, 1000, 500)
            for item in service.post("/predict", json=requests[start : start + 500]).json()
        ]  # fmt: skip
        chosen = {answer["id"]: answer["model"] for answer in answers}
        assert 860 < Counter(chosen.values())["a"] < 940
        for request in requests[::100]:  # the same id, the same model, alone as in a list
            assert service.post("/predict", json=request).json()["model"] == chosen[request["id"]]
        given = {
            service.post("/predict", json={"text": "a"}, headers={"x-request-id": "7"}).json()["model"] for _ in "abc"
        }
        assert len(given) == 1
        drawn = Counter(service.post("/predict", json={"text": "a"}).json()["model"] for _ in range(60))
        assert 0 < drawn["b"] < 25
        assert service.post("/predict", params={"model": "b"}, json={"text": "a"}).json()["model"] == "b"


def test_an_id_of_null_is_none(client: Clients, stand_in: MakeStandIn) -> None:
    with client(stand_in(), stand_in(), shares={"a": 0.5, "b": 0.5}) as service:
        answers = [
            service.post("/predict", json={"id": None, "text": "a"}, headers={"x-request-id": f"user-{n}"}).json()
            for n in range(30)
        ]
        assert {answer["model"] for answer in answers} == {"a", "b"}
        assert {answer["id"] for answer in answers} == {"0"}
        items = service.post("/predict", json=[{"id": None, "text": "a"}, {"id": None, "text": 1}]).json()
        assert [item["id"] for item in items] == ["1", "2"]


def test_without_shares_a_model_is_named(client: Clients, stand_in: MakeStandIn) -> None:
    with client(stand_in(), stand_in(tasks=("x", "y"))) as service:
        assert "name one: ?model=a" in service.post("/predict", json={"text": "a"}).json()["detail"]
        response = service.post("/predict", params={"model": "c"}, json={"text": "a"})
        assert (response.status_code, "there is no model 'c'" in response.text) == (422, True)
        response = service.post("/predict", params={"model": "b"}, json={"text": "a"})
        assert "?task= one of x, y" in response.json()["detail"]
        response = service.post("/predict", params={"model": "b", "task": "y"}, json={"text": "a"})
        assert response.json()["task"] == "y"


@pytest.mark.parametrize(("shares", "reason"), [
    ({"a": 0.5}, "add up to 0.5"), ({"a": 0.5, "c": 0.5}, "no model 'c'"), ({"a": 1.5, "b": -0.5}, "from 0 to 1"),
])  # fmt: skip
def test_wrong_shares_are_refused(
    service: MakeService, stand_in: MakeStandIn, shares: dict[str, float], reason: str
) -> None:
    with pytest.raises(RunError, match=reason):
        service(stand_in(), stand_in(), shares=shares)


def test_counters_say_what_happened_and_carry_nothing_of_clients(client: Clients) -> None:
    with client() as service:
        service.post("/predict", json=[{"text": "a"}, {"text": "a b"}, {"text": 1}])
        service.post("/predict", params={"task": "evil"}, json={"text": "a"})
        text = service.get("/metrics").text
    assert 'claf2_requests_total{model="a",status="200",task="words"} 2.0' in text
    assert 'claf2_requests_total{model="a",status="422",task="words"} 1.0' in text
    assert 'claf2_batch_tokens_sum{model="a"} 3.0' in text
    assert 'claf2_request_seconds_count{route="/predict"} 2.0' in text
    assert 'claf2_requests_in_progress{model="a"} 0.0' in text
    assert "evil" not in text


def test_what_is_too_large_is_counted_once(client: Clients) -> None:
    limits = {"max_requests": 5, "max_characters": 10, "max_body": 500}
    with client(requests=limits, limits={"max_queue": 3}) as service:
        for body, status, count in (
            ([{"text": "a" * 11}, {"text": "a"}], 200, 1),
            ({"text": "a" * 11}, 413, 2),
            ([{"text": "a" * 11}] + [{"text": "a"}] * 4, 413, 7),  # more than may be in progress
            ([{"text": "a"}] * 6, 413, 13),
            ({"text": "a" * 500}, 413, 14),
        ):
            assert service.post("/predict", json=body).status_code == status
            assert f'claf2_rejected_total{{reason="size"}} {count}.0' in service.get("/metrics").text


def test_pages_work_without_scripts_and_load_nothing_from_elsewhere(client: Clients) -> None:
    with client() as service:
        page = service.get("/")
        assert "95 % interval 40.00 to 60.00 on 9 examples, a generated sample" in " ".join(page.text.split())
        answered = service.post("/", data={"model": "a", "task": "words", "text": "one two " * 5})
        assert (answered.status_code, "<strong>10</strong>" in answered.text) == (200, True)
        assert "was cut as in training" in answered.text
        assert service.post("/", content=b"\xff").status_code == 422
        interface = service.get("/docs")
        for path in service.get("/openapi.json").json()["paths"]:
            assert path in interface.text
        for response in (page, answered, interface):
            policy = response.headers["content-security-policy"]
            assert "unsafe" not in policy
            assert "http" not in response.text.replace("http://testserver", "")
            assert "<style" not in response.text
            assert "onclick" not in response.text
        for name in ("board.css", "theme.js"):
            assert service.get(f"/assets/{name}").status_code == 200
        assert service.get("/assets/..%2Fapp.py").status_code == 404


def test_info_names_scores_and_limits(client: Clients) -> None:
    with client(requests={"max_requests": 3}) as service:
        info = service.get("/info").json()
    assert info["limits"]["max_requests"] == 3
    assert info["models"]["a"]["tasks"]["words"]["scores"]["valid"]["low"] == 40.0
    assert info["shares"] == {"a": 1.0}
