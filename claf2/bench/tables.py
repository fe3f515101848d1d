"""The tables of a report: all scores, options side by side, and what failed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from claf2.bench.markup import VOID, Html, count, join, named, said, shown, signed, table, tag, text
from claf2.bench.summary import (
    Cell,
    Column,
    Comparison,
    Published,
    Row,
    Setting,
    Summary,
    best,
    comparisons,
    number,
)

__all__ = ["AVERAGE", "option_tables", "score_table", "trouble_rows", "trouble_table"]

AVERAGE = Column("average", "average", "average")
"""The column that comes before those of the tasks."""


def score_table(summary: Summary) -> Html:
    """Return all rows, best of each column in bold, then what was published."""
    rows = summary.rows
    columns = (AVERAGE, *summary.columns)
    scores = [[row.average, *map(_mean, row.cells)] for row in rows]
    winners = [
        best([each[place] for each in scores], lower_is_better=column.lower_is_better)
        for place, column in enumerate(columns)
    ]
    steps = any(row.step is not None for row in rows)
    variants = len({row.variant() for row in rows}) > 1
    head = [tag("th", text("Model"), scope="col", class_="model")]
    head += [tag("th", text("Step"), scope="col", class_="step")] if steps else []
    head += map(_header, columns)
    body = [
        _measured(row, [place in each for each in winners], steps=steps, variants=variants)
        for place, row in enumerate(rows)
    ]
    body += [_published(row, steps=steps) for row in summary.published]
    caption = f"{summary.suite}: scores of every model in every task"
    return table(caption, head, [tag("tbody", *body)], id="table", data_second="band")


def _mean(cell: Cell | None) -> float | None:
    return number(cell.mean) if cell else None


def _header(column: Column) -> Html:
    name, _, score = column.label.partition(" (")
    score = score.removesuffix(")")
    small = f"{score} ↓".strip() if column.lower_is_better else score
    spoken = ", ".join(part for part in (name, score, "lower is better" if column.lower_is_better else "") if part)
    kinds = ("score", "lower" if column.lower_is_better else "", "average" if column is AVERAGE else "")
    return tag(
        "th",
        text(name),
        tag("small", text(small or "\u00a0")),
        scope="col",
        class_=" ".join(filter(None, kinds)),
        aria_label=spoken,
        title="" if column is AVERAGE else column.key,
    )


def _measured(row: Row, winner: Sequence[bool], *, steps: bool, variants: bool) -> Html:
    seeds = count(len(row.seeds), "seed")
    variant = row.variant() if variants else ""
    step = "" if row.step is None else f"step {row.step:,}"
    small = [tag("span", text(f"{step} · "), class_="rowstep")] if step else []
    small.append(text(f"{variant} · {seeds}" if variant else seeds))
    found = f"{row.model} {row.variant()} {step} {row.step if step else ''}"
    cells = [tag("th", named(row.model), tag("small", *small), scope="row", data_search=found)]
    if steps:
        cells.append(tag("td", text("" if row.step is None else f"{row.step:,}"), class_="step", data_order=row.step))
    cells.append(_plain(row.average, best_of_all=winner[0], kind="score average"))
    cells += [_score(row, cell, winner[place]) for place, cell in enumerate(row.cells, start=1)]
    return tag("tr", *cells)


def _published(row: Published, *, steps: bool) -> Html:
    where = ", ".join(part for part in (row.source, row.split) if part)
    mark = [] if row.verified else [text(" †"), said("not checked against its source")]
    found = f"{row.model} {where} published"
    cells = [tag("th", named(row.model), *mark, tag("small", text(where)), scope="row", data_search=found)]
    cells += [tag("td", class_="step")] if steps else []
    cells.append(_plain(row.average, kind="score average"))
    cells += [_plain(score) for score in row.scores]
    return tag("tr", *cells, class_="published")


def _plain(value: float | None, *, best_of_all: bool = False, kind: str = "score", second: str = "") -> Html:
    """Return the cell of a number that has no band."""
    known = number(value)
    small = [tag("span", text(second), class_="second")] if second else []
    return tag("td", _number(known, best_of_all), *small, class_=kind, data_order=known)


def _number(value: float | None, winner: bool) -> Html:
    return tag("strong" if winner else "span", text(shown(value)), class_="mean")


def _score(row: Row, cell: Cell | None, winner: bool) -> Html:
    """Return a measured cell; which of the lines below the number shows, the table says."""
    if cell is None:
        return _plain(None)
    mean = number(cell.mean)
    mark = [tag("span", text(cell.mark), class_="mark")] if cell.mark else []
    inner = [tag("span", _number(mean, winner), *mark, class_="mean")]
    inner.append(tag("span", text(band(cell)), class_="second band"))
    inner.append(tag("span", text(" ".join(shown(number(each)) for each in cell.values)), class_="second seeds"))
    if cell.versus:
        title = cell.versus.verdict
        inner.append(tag("span", text(_versus(cell)), class_="second versus", title=title))
    inner += [tag("span", text(flag), class_="flag") for flag in _flags(row, cell)]
    return tag("td", *inner, class_="score", data_order=mean)


def band(cell: Cell) -> str:
    """Return how far the band reaches from the mean: both ways alike, or each way."""
    mean, low, high = number(cell.mean), number(cell.low), number(cell.high)
    if mean is None or low is None or high is None:
        return ""
    below, above = f"{mean - low:.2f}", f"{high - mean:.2f}"
    return f"±{above}" if below == above else f"+{above} −{below}"


def _versus(cell: Cell) -> str:
    if cell.versus is None or (delta := number(cell.versus.delta)) is None:
        return ""
    p = number(cell.versus.p)
    chance = "" if p is None else ", p < .001" if p < 0.001 else f", p {p:.3f}".replace("0.", ".", 1)
    return signed(delta) + chance


def _flags(row: Row, cell: Cell) -> Iterator[str]:
    lost = sum(number(value) is None for value in cell.values)
    if lost:
        yield f"{len(cell.values) - lost} of {count(len(row.seeds), 'seed')}"
    if cell.collapsed:
        yield f"{len(cell.collapsed)} collapsed"


def option_tables(summary: Summary) -> Html:
    """Return a table for each option that rows differ in: its values side by side, all else the same."""
    found = comparisons(summary.rows)
    if not found:
        words = "No two rows differ in one option only, so there is nothing to set side by side."
        return tag("p", text(words), class_="empty")
    words = (
        "Rows of the same model and step that differ in this option only. Small numbers are the difference to the "
        "first value: differences of means, not tested."
    )
    return join([tag("p", text(words), class_="quiet"), *(_comparison(each, summary) for each in found)])


def _comparison(comparison: Comparison, summary: Summary) -> Html:
    columns = (AVERAGE, *summary.columns)
    title = "Recipe" if comparison.option == "recipe" else comparison.option
    head = [tag("th", text("Value"), scope="col"), *map(_header, columns)]
    each = [_setting(setting, comparison, columns) for setting in comparison.settings]
    name = f"Scores by {title}"
    heading = tag("h3", tag("code", named(title)))
    if len(each) == 1:
        return join([heading, table(name, head, each)])
    places = count(len(each), "setting")
    whole = table(name, head, _overall(comparison, columns))
    more = tag("summary", text(f"Each of the {places}"))
    return join([heading, whole, tag("details", more, table(f"{name}, each of the {places}", head, each))])


def _scores(row: Row) -> list[float | None]:
    return [number(row.average), *map(_mean, row.cells)]


def _setting(setting: Setting, comparison: Comparison, columns: Sequence[Column]) -> Html:
    """Return the values that were tried with one model, at one step, with the same other options."""
    parts = (setting.model, "" if setting.step is None else f"step {setting.step:,}", setting.others)
    rows = {value: _scores(setting.rows[value]) for value in comparison.values if value in setting.rows}
    return _values(" · ".join(part for part in parts if part), rows, columns)


def _overall(comparison: Comparison, columns: Sequence[Column]) -> Iterator[Html]:
    """Yield the means over the settings that have every value, if there are any."""
    whole = [each for each in comparison.settings if len(each.rows) == len(comparison.values)]
    scores = {value: [_scores(each.rows[value]) for each in whole] for value in comparison.values}
    lost = [
        any(each[place] is None for own in scores.values() for each in own) or not whole
        for place in range(len(columns))
    ]
    means = {
        value: [
            None if lost[place] else fmean(score for each in own if (score := each[place]) is not None)
            for place in range(len(columns))
        ]
        for value, own in scores.items()
    }
    yield _values(f"mean of the {count(len(whole), 'setting')} with every value", means, columns)


def _values(title: str, rows: dict[str, list[float | None]], columns: Sequence[Column]) -> Html:
    """Return one row a value, the best of them in bold, with the difference to the first."""
    winners = [
        best([scores[place] for scores in rows.values()], lower_is_better=column.lower_is_better)
        for place, column in enumerate(columns)
    ]
    first = next(iter(rows.values()))
    body = [tag("tr", tag("th", tag("span", named(title)), colspan=len(columns) + 1, scope="rowgroup"), class_="group")]
    for number_, (value, scores) in enumerate(rows.items()):
        cells = [tag("th", named(value), scope="row")]
        for place, score in enumerate(scores):
            base = first[place]
            second = signed(score - base) if number_ and score is not None and base is not None else ""
            kind = "score" if place else "score average"
            cells.append(_plain(score, best_of_all=number_ in winners[place], kind=kind, second=second))
        body.append(tag("tr", *cells))
    return tag("tbody", *body)


def trouble_rows(summary: Summary) -> list[tuple[str, str, str, str, int, str]]:
    """Return the runs that failed and those that collapsed: which it is, model, training, task, seed, reason."""
    found = [
        ("failed", each.model, _training(each.step, each.variant), each.task, each.seed, each.reason)
        for each in summary.failures
    ]
    for row in summary.rows:
        for column, cell in zip(summary.columns, row.cells, strict=True):
            for seed in cell.collapsed if cell else ():
                place = row.seeds.index(seed) if cell and seed in row.seeds else None
                value = cell.values[place] if cell and place is not None and place < len(cell.values) else None
                reason = f"{column.key} {shown(number(value))}"
                found.append(("collapsed", row.model, _training(row.step, row.variant()), column.label, seed, reason))
    return found


def _training(step: int | None, variant: str) -> str:
    return " · ".join(part for part in ("" if step is None else f"step {step:,}", variant) if part) or VOID


def trouble_table(summary: Summary) -> Html:
    """Return the runs whose scores are missing or not to be trusted, with the reason."""
    rows = trouble_rows(summary)
    if not rows:
        return tag("p", text("No run failed, and none collapsed."), class_="empty")
    head = [tag("th", text(each), scope="col") for each in ("Model", "What", "Trained with", "Task", "Seed", "Why")]
    body = [
        tag(
            "tr",
            tag("th", named(model), scope="row"),
            tag("td", tag("span", text(what), class_="flag")),
            tag("td", text(training)),
            tag("td", text(task)),
            tag("td", text(seed), class_="score"),
            tag("td", text(reason), class_="text"),
        )
        for what, model, training, task, seed, reason in rows
    ]
    return table("Runs that failed or collapsed", head, [tag("tbody", *body)])
