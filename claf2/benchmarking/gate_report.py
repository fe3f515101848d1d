"""The result of a gate as Markdown, JUnit XML and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Literal
from xml.etree import ElementTree

from claf2.benchmarking.gate import GateResult, TaskGateResult
from claf2.benchmarking.interim import Decision

__all__ = ["format_gate", "format_junit", "gate_to_dict"]

DECISION_TEXTS: Mapping[Decision, str] = {
    "fail": "FAIL: dropped by more than the tolerance",
    "pass": "pass: did not drop by more than the tolerance",
    "undecided": "undecided: another seed may decide",
    "no evidence": "pass: no evidence of a drop",
}

UNSHOWN_TEXT = "FAIL: not shown that it did not drop by more than the tolerance"
"""The decision about a task without evidence where evidence is needed."""


def _describe_rule(result: GateResult) -> str:
    points, percent = f"{result.tolerance:g} points", f"at most {100 * result.alpha:g} %"
    if result.needs_evidence:
        return f"Non-inferiority within {points} must be shown; {percent} false passes."
    return f"Tolerance {points}; {percent} false alarms over all tasks."


def _decision_text(result: GateResult, task: TaskGateResult) -> str:
    return UNSHOWN_TEXT if result.is_failed(task) and task.decision != "fail" else DECISION_TEXTS[task.decision]


def format_gate(result: GateResult) -> str:
    """Return the result of the gate as Markdown, for the summary of a CI job."""
    lines = [
        f"# Gate: {'FAILED' if result.failed else 'passed'}",
        "",
        _describe_rule(result),
        "",
        "| task | score | baseline | now | difference, interval | detectable | seeds (baseline) | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for task in result.tasks:
        difference = task.difference
        lines.append(
            f"| {task.task} | {task.score} | {task.baseline:.2f} | {task.value:.2f} | {difference.value:+.2f} "
            f"({difference.low:+.2f} to {difference.high:+.2f}) | {difference.detectable:.1f} | "
            f"{task.seeds} ({task.baseline_seeds}) | {_decision_text(result, task)} |"
        )
    lines += [f"| {task.task} | | | | | | | {str(task).replace('|', '/')} |" for task in result.unmeasured]
    notes = [
        f"{task.task}: {task.seeds} of the baseline's {task.baseline_seeds} seeds"
        for task in result.tasks
        if task.seeds < task.baseline_seeds
    ]
    notes += [f"{task}: not compared, because the baseline does not have it" for task in result.added]
    lines += [f"\n{note}" for note in notes]
    return "\n".join(lines) + "\n"


def format_junit(result: GateResult) -> str:
    """Return the result of the gate as JUnit XML: a test case for each task, and one for each that was not measured."""
    suite = ElementTree.Element("testsuite", {"name": "claf2 gate"})

    def add(name: str, kind: Literal["failure", "skipped", "system-out"], text: str) -> None:
        case = ElementTree.SubElement(suite, "testcase", {"classname": "claf2.gate", "name": name})
        if kind == "system-out":
            ElementTree.SubElement(case, kind).text = text
        else:
            ElementTree.SubElement(case, kind, {"message": text})

    for task in result.tasks:
        difference = task.difference
        text = f"{_decision_text(result, task)}: {task.baseline:.2f} -> {task.value:.2f}, {difference.value:+.2f} "
        text += f"({difference.low:+.2f} to {difference.high:+.2f}), {task.seeds} seeds ({task.baseline_seeds})"
        add(f"{task.task} {task.score}", "failure" if result.is_failed(task) else "system-out", text)
    for unmeasured in result.unmeasured:
        add(f"{unmeasured.task} measured", "skipped" if unmeasured.waived else "failure", str(unmeasured))
    for name in result.added:
        add(name, "skipped", "not compared, because the baseline does not have it")
    suite.set("tests", str(len(suite)))
    for attribute, kind in (("failures", "failure"), ("skipped", "skipped")):
        suite.set(attribute, str(len(suite.findall(f"testcase/{kind}"))))
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def gate_to_dict(result: GateResult) -> dict[str, object]:
    """Return the result of the gate as a dict for JSON."""
    return {"verdict": "fail" if result.failed else "pass", **asdict(result)}
