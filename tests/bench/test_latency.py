"""How latencies are measured: in turns, with stated percentiles, as text, Markdown, JSON and a chart."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from claf2.benchmarking.latency import (
    LatencyReport,
    LatencySubject,
    draw_latency,
    format_latency,
    latency_to_dict,
    measure_latency,
)
from claf2.errors import RunError


class Machine:
    """A clock and models whose passes take a known time on it. It becomes slower after some passes."""

    def __init__(self, slower_after: int = 10**9) -> None:
        self.now, self.passes, self.log = 0.0, 0, list[str]()
        self.slower_after = slower_after

    def clock(self) -> float:
        return self.now

    def subject(self, name: str, seconds: float) -> LatencySubject:
        def prepare(rows: int, tokens: int) -> Callable[[], None]:
            def run() -> None:
                self.passes += 1
                self.log.append(name)
                # The first pass after another model is slow, as with cold caches.
                cold = 10 if len(self.log) > 1 and self.log[-2] != name else 1
                self.now += seconds * rows * tokens * cold * (3 if self.passes > self.slower_after else 1)

            return run

        return LatencySubject(name, prepare, megabytes=12.5, memory=40.0)


def test_models_take_turns_and_a_slower_machine_slows_all() -> None:
    machine = Machine(slower_after=70)
    subjects = [machine.subject("torch", 0.002), machine.subject("onnx", 0.001)]
    entries = measure_latency(subjects, [(1, 1)], passes=100, clock=machine.clock)
    assert [entry.passes for entry in entries] == [100, 100]
    assert entries[0].speed == 1.0
    # Half of the passes of both were slow; in each turn, the second model took half of the time.
    assert entries[1].speed == pytest.approx(2.0, rel=0.05)
    assert entries[0].percentiles[50] in (pytest.approx(2.0), pytest.approx(6.0))
    starts = [index for index in range(1, len(machine.log)) if machine.log[index] != machine.log[index - 1]]
    assert len(starts) > 15, "one after the other"


def test_cold_passes_are_not_timed() -> None:
    machine = Machine()
    subjects = [machine.subject("a", 0.001), machine.subject("b", 0.001)]
    for entry in measure_latency(subjects, [(2, 8), (4, 8)], passes=20, clock=machine.clock):
        assert entry.percentiles[95] == pytest.approx(entry.rows * entry.tokens)
        assert entry.rows_per_second == pytest.approx(1000 / entry.tokens)


def test_a_percentile_needs_enough_passes() -> None:
    machine = Machine()
    subjects = [machine.subject("a", 1.0)]
    (few,) = measure_latency(subjects, [(1, 1)], passes=50, max_seconds=1, clock=machine.clock)
    assert few.passes == 5, "a turn is finished"
    assert [few.percentiles[percentile] is None for percentile in (50, 90, 95, 99)] == [False, True, True, True]
    (entry,) = measure_latency(subjects, [(1, 1)], passes=99, max_seconds=1000, clock=machine.clock)
    assert entry.passes == 100, "whole turns"
    assert entry.percentiles[99] == pytest.approx(1000)
    report = LatencyReport(subjects, [few], 1, "a processor")
    assert "–: too few passes for this percentile" in format_latency(report, "text")


def test_the_report_in_every_form() -> None:
    machine = Machine()
    subjects = [machine.subject("run, torch fp32", 0.002), machine.subject("export, onnx int8", 0.001)]
    shapes = [(1, 128), (8, 128), (1, 512), (8, 512)]
    report = LatencyReport(subjects, measure_latency(subjects, shapes, max_seconds=1e6, clock=machine.clock), 2, "EPYC")
    text, markdown = format_latency(report, "text"), format_latency(report, "markdown")
    assert text.startswith("EPYC, 2 threads; load average before: 0.0; milliseconds of a batch\n")
    assert "peak memory, MB" in text
    assert "| export, onnx int8 | 8 | 512 | 4096 | 4096 | 4096 | 4096 | 4096 | 2.0 | 2.00× | 100 |" in markdown
    stored = json.loads(json.dumps(latency_to_dict(report), allow_nan=False))
    assert stored["threads"] == 2
    assert stored["models"][0] == {"name": "run, torch fp32", "megabytes": 12.5, "memory": 40.0}
    assert stored["latencies"][1]["percentiles"]["p99"] == pytest.approx(128.0)
    chart = draw_latency(report)
    assert chart.count("<polyline") == 4
    assert "export, onnx int8, 512 tokens" in chart


def test_what_cannot_be_measured_is_named() -> None:
    machine = Machine()
    subject = machine.subject("a", 1.0)
    with pytest.raises(RunError, match="a, a: two have one name"):
        measure_latency([subject, subject], [(1, 1)])

    def prepare(rows: int, tokens: int) -> Callable[[], object]:
        raise IndexError("index out of range in self")

    with pytest.raises(RunError, match=r"long: cannot compute 1 rows of 512 tokens: index out .*; give --tokens up to"):
        measure_latency([LatencySubject("long", prepare)], [(1, 512)])
