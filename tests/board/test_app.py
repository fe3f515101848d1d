"""The board's REST interface."""

from __future__ import annotations

import base64
import dataclasses
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from board_cells import change_record, make_record, write_cell
from fastapi.testclient import TestClient
from httpx import Response

from claf2.benchmarking import aggregation
from claf2.benchmarking.aggregation import summarize_bench
from claf2.benchmarking.comparison import compare_models
from claf2.board.app import create_app
from claf2.board.cell_record import CellRecord, record_cell
from claf2.board.submit import find_cells
from claf2.board.tokens import add_token


class Board(TestClient):
    """A board with a token."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        app = create_app(str(folder / "board.sqlite"), **settings)
        self.token = add_token(app.state.records.engine, "me")
        super().__init__(app, raise_server_exceptions=False)

    def submit(self, record: CellRecord | bytes | str, digest: str = "", **settings: Any) -> Response:
        """Submit a record, or any other body."""
        body = record.model_dump_json() if isinstance(record, CellRecord) else record
        digest = digest or (record.digest if isinstance(record, CellRecord) else "0" * 64)
        settings.setdefault("headers", {"Authorization": f"Bearer {self.token}"})
        return self.put(f"/api/cells/{digest}", content=body, **settings)


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    with Board(tmp_path) as client:
        yield client


def submit_bench(board: Board, folder: Path) -> None:
    """Submit all cells in a folder."""
    for result in find_cells(folder):
        assert board.submit(record_cell(result)).status_code == 201


def test_a_cell_is_put_and_comes_back(board: Board, tmp_path: Path) -> None:
    record = make_record(tmp_path)
    statuses = [board.submit(record).status_code for _ in range(2)]
    assert statuses == [201, 200]
    other = change_record(record, learning_curve=[])
    assert board.submit(other).status_code == 409
    assert "submit with --replace" in board.submit(other).json()["detail"]
    assert board.submit(other, params={"replace": "true"}).json()["state"] == "replaced"
    answer = board.get(f"/api/cells/{record.digest}").json()
    assert answer == {"digest": record.digest, **other.to_stored_form().fields}
    predictions = board.get(f"/api/cells/{record.digest}/predictions/valid").json()
    assert predictions == json.loads(record.model_dump_json())["predictions"]["valid"]
    assert board.get(f"/api/cells/{record.digest}/predictions/test").status_code == 404
    assert board.get(f"/api/cells/{'0' * 64}").status_code == 404
    assert board.get("/api/cells", params={"model": "a"}).json()[0]["digest"] == record.digest
    assert board.get("/api/cells", params={"model": "b"}).json() == []
    assert board.get("/api/version").json() == {"changes": 2}
    assert board.get("/api/health").json()["status"] == "ok"
    assert board.delete(f"/api/cells/{record.digest}").status_code == 401
    assert board.delete(f"/api/cells/{record.digest}", headers=bearer(board.token)).status_code == 200
    assert board.get("/api/contents").json() == {}


def bearer(token: str) -> dict[str, str]:
    """Return the header with a token."""
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "\"'><b>&amp;", "x" * 10_000, "모델\u2028\x1b[31m"])
def test_hostile_names_are_data(board: Board, tmp_path: Path, name: str) -> None:
    record = change_record(make_record(tmp_path), cell_model=name, cell_weights=name, cell_overrides=["--a", name])
    assert board.submit(record).status_code == 201
    assert board.get("/api/cells", params={"model": name}).json()[0]["cell"]["model"] == name
    response = board.get("/api/suites/glue/summary")
    assert response.json()["rows"][0]["model"] == name
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-content-type-options"] == "nosniff"
    policy = response.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy


def refused(record: CellRecord, old: str, new: str) -> str:
    """Return a body with a change that makes it wrong."""
    body = record.model_dump_json()
    assert old in body
    return body.replace(old, new, 1)


@pytest.mark.parametrize(("old", "new", "reason"), [
    ('"model":"a"', '"model":"a\\u0000"', "cell.model: the character NUL is not allowed"),
    ('"model":"a"', '"model":"\\ud800"', "Invalid JSON"),
    ('"model":"a"', '"model":""', "cell.model: String should have at least 1 character"),
    ('"model":"a"', '"model":7', "cell.model: Input should be a valid string"),
    ('"model":"a"', '"model":"a","x":1', "cell.x: Extra inputs are not permitted"),
    ('"seed":1', '"seed":"1"', "cell.seed: Input should be a valid integer"),
    ('"seed":1', '"seed":99999999999999999999', "cell.seed: Input should be less than or equal to"),
    ('"version":2', '"version":3', "version: Input should be 2"),
    ('"train/loss":0.1', '"train/loss":NaN', "scores.train/loss: Input should be"),
    ('"train/loss":0.1', '"train/loss":1e999', "scores.train/loss: Input should be"),
    ('"suite":"glue"', '"suite":"no"', "cell.suite: suite 'no' is not registered"),
    ('"task":"rte"', '"task":"klue_nli"', "cell.task: suite 'glue' has tasks"),
    ('"overrides":[]', '"overrides":["a b"]', "a b: is not an option"),
    ('"prediction":"entailment"', '"prediction":"not_entailment"', "but the predictions have"),
    ('"valid":[', '"other":[', "predictions.valid: missing"),
    ('"experiment":"rte 1"', '"experiment":"rte 2"', "the digest of this record is"),
], ids=lambda value: None if value.startswith('"') else value[:30].replace(" ", "-"))  # fmt: skip
def test_a_body_that_is_no_record_is_refused(board: Board, tmp_path: Path, old: str, new: str, reason: str) -> None:
    record = make_record(tmp_path)
    body = refused(record, old, new)
    try:
        digest = CellRecord.model_validate_json(body).digest
    except ValueError:
        digest = record.digest
    if "experiment" in old:
        digest = record.digest
    response = board.submit(body, digest)
    assert response.status_code == 422, response.text
    assert response.json()["detail"].startswith(reason) or reason in response.json()["detail"]
    assert board.get("/api/version").json() == {"changes": 0}


FORMS: dict[str, Any] = {
    "number": 1.5, "text": "O", "list": ["O", 1], "object": {"heads": 1, "relations": []}, "nested": [["a"], {}],
    "truth": True,
}  # fmt: skip


@pytest.mark.parametrize("task", ["klue_ner", "klue_dp", "klue_mrc", "wos", "klue_sts", "ynat", "klue_re"])
def test_predictions_of_another_form_spoil_no_table(board: Board, tmp_path: Path, task: str) -> None:
    """They are refused, or are answers that are simply wrong."""
    record = change_record(make_record(tmp_path), cell_suite="klue", cell_task=task)
    for number, (gold, prediction) in enumerate(itertools.product(FORMS.values(), repeat=2), start=1):
        lines = [{"id": str(row), "gold": gold, "prediction": prediction, "score": 0.1} for row in range(4)]
        changed = change_record(record, cell_seed=number, predictions={"valid": lines}, scores={"valid/x": 1.0})
        assert board.submit(changed).status_code in (201, 422)
    response = board.get("/api/suites/klue/summary")
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000], ids=repr)
def test_a_body_that_is_not_json_is_refused(board: Board, body: bytes) -> None:
    assert board.submit(body).status_code == 422


def test_a_large_body_is_refused_before_it_is_read(tmp_path: Path) -> None:
    sent = 0

    def stream() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b" " * 1000

    with Board(tmp_path, max_body=10_000) as board:
        response = board.submit(b" " * 10_001)
        assert (response.status_code, "--max-body" in response.text) == (413, True)
        assert board.put(f"/api/cells/{'0' * 64}", content=stream(), headers=bearer(board.token)).status_code == 413
        assert board.submit(b" " * 9_999).status_code == 422


def test_who_may_read_and_write(tmp_path: Path) -> None:
    record = make_record(tmp_path)
    with Board(tmp_path) as board:
        for headers in ({}, bearer("x"), {"Authorization": board.token}, {"Authorization": "Basic x"}):
            assert board.submit(record, headers=headers).status_code == 401
        reader = add_token(board.app.state.records.engine, "reader", writes=False)  # type: ignore[attr-defined]
        assert board.submit(record, headers=bearer(reader)).status_code == 403
        assert board.get("/api/cells").status_code == 200
    (tmp_path / "closed").mkdir()
    with Board(tmp_path / "closed", reads_need_token=True) as board:
        reader = add_token(board.app.state.records.engine, "reader", writes=False)  # type: ignore[attr-defined]
        basic = {"Authorization": f"Basic {base64.b64encode(f'x:{reader}'.encode()).decode()}"}
        for path in ("/api/cells", "/api/health", "/api/suites/glue/summary", f"/api/cells/{'0' * 64}"):
            response = board.get(path)
            assert (response.status_code, response.headers["www-authenticate"][:5]) == (401, "Basic")
            assert board.get(path, headers=basic).status_code in (200, 404)
            assert board.get(path, headers=bearer(reader)).status_code in (200, 404)


def write_bench(out: Path) -> None:
    """Write a bench of two models and two tasks, a failure, and checkpoints."""
    for seed in (1, 2, 3):
        for model, share in (("good", 0.9), ("poor", 0.5)):
            for task in ("rte", "sst"):
                write_cell(out, model, task, seed, share=share)
        for step in (100, 200):
            write_cell(out, "pre", "rte", seed, share=0.5 + step / 500, step=step)
    write_cell(out, "broken", failure="no such file")


def test_the_table_is_that_of_the_folder(board: Board, tmp_path: Path) -> None:
    write_bench(tmp_path / "bench")
    submit_bench(board, tmp_path / "bench")
    expected = json.loads(json.dumps(dataclasses.asdict(summarize_bench(tmp_path / "bench"))))
    table = board.get("/api/suites/glue/summary").json()
    for content in (expected, table):
        content["failures"].sort(key=lambda failure: failure["model"])
        del content["when"]
    assert table == expected
    assert board.get("/api/suites").json() == {"glue": 19}
    rows = board.get("/api/suites/glue/rows").json()
    assert [row["model"] for row in rows] == [row["model"] for row in table["rows"]]
    assert board.get("/api/suites/klue/summary").json()["rows"] == []
    assert board.get("/api/suites/none/summary").status_code == 404


def test_a_comparison_is_that_of_the_folders(board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bench(tmp_path / "bench")
    submit_bench(board, tmp_path / "bench")
    rows = {row["model"]: row for row in board.get("/api/suites/glue/rows").json() if row["step"] is None}
    by_name = board.get("/api/compare", params={"a": "poor", "b": "good"}).json()
    by_id = board.get("/api/compare", params={"a": rows["poor"]["id"], "b": rows["good"]["id"]}).json()
    assert by_name == by_id
    monkeypatch.setattr("claf2.benchmarking.runs.config.load", lambda path: _Loaded(Path(path).parent))
    expected = compare_models(tmp_path / "bench/poor-None", tmp_path / "bench/good-None")
    got = {task["task"]: (task["means"], task["p"], task["verdict"]) for task in by_name["tasks"]}
    assert got == {task.task: (list(task.means), task.p, task.verdict) for task in expected.tasks}
    assert {verdict for _, _, verdict in got.values()} & {"better"}
    cells = [board.get("/api/cells", params={"model": model, "task": "rte", "seed": 1}).json()[0]["digest"]
             for model in ("poor", "good")]  # fmt: skip
    (task,) = board.get("/api/compare", params={"a": cells[0], "b": cells[1]}).json()["tasks"]
    assert (task["difference"]["test"], task["difference"]["about"]) == ("mcnemar", "runs")
    assert task["gained"]
    for parameters, status in (({"a": "pre", "b": "good"}, 422), ({"a": "no", "b": "good"}, 404),
                               ({"a": "good", "b": "good"}, 422), ({"a": "good"}, 422)):  # fmt: skip
        assert board.get("/api/compare", params=parameters).status_code == status, parameters


class _Loaded:
    """The experiment of an invented cell, which has no config of its own."""

    def __init__(self, folder: Path) -> None:
        from claf2.task import tasks

        task, _, seed = folder.name.partition("-")
        self.seed, self.values = int(seed), {"seed_num": int(seed)}
        self.tasks = {task: type("Loaded", (), {"task": tasks.get(task)})}


def test_the_curve_has_a_band_at_each_step(board: Board, tmp_path: Path) -> None:
    write_bench(tmp_path / "bench")
    submit_bench(board, tmp_path / "bench")
    (curve,) = board.get("/api/suites/glue/curve").json()
    average = curve["curves"][0]
    (rte,) = [each for each in curve["curves"] if each["label"].startswith("rte")]
    assert curve["model"] == "pre"
    assert [point["step"] for point in rte["points"]] == [100, 200]
    assert all(point["low"] < point["mean"] < point["high"] for point in rte["points"])
    assert average["label"].startswith("average of 1 of ")
    assert average["points"][0]["mean"] == pytest.approx(rte["points"][0]["mean"])


def test_only_what_a_change_concerns_is_computed_again(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    computed: list[str] = []
    for name in ("_make_cell", "compare_runs"):
        function = getattr(aggregation, name)

        def counted(*arguments: Any, _name: str = name, _function: Any = function, **settings: Any) -> Any:
            computed.append(_name)
            return _function(*arguments, **settings)

        monkeypatch.setattr(aggregation, name, counted)
    write_bench(tmp_path / "bench")
    submit_bench(board, tmp_path / "bench")
    first = board.get("/api/suites/glue/summary").json()
    assert len(computed) > 10
    computed.clear()
    assert board.get("/api/suites/glue/summary").json() == first
    assert computed == []
    board.submit(make_record(tmp_path / "more", "new", "sst", share=0.2))
    assert len(board.get("/api/suites/glue/summary").json()["rows"]) == len(first["rows"]) + 1
    assert computed.count("_make_cell") <= 2  # the new row has two columns, of which one is empty
    assert computed.count("compare_runs") == 1


def test_the_interface_is_described(board: Board) -> None:
    document = board.get("/api/openapi.json").json()
    assert set(document["paths"]["/api/cells/{digest}"]) == {"put", "get", "delete"}
    body = document["paths"]["/api/cells/{digest}"]["put"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/CellRecord"}
    assert "learning_curve" in document["components"]["schemas"]["CellRecord"]["properties"]
