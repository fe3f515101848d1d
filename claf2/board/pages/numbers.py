"""How pages write numbers, times and names. The templates use these functions as filters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from claf2.benchmarking.summary import ScoreCell, finite_or_none
from claf2.runtime.files import format_json

__all__ = [
    "FILTERS", "NO_SCORE", "format_answer", "format_count", "format_delta", "format_interval", "format_p",
    "format_score", "format_step", "format_time",
]  # fmt: skip

NO_SCORE = "–"
"""Shown where there is no score."""

LONGEST_ANSWER = 300
"""The most characters that are shown of an answer."""


def format_score(value: float | None) -> str:
    """Return a score with two decimals, or a dash if it is undefined."""
    known = finite_or_none(value)
    # Adding 0.0 turns a negative zero into a positive one.
    return NO_SCORE if known is None else f"{round(known, 2) + 0.0:.2f}".replace("-", "−")


def format_delta(value: float) -> str:
    """Return a difference with two decimals and its sign."""
    return f"{round(value, 2) + 0.0:+.2f}".replace("-", "−")


def format_interval(cell: ScoreCell) -> str:
    """Return the distances from the mean to the ends of its interval: ``±0.50``, or ``+0.50 −0.75`` if they differ."""
    mean, low, high = finite_or_none(cell.mean), finite_or_none(cell.low), finite_or_none(cell.high)
    if mean is None or low is None or high is None:
        return ""
    below, above = f"{mean - low:.2f}", f"{high - mean:.2f}"
    return f"±{above}" if below == above else f"+{above} −{below}"


def format_p(p: float) -> str:
    """Return a p value as papers write it, without the leading zero: ``p .012``."""
    return "p < .001" if p < 0.001 else f"p {p:.3f}".replace("0.", ".", 1)


def format_count(count: int, noun: str) -> str:
    """Return a count with its noun, in the plural where needed: ``3 seeds``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def format_step(step: int | None) -> str:
    """Return a pre-training step as ``step 10,000``, or an empty text for none."""
    return "" if step is None else f"step {step:,}"


def format_time(when: str) -> str:
    """Return an ISO 8601 time as ``2025-11-21 14:53 UTC``, and any other text unchanged."""
    try:
        return f"{datetime.fromisoformat(when):%Y-%m-%d %H:%M %Z}".strip()
    except ValueError:
        return when


def format_answer(answer: object) -> str:
    """Return a gold answer or a prediction as text: a label as it is, a number with three decimals, else JSON."""
    if isinstance(answer, float):
        return f"{answer:.3f}"
    text = answer if isinstance(answer, str) else format_json(answer)
    return text if len(text) <= LONGEST_ANSWER else f"{text[:LONGEST_ANSWER]}…"


FILTERS: Mapping[str, Callable[..., object]] = {
    "finite_or_none": finite_or_none, "score": format_score, "delta": format_delta, "interval": format_interval,
    "p": format_p, "counted": format_count, "step": format_step, "time": format_time, "answer": format_answer,
}  # fmt: skip
"""The filters of the templates."""
