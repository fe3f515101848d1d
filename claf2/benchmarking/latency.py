"""How long a finished model takes for a batch of rows, side by side with others.

Several models are measured in turns of a few passes, in an order that rotates, so that a machine that becomes faster or
slower meanwhile does so for all of them. The first passes of a turn are not timed: the caches still hold the model that
was measured before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median

import numpy as np

from claf2.errors import Claf2Error, RunError
from claf2.runs.progress import show_progress
from claf2.vocabulary.tables import Curve, TableFormat, draw_chart, format_table

__all__ = [
    "Latency", "LatencyReport", "LatencySubject", "draw_latency", "format_latency", "latency_to_dict",
    "measure_latency",
]  # fmt: skip

TURN = 5
"""The timed passes of a model before it is the turn of the next one."""
UNTIMED = 2
"""The passes at the beginning of a turn that are not timed."""
FINEST = {99: 100, 95: 20, 90: 10, 50: 1}
"""Percentile → the fewest passes that it can be read from: with fewer, none of them lies beyond it."""


@dataclass(frozen=True)
class LatencySubject:
    """A model whose passes are timed."""

    name: str
    make_pass: Callable[[int, int], Callable[[], object]]
    """Returns for a number of rows and of tokens a function that computes such a batch once."""
    megabytes: float | None = None
    """The size of the weights."""
    memory: float | None = None
    """By how many MB the memory of a process grows at most when it loads the model and computes a batch."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """The passes of one model over batches of one shape, in milliseconds."""

    name: str
    rows: int
    """The rows of a batch."""
    tokens: int
    """The tokens of each row."""
    passes: int
    """How many passes were timed."""
    mean: float
    percentiles: Mapping[int, float | None]
    """Percentile → its value; ``None`` if there were too few passes for it."""
    speed: float
    """How many times as fast as the first model: the median of the turns, each compared with that of the first model
    that came next to it."""

    @property
    def rows_per_second(self) -> float:
        """The throughput."""
        return 1000 * self.rows / self.mean


@dataclass(frozen=True)
class LatencyReport:
    """Everything that was measured."""

    subjects: Sequence[LatencySubject]
    entries: Sequence[Latency]
    threads: int
    """How many threads computed a batch."""
    processor: str
    load: float = 0.0
    """The load average of the machine in the minute before: how many other threads wanted to compute."""


def measure_latency(
    subjects: Sequence[LatencySubject], shapes: Sequence[tuple[int, int]], *, passes: int = 100,
    max_seconds: float = 60.0, clock: Callable[[], float] = time.perf_counter,
) -> list[Latency]:  # fmt: skip
    """Time the passes of some models over batches of each shape.

    Args:
        subjects: the models. Their names differ.
        shapes: the numbers of rows and tokens of a batch.
        passes: how many passes are timed of each model and shape, at least.
        max_seconds: after so many seconds for a model and shape, no further turn begins, though there are fewer passes.
        clock: returns seconds.

    Raises:
        RunError: if a model cannot compute a shape, or two have the same name.
    """
    names = [subject.name for subject in subjects]
    if len(set(names)) < len(names):
        raise RunError(f"{', '.join(names)}: two have one name; give each folder and precision once")
    # The work of a pass grows with its tokens; at these lengths, that of attention matters less.
    total = passes * len(subjects) * sum(rows * tokens for rows, tokens in shapes)
    entries, done = [], 0
    with show_progress("measuring", total, "token") as progress:
        for rows, tokens in shapes:
            prepared = {subject.name: _prepare(subject, rows, tokens) for subject in subjects}

            def report(timed: int, done: int = done, size: int = rows * tokens) -> None:
                progress.update(done + timed * size)

            turns = _time_turns(prepared, passes, max_seconds, clock, report)
            entries += [_summarize(name, rows, tokens, turns[name], turns[names[0]]) for name in names]
            done += passes * len(subjects) * rows * tokens
    return entries


def _prepare(subject: LatencySubject, rows: int, tokens: int) -> Callable[[], object]:
    try:
        run = subject.make_pass(rows, tokens)
        run()  # kernels are chosen and memory is taken in the first pass
    except Claf2Error:
        raise
    except Exception as error:  # each runtime has errors of its own
        first_line = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise RunError(
            f"{subject.name}: cannot compute {rows} rows of {tokens} tokens: {first_line}; give --tokens up to the "
            "longest input of the model"
        ) from error
    return run


def _time_turns(
    prepared: Mapping[str, Callable[[], object]], passes: int, max_seconds: float, clock: Callable[[], float],
    report: Callable[[int], None],
) -> dict[str, list[list[float]]]:  # fmt: skip
    """Return for each model the seconds of its passes, turn by turn."""
    turns: dict[str, list[list[float]]] = {name: [] for name in prepared}
    order, timed, started = list(prepared), 0, clock()
    while len(turns[order[0]]) * TURN < passes:
        for name in order:
            run = prepared[name]
            for _ in range(UNTIMED):
                run()
            seconds = []
            for _ in range(TURN):
                before = clock()
                run()
                seconds.append(clock() - before)
            turns[name].append(seconds)
            timed += TURN
            report(timed)
        order = [*order[1:], order[0]]
        if clock() - started > max_seconds * len(prepared):
            break
    return turns


def _summarize(
    name: str, rows: int, tokens: int, turns: Sequence[Sequence[float]], first_turns: Sequence[Sequence[float]]
) -> Latency:
    times = 1000 * np.array([seconds for turn in turns for seconds in turn])
    return Latency(
        name=name, rows=rows, tokens=tokens, passes=len(times), mean=float(times.mean()),
        percentiles={
            percentile: float(np.percentile(times, percentile)) if len(times) >= fewest else None
            for percentile, fewest in FINEST.items()
        },
        speed=median(fmean(first) / fmean(own) for first, own in zip(first_turns, turns, strict=True)),
    )  # fmt: skip


def format_latency(report: LatencyReport, layout: TableFormat) -> str:
    """Return the report as a table, with a table of sizes before it."""
    known = [subject for subject in report.subjects if subject.megabytes is not None]
    threads = f"{report.threads} thread{'s' * (report.threads > 1)}"
    parts = [f"{report.processor}, {threads}; load average before: {report.load:.1f}; milliseconds of a batch\n"]
    if known:
        has_memory = any(subject.memory is not None for subject in known)
        header = ["model", "MB", *(["peak memory, MB"] if has_memory else [])]
        sizes = [[subject.megabytes, *([subject.memory] if has_memory else [])] for subject in known]
        rows = [[subject.name, *map(_format_size, size)] for subject, size in zip(known, sizes, strict=True)]
        parts.append(format_table(header, rows, layout))
    header = ["model", "rows", "tokens", "p50", "p90", "p95", "p99", "mean", "rows/s", "speed", "passes"]
    rows = [
        [
            entry.name, str(entry.rows), str(entry.tokens),
            *(_format_time(entry.percentiles[percentile]) for percentile in sorted(FINEST)),
            _format_time(entry.mean), f"{entry.rows_per_second:.1f}", f"{entry.speed:.2f}×", str(entry.passes),
        ]
        for entry in report.entries
    ]  # fmt: skip
    parts.append(format_table(header, rows, layout))
    if any(value is None for entry in report.entries for value in entry.percentiles.values()):
        parts.append("–: too few passes for this percentile; p99 needs 100 (--passes, --max-seconds)\n")
    return "\n".join(parts)


def _format_time(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "–"
    return f"{milliseconds:.2f}" if milliseconds < 100 else f"{milliseconds:.0f}"


def _format_size(megabytes: float | None) -> str:
    return "–" if megabytes is None else f"{megabytes:.1f}"


def latency_to_dict(report: LatencyReport) -> dict[str, object]:
    """Return the report as a dict for JSON."""
    subjects = [
        {"name": subject.name, "megabytes": subject.megabytes, "memory": subject.memory} for subject in report.subjects
    ]
    entries = [
        {
            **asdict(entry),
            "percentiles": {f"p{percentile}": value for percentile, value in entry.percentiles.items()},
            "rows_per_second": entry.rows_per_second,
        }
        for entry in report.entries
    ]
    return {
        "processor": report.processor, "threads": report.threads, "load": report.load, "models": subjects,
        "latencies": entries,
    }  # fmt: skip


def draw_latency(report: LatencyReport) -> str:
    """Return a chart of the median latency by rows of a batch, one line per model and number of tokens, as SVG."""
    lines: dict[str, list[tuple[float, float]]] = {}
    lengths = {entry.tokens for entry in report.entries}
    for entry in sorted(report.entries, key=lambda entry: entry.rows):
        name = f"{entry.name}, {entry.tokens} tokens" if len(lengths) > 1 else entry.name
        middle = entry.percentiles[50]
        assert middle is not None  # one pass is enough for it
        lines.setdefault(name, []).append((entry.rows, middle))
    labels = {float(entry.rows): str(entry.rows) for entry in report.entries}
    curves = [Curve(name, points) for name, points in lines.items()]
    return draw_chart("Median latency of a batch", curves, "rows", "milliseconds", labels)
