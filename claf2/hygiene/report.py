"""The report of a check as text, and as one HTML file that loads nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from claf2.hygiene.check import CHECKS
from claf2.runtime.templates import page_environment

__all__ = ["format_findings", "render_findings"]

HYGIENE_TEMPLATES = Path(__file__).parent / "templates"
LISTED_LABELS = 12
"""How many labels of a split the text shows."""


def format_findings(report: Mapping[str, Any]) -> str:
    """Return a report as text."""
    return "\n".join([*_format_splits(report), "", *_format_rows(report)])


def _format_splits(report: Mapping[str, Any]) -> Iterator[str]:
    yield f"{'split':<16} {'rows':>9}  {'text':<10} {'shortest':>8} {'median':>7} {'p95':>7} {'longest':>8}  characters"
    for split in report["splits"]:
        for number, length in enumerate(split["lengths"]):
            name, rows = (split["name"], f"{split['rows']:,}") if number == 0 else ("", "")
            yield (
                f"{name:<16} {rows:>9}  {length['field']:<10} {length['shortest']:>8} {length['median']:>7} "
                f"{length['p95']:>7} {length['longest']:>8}"
            )
        labels = list(split["labels"].items())
        if labels:
            shown = ", ".join(f"{label} {count:,}" for label, count in labels[:LISTED_LABELS])
            yield f"  labels: {shown}" + (f", and {len(labels) - LISTED_LABELS} more" if labels[LISTED_LABELS:] else "")


def _format_rows(report: Mapping[str, Any]) -> Iterator[str]:
    for finding in report["findings"]:
        share = f"{finding['rows'] / finding['of']:.2%}"
        note = f" ({finding['note']})" if finding["note"] else ""
        yield f"{finding['split']}: {finding['rows']:,} ({share}) {CHECKS[finding['check']]}{note}"
        for example in finding["examples"]:
            label = f" [{example['label']}]" if example["label"] is not None else ""
            remark = f"  – {example['remark']}" if example["remark"] else ""
            yield f"    {example['id']}{label}: {example['text']}{remark}"
    if not report["findings"]:
        yield "nothing found"
    for check, reason in report["not_checked"].items():
        yield f"not checked: {check}: {reason}"


def render_findings(report: Mapping[str, Any]) -> str:
    """Return a report as one HTML file."""
    template = page_environment([HYGIENE_TEMPLATES]).get_template("findings.html")
    return template.render(report=report, checks=CHECKS)
