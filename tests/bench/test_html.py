"""The report as text, and as a browser shows it."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from claf2.bench.html import ASSETS, render
from claf2.bench.markup import shown, signed, text
from claf2.bench.summary import (
    AS_IN_RECIPE,
    Cell,
    Column,
    Failure,
    Published,
    Row,
    Summary,
    Versus,
    best,
    comparisons,
    read,
    series,
)
from claf2.bench.tables import band, score_table

EVIL = "</script><img src=x onerror=alert(1)>\"'&amp;<!--\u202e\x00\ud800名"


def one(score: float | None, **more: Any) -> Cell:
    return Cell((score,), score, **more)


def row(model: str, *scores: float | None, **more: Any) -> Row:
    return Row(model, (1,), tuple(one(score) for score in scores), **more)


def columns(*names: str, lower: tuple[str, ...] = ()) -> tuple[Column, ...]:
    return tuple(Column(name, f"valid/{name}", name, name in lower) for name in names)


class Elements(HTMLParser):
    """The elements of a page that scripts have not touched: their names, and the text in each."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))
        self.open.append(tag)
        self.texts.setdefault(tag, [])

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open[-1]].append(data)


def bold(page: str) -> list[str]:
    return re.findall(r'<strong class="mean">(.*?)</strong>', page)


# What the table says


def test_the_best_of_a_column_is_bold_ties_and_direction_included() -> None:
    rows = (row("a", 80.001, 9.0), row("b", 80.004, 7.0), row("c", 79.99, None))
    page = score_table(Summary("s", columns("up", "down", lower=("down",)), rows))
    assert bold(page) == ["80.00", "80.00", "7.00"]


def test_nothing_is_the_best_of_one_and_what_is_not_a_number_is_none() -> None:
    assert best([1.0]) == best([None, 1.0]) == best([]) == set()
    assert best([float("nan"), 1.0, 2.0]) == {2}
    assert best([float("inf"), 1.0, 2.0], lower_is_better=True) == {1}


def test_the_average_has_a_best_one_and_published_rows_do_not_compete() -> None:
    published = Published("p", "paper", (99.0,), average=99.0)
    page = score_table(
        Summary("s", columns("t"), (row("a", 1.0, average=5.0), row("b", 2.0, average=4.0)), (published,))
    )
    assert bold(page) == ["5.00", "2.00"]


def test_bands_are_one_number_where_they_are_even() -> None:
    assert band(Cell((), 80.0, 79.5, 80.5)) == "±0.50"
    assert band(Cell((), 80.0, 79.25, 80.5)) == "+0.50 −0.75"
    assert band(Cell((), 80.0)) == band(Cell((), None, 1.0, 2.0)) == ""


def test_numbers_have_a_true_minus_and_no_negative_zero() -> None:
    assert [shown(-1.5), shown(-0.001), shown(None)] == ["−1.50", "0.00", "–"]
    assert [signed(1.0), signed(-0.001), signed(-1.0)] == ["+1.00", "+0.00", "−1.00"]


def test_marks_seeds_and_what_is_missing_are_said() -> None:
    cell = Cell((80.0, None, 0.0), 40.0, 30.0, 50.0, (3,), "**", Versus(-1.5, 0.0004, "worse"))
    page = render(
        Summary("s", columns("t"), (Row("m", (1, 2, 3), (cell,)), Row("n", (1,), (None,))), versus="the best")
    )
    assert '<span class="mark">**</span>' in page
    assert "80.00 – 0.00" in page
    assert "−1.50, p &lt; .001" in page
    assert "2 of 3 seeds" in page
    assert "1 collapsed" in page
    for word in ("p &lt; 0.01", "compare with: the best", "not measured, or undefined", "the run learnt nothing"):
        assert word in page, word
    assert "p &lt; 0.05" not in page, "no cell has that mark"
    assert "not checked against its source" not in page


def test_published_rows_have_their_source_and_a_dagger_until_verified() -> None:
    page = score_table(
        Summary(
            "s", columns("t"), (), (Published("p", "paper", (1.0,), "dev"), Published("q", "book", (2.0,), "", True))
        )
    )
    first, second = re.findall(r'<tr class="published">(.*?)</tr>', page)
    assert "paper, dev" in first
    assert "†" in first
    assert "book" in second
    assert "†" not in second


def test_failures_and_collapses_are_listed() -> None:
    cell = Cell((50.0, 12.5), 31.25, collapsed=(8,))
    summary = Summary(
        "s", columns("t"), (Row("m", (7, 8), (cell,), 3000, "bert"),), failures=(Failure("f", "t", 9, "oh"),)
    )
    page = render(summary)
    assert "Failed and collapsed (2)" in page
    assert "valid/t 12.50" in page
    assert "step 3,000 · bert" in page
    assert ">oh<" in page


# Option by option


