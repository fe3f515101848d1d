"""A summary as one HTML file that needs nothing else: a table, a chart by pre-training step, a comparison by option.

The tables are plain HTML, and complete without JavaScript. Styles, scripts and libraries are files in ``assets/`` and
put inline; the page may load nothing and runs no scripts but these, as its content security policy says.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from string import Template
from typing import Any

import claf2
from claf2.bench.markup import VOID, Html, count, join, tag, text
from claf2.bench.summary import Cell, Row, Summary, number, read, series
from claf2.bench.tables import AVERAGE, option_tables, score_table, trouble_rows, trouble_table

__all__ = ["render"]

ASSETS = Path(__file__).parent / "assets"


def render(summary: Summary | Mapping[str, Any]) -> str:
    """Return the report as the text of an HTML file, to be written as UTF-8.

    Args:
        summary: what was measured; a mapping of the same form will do, as read from JSON.

    Raises:
        ValueError: when the mapping is not of that form.
    """
    found = read(summary)
    data = _data(found)
    libraries = ("datatables", "chart") if data["series"] else ("datatables",)
    scripts = [*map(_library, libraries), _asset("report.js")]
    return Template(_asset("report.html")).substitute(
        hashes=" ".join(f"'sha256-{_hash(script)}'" for script in scripts),
        title=text(found.title or found.suite),
        suite=text(" · ".join(part for part in (found.suite, _time(found.when)) if part)),
        style=_asset("report.css"),
        facts=text(_facts(found)),
        notes=join(tag("p", text(part)) for part in re.split(r"\n\s*\n", found.notes.strip()) if part),
        scores=_scores(found),
        steps=_steps(data),
        options=option_tables(found),
        trouble=trouble_table(found),
        trouble_link=text(f"Failed and collapsed ({len(trouble_rows(found))})"),
        made=text(f"Made by claf2 {claf2.__version__}. This file is complete in itself and loads nothing."),
        data=_script_data(data),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _library(name: str) -> str:
    """Return a library with its licence, which every copy has to carry."""
    return f"/*!\n{_asset(f'{name}.LICENSE.txt').strip()}\n*/\n{_asset(f'{name}.min.js').strip()}\n"


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _script_data(data: Mapping[str, Any]) -> str:
    """Return data as JSON in which no character can end the element around it, or begin a comment there."""
    return re.sub("[<>&]", lambda match: f"\\u{ord(match[0]):04x}", json.dumps(data, allow_nan=False))


def _time(when: str) -> str:
    """Return an ISO time as people write it, and what is none as it is."""
    try:
        return f"{datetime.fromisoformat(when):%Y-%m-%d %H:%M %Z}".strip()
    except ValueError:
        return when


def _facts(summary: Summary) -> str:
    """Return in a line how much was measured, and what a score is."""
    rows = summary.rows
    if not rows:
        return "Nothing was measured yet."
    checkpoints = {(row.model, row.step) for row in rows if row.step is not None}
    seeds = sorted({len(row.seeds) for row in rows})
    variants = {row.variant() for row in rows}
    facts = [
        count(len({row.model for row in rows}), "model"),
        count(len(checkpoints), "checkpoint") if checkpoints else "",
        count(len({column.task for column in summary.columns}), "task"),
        count(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds",
        min(variants) if len(variants) == 1 else f"{len(variants)} ways to train",
    ]
    return " · ".join(fact for fact in facts if fact) + ". A score is the mean over seeds."


def _scores(summary: Summary) -> Html:
    if not summary.rows and not summary.published:
        return tag("p", text("Nothing was measured, and the suite has no published scores."), class_="empty")
    return join([_controls(summary), score_table(summary), _legend(summary)])


def _controls(summary: Summary) -> Html:
    """Return what searches the table and chooses the small line below each score; it shows with JavaScript only."""
    choices = {"band": summary.band, "seeds": "each seed"}
    if any(cell and cell.versus for row in summary.rows for cell in row.cells):
        choices["versus"] = "difference, with p"
    menu = [tag("option", text(words), value=value) for value, words in choices.items()]
    search = Html('<input id="search" type="search" placeholder="model, recipe, step …" autocomplete="off">')
    return tag(
        "div",
        tag("label", text("Find"), search),
        tag("label", text("Below the score"), tag("select", *menu, id="second", autocomplete="off")),
        tag("output", id="found", for_="search"),
        class_="controls",
        data_scripted="yes",
        hidden="hidden",
    )


def _legend(summary: Summary) -> Html:
    """Return what the marks mean, of those that occur."""
    cells = [cell for row in summary.rows for cell in row.cells]
    known = [cell for cell in cells if cell]
    against = f"what marks and differences compare with: {summary.versus}"
    entries = [
        (len(summary.rows) > 1, tag("strong", text("bold")), "best measured score of the column, ties included"),
        (any(cell.low is not None for cell in known), text("±"), summary.band),
        *((any(cell.mark == mark for cell in known), text(mark), words) for mark, words in summary.marks.items()),
        (bool(summary.versus) and any(cell.mark or cell.versus for cell in known), text(""), against),
        (any(each.lower_is_better for each in summary.columns), text("↓"), "lower is better"),
        (any(cell.collapsed for cell in known), text("collapsed"), "the run learnt nothing: see the list below"),
        (bool(summary.published), tag("em", text("italics")), "published by others, not measured here"),
        (any(not row.verified for row in summary.published), text("†"), "not checked against its source"),
        (any(cell is None or cell.mean is None for cell in cells), text(VOID), "not measured, or undefined"),
    ]
    items = [tag("li", tag("span", sign, class_="sign"), text(words)) for there, sign, words in entries if there]
    return tag("ul", *items, class_="legend")


def _data(summary: Summary) -> dict[str, Any]:
    """Return what the chart is drawn from: for each model and variant the scores at each step."""
    found = series(summary.rows)
    several = len({variant for _, variant in found}) > 1
    return {
        "scores": [{"label": each.label, "lower": each.lower_is_better} for each in (AVERAGE, *summary.columns)],
        "series": [
            {
                "label": f"{model} · {variant}" if several else model,
                "points": [{"step": row.step, "scores": _points(row)} for row in rows],
            }
            for (model, variant), rows in found.items()
        ],
    }


def _points(row: Row) -> list[dict[str, Any]]:
    cells = [_point(cell) if cell else {} for cell in row.cells]
    return [{"mean": number(row.average)}, *cells]


def _point(cell: Cell) -> dict[str, Any]:
    band = {"low": number(cell.low), "high": number(cell.high)}
    lost = {"collapsed": len(cell.collapsed)} if cell.collapsed else {}
    return {"mean": number(cell.mean), **band, **lost}


def _steps(data: Mapping[str, Any]) -> Html:
    """Return the place of the chart, with its controls."""
    if not data["series"]:
        words = "No model was measured at two or more steps of its pre-training, so there is no line to draw."
        return tag("p", text(words), class_="empty")
    models = [
        tag("option", text(f"tasks of {each['label']}"), value=f"model {place}")
        for place, each in enumerate(data["series"])
    ]
    scores = [
        tag("option", text(f"models on {each['label']}"), value=f"score {place}")
        for place, each in enumerate(data["scores"])
    ]
    menu = [tag("optgroup", *models, label="One model"), tag("optgroup", *scores, label="One score")]
    controls = [
        tag("label", text("Show"), tag("select", *menu, id="view", autocomplete="off")),
        tag("label", Html('<input type="checkbox" id="bands" autocomplete="off" checked>'), text("bands")),
        tag("label", Html('<input type="checkbox" id="relative" autocomplete="off">'), text("change since the first")),
        tag("label", Html('<input type="checkbox" id="logarithmic" autocomplete="off">'), text("logarithmic steps")),
    ]
    whole = [tag("button", text(f"{words} lines"), type="button", id=words) for words in ("all", "no")]
    unscripted = "The chart needs JavaScript; its numbers are in the table."
    numbers = tag(
        "div", id="numbers", class_="scroll free", tabindex=0, role="region", aria_label="Numbers of the chart"
    )
    return join(
        [
            tag("p", text(unscripted), class_="empty", data_unscripted="yes"),
            tag(
                "div",
                tag("div", *controls, tag("span", *whole, class_="switches"), class_="controls"),
                tag("div", tag("canvas", id="chart", role="img"), class_="plot"),
                tag("ul", id="lines", class_="lines", aria_label="Lines of the chart, to show or hide"),
                tag("details", tag("summary", text("The numbers of the chart")), numbers),
                data_scripted="yes",
                hidden="hidden",
            ),
        ]
    )
