"""The page of a suite as text, and as a browser shows it."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from board_examples import make_run, row_runs

from claf2.benchmarking.summary import Column, Delta, Failure, PublishedRow, Row, ScoreCell, Summary, read_summary
from claf2.board.pages import ASSETS, export_page
from claf2.board.pages.numbers import format_delta, format_interval, format_score
from claf2.board.pages.suite import (
    AS_IN_RECIPE,
    AVERAGE,
    best_indices,
    checkpoint_series,
    compare_options,
)

SCRIPTS = ("theme", "datatables", "chart", "board", "table", "steps")
"""The scripts of a file without pages of runs."""

EVIL = "</script><img src=x onerror=alert(1)>\"'&amp;<!--\u202e\x00\ud800名"


def one(score: float | None, **more: Any) -> ScoreCell:
    return ScoreCell((score,), score, **more)


def row(model: str, *scores: float | None, **more: Any) -> Row:
    return Row(model, (1,), tuple(one(score) for score in scores), **more)


def columns(*names: str, lower: tuple[str, ...] = ()) -> tuple[Column, ...]:
    return tuple(Column(name, f"valid/{name}", name, name in lower) for name in names)


class Elements(HTMLParser):
    """The elements of a page as parsed, before scripts run: names and attributes, and the text in each."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        self.open.append(tag)
        self.texts.setdefault(tag, [])

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open[-1]].append(data)


def score_table(summary: Summary) -> str:
    """Return the score table of a report as HTML."""
    page = export_page(summary)
    return page[page.index('<table id="table"') : page.index("</table>")]


def bold(page: str) -> list[str]:
    return re.findall(r"<strong>(.*?)</strong>", page)


# What the table says


def test_the_best_of_a_column_is_bold_ties_and_direction_included() -> None:
    rows = (row("a", 80.001, 9.0), row("b", 80.004, 7.0), row("c", 79.99, None))
    page = score_table(Summary("s", columns("up", "down", lower=("down",)), rows))
    assert bold(page) == ["80.00", "80.00", "7.00"]


def test_nothing_is_the_best_of_one_and_what_is_not_a_number_is_none() -> None:
    assert best_indices([1.0]) == best_indices([None, 1.0]) == best_indices([]) == set()
    assert best_indices([float("nan"), 1.0, 2.0]) == {2}
    assert best_indices([float("inf"), 1.0, 2.0], lower_is_better=True) == {1}


def test_the_average_has_a_best_one_and_published_rows_do_not_compete() -> None:
    published = PublishedRow("p", "paper", (99.0,), average=99.0)
    page = score_table(
        Summary("s", columns("t"), (row("a", 1.0, average=5.0), row("b", 2.0, average=4.0)), (published,))
    )
    assert bold(page) == ["5.00", "2.00"]


def test_intervals_are_one_number_if_they_are_symmetric() -> None:
    assert format_interval(ScoreCell((), 80.0, 79.5, 80.5)) == "±0.50"
    assert format_interval(ScoreCell((), 80.0, 79.25, 80.5)) == "+0.50 −0.75"
    assert format_interval(ScoreCell((), 80.0)) == format_interval(ScoreCell((), None, 1.0, 2.0)) == ""


def test_numbers_have_a_true_minus_and_no_negative_zero() -> None:
    assert [format_score(-1.5), format_score(-0.001), format_score(None)] == ["−1.50", "0.00", "–"]
    assert [format_delta(1.0), format_delta(-0.001), format_delta(-1.0)] == ["+1.00", "+0.00", "−1.00"]


def test_marks_seeds_and_what_is_missing_are_said() -> None:
    cell = ScoreCell((80.0, None, 0.0), 40.0, 30.0, 50.0, (3,), "**", Delta(-1.5, 0.0004, "worse"))
    page = export_page(
        Summary("s", columns("t"), (Row("m", (1, 2, 3), (cell,)), Row("n", (1,), (None,))), reference="the best")
    )
    assert '<span class="mark">**</span>' in page
    assert "80.00 – 0.00" in page
    assert "−1.50, p &lt; .001" in page
    assert "2 of 3 seeds" in page
    assert "1 collapsed" in page
    for word in ("p &lt; 0.01", "compare with the best", "not measured, or undefined", "the run learned nothing"):
        assert word in page, word
    assert "p &lt; 0.05" not in page, "no cell has that mark"
    assert "not checked against its source" not in page