def test_rows_that_differ_in_one_option_are_set_side_by_side() -> None:
    def of(model: str, **options: Any) -> Row:
        return row(model, 1.0, recipe="bert", options=options)

    rows = [of("m"), of("m", lr="5e-5"), of("m", lr="3e-5"), of("m", lr="3e-5", bs=16), of("n", lr="3e-5")]
    found = {each.option: each for each in comparisons(rows)}
    assert set(found) == {"--lr", "--bs"}
    assert found["--lr"].values == (AS_IN_RECIPE, "3e-5", "5e-5")
    assert [(each.model, each.others, list(each.rows)) for each in found["--bs"].settings] == [
        ("m", "bert --lr 3e-5", [AS_IN_RECIPE, "16"])
    ]


def test_the_recipe_counts_as_an_option_and_steps_do_not() -> None:
    rows = [row("m", 1.0, recipe=name, step=step) for name, step in (("a", 1), ("b", 1), ("a", 2))]
    (found,) = comparisons(rows)
    assert (found.option, found.values, len(found.settings)) == ("recipe", ("a", "b"), 1)


def test_the_overall_mean_of_an_option_is_over_settings_that_have_every_value() -> None:
    rows = [
        row(m, score, options={"lr": lr}) for m, lr, score in (("a", "1", 10.0), ("a", "2", 20.0), ("b", "1", 30.0))
    ]
    rows += [
        row("b", 50.0, options={"lr": "2"}),
        row("c", 0.0, options={"lr": "1"}),
        row("c", 0.0, options={"lr": "3"}),
    ]
    page = render(Summary("s", columns("t"), tuple(rows[:4])))
    assert "mean of the 2 settings with every value" in page
    assert "20.00" in page
    assert "+15.00" in page
    assert "mean of the 0 settings" in render(Summary("s", columns("t"), tuple(rows)))


def test_the_order_of_checkpoints_is_that_of_their_steps() -> None:
    rows = [row("m", 1.0, step=step) for step in (30, 10, 20)] + [row("lonely", 1.0, step=10), row("none", 1.0)]
    assert [[each.step for each in own] for own in series(rows).values()] == [[10, 20, 30]]


# What comes from outside


def test_names_of_any_kind_stay_text() -> None:
    cell = one(1.0, versus=Versus(1.0, 0.5, EVIL), mark=EVIL)
    rows = tuple(Row(EVIL, (1,), (cell,), step, EVIL, {EVIL: EVIL}) for step in (1, 2))
    rows += (Row(EVIL, (1,), (cell,), 1, EVIL),)
    summary = Summary(
        EVIL, (Column(EVIL, EVIL, EVIL),), rows, (Published(EVIL, EVIL, (1.0,), EVIL),),
        (Failure(EVIL, EVIL, 1, EVIL, 1, EVIL),), EVIL, EVIL, EVIL, EVIL, EVIL, {EVIL: EVIL},
    )  # fmt: skip
    page = render(summary)
    page.encode()
    elements = Elements(page)
    assert not [
        name for name, attributes in elements.found if name == "img" or any(key.startswith("on") for key in attributes)
    ]
    assert "\x00" not in page
    (data,) = (each for each in elements.texts["script"] if each.startswith("{"))
    assert json.loads(data)["series"][0]["label"] == EVIL
    assert sum(name == "script" for name, _ in elements.found) == 4


def test_dollars_in_names_are_no_placeholders() -> None:
    assert "$title $data $" in render(Summary("$title $data $"))


def test_escaped_once() -> None:
    assert text('a<b & "c"\'') == "a&lt;b &amp; &quot;c&quot;&#x27;"


def test_a_mapping_will_do_and_survives_json(example: Summary) -> None:
    record = json.loads(json.dumps(dataclasses.asdict(example)))
    assert read(record) == example
    assert render(record) == render(example)


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"suite": "s", "columns": [{"task": "t"}]},
        {"suite": "s", "columns": [], "rows": [{"model": "m", "seeds": [1], "cells": [None]}]},
        {"suite": "s", "columns": [], "published": [{"model": "m", "source": "", "scores": [1.0]}]},
    ],
)
def test_what_is_no_summary_is_refused(record: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"suite|key|cells|scores"):
        render(record)


# Sizes


def test_an_empty_bench_says_so() -> None:
    page = render(Summary("s"))
    for words in ("Nothing was measured", "no line to draw", "nothing to set side by side", "No run failed"):
        assert words in page
    assert "<table" not in page
    assert "Chart.js" not in page, "no chart, no library for it"


def test_a_single_row_has_neither_bold_nor_chart() -> None:
    page = render(Summary("s", columns("t"), (row("m", 80.0, step=10),)))
    assert bold(page) == []
    assert ">80.00<" in page
    assert "Chart.js" not in page


