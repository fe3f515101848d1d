"""What limits of a service cover: the whole time of a request, and lists, ids and parameters."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient

from claf2.serving.answering import Service
from claf2.serving.app import create_service_app
from claf2.serving.batcher import Batcher

MakeService = Callable[..., Service]
MakeStandIn = Callable[..., Any]


class SlowTokenizer:
    """Reads requests when it is released, and counts how often it was asked.

    Args:
        model: the stand-in whose requests it reads from now on.
    """

    def __init__(self, model: Any) -> None:
        self.calls = 0
        self.released = threading.Event()
        self._encode = model.encode
        model.encode = self

    def __call__(self, task: str, requests: Sequence[Mapping[str, Any]]) -> Any:
        self.calls += 1
        assert self.released.wait(30)
        return self._encode(task, requests)


def test_the_time_limit_covers_the_tokenization_and_the_wait_for_it(
    service: MakeService, stand_in: MakeStandIn
) -> None:
    model = stand_in()
    app = create_service_app(service(model, limits={"timeout": 0.3}))
    tokenizer = SlowTokenizer(model)
    with TestClient(app) as client, ThreadPoolExecutor(2) as pool:
        sent = [pool.submit(client.post, "/predict", json=body) for body in ({"text": "a"}, [{"text": "b"}] * 2)]
        try:
            one, several = [future.result(timeout=20) for future in sent]
        finally:
            tokenizer.released.set()
        assert (one.status_code, [item["status"] for item in several.json()]) == (503, [503, 503])
        assert "the request was not reached within 0.3 seconds; try again" in one.json()["detail"]
        assert client.get("/health").json()["in_progress"] == {"a": 0}
    assert (tokenizer.calls, model.batches) == (1, [])  # nobody waits for the others any more


def test_the_model_has_the_rest_of_the_time(
    service: MakeService, stand_in: MakeStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, left = stand_in(), list[float]()
    app = create_service_app(service(model, limits={"timeout": 30.0}))
    tokenizer = SlowTokenizer(model)
    send = Batcher.send

    async def note_time(self: Batcher, *words: Any) -> Any:
        left.append(words[3] - asyncio.get_running_loop().time())
        return await send(self, *words)

    monkeypatch.setattr(Batcher, "send", note_time)
    with TestClient(app) as client:
        threading.Timer(0.1, tokenizer.released.set).start()
        assert client.post("/predict", json={"text": "a"}).status_code == 200
    assert left[0] < 29.95


def test_a_list_that_never_fits_is_not_told_to_come_back(service: MakeService) -> None:
    with TestClient(create_service_app(service(limits={"max_queue": 3}))) as client:
        response = client.post("/predict", json=[{"text": "a"}] * 4)
        assert (response.status_code, response.headers.get("retry-after")) == (413, None)
        assert "4 requests at once, of at most 3 in progress; send smaller lists" in response.json()["detail"]
        assert client.post("/predict", json=[{"text": "a"}] * 3).status_code == 200


def test_the_characters_of_an_id_do_not_count(service: MakeService) -> None:
    with TestClient(create_service_app(service(requests={"max_characters": 3}))) as client:
        assert client.post("/predict", json={"text": "abc"}).status_code == 200
        assert client.post("/predict", json={"text": "abc", "id": "longer"}).status_code == 200
        response = client.post("/predict", json={"text": "abcd"})
        assert (response.status_code, "4 characters, of at most 3" in response.text) == (413, True)


@pytest.mark.parametrize(("path", "parameters"), [
    ("/embed", {"pooling": "x"}), ("/predict", {"model": "m" * 1001}), ("/assets/" + "a" * 201, {}),
], ids=["choice", "length", "path"])  # fmt: skip
def test_what_is_wrong_with_a_parameter_is_one_line(
    service: MakeService, path: str, parameters: dict[str, str]
) -> None:
    with TestClient(create_service_app(service())) as client:
        send = client.get if path.startswith("/assets") else client.post
        response = send(path, params=parameters)
    assert response.status_code == 422
    name = next(iter(parameters), "name")
    assert response.json()["detail"].startswith(f"{name}: ")


def test_the_interface_takes_a_text_for_what_it_stands_for(service: MakeService) -> None:
    for own, expected in (("text_a", {"id", "text", "text_a"}), ("context", {"context", "id"})):
        made = service()
        made.descriptions["a"]["tasks"]["words"]["fields"] = [own]
        with TestClient(create_service_app(made)) as client:
            schema = client.get("/openapi.json").json()["components"]["schemas"]["Request"]
        assert schema["properties"].keys() == expected


def test_the_command_of_the_interface_is_one_word_for_a_shell(service: MakeService) -> None:
    with TestClient(create_service_app(service())) as client:
        assert 'curl "http://testserver/predict?model=a&amp;task=words" -d' in client.get("/docs").text