def test_published_rows_have_their_source_and_a_dagger_until_verified() -> None:
    page = score_table(
        Summary(
            "s",
            columns("t"),
            (),
            (PublishedRow("p", "paper", (1.0,), "dev"), PublishedRow("q", "book", (2.0,), "", True)),
        )
    )
    first, second = re.findall(r'(?s)<tr class="published">(.*?)</tr>', page)
    assert "paper, dev" in first
    assert "†" in first
    assert "book" in second
    assert "†" not in second


def test_failures_and_collapses_are_listed() -> None:
    cell = ScoreCell((50.0, 12.5), 31.25, collapsed=(8,))
    summary = Summary(
        "s", columns("t"), (Row("m", (7, 8), (cell,), 3000, "bert"),), failures=(Failure("f", "t", 9, "oh"),)
    )
    page = export_page(summary)
    assert "Failed and collapsed (2)" in page
    assert "valid/t 12.50" in page
    assert "step 3,000 · bert" in page
    assert ">oh<" in page


# Option by option


def test_rows_that_differ_in_one_option_are_compared() -> None:
    def of(model: str, **options: Any) -> Row:
        return row(model, 1.0, recipe="bert", options=options)

    rows = [of("m"), of("m", lr="5e-5"), of("m", lr="3e-5"), of("m", lr="3e-5", bs=16), of("n", lr="3e-5")]
    tables = {table.option: table for table in compare_options(rows, [AVERAGE, *columns("t")])}
    assert set(tables) == {"--lr", "--bs"}
    assert list(tables["--lr"].overall.rows) == [AS_IN_RECIPE, "3e-5", "5e-5"]
    assert [(setting.title, list(setting.rows)) for setting in tables["--bs"].settings] == [
        ("m · bert --lr 3e-5", [AS_IN_RECIPE, "16"])
    ]


def test_the_recipe_counts_as_an_option_and_steps_do_not() -> None:
    rows = [row("m", 1.0, recipe=name, step=step) for name, step in (("a", 1), ("b", 1), ("a", 2))]
    (table,) = compare_options(rows, [AVERAGE, *columns("t")])
    assert (table.option, list(table.overall.rows), len(table.settings)) == ("recipe", ["a", "b"], 1)


def test_the_overall_mean_of_an_option_is_over_settings_that_have_every_value() -> None:
    rows = [
        row(m, score, options={"lr": lr}) for m, lr, score in (("a", "1", 10.0), ("a", "2", 20.0), ("b", "1", 30.0))
    ]
    rows += [
        row("b", 50.0, options={"lr": "2"}),
        row("c", 0.0, options={"lr": "1"}),
        row("c", 0.0, options={"lr": "3"}),
    ]
    page = export_page(Summary("s", columns("t"), tuple(rows[:4])))
    assert "mean of the 2 settings with every value" in page
    assert "20.00" in page
    assert "+15.00" in page
    assert "mean of the 0 settings" in export_page(Summary("s", columns("t"), tuple(rows)))


def test_the_order_of_checkpoints_is_that_of_their_steps() -> None:
    rows = [row("m", 1.0, step=step) for step in (30, 10, 20)] + [row("lonely", 1.0, step=10), row("none", 1.0)]
    assert [[rows[index].step for index in series] for series in checkpoint_series(rows).values()] == [[10, 20, 30]]


# Names and data from outside