def test_values_that_are_none_or_not_finite_are_dashes() -> None:
    rows = (Row("m", (1, 2), (Cell((None, float("nan")), float("nan"), float("nan"), float("inf")), None), 1),)
    page = render(Summary("s", columns("t", "u"), (*rows, dataclasses.replace(rows[0], step=2))))
    body = page[page.index("<tbody") : page.index("</tbody>")]
    assert "nan" not in body
    assert "inf" not in body
    assert body.count('<span class="mean">–</span>') == 6


def many() -> Summary:
    rows = tuple(
        row(f"model-{number}", *(50.0 + number / 10 + place for place in range(20)), step=number)
        for number in range(200)
    )
    return Summary("s", columns(*(f"task{place}" for place in range(20))), rows)


def test_many_rows_are_quick_and_small() -> None:
    began = time.perf_counter()
    page = render(many())
    assert time.perf_counter() - began < 5
    assert len(page) < 2_000_000
    assert page.count("<tr") > 200


def test_libraries_are_named_with_their_licences(example: Summary) -> None:
    page = render(example)
    versions = dict(re.findall(r"`([a-z]+\.min\.js)`.*?\| ([\d.]+) \|", (ASSETS / "README.md").read_text()))
    assert f"DataTables {versions['datatables.min.js']}" in page
    assert f"Chart.js v{versions['chart.min.js']}" in page
    assert page.count("Permission is hereby granted") == 2
    assert all("</script" not in path.read_text(encoding="utf-8").lower() for path in ASSETS.glob("*.js"))


