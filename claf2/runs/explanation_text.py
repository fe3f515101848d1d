"""The result of ``explain`` as text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["format_explanation"]

WIDTH = 24
"""The length of the bar of the highest learning rate, in characters."""


def format_explanation(explanation: Mapping[str, Any]) -> str:
    """Return the result of ``explain`` as text."""
    tasks = explanation["tasks"].items()
    sizes = ", ".join(
        f"{task} {entry['batch_size']}" if len(tasks) > 1 else f"{entry['batch_size']}" for task, entry in tasks
    )
    accumulation = explanation["accumulation"]
    per_step = f", {accumulation} per step" if accumulation > 1 else ""
    stages = [
        f"{stage['stage']} {stage['of']}: {stage['steps']} steps, {stage['warmup']} of warm-up, "
        f"{len(stage['evaluations'])} evaluations"
        for stage in explanation["stages"]
    ]
    files = [f"{name} {size:,.1f} MiB" if size is not None else name for name, size in explanation["leaves"].items()]
    blocks = {
        "run": [f"{explanation['base_config']} in {explanation['folder']}: {explanation['state']}"],
        "tasks": [
            f"{task}: head {entry['head']}, selected by {entry['metric_key']}, {100 * entry['share']:.3g}% of the steps"
            for task, entry in tasks
        ],
        "data": _data_lines(explanation["splits"]),
        "model": [_model_line(explanation["model"])],
        "device": [f"{explanation['device']}, {explanation['threads']} threads, {explanation['precision']}"],
        "batches": _batch_lines(explanation, f"of {sizes} rows{per_step}"),
        "steps": [_steps_line(explanation["steps"], has_epochs="pretraining" not in explanation)],
        "rate": _rate_lines(explanation["rates"]),
        "evaluations": [_evaluations_line(explanation["evaluations"])],
        "then": stages,
        "compute": _compute_lines(explanation.get("pretraining")),
        "memory": _memory_lines(explanation["memory_mib"]),
        "time": _time_lines(explanation["seconds"]),
        "leaves": files,
        "set": [
            f"{entry['path']} = {json.dumps(entry['value'], ensure_ascii=False)}  # {entry['origin']}"
            for entry in explanation["values"]
        ],
    }
    return "\n".join(
        f"{'' if index else name:<13}{line}" for name, lines in blocks.items() for index, line in enumerate(lines)
    )


def _batch_lines(explanation: Mapping[str, Any], sizes: str) -> list[str]:
    """Return the size of batches; of a pre-training, the phases as a table."""
    padding = f"padding: {explanation['padding']}"
    if "pretraining" not in explanation:
        return [f"{sizes}; {padding}"]
    table = [["until step", "rows", "length", "tokens", "filled", "of the FLOPs"]]
    pretraining = explanation["pretraining"]
    for phase in pretraining["phases"]:
        table.append([
            f"{phase['until']:,}", f"{phase['batch_size']:,}", f"{phase['max_seq_length']:,}",
            f"{phase['tokens']:.3g}", f"{100 * phase['fill']:.0f} %",
            f"{100 * phase['flops'] / (pretraining['flops'] or 1.0):.0f} %",
        ])  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(map(str.rjust, row, widths)) for row in table] + [padding]


def _compute_lines(pretraining: Mapping[str, Any] | None) -> list[str]:
    if pretraining is None:
        return []
    lines = [
        f"{pretraining['tokens']:.3g} tokens, {pretraining['epochs']:.3g} epochs of about "
        f"{pretraining['corpus_tokens']:.3g} tokens of text; {pretraining['flops']:.2e} FLOPs"
    ]
    if pretraining["flops_per_second"]:
        lines.append(f"this machine computes {pretraining['flops_per_second']:.2e} FLOPs a second")
    hardware = pretraining["hardware"]
    if hardware:
        price = (
            "" if hardware["cost"] is None else f", {hardware['cost']:,.0f} at {hardware['price']:g} a device and hour"
        )
        lines.append(
            f"on {hardware['devices']} {hardware['name']} at {100 * hardware['utilization']:g} % of "
            f"{hardware['peak']:.3g} FLOPs a second each: {hardware['days']:.3g} days{price}"
        )
    return lines


def _data_lines(splits: Mapping[str, Any]) -> list[str]:
    """Return a table of rows, features and lengths, and the files."""
    table = [["split", "rows", "features", "truncated", "tokens: min", "median", "95 %", "max"]]
    for name, split in splits.items():
        counts = [split["examples"], split["features"], split.get("truncated", 0)]
        lengths = [split["tokens"][key] for key in ("least", "median", "95 %", "most")]
        table.append([name, *(f"{number:,}" for number in (*counts, *lengths))])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])  # numbers to the right
        for row in table
    ]
    for name, split in splits.items():
        shared = f", {split['in_train']:,} rows also occur in train" if split.get("in_train") else ""
        lines.append(f"{name}: {split['path']}{shared}")
    return lines


def _model_line(model: Mapping[str, Any]) -> str:
    frozen = model["parameters"] - model["trained"]
    more = f", {frozen:,} of them not trained" if frozen else ""
    return f"{model['name']} ({model['architecture']}), {model['parameters']:,} parameters{more}"


def _steps_line(steps: Mapping[str, Any], *, has_epochs: bool) -> str:
    left = f"; {steps['left']} remaining" if steps["left"] < steps["all"] else ""
    epochs = f": {steps['epochs']:.4g} epochs of {steps['epoch']}" if has_epochs else ""
    return f"{steps['all']}{epochs}; {steps['warmup']} of warm-up{left}"


def _rate_lines(rates: Sequence[Sequence[float]]) -> list[str]:
    """Return the learning rate at some steps, drawn."""
    highest, width = max(rate for _, rate in rates) or 1.0, len(str(rates[-1][0]))
    return [
        f"step {step:>{width}}  {rate:<9.3g} {'█' * round(WIDTH * rate / highest)}".rstrip() for step, rate in rates
    ]


def _evaluations_line(evaluations: Mapping[str, Any]) -> str:
    steps = evaluations["steps"]
    shown = ", ".join(map(str, [*steps[:4], "…", steps[-1]] if len(steps) > 6 else steps))
    lower = ", lower is better" if evaluations["lower_is_better"] else ""
    patience = f"; {evaluations['patience']} without a better score end the run" if evaluations["patience"] else ""
    return f"{len(steps)}, after step {shown}; the best by {evaluations['metric_key']}{lower} is kept{patience}"


def _memory_lines(sizes: Mapping[str, Any]) -> list[str]:
    lines = [", ".join(f"{name} {sizes[name]:,.1f}" for name in ("weights", "gradients", "optimizer")) + " MiB"]
    if "activations" in sizes:
        lines += [
            f"activations {sizes['activations']:,.1f} MiB at {sizes['activations_tokens']:,} tokens, about "
            f"{sizes['activations_most']:,.1f} at the {sizes['most_tokens']:,} of the largest batch",
            f"about {sizes['all']:,.0f} MiB in all; {sizes['peak']:,.0f} with the process itself",
        ]
    if sizes.get("oom_splits"):
        lines.append(f"batches do not fit into memory: they are halved {sizes['oom_splits']} times")
    return lines


def _time_lines(times: Mapping[str, Any] | None) -> list[str]:
    if times is None:
        return ["not measured"]
    parts = [f"training {_clock(times['training'])}", f"evaluations {_clock(times['evaluation'])}"]
    parts += [f"further stages {_clock(times['stages'])}"] if times["stages"] else []
    parts.append(f"checkpoints up to {_clock(times['saving'])}")
    measured = f"{times['measured_steps']} steps measured, {times['step']:.3g} s each"
    line = f"about {_clock(times['all'])}: {', '.join(parts)} ({measured})"
    if "step_bf16" not in times:
        return [line]
    ratio = times["step"] / times["step_bf16"]
    return [line, f"with --precision bf16, which is another recipe: {times['step_bf16']:.3g} s a step, x{ratio:.2f}"]


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