def test_names_of_any_kind_stay_text() -> None:
    cell = one(1.0, delta=Delta(1.0, 0.5, EVIL), mark=EVIL)
    rows = tuple(Row(EVIL, (1,), (cell,), step, EVIL, {EVIL: EVIL}) for step in (1, 2))
    rows += (Row(EVIL, (1,), (cell,), 1, EVIL),)
    summary = Summary(
        EVIL, (Column(EVIL, EVIL, EVIL),), rows, (PublishedRow(EVIL, EVIL, (1.0,), EVIL),),
        (Failure(EVIL, EVIL, 1, EVIL, 1, EVIL),), EVIL, EVIL, EVIL, EVIL, EVIL, {EVIL: EVIL},
    )  # fmt: skip
    page = export_page(summary)
    page.encode()
    elements = Elements(page)
    assert not [
        name
        for name, attributes in elements.elements
        if name == "img" or any(key.startswith("on") for key in attributes)
    ]
    assert "\x00" not in page
    (data,) = (text for text in elements.texts["script"] if text.startswith("{"))
    assert json.loads(data)["series"][0]["label"] == EVIL
    assert sum(name == "script" for name, _ in elements.elements) == len(SCRIPTS) + 1


def test_names_are_not_templates() -> None:
    name = "{{ 7 * 7 }} {% raw %} {# x #} $title"
    assert Elements(export_page(Summary(name, title=name))).texts["h1"] == [name]