# In a browser


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, example: Summary) -> Path:
    """The example's report as a file."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(example), encoding="utf-8")
    return path


@pytest.fixture
def show(browser: Any) -> Iterator[Any]:
    """Open a file; at the end, no page may have complained or asked for anything besides."""
    opened, wrong = [], []

    def open_(path: Path, **how: Any) -> Any:
        context = browser.new_context(**how)
        opened.append(context)
        page = context.new_page()
        page.set_default_timeout(5000)
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: request.url == path.as_uri() or wrong.append(request.url))
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        page.goto(path.as_uri())
        return page

    yield open_
    for context in opened:
        context.close()
    assert wrong == []


def names(page: Any) -> list[str]:
    return page.locator("#table tbody tr:visible > th > bdi").all_inner_texts()


def column(page: Any, label: str) -> list[float | None]:
    """Return the sort values of a column, in the order in which the rows are shown."""
    place = page.locator("#table thead th").evaluate_all(
        "(all, label) => all.findIndex((each) => each.ariaLabel === label)", label
    )
    found = page.locator(f"#table tbody tr > :nth-child({place + 1})").evaluate_all(
        "all => all.map(e => e.dataset.order)"
    )
    return [None if value is None else float(value) for value in found]


def test_it_loads_alone_and_without_complaint(show: Any, place: Path) -> None:
    page = show(place)
    assert page.title() == "Two encoders over pre-training, on GLUE"
    assert len(names(page)) == 18
    assert page.locator("#found").inner_text() == "18 rows"


def test_a_click_or_a_key_sorts_with_missing_scores_last(show: Any, place: Path) -> None:
    page = show(place)
    head = page.locator('#table th[aria-label="rte, accuracy"]')
    head.click()
    found = [value for value in column(page, "rte, accuracy") if value is not None]
    assert found == sorted(found, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    low = page.locator('#table th[aria-label="lm, perplexity, lower is better"]')
    for way in (False, True):
        low.locator("[role=button]").press("Enter")
        sort = "descending" if way else "ascending"
        page.wait_for_selector(f'#table th[aria-label^="lm, perplexity"][aria-sort={sort}]')
        page.wait_for_timeout(200)  # the rows follow the mark
        values = column(page, "lm, perplexity, lower is better")
        known = [value for value in values if value is not None]
        assert known == sorted(known, reverse=way)
        assert values[len(known) :] == [None] * 6


def test_the_search_narrows_the_rows(show: Any, place: Path) -> None:
    page = show(place)
    page.fill("#search", "classic 400000 3e-5")
    assert names(page) == ["classic-base-en"]
    assert page.locator("#found").inner_text() == "1 of 18 rows"
    page.fill("#search", "no such thing")
    assert "No row has all of these words." in page.locator("#table tbody").inner_text()


def test_the_line_below_a_score_can_be_chosen(show: Any, place: Path) -> None:
    page = show(place)
    first = page.locator("#table tbody tr").first.locator("td.score").nth(1)
    for choice in ("band", "seeds", "versus"):
        page.select_option("#second", choice)
        assert first.locator(".second:visible").evaluate_all("all => all.map(e => e.className)") == [f"second {choice}"]


def drawn(page: Any) -> list[str]:
    """Return the lines that the chart shows."""
    return page.evaluate(
        """() => {
            const chart = report.chart();
            const shown = chart.data.datasets.filter((each, place) => !each.edge && chart.isDatasetVisible(place));
            return shown.map((each) => each.label);
        }"""
    )


def test_lines_of_the_chart_can_be_hidden_and_shown(show: Any, place: Path) -> None:
    page = show(place)
    assert len(drawn(page)) == 11
    assert "lm (perplexity)" not in drawn(page), "its scale is another one"
    button = page.locator("#lines button", has_text="cola (mcc)")
    button.focus()
    button.press("Enter")
    assert button.get_attribute("aria-pressed") == "false"
    assert page.evaluate("document.activeElement.textContent") == "cola (mcc)"
    assert "cola (mcc)" not in drawn(page)
    button.click()
    assert "cola (mcc)" in drawn(page)
    page.click("#no")
    assert drawn(page) == []
    page.click("#all")
    assert len(drawn(page)) == 12


def test_the_chart_compares_models_and_changes(show: Any, place: Path) -> None:
    page = show(place)
    page.select_option("#view", label="models on rte (accuracy)")
    assert drawn(page) == ["moderna-base-en", "classic-base-en"]
    page.check("#relative")
    page.check("#logarithmic")
    axis = page.evaluate(
        "[report.chart().scales.x.type, report.chart().data.datasets.filter((d) => !d.edge).map((d) => d.data[0].y)]"
    )
    assert axis == ["logarithmic", [0, 0]]
    page.click("#steps summary")
    cells = page.locator("#numbers tbody tr").first.locator("th, td").all_inner_texts()
    assert cells[0] == "10,000"
    assert cells[1].startswith("+0.00 ±")
    visible = "() => report.chart().data.datasets.filter((d, i) => d.edge && report.chart().isDatasetVisible(i)).length"
    assert page.evaluate(visible) == 4
    page.uncheck("#bands")
    assert page.evaluate(visible) == 0


def test_dark_and_light_follow_the_system_and_the_switch(show: Any, place: Path) -> None:
    def ground(page: Any) -> int:
        found = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", found)))

    page = show(place, color_scheme="dark")
    dark = ground(page)
    line = page.evaluate("report.chart().data.datasets[2].borderColor")
    page.select_option("#theme", "light")
    assert dark < 150 < 700 < ground(page)
    assert page.evaluate("report.chart().data.datasets[2].borderColor") != line
    page.reload()
    assert ground(page) > 700, "the choice is remembered"
    page.select_option("#theme", "system")
    assert ground(page) == dark
    page.emulate_media(color_scheme="light")
    assert ground(page) > 700


WIDTH = "document.documentElement.scrollWidth"


@pytest.mark.parametrize("width", [320, 390, 820])
def test_only_tables_scroll_sideways(show: Any, place: Path, width: int) -> None:
    page = show(place, viewport={"width": width, "height": 800})
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert page.evaluate(WIDTH) == width
    assert page.evaluate(
        "(() => { const e = document.querySelector('#scores .scroll'); return e.scrollWidth > e.clientWidth; })()"
    )
    page.evaluate("document.querySelector('#scores .scroll').scrollLeft = 300")
    left = page.locator("#table tbody th").first.bounding_box()["x"]
    assert 0 <= left < 30, "the model stays in sight"


def test_without_scripts_the_tables_are_there(show: Any, place: Path) -> None:
    page = show(place, java_script_enabled=False)
    assert len(names(page)) == 18
    assert page.locator("#search").is_hidden()
    assert page.get_by_text("The chart needs JavaScript").is_visible()


def test_names_of_any_kind_run_nothing(show: Any, tmp_path: Path) -> None:
    rows = tuple(Row(EVIL, (1,), (one(1.0, mark=EVIL),), step, EVIL, {EVIL: EVIL}) for step in (1, 2))
    path = tmp_path / "evil.html"
    summary = Summary(EVIL, (Column(EVIL, EVIL, EVIL),), rows, (Published(EVIL, EVIL, (1.0,)),), marks={EVIL: EVIL})
    path.write_text(render(summary), encoding="utf-8")
    page = show(path, viewport={"width": 390, "height": 800})
    page.locator("#table th.score").first.click()
    page.select_option("#view", "score 1")
    page.click("#steps summary")
    assert page.locator("img").count() == 0
    assert page.evaluate(WIDTH) == 390


@pytest.mark.parametrize("summary", [Summary("s"), many()], ids=["empty", "many"])
def test_any_size_of_bench_is_shown(show: Any, tmp_path: Path, summary: Summary) -> None:
    path = tmp_path / "report.html"
    path.write_text(render(summary), encoding="utf-8")
    page = show(path, viewport={"width": 390, "height": 800})
    assert page.locator("#table tbody tr").count() == len(summary.rows)
    assert page.evaluate(WIDTH) == 390
