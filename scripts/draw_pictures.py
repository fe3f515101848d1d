"""Draw the pictures of the documentation as SVG: draw_pictures.py RUN FOLDER

RUN is the folder of a finished run of a task scored by F1 and exact match; its learning curves are drawn. The pictures
have a background of their own and follow the reader's light or dark mode.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

STYLE = """
svg { --paper: #ffffff; --ink: #1f2430; --faint: #667085; --line: #c3c9d5; --box: #eef1fb; --accent: #3f51b5;
  --first: #2f6fde; --second: #c2570c; }
@media (prefers-color-scheme: dark) { svg { --paper: #1e2129; --ink: #e6e8ee; --faint: #a2a9b8; --line: #525a6b;
  --box: #2b303d; --accent: #8c9eff; --first: #7fb0ff; --second: #ffa657; } }
text { font: 14px system-ui, "Segoe UI", "Noto Sans", sans-serif; fill: var(--ink); text-anchor: middle; }
.title { font-weight: 600; } .small { font-size: 12px; fill: var(--faint); } .left { text-anchor: start; }
.right { text-anchor: end; } .paper { fill: var(--paper); }
.box { fill: var(--box); stroke: var(--line); } .end { stroke: var(--accent); stroke-width: 2; }
.arrow { fill: none; stroke: var(--faint); stroke-width: 1.5; marker-end: url(#tip); }
.grid { stroke: var(--line); stroke-width: 1; } .curve { fill: none; stroke-width: 2; }
.first { stroke: var(--first); } .second { stroke: var(--second); stroke-dasharray: 6 3; }
""".strip()

WIDTH, HEIGHT = 168, 62
"""The size of a box, in pixels."""

COLUMN, ROW, MARGIN = 202, 104, 24
"""The distances between the left and the top edges of neighbouring boxes, and the margin of a picture."""


@dataclass(frozen=True)
class Box:
    """A box of a diagram at a place of its grid."""

    column: int
    row: int
    title: str
    note: str
    is_end: bool = False

    @property
    def x(self) -> int:
        """The left edge."""
        return MARGIN + self.column * COLUMN

    @property
    def y(self) -> int:
        """The top edge."""
        return MARGIN + self.row * ROW

    def svg(self) -> str:
        """Return the box with its two lines of text."""
        middle = self.x + WIDTH // 2
        kind = "box end" if self.is_end else "box"
        return (
            f'<rect class="{kind}" x="{self.x}" y="{self.y}" width="{WIDTH}" height="{HEIGHT}" rx="8"/>'
            + text(middle, self.y + 27, self.title, "title")
            + text(middle, self.y + 47, self.note, "small")
        )


def text(x: float, y: float, words: str, kind: str = "") -> str:
    """Return a line of text whose baseline is at ``y``."""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(words)}</text>'


def arrow(*points: tuple[float, float]) -> str:
    """Return an arrow through points."""
    return f'<polyline class="arrow" points="{" ".join(f"{x:g},{y:g}" for x, y in points)}"/>'


def between(first: Box, second: Box) -> str:
    """Return the arrow from a box to its neighbour, or to the first box of the next row."""
    middle = first.y + HEIGHT / 2
    if first.row == second.row:
        is_right = second.column > first.column
        start, end = (first.x + WIDTH, second.x) if is_right else (first.x, second.x + WIDTH)
        return arrow((start, middle), (end, middle))
    below, start, end = first.y + HEIGHT, first.x + WIDTH / 2, second.x + WIDTH / 2
    half = (below + second.y) / 2
    return arrow((start, below), (start, half), (end, half), (end, second.y))


def picture(width: float, height: float, title: str, parts: Iterable[str], *, above: float = 0) -> str:
    """Return a complete SVG document. ``above`` is the space above the coordinate 0."""
    tip = '<path d="M0,0 L8,4 L0,8 z" style="fill: var(--faint)"/>'
    marker = f'<marker id="tip" markerWidth="8" markerHeight="8" refX="8" refY="4" orient="auto">{tip}</marker>'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 {-above:g} {width:g} {height + above:g}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>\n{STYLE}\n</style>",
            f"<defs>{marker}</defs>",
            f'<rect class="paper" y="{-above:g}" width="{width:g}" height="{height + above:g}" rx="8"/>',
            *parts,
            "</svg>\n",
        ]
    )


def data_flow() -> str:
    """Return the way from the command line to a report."""
    steps = [
        ("Command line", "BaseConfig + overrides"),
        ("config", "fill in, validate"),
        ("Experiment", "typed and frozen"),
        ("runs.resolve", "data, weights, tokenizer"),
        ("readers", "files → examples"),
        ("tokenizers, heads", "examples → features"),
        ("data", "features → batches"),
        ("models", "batches → outputs"),
        ("training", "loss → new weights"),
        ("evaluation", "outputs → predictions"),
        ("metrics", "predictions → scores"),
        ("Report", "scores, best/, last/"),
    ]
    last = len(steps) - 1
    boxes = [Box(i % 4, i // 4, *step, is_end=i in (0, last)) for i, step in enumerate(steps)]
    arrows = [between(first, second) for first, second in pairwise(boxes)]
    width, height = 2 * MARGIN + 3 * COLUMN + WIDTH, 2 * MARGIN + 2 * ROW + HEIGHT
    return picture(width, height, "From the command line to a report", [*arrows, *(box.svg() for box in boxes)])


def training_loop() -> str:
    """Return what happens to a batch in the training loop."""
    batch = Box(0, 0, "Batch", "order: (seed, epoch)", is_end=True)
    micro = Box(1, 0, "Micro-batches", "rows of similar length")
    packing = Box(2, 0, "Packing", "real tokens only")
    loss = Box(3, 0, "Loss", "sum ÷ targets of batch")
    gradients = Box(4, 0, "Gradients", "added up")
    step = Box(4, 1, "Step", "clip, rate, optimizer")
    evaluation = Box(3, 1, "Evaluation", "if it is due")
    best = Box(2, 1, "best/", "if the score improved")
    saved = Box(1, 1, "last/", "all that a resume needs")
    boxes = [batch, micro, packing, loss, gradients, step, evaluation, best, saved]
    top, bottom = MARGIN - 10, step.y + HEIGHT + 26
    centre = batch.x + WIDTH / 2
    shift = 34
    arrows = [
        *(between(first, second) for first, second in pairwise(boxes)),
        arrow(
            (gradients.x + WIDTH / 2, gradients.y),
            (gradients.x + WIDTH / 2, top),
            (micro.x + WIDTH / 2, top),
            (micro.x + WIDTH / 2, micro.y),
        ),
        arrow((saved.x, saved.y + HEIGHT / 2), (centre, saved.y + HEIGHT / 2), (centre, batch.y + HEIGHT)),
        arrow(
            (step.x + WIDTH / 2, step.y + HEIGHT),
            (step.x + WIDTH / 2, bottom),
            (centre - shift, bottom),
            (centre - shift, batch.y + HEIGHT),
        ),
        text(packing.x + WIDTH / 2, top - 6, "next micro-batch", "small"),
        text(best.x + WIDTH / 2, bottom - 6, "no evaluation due: next step", "small"),
    ]
    width, height = 2 * MARGIN + 4 * COLUMN + WIDTH, bottom + MARGIN - 6
    return picture(width, height, "The training loop", [*arrows, *(box.svg() for box in boxes)], above=16)


def panel(rows: Sequence[Mapping[str, float]], names: Sequence[str], left: float, top: float, ceiling: float) -> str:
    """Return a chart of some columns of a run's metrics.jsonl over its steps, 360 × 200 pixels."""
    width, height, ticks = 360, 200, 4
    last = rows[-1]["step"]
    parts = []
    for i in range(ticks + 1):
        y = top + height * (1 - i / ticks)
        x = left + width * i / ticks
        parts += [f'<line class="grid" x1="{left}" x2="{left + width}" y1="{y:g}" y2="{y:g}"/>']
        parts += [text(left - 8, y + 4, f"{ceiling * i / ticks:g}", "small right")]
        parts += [text(x, top + height + 20, f"{last * i / ticks:.0f}", "small")]
    for i, (name, kind) in enumerate(zip(names, ("first", "second"), strict=True)):
        points = " ".join(
            f"{left + width * row['step'] / last:.1f},{top + height * (1 - row[name] / ceiling):.1f}" for row in rows
        )
        x = left + i * 110
        parts += [f'<polyline class="curve {kind}" points="{points}"/>']
        parts += [f'<line class="curve {kind}" x1="{x}" x2="{x + 24}" y1="{top - 18}" y2="{top - 18}"/>']
        parts += [text(x + 30, top - 14, name, "left")]
    return "\n".join([*parts, text(left + width / 2, top + height + 40, "step", "small")])


def learning_curves(run: Path) -> str:
    """Return the scores and the losses of a run, evaluation by evaluation."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = ("train/loss", "valid/loss")
    ceiling = 4 * -(-max(row[name] for row in rows for name in losses) // 4)
    parts = [panel(rows, ("valid/f1", "valid/em"), 60, 50, 100), panel(rows, losses, 480, 50, ceiling)]
    return picture(870, 310, "Learning curves", parts)


def main(run: str, folder: str) -> None:
    """Write the pictures into a folder."""
    curves = learning_curves(Path(run))
    for name, svg in {"data-flow": data_flow(), "training-loop": training_loop(), "learning-curves": curves}.items():
        Path(folder, f"{name}.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