def test_the_policy_allows_this_page_and_nothing_else(example: Summary) -> None:
    """By the hashes of what the page really contains, as a browser computes them."""
    page = export_page(example)
    elements = Elements(page)
    (policy,) = (
        attributes["content"]
        for name, attributes in elements.elements
        if name == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    inline = re.findall(r"(?s)<(style|script)>(.*?)</\1>", page)
    assert [name for name, _ in inline] == ["style", *["script"] * len(SCRIPTS)]
    style, *scripts = (
        f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'" for _, content in inline
    )
    assert policy == (
        f"default-src 'none'; img-src data:; style-src {style}; script-src {' '.join(scripts)}; base-uri 'none'; "
        "form-action 'none'"
    )
    assert not [attributes for _, attributes in elements.elements if "style" in attributes]


def test_names_are_escaped_once() -> None:
    name = 'a<b & "c"\''
    page = export_page(Summary("s", columns("t"), (row(name, 1.0),), title=name))
    assert Elements(page).texts["h1"] == [name]
    assert Elements(page).texts["bdi"] == [name]
    assert "<h1>a&lt;b &amp; &#34;c&#34;&#39;</h1>" in page


def test_a_mapping_will_do_and_survives_json(example: Summary) -> None:
    record = json.loads(json.dumps(dataclasses.asdict(example)))
    assert read_summary(record) == example
    assert export_page(record) == export_page(example)


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
        export_page(record)


# Sizes


def test_an_empty_bench_says_so() -> None:
    page = export_page(Summary("s"))
    for words in ("Nothing was measured", "no line to draw", "nothing to compare", "No run failed"):
        assert words in page
    assert "<table" not in page
    assert "Chart.js v" not in page, "no chart, no library for it"


def test_a_single_row_has_neither_bold_nor_chart() -> None:
    page = export_page(Summary("s", columns("t"), (row("m", 80.0, step=10),)))
    assert bold(page) == []
    assert ">80.00<" in page
    assert "Chart.js v" not in page


def test_values_that_are_none_or_not_finite_are_dashes() -> None:
    rows = (Row("m", (1, 2), (ScoreCell((None, float("nan")), float("nan"), float("nan"), float("inf")), None), 1),)
    page = export_page(Summary("s", columns("t", "u"), (*rows, dataclasses.replace(rows[0], step=2))))
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
    page = export_page(many())
    assert time.perf_counter() - began < 5
    assert len(page) < 2_000_000
    assert page.count("<tr") > 200


def test_libraries_are_named_with_their_licences(example: Summary) -> None:
    page = export_page(example)
    versions = dict(re.findall(r"`([a-z]+\.min\.js)`.*?\| ([\d.]+) \|", (ASSETS / "README.md").read_text()))
    assert f"DataTables {versions['datatables.min.js']}" in page
    assert f"Chart.js v{versions['chart.min.js']}" in page
    assert page.count("Permission is hereby granted") == 2
    assert all("</script" not in path.read_text(encoding="utf-8").lower() for path in ASSETS.glob("*.js"))


# In a browser


@pytest.fixture(scope="module")
def report_path(tmp_path_factory: pytest.TempPathFactory, example: Summary) -> Path:
    """The example's report as a file."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(export_page(example), encoding="utf-8")
    return path


def names(page: Any) -> list[str]:
    return page.locator("#table tbody tr:visible > th > bdi").all_inner_texts()


def column(page: Any, label: str) -> list[float | None]:
    """Return the sort values of a column, in the order in which the rows are shown."""
    place = page.locator("#table thead th").evaluate_all(
        "(all, label) => all.findIndex((header) => header.ariaLabel === label)", label
    )
    values = page.locator(f"#table tbody tr > :nth-child({place + 1})").evaluate_all(
        "all => all.map(e => e.dataset.order)"
    )
    return [None if value is None else float(value) for value in values]


def test_it_loads_alone_and_without_complaint(show: Any, report_path: Path) -> None:
    page = show(report_path)
    assert page.title() == "Two encoders over pre-training, on GLUE"
    assert len(names(page)) == 18
    assert page.locator("#row-count").inner_text() == "18 rows"


def test_a_click_or_a_key_sorts_with_missing_scores_last(show: Any, report_path: Path) -> None:
    page = show(report_path)
    head = page.locator('#table th[aria-label="rte, accuracy"]')
    head.click()
    scores = [value for value in column(page, "rte, accuracy") if value is not None]
    assert scores == sorted(scores, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    low = page.locator('#table th[aria-label="lm, perplexity, lower is better"]')
    for descending in (False, True):
        low.locator("[role=button]").press("Enter")
        sort = "descending" if descending else "ascending"
        page.wait_for_selector(f'#table th[aria-label^="lm, perplexity"][aria-sort={sort}]')
        page.wait_for_timeout(200)  # the rows are sorted after the header is marked
        values = column(page, "lm, perplexity, lower is better")
        known = [value for value in values if value is not None]
        assert known == sorted(known, reverse=descending)
        assert values[len(known) :] == [None] * 6


def test_the_search_narrows_the_rows(show: Any, report_path: Path) -> None:
    page = show(report_path)
    page.fill("#search", "classic 400000 3e-5")
    assert names(page) == ["classic-base-en"]
    assert page.locator("#row-count").inner_text() == "1 of 18 rows"
    page.fill("#search", "no such thing")
    assert "No row has all of these words." in page.locator("#table tbody").inner_text()


def test_the_line_below_a_score_can_be_chosen(show: Any, report_path: Path) -> None:
    page = show(report_path)
    first = page.locator("#table tbody tr").first.locator("td.score").nth(1)
    for choice in ("interval", "seeds", "delta"):
        page.select_option("#detail", choice)
        assert first.locator(".detail:visible").evaluate_all("all => all.map(e => e.className)") == [f"detail {choice}"]


def drawn(page: Any) -> list[str]:
    """Return the lines that the chart shows."""
    return page.evaluate(
        """() => {
            const chart = board.steps.chart();
            const shown = chart.data.datasets.filter((line, index) => !line.edge && chart.isDatasetVisible(index));
            return shown.map((line) => line.label);
        }"""
    )


def test_lines_of_the_chart_can_be_hidden_and_shown(show: Any, report_path: Path) -> None:
    page = show(report_path)
    assert len(drawn(page)) == 11
    assert "lm (perplexity)" not in drawn(page), "it has another scale"
    button = page.locator("#lines button", has_text="cola (mcc)")
    button.focus()
    button.press("Enter")
    assert button.get_attribute("aria-pressed") == "false"
    assert page.evaluate("document.activeElement.textContent") == "cola (mcc)"
    assert "cola (mcc)" not in drawn(page)
    button.click()
    assert "cola (mcc)" in drawn(page)
    page.click("#hide-all")
    assert drawn(page) == []
    page.click("#show-all")
    assert len(drawn(page)) == 12


def test_the_chart_compares_models_and_changes(show: Any, report_path: Path) -> None:
    page = show(report_path)
    page.select_option("#view", label="models on rte (accuracy)")
    assert drawn(page) == ["moderna-base-en", "classic-base-en"]
    page.check("#relative")
    page.check("#logarithmic")
    axis = page.evaluate(
        "(({ data, scales }) => [scales.x.type, data.datasets.filter((d) => !d.edge).map((d) => d.data[0].y)])"
        "(board.steps.chart())"
    )
    assert axis == ["logarithmic", [0, 0]]
    page.click("#steps summary")
    cells = page.locator("#numbers tbody tr").first.locator("th, td").all_inner_texts()
    assert cells[0] == "10,000"
    assert cells[1].startswith("+0.00 ±")
    chart = "board.steps.chart()"
    visible = f"() => {chart}.data.datasets.filter((d, i) => d.edge && {chart}.isDatasetVisible(i)).length"
    assert page.evaluate(visible) == 4
    page.uncheck("#bands")
    assert page.evaluate(visible) == 0


def test_dark_and_light_follow_the_system_and_the_switch(show: Any, report_path: Path) -> None:
    def ground(page: Any) -> int:
        color = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", color)))

    page = show(report_path, color_scheme="dark")
    dark = ground(page)
    line = page.evaluate("board.steps.chart().data.datasets[2].borderColor")
    page.select_option(".theme-choice", "light")
    assert dark < 150 < 700 < ground(page)
    assert page.evaluate("board.steps.chart().data.datasets[2].borderColor") != line
    page.reload()
    assert ground(page) > 700, "the choice is remembered"
    page.select_option(".theme-choice", "system")
    assert ground(page) == dark
    page.emulate_media(color_scheme="light")
    assert ground(page) > 700


WIDTH = "document.documentElement.scrollWidth"


@pytest.mark.parametrize("width", [320, 390, 820])
def test_only_tables_scroll_sideways(show: Any, report_path: Path, width: int) -> None:
    page = show(report_path, viewport={"width": width, "height": 800})
    page.evaluate("document.querySelectorAll('details').forEach((element) => { element.open = true; })")
    assert page.evaluate(WIDTH) == width
    assert page.evaluate(
        "(() => { const e = document.querySelector('#scores .scroll'); return e.scrollWidth > e.clientWidth; })()"
    )
    page.evaluate("document.querySelector('#scores .scroll').scrollLeft = 300")
    left = page.locator("#table tbody th").first.bounding_box()["x"]
    assert 0 <= left < 30, "the model stays visible"


def test_without_scripts_the_tables_are_there(show: Any, report_path: Path) -> None:
    page = show(report_path, java_script_enabled=False)
    assert len(names(page)) == 18
    assert page.locator("#search").is_hidden()
    assert page.get_by_text("The chart needs JavaScript").is_visible()


def test_names_of_any_kind_run_nothing(show: Any, tmp_path: Path) -> None:
    rows = tuple(Row(EVIL, (1,), (one(1.0, mark=EVIL),), step, EVIL, {EVIL: EVIL}) for step in (1, 2))
    path = tmp_path / "evil.html"
    summary = Summary(EVIL, (Column(EVIL, EVIL, EVIL),), rows, (PublishedRow(EVIL, EVIL, (1.0,)),), marks={EVIL: EVIL})
    path.write_text(export_page(summary), encoding="utf-8")
    page = show(path, viewport={"width": 390, "height": 800})
    page.locator("#table th.score").first.click()
    page.select_option("#view", "score 1")
    page.click("#steps summary")
    assert page.locator("img").count() == 0
    assert page.evaluate(WIDTH) == 390


@pytest.mark.parametrize("summary", [Summary("s"), many()], ids=["empty", "many"])
def test_any_size_of_bench_is_shown(show: Any, tmp_path: Path, summary: Summary) -> None:
    path = tmp_path / "report.html"
    path.write_text(export_page(summary), encoding="utf-8")
    page = show(path, viewport={"width": 390, "height": 800})
    assert page.locator("#table tbody tr").count() == min(50, len(summary.rows))
    assert page.evaluate(WIDTH) == 390


# Picked rows, pages of rows, two models


def test_picked_rows_can_be_shown_alone(show: Any, report_path: Path) -> None:
    page = show(report_path)
    assert page.locator("#only-picked").is_disabled()
    boxes = page.locator("#table .pick")
    boxes.nth(1).check()
    boxes.nth(2).focus()
    page.keyboard.press("Space")
    page.click("#only-picked")
    published = page.locator("#table tr.published").count()
    assert page.locator("#table tbody tr").count() == 2 + published
    assert page.locator("#only-picked").inner_text() == "only picked (2)"
    page.click("#clear-picks")
    assert len(names(page)) == 18
    assert page.locator(".pick:checked").count() == 0


def test_two_picked_rows_are_compared_in_the_chart_of_a_file(show: Any, report_path: Path) -> None:
    page = show(report_path)
    page.get_by_label("pick classic-base-en, step 10,000").check()
    page.get_by_label("pick moderna-base-en, step 10,000").check()
    page.click("#compare")
    assert drawn(page) == ["average · classic-base-en", "average · moderna-base-en"]
    page.locator("#lines button", has_text="rte (accuracy) · classic").click()
    assert len(drawn(page)) == 3
    page.select_option("#against", "")
    assert len(drawn(page)) == 11


def test_long_tables_have_pages(show: Any, tmp_path: Path) -> None:
    path = tmp_path / "many.html"
    path.write_text(export_page(many()), encoding="utf-8")
    page = show(path)
    assert page.locator("#paging").inner_text().splitlines()[1] == "rows 1 to 50 of 200"
    page.get_by_role("button", name="next ›").press("Enter")
    assert names(page)[0] == "model-50"
    assert page.evaluate("document.activeElement.textContent") == "next ›"
    page.locator('#table th[aria-label="task0"]').click()
    page.locator('#table th[aria-label="task0"][aria-sort=descending]').wait_for()
    assert names(page)[0] == "model-199"
    page.fill("#search", "model-19")
    assert page.locator("#row-count").inner_text() == "11 of 200 rows"
    page.fill("#search", "")
    page.get_by_role("button", name="all rows").click()
    assert len(names(page)) == 200


# What readers with other eyes and hands need


CONTRAST = """() => {
    const luminance = (rgb) => {
        const [r, g, b] = rgb.map((value) => value / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const parse = (color) => {
        paint.clearRect(0, 0, 1, 1);
        paint.fillStyle = color;
        paint.fillRect(0, 0, 1, 1);
        return [...paint.getImageData(0, 0, 1, 1).data];
    };
    const ground = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const [r, g, b, alpha] = parse(getComputedStyle(at).backgroundColor);
            if (alpha === 255) return [r, g, b];
        }
        return [255, 255, 255];
    };
    const poor = [];
    for (const element of document.querySelectorAll("body *")) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
        if (!own || !element.checkVisibility() || element.disabled || element.closest("option, script, [aria-pressed=false]")) continue;
        const [a, b] = [luminance(parse(getComputedStyle(element).color)), luminance(ground(element))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) poor.push(`${ratio.toFixed(2)} ${element.tagName} ${element.className} ${element.textContent.slice(0, 30)}`);
    }
    return poor;
}"""  # noqa: E501


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_that_wcag_asks_for(show: Any, tmp_path: Path, example: Summary, scheme: str) -> None:
    runs = [make_run(digest) for digest in ("d" * 64, "e" * 64)]
    path = tmp_path / "report.html"
    path.write_text(export_page(example, row_runs(example), runs), encoding="utf-8")
    page = show(path, color_scheme=scheme)
    page.locator(".pick").first.check()
    page.evaluate("document.querySelectorAll('details').forEach((element) => { element.open = true; })")
    assert page.evaluate(CONTRAST) == []
    page.evaluate("location.hash = document.querySelector('.view.other').id")
    page.wait_for_selector(".learning canvas:visible")
    assert page.evaluate(CONTRAST) == []
