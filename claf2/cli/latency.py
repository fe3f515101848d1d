"""``claf2 latency``: how long runs and exports take for a batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from claf2.cli.options import PATH, NumberRange
from claf2.errors import RunError

__all__ = ["latency_command"]

LARGEST_BATCH = 1_000_000
"""The most rows or tokens of a batch."""


@click.command("latency", epilog="""\b
Examples:
  claf2 latency logs/klue/nsmc exports/nsmc exports/nsmc-int8 --threads 1
  claf2 latency exports/* --rows 1,2,4,8,16 --tokens 128,512 --memory --format markdown --chart latency.svg
""")  # fmt: skip
@click.argument("folders", nargs=-1, required=True, metavar="RUN|EXPORT...", type=PATH)
@click.option("--rows", default="1,4,16", show_default=True, metavar="N,…", help="Rows of a batch.")
@click.option("--tokens", default="128,512", show_default=True, metavar="N,…", help="Tokens of each row.")
@click.option("--precision", "precisions", type=click.Choice(["fp32", "bf16"]), multiple=True, default=["fp32"],
              show_default=True, help="Format in which PyTorch computes a run (repeatable).")  # fmt: skip
@click.option("--threads", type=click.IntRange(1), help="Threads that compute a batch.  [default: as PyTorch]")
@click.option("--passes", type=click.IntRange(1), default=100, show_default=True,
              help="Timed passes of each model and batch.")  # fmt: skip
@click.option("--max-seconds", type=NumberRange(0, min_open=True), default=60.0, show_default=True,
              help="Time for each model and batch; then fewer passes are timed.")  # fmt: skip
@click.option("--memory", is_flag=True, help="Also measure the memory of each model, in a process of its own.")
@click.option("--task", metavar="NAME", help="One of the tasks, if there are several.")
@click.option("--format", "layout", type=click.Choice(["text", "markdown", "json"]), default="text", show_default=True,
              help="How the result is printed.")  # fmt: skip
@click.option("--chart", type=PATH, metavar="FILE", help="Write a chart of the medians, as SVG.")
def latency_command(folders: tuple[Path, ...], rows: str, tokens: str, precisions: Sequence[Any], layout: Any,
                    chart: Path | None, **settings: Any) -> None:  # fmt: skip
    """Measure the latency of runs and exports side by side.

    A batch has random tokens and no padding; reading and encoding texts is not included. The models take turns of a few
    passes, so that a machine that becomes slower slows all of them. "speed" compares with the first model.
    """
    from claf2.benchmarking.latency import draw_latency, format_latency, latency_to_dict
    from claf2.benchmarking.timed_models import time_models
    from claf2.runtime.device import preserve_backends
    from claf2.runtime.files import format_json, write_text

    lengths, sizes = _parse_numbers("--tokens", tokens), _parse_numbers("--rows", rows)
    shapes = [(size, length) for length in lengths for size in sizes]
    with preserve_backends():
        report = time_models(folders, shapes, precisions=list(dict.fromkeys(precisions)), **settings)
    if chart is not None:
        write_text(chart, draw_latency(report))
    if layout == "json":
        click.echo(format_json(latency_to_dict(report), indent=2))
    else:
        click.echo(format_latency(report, layout), nl=False)


def _parse_numbers(option: str, text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isdecimal() and len(part) < 8 and 1 <= int(part) <= LARGEST_BATCH for part in parts):
        raise RunError(f"{option} {text[:40]}: expected numbers from 1 with commas, such as 1,4,16")
    return list(dict.fromkeys(map(int, parts)))
