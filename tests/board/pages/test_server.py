"""The pages of a board as a browser shows them from its server, on real records."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from board_cells import change_record, make_record

from claf2.board.app import create_app
from claf2.board.cell_record import CellRecord
from claf2.board.records import Records

EVIL = "</script><img src=x onerror=alert(1)><script>alert(2)</script>\"'&amp;<!--\u202e名" + "x" * 10_000


@dataclass
class Server:
    """A running board."""

    url: str
    records: Records

    def put(self, *records: CellRecord) -> None:
        """Store records."""
        for future in [self.records.put(record) for record in records]:
            future.result(timeout=30)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    app = create_app(str(tmp_path / "board.sqlite"))
    running = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", ws="none"))
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    yield Server(f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}", app.state.records)
    running.should_exit = running.force_exit = True
    thread.join(30)


@pytest.fixture
def board(server: Server, tmp_path: Path) -> Server:
    """A board with two models, two tasks and two seeds; one model has two checkpoints."""
    for model, step, share in (("small", None, 0.6), ("large", 1000, 0.7), ("large", 2000, 0.9)):
        for task in ("rte", "sst"):
            server.put(*(make_record(tmp_path, model, task, seed, share=share, step=step) for seed in (1, 2)))
    return server


def read(url: str) -> tuple[int, str, dict[str, str]]:
    """Return the status, body and headers of an answer."""
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status, answer.read().decode(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), dict(error.headers)


def names(page: Any) -> list[str]:
    return page.locator("#table tbody tr > th > bdi").all_inner_texts()


def test_the_first_page_lists_suites(board: Server, show: Any) -> None:
    page = show(board.url)
    page.get_by_role("link", name="glue").click()
    page.wait_for_selector("#table.ready")
    assert page.url == f"{board.url}/suites/glue"
    assert [name for name in names(page) if name in ("small", "large")] == ["large", "large", "small"]


def test_a_board_without_results_says_how_to_send_some(server: Server, show: Any) -> None:
    page = show(server.url)
    assert f"claf2 board submit DIR --url {server.url}" in page.locator("main").inner_text()


def test_no_page_has_inline_code(board: Server) -> None:
    for path in ("/", "/suites/glue"):
        _, text, headers = read(board.url + path)
        policy = headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert "<style" not in text
        assert " style=" not in text
        assert [
            part for part in text.split("<script")[1:] if not part.startswith((" src=", " defer src=", ' type="app'))
        ] == []


def test_a_score_leads_to_its_run(board: Server, show: Any) -> None:
    page = show(f"{board.url}/suites/glue")
    page.locator("#table tbody tr", has_text="small").first.locator("td.score a").first.click()
    page.wait_for_selector(".learning canvas")
    assert page.locator("h1").inner_text() == "small on sst"
    assert page.evaluate("board.runs.charts.map((chart) => chart.data.datasets.map((line) => line.label))") == [
        ["valid/accuracy"], ["train/loss"],
    ]  # fmt: skip
    assert page.locator(".confusion tbody tr").count() == 2
    page.get_by_role("navigation", name="Seed").get_by_text("2").click()
    page.locator(".facts", has_text="seed 2").wait_for()
    page.get_by_role("navigation", name="Task").get_by_text("rte").click()
    page.locator("h1", has_text="small on rte").wait_for()
    assert "seed 2" in page.locator(".facts").inner_text()
    page.get_by_role("link", name="glue").click()
    page.wait_for_selector("#table.ready")


def test_two_picked_rows_are_compared(board: Server, show: Any) -> None:
    page = show(f"{board.url}/suites/glue")
    assert page.locator("#compare").is_disabled()
    page.get_by_label("pick small").check()
    page.get_by_label("pick large, step 2,000").check()
    page.click("#compare")
    page.wait_for_selector(".verdict")
    assert page.locator("h1").inner_text() == "large step 2000 against small"
    assert set(page.locator(".verdict").all_inner_texts()) <= {"better", "worse", "no evidence", "too noisy to tell"}
    assert page.locator("#tasks-title").inner_text() == "Is it real?"
    assert page.locator("text=gained,").count() > 0


def test_new_results_appear_and_nothing_else_changes(board: Server, show: Any, tmp_path: Path) -> None:
    page = show(f"{board.url}/suites/glue")
    page.fill("#search", "large")
    head = page.locator('#table th[aria-label="rte, accuracy"]')
    head.click()
    page.get_by_label("pick large, step 1,000").check()
    page.locator("#lines button", has_text="sst").first.click()
    page.select_option("#view", "model 0")
    page.check("#relative")
    hidden = page.locator("#lines button[aria-pressed=false]").all_inner_texts()
    board.put(
        *(
            make_record(tmp_path, "large", task, seed, share=0.95, step=3000)
            for task in ("rte", "sst")
            for seed in (1, 2)
        )
    )
    page.wait_for_selector("#table td[data-order='3000']", timeout=5000)
    page.locator("#live", has_text="updated").wait_for()
    assert page.input_value("#search") == "large"
    assert names(page).count("large") == 3
    assert "small" not in names(page)
    assert page.locator('#table th[aria-label="rte, accuracy"]').get_attribute("aria-sort") == "descending"
    assert page.get_by_label("pick large, step 1,000").is_checked()
    assert page.is_checked("#relative")
    assert page.locator("#lines button[aria-pressed=false]").all_inner_texts() == hidden != []
    steps = page.evaluate("board.steps.chart().data.datasets.find((line) => !line.edge).data.map((point) => point.x)")
    assert steps == [1000, 2000, 3000]


def test_the_first_checkpoints_draw_a_chart(server: Server, show: Any, tmp_path: Path) -> None:
    server.put(make_record(tmp_path, "new", step=1000))
    page = show(f"{server.url}/suites/glue")
    assert page.get_by_text("there is no line to draw").is_visible()
    server.put(make_record(tmp_path, "new", step=2000))
    page.wait_for_selector("#chart", timeout=5000)
    assert page.evaluate("board.steps.chart().data.datasets.length") > 0


def test_a_server_that_does_not_answer_is_named(board: Server, browser: Any) -> None:
    context = browser.new_context()  # it logs the request that fails
    page = context.new_page()
    page.goto(f"{board.url}/suites/glue")
    page.wait_for_selector("#table.ready")
    context.set_offline(True)
    page.locator("#live", has_text="does not answer").wait_for()
    context.set_offline(False)
    page.locator("#live:empty").wait_for(state="attached")
    context.close()


def test_names_of_any_kind_run_nothing_from_a_server(server: Server, show: Any, tmp_path: Path) -> None:
    probable = {"probabilities": {EVIL: 0.5}}
    answers = [
        {"id": EVIL, "gold": gold, "prediction": EVIL, "score": 0.5, "details": probable} for gold in (EVIL, "other")
    ]
    fields = {f"cell_{name}": EVIL for name in ("model", "weights", "recipe", "base_config")}
    fields |= {"predictions": {"valid": answers * 2}, "provenance": {EVIL: EVIL, "config": {EVIL: EVIL}}}
    for seed in (1, 2):
        record = make_record(tmp_path, "model", seed=seed)
        server.put(change_record(record, cell_step=1000 * seed, **fields))
    page = show(f"{server.url}/suites/glue", viewport={"width": 390, "height": 800})
    page.wait_for_selector("#table.ready")
    assert page.locator("img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    for box in page.locator(".pick").all()[:2]:
        box.check()
    page.locator("#table td.score a").first.click()
    page.wait_for_selector(".learning canvas")
    page.evaluate("document.querySelectorAll('details').forEach((element) => { element.open = true; })")
    assert page.locator("img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/suites/klue", 404, "the board has no results of klue; it has glue"),
        ("/suites/%3Cscript%3E", 404, "There is no such suite"),
        ("/runs/0", 404, "There is no such run"),
        ("/compare?suite=glue&a=0&b=1", 422, "These cannot be compared"),
        ("/assets/README.md", 404, "no such asset"),
        ("/assets/..%2Fapp.py", 404, ""),
    ],
)
def test_what_is_not_there_is_said(board: Server, path: str, status: int, words: str) -> None:
    got, text, _ = read(board.url + path)
    assert got == status
    assert words in text
    assert "<script>" not in text


def test_assets_are_kept_by_browsers_and_have_their_licences(board: Server) -> None:
    _, text, headers = read(f"{board.url}/assets/chart.min.js")
    assert "immutable" in headers["cache-control"]
    assert headers["content-type"].startswith("text/javascript")
    assert "Permission is hereby granted" in text
