"""Tables and charts of vocabularies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Literal

from claf2.vocabulary.bench import SCRIPT_NAMES, VocabularyMeasures

if TYPE_CHECKING:
    from claf2.vocabulary.trim import TrimResult

__all__ = ["Curve", "TableFormat", "draw_chart", "draw_measures", "format_measures", "format_table", "format_trim"]

TableFormat = Literal["text", "markdown"]
"""How a table is written."""


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]], layout: TableFormat) -> str:
    """Return a table whose first column is aligned left and the others right.

    Args:
        header: the names of the columns.
        rows: the cells of each row.
        layout: ``text`` with aligned columns, or ``markdown``.
    """
    lines = [list(header), *map(list, rows)]
    if layout == "markdown":
        head, *body = ("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        return "\n".join([head, "|" + "|".join([" --- ", *[" ---: "] * (len(header) - 1)]) + "|", *body]) + "\n"
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    aligned = [
        [
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
    return "".join("  ".join(line).rstrip() + "\n" for line in aligned)


def format_measures(measures: Sequence[VocabularyMeasures], layout: TableFormat) -> str:
    """Return the measures of vocabularies as a table, and for several sources a table of each measure by source.

    Tokens per word are left out for Japanese, which does not separate words.
    """
    first = measures[0]
    script = f"with {SCRIPT_NAMES[first.language]}"
    header = ["vocabulary", "entries", script, "tokens per text", "unknown"]
    header += ["bytes per token", "tokens per word", "steps per GB", "compute"]
    rows = [
        [
            vocabulary.name,
            f"{vocabulary.entries:,}",
            f"{vocabulary.script_share:.1%}",
            f"{vocabulary.total.length:.1f}",
            f"{vocabulary.total.unknown_share:.2%}",
            f"{vocabulary.total.bytes_per_token:.2f}",
            "–" if vocabulary.language == "ja" else f"{vocabulary.total.fertility:.2f}",
            f"{vocabulary.steps_per_gigabyte:,.0f}",
            f"{vocabulary.flops_per_gigabyte / first.flops_per_gigabyte:.2f}",
        ]
        for vocabulary in measures
    ]
    parts = [format_table(header, rows, layout)]
    if len(first.texts) > 1:
        names = [f"{text.name} ({text.register_name})" if text.register_name else text.name for text in first.texts]
        for title, form, field in (
            ("bytes per token", "{:.2f}", "bytes_per_token"),
            ("tokens per text", "{:.1f}", "length"),
            ("unknown", "{:.2%}", "unknown_share"),
        ):
            cells = [[form.format(getattr(text, field)) for text in vocabulary.texts] for vocabulary in measures]
            rows = [[vocabulary.name, *row] for vocabulary, row in zip(measures, cells, strict=True)]
            parts.append(format_table([title, *names], rows, layout))
    return "\n".join(parts)


@dataclass(frozen=True)
class Curve:
    """A curve of a chart."""

    name: str
    points: Sequence[tuple[float, float]]
    """(x, y), by ascending x."""
    band: Sequence[tuple[float, float]] | None = None
    """The lowest and the highest y at each point."""
    is_joined: bool = True
    """Draw a line through the points; separate points otherwise."""


def draw_measures(measures: Sequence[VocabularyMeasures]) -> str:
    """Return a chart of bytes per token over the size of the vocabulary, one color per source, as SVG."""
    by_size = sorted(measures, key=lambda vocabulary: vocabulary.entries)
    curves = []
    for number, text in enumerate(by_size[0].texts):
        points = [(vocabulary.entries, vocabulary.texts[number].bytes_per_token) for vocabulary in by_size]
        curves.append(Curve(text.name, points, is_joined=False))
    labels: dict[float, str] = {}
    for vocabulary in by_size:
        others = labels.get(vocabulary.entries)
        labels[vocabulary.entries] = f"{others}, {vocabulary.name}" if others else vocabulary.name
    return draw_chart("Bytes per token by size of the vocabulary", curves, "entries", "bytes per token", labels)


STYLE = """
svg { --paper: #ffffff; --ink: #1f2430; --faint: #667085; --line: #d5d9e2; --c0: #2f6fde; --c1: #c2570c; --c2: #23824b;
  --c3: #8b3fc4; --c4: #b0235f; --c5: #5b6470; }
@media (prefers-color-scheme: dark) { svg { --paper: #1e2129; --ink: #e6e8ee; --faint: #a2a9b8; --line: #3c4352;
  --c0: #7fb0ff; --c1: #ffa657; --c2: #6fd39a; --c3: #c99bf2; --c4: #ff8fb8; --c5: #b6bdc9; } }
text { font: 12px system-ui, "Segoe UI", "Noto Sans", sans-serif; fill: var(--faint); text-anchor: middle; }
.title { font-size: 14px; font-weight: 600; fill: var(--ink); text-anchor: start; } .start { text-anchor: start; }
.end { text-anchor: end; } .paper { fill: var(--paper); } .grid { stroke: var(--line); }
.curve { fill: none; stroke-width: 2; } .band { opacity: 0.18; stroke: none; }
""".strip()
COLORS = 6
WIDTH, HEIGHT = 640, 300
LEFT, TOP = 64, 64


def draw_chart(title: str, curves: Sequence[Curve], x_name: str, y_name: str, x_labels: Mapping[float, str]) -> str:
    """Return curves as an SVG picture, which follows the reader's light or dark mode. The axis of x is logarithmic.

    Args:
        title: the title.
        curves: the curves, each with at least one point.
        x_name: what x is.
        y_name: what y is.
        x_labels: x → what is written below it.
    """
    xs = [x for curve in curves for x, _ in curve.points]
    ys = [y for curve in curves for _, y in curve.points] + [
        y for curve in curves for ends in curve.band or () for y in ends
    ]
    low, high, step = _scale(min(ys), max(ys))
    left, right = math.log(min(xs)), math.log(max(xs))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (math.log(x) - left) / (right - left) if right > left else 0.5
        return LEFT + 20 + across * (WIDTH - 40), TOP + HEIGHT * (1 - (y - low) / (high - low))

    parts = [f'<text class="title" x="{LEFT}" y="28">{escape(title)}</text>']
    for number in range(round((high - low) / step) + 1):
        value = low + number * step
        _, y = place(xs[0], value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="end" x="{LEFT - 8}" y="{y + 4:.1f}">{value:.6g}</text>')
    for x, label in x_labels.items():
        parts.append(f'<text x="{place(x, low)[0]:.1f}" y="{TOP + HEIGHT + 20}">{escape(label)}</text>')
    offset = LEFT
    for number, curve in enumerate(curves):
        color = f"var(--c{number % COLORS})"
        if curve.band is not None:
            pairs = list(zip(curve.points, curve.band, strict=True))
            edge = [place(x, ends[0]) for (x, _), ends in pairs] + [
                place(x, ends[1]) for (x, _), ends in reversed(pairs)
            ]
            parts.append(f'<polygon class="band" style="fill: {color}" points="{_points(edge)}"/>')
        spots = [place(x, y) for x, y in curve.points]
        if curve.is_joined:
            parts.append(f'<polyline class="curve" style="stroke: {color}" points="{_points(spots)}"/>')
        parts += [f'<circle r="3.5" style="fill: {color}" cx="{x:.1f}" cy="{y:.1f}"/>' for x, y in spots]
        parts.append(f'<circle r="4" style="fill: {color}" cx="{offset + 4}" cy="44"/>')
        parts.append(f'<text class="start" x="{offset + 14}" y="48">{escape(curve.name)}</text>')
        offset += 30 + 7 * len(curve.name)
    parts.append(f'<text x="{LEFT + WIDTH / 2}" y="{TOP + HEIGHT + 40}">{escape(x_name)}</text>')
    middle = TOP + HEIGHT / 2
    parts.append(f'<text x="16" y="{middle}" transform="rotate(-90 16 {middle})">{escape(y_name)}</text>')
    width, height = max(LEFT + WIDTH, offset) + 24, TOP + HEIGHT + 56
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>\n{STYLE}\n</style>",
            f'<rect class="paper" width="{width}" height="{height}" rx="8"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _points(spots: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)


def _scale(low: float, high: float) -> tuple[float, float, float]:
    """Return the ends of an axis and the distance of its ticks, all of them round numbers."""
    span = high - low or abs(high) or 1.0
    power = 10 ** math.floor(math.log10(span / 5))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= span / 5)
    return math.floor(low / step) * step, math.ceil(high / step) * step, step


def format_trim(result: TrimResult) -> str:
    """Return what a trimmed model keeps of its original, as text."""
    rows = [
        ["entries", f"{result.entries_before:,}", f"{result.entries:,}"],
        ["parameters", f"{result.parameters_before:,}", f"{result.parameters:,}"],
        ["weights", f"{result.bytes_before / 1e6:,.1f} MB", f"{result.bytes / 1e6:,.1f} MB"],
        ["tokens of held-out texts", f"{result.held_out_tokens:,}", f"{result.held_out_tokens_after:,}"],
    ]
    kept = result.held_out_tokens_kept / max(1, result.held_out_tokens)
    return (
        format_table(["", "before", "after"], rows, "text")
        + f"{kept:.2%} of the tokens of held-out texts were kept\n"
        + f"{result.equal_texts} of {result.compared_texts} held-out texts have the same tokens; "
        + f"largest difference of the outputs on them: {result.largest_difference:.2g}\n"
    )
