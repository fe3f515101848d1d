"""A description of what ``train`` would do: the run is prepared in the same way, and a few steps are measured. Nothing
is written but caches."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from claf2.config import Experiment
from claf2.config.schema import SELECTORS
from claf2.config.source import iter_leaves
from claf2.models.embeddings import trained_rows
from claf2.runs.estimate import (
    count_tokens,
    estimate_memory,
    measure_steps,
    task_shares,
    tokens_per_step,
)
from claf2.runs.folder import check_run_dir
from claf2.runs.follow_ups import follow_up_experiment
from claf2.runs.prepare import PreparedRun, build_plan, build_stream, check_metric_key, describe_padding, prepare
from claf2.runs.provenance import check_resumable, collect_provenance, read_provenance
from claf2.runs.locate import TaskSplits, locate_splits
from claf2.runs.resolve import Run, resolve, resolve_weights, split_name
from claf2.runtime import distributed
from claf2.runtime.files import LOCK_FILES, read_json
from claf2.runtime.precision import Precision
from claf2.task import task_tables
from claf2.training.checkpoint import last_dir, read_step
from claf2.training.state import State
from claf2.training.trainers import FollowUpRun

__all__ = ["explain", "format_explanation"]

POINTS = 10
"""The number of steps at which the learning rate is shown."""

WIDTH = 24
"""The length of the bar of the highest learning rate, in characters."""


def explain(experiment: Experiment, *, steps: int = 3, resume: bool = False, overwrite: bool = False) -> dict[str, Any]:
    """Return what ``train`` would do, as JSON values: memory in MiB, times in seconds, lengths in tokens.

    Args:
        experiment: what would be trained.
        steps: the number of steps to measure, after one to warm up; 0: nothing is measured or estimated.
        resume: as in ``train``.
        overwrite: as in ``train``.

    Raises:
        Claf2Error: where ``train`` would.
    """
    folder = Path(experiment.trainer_config.log_dir)
    existing = check_run_dir(experiment, resume=resume, overwrite=overwrite)
    follow_ups = experiment.trainer.follow_ups(experiment.tasks)
    run, data = resolve(experiment)
    state = State()
    if existing and resume:
        step = read_step(folder)
        check_resumable(read_provenance(folder, finished=False), collect_provenance(run, data), step)
        last = last_dir(folder)
        last = last if last.exists() else last.with_name(f".{last.name}.old")  # a replacement was interrupted
        state = State(**read_json(last / "state.json"))
    prepared = prepare(run, data)
    plan, stream, model = prepared.plan, prepared.stream, prepared.model
    check_metric_key(prepared)
    explanation: dict[str, Any] = {
        "base_config": experiment.name,
        "folder": str(folder),
        "state": _state(existing, state, plan.total_steps, overwrite=overwrite),
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "precision": experiment.runtime.precision,
        "tasks": _tasks(prepared),
        "splits": dict(_splits(prepared, data)),
        "steps": {
            "epoch": stream.steps_per_epoch,
            "epochs": plan.total_steps / stream.steps_per_epoch,
            "all": plan.total_steps,
            "warmup": experiment.schedule.warmup(plan.total_steps),
            "left": plan.total_steps - state.step,
        },
        "rates": _rates(prepared),
        "evaluations": {
            "steps": _evaluations(prepared),
            "metric_key": plan.metric_key,
            "lower_is_better": plan.lower_is_better,
            "patience": plan.patience,
        },
        "accumulation": experiment.trainer_config.gradient_accumulation_steps,
        "padding": describe_padding(run, model),
        "model": _model(prepared),
        "stages": [_stage(prepared, follow_up) for follow_up in follow_ups],
    }
    explanation |= _costs(prepared, state, explanation, steps)
    return {**explanation, "leaves": _files(prepared, explanation), "values": _values(experiment)}


def _costs(prepared: PreparedRun, state: State, explanation: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """Return memory, and the seconds that the rest of the run takes, scaled by tokens from some measured steps."""
    if not steps:
        return {"memory_mib": estimate_memory(prepared, None), "seconds": None}
    costs = measure_steps(prepared, steps)
    remaining = [step for step in explanation["evaluations"]["steps"] if step > state.step]
    tokens = tokens_per_step(prepared.run, prepared.train) * explanation["steps"]["left"]
    training = costs.seconds_per_token * tokens
    evaluation = costs.seconds_per_evaluated_token * count_tokens(prepared.valid) * len(remaining)
    stages = 0.0
    for stage in explanation["stages"]:
        task = stage["of"]
        sets = {split: {task: tasks[task]} for split, tasks in prepared.valid.items() if task in tasks}
        evaluated_tokens = count_tokens(sets) * len(stage["evaluations"])
        stages += costs.seconds_per_token * stage["tokens"] + costs.seconds_per_evaluated_token * evaluated_tokens
    times = {"step": costs.seconds_per_step, "training": training, "evaluation": evaluation, "stages": stages}
    runtime = prepared.run.experiment.runtime
    if runtime.precision == "fp32" and not runtime.compile and distributed.world_size() == 1:
        half = Precision("bf16", prepared.model.device)
        times["step_bf16"] = measure_steps(replace(prepared, precision=half), steps).seconds_per_step
    return {
        "memory_mib": estimate_memory(prepared, costs),
        "seconds": {**times, "all": training + evaluation + stages, "measured_steps": steps},
    }


def _state(existing: str, state: State, total: int, *, overwrite: bool) -> str:
    """Say what ``train`` would do with the run in the folder."""
    if not existing:
        return "a new run"
    if overwrite:
        return f"a new run that replaces {existing} one"
    if existing == "a finished":
        return "a finished run: nothing is trained"
    return f"a run that resumes after step {state.step} of {total}"


def _tasks(prepared: PreparedRun) -> dict[str, Any]:
    """Return the settings of each task, and its share of the steps of the first epoch."""
    tasks, shares = prepared.run.experiment.tasks, task_shares(prepared.run, prepared.train)
    return {
        task: {
            "share": shares.get(task, 0.0),
            "head": task_config.task.head,
            "labels": list(prepared.run.labels[task]),
            "metric_key": task_config.selection_key,
            "batch_size": task_config.iterator.batch_size,
            "eval_batch_size": task_config.iterator.eval_batch_size,
            "loss_weight": task_config.mix.loss_weight,
            "average_weight": task_config.mix.average_weight,
        }
        for task, task_config in tasks.items()
    }


def _splits(prepared: PreparedRun, data: TaskSplits) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of each split, and its file, counts and lengths."""
    train = {task: (features, ()) for task, features in prepared.train.items()}
    for split, tasks in {"train": train, **prepared.valid}.items():
        for task, (features, _) in tasks.items():
            lengths = features.lengths()
            name = split_name(data, task, split)
            tokens = {
                "least": int(lengths.min()),
                "median": int(np.quantile(lengths, 0.5, method="nearest")),
                "95 %": int(np.quantile(lengths, 0.95, method="nearest")),
                "most": int(lengths.max()),
                "all": int(lengths.sum()),
            }
            counts = dict(prepared.counts[name])
            yield name, {"path": str(data[task][split].path), **counts, "tokens": tokens}


def _evaluations(prepared: PreparedRun) -> list[int]:
    """Return the steps after which the model is evaluated, by the same rule as the loop."""
    per_epoch = prepared.stream.steps_per_epoch
    steps = range(1, prepared.plan.total_steps + 1)
    return [step for step in steps if prepared.plan.is_due(State(step=step, position=(step - 1) % per_epoch + 1))]


def _rates(prepared: PreparedRun) -> list[list[float]]:
    """Return [step, learning rate] from the first step to the last, including the end of the warm-up."""
    plan, schedule = prepared.plan, prepared.run.experiment.schedule
    total = plan.total_steps
    even = {1 + round(point * (total - 1) / (POINTS - 1)) for point in range(POINTS)}
    chosen = sorted(even | {min(total, schedule.warmup(total) + 1)})
    return [[step, plan.learning_rate * schedule.factor(step - 1, total)] for step in chosen]


def _model(prepared: PreparedRun) -> dict[str, Any]:
    config: Any = getattr(prepared.model.head(prepared.model.names[0]), "config", None)
    parameters = list(prepared.model.parameters())
    return {
        "name": prepared.run.experiment.model.pretrained_model_name,
        "architecture": getattr(config, "model_type", None),
        "parameters": sum(parameter.numel() for parameter in parameters) + _num_idle(prepared),
        "trained": sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
    }


def _num_idle(prepared: PreparedRun) -> int:
    """Return the number of weights in rows of the word embeddings that are not trained."""
    restricted = trained_rows(prepared.model)
    return restricted[1].num_idle if restricted else 0


def _stage(prepared: PreparedRun, follow_up: FollowUpRun) -> dict[str, Any]:
    """Return the length of a follow-up run on one task."""
    run, experiment = prepared.run, follow_up_experiment(prepared.run, follow_up)
    (task,) = experiment.tasks
    data = locate_splits(experiment)[task]["train"]
    if follow_up.from_refined:  # its weights do not exist yet; the tokenizer is that of the run before
        stage = Run(experiment, run.source, run.tokenizer, run.added_tokens)
    else:
        stage = resolve_weights(experiment, data.texts)
    features = {task: stage.features(task, data)}
    stream = build_stream(stage, features, prepared.model)
    plan = build_plan(experiment, stream.steps_per_epoch)
    return {
        "stage": follow_up.stage,
        "of": follow_up.task,
        "folder": str(stage.folder),
        "steps": plan.total_steps,
        "warmup": experiment.schedule.warmup(plan.total_steps),
        "evaluations": _evaluations(replace(prepared, stream=stream, plan=plan)),
        "tokens": tokens_per_step(stage, features) * plan.total_steps,
    }


def _files(prepared: PreparedRun, explanation: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the files that the run leaves in its folder → the MiB of large ones."""
    names, sizes = prepared.model.names, explanation["memory_mib"]
    states = {task: prepared.model.head(task).state_dict().values() for task in names}
    best = {task: sum(tensor.nbytes for tensor in state) / 2**20 for task, state in states.items()}
    several, model = len(names) > 1, explanation["model"]
    files: dict[str, float | None] = {
        **({f"best/{task}/": size for task, size in best.items()} if several else {"best/": best[names[0]]}),
        # All rows of the word embeddings are stored, also those that are not trained.
        "last/": model["parameters"] * 4 / 2**20 + sizes["optimizer"] * (1 + _num_idle(prepared) / model["trained"]),
        **{f"predictions/{task}-{split}.jsonl": None for split, tasks in prepared.valid.items() for task in tasks},
    }
    plain = "config.json run.json metrics.json metrics.jsonl README.md train.log events.out.tfevents.*".split()
    stages = [f"stages/{stage['stage']}/{stage['of']}/" for stage in explanation["stages"]]
    return files | dict.fromkeys([*plain, LOCK_FILES[0], *([*stages, "stages.json", "stages.md"] if stages else [])])


def _values(experiment: Experiment) -> list[dict[str, Any]]:
    """Return every value that is not a default, and its origin: a file, the command line, a plug-in."""
    registries = {selector.path: selector.registry for selector in SELECTORS}
    values = []
    for path, value in iter_leaves(experiment.values):
        place = path
        while place and place not in experiment.origins:
            place = place.rpartition(".")[0]
        origin = experiment.origins.get(place, "default")
        if path == "plugins" and value and origin == "default":
            origin = "command line --plugin"
        registry = registries.get(".".join(path.split(".")[2:]) if path.startswith("tasks.") else path)
        if registry is not None and value in registry.names():
            origin = _with_plugin(origin, registry.origin(value))
        if origin != "default" and not (value == {} and place != path):
            values.append({"path": path, "value": value, "origin": origin})
    return values


def _with_plugin(origin: str, owner: str) -> str:
    """Return the origin of a name, with the plug-in that registers it."""
    if owner.startswith(("claf2.", str(task_tables()))):
        return origin
    module = sys.modules.get(owner.partition(".")[0])
    file = owner.rpartition(":")[0] or getattr(module, "__file__", None) or owner
    return f"{origin}, from plug-in {file}"


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
        "batches": [f"of {sizes} rows{per_step}; padding: {explanation['padding']}"],
        "steps": [_steps_line(explanation["steps"])],
        "rate": _rate_lines(explanation["rates"]),
        "evaluations": [_evaluations_line(explanation["evaluations"])],
        "then": stages,
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


def _steps_line(steps: Mapping[str, Any]) -> str:
    left = f"; {steps['left']} remaining" if steps["left"] < steps["all"] else ""
    return f"{steps['all']}: {steps['epochs']:.4g} epochs of {steps['epoch']}; {steps['warmup']} of warm-up{left}"


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
            f"{sizes['activations_most']:,.1f} at the {sizes['most_tokens']:,} of the longest rows",
            f"about {sizes['all']:,.0f} MiB in all, besides the process itself",
        ]
    if sizes.get("oom_splits"):
        lines.append(f"batches do not fit into memory: they are halved {sizes['oom_splits']} times")
    return lines


def _time_lines(times: Mapping[str, Any] | None) -> list[str]:
    if times is None:
        return ["not measured"]
    stages = f", further stages {_clock(times['stages'])}" if times["stages"] else ""
    line = (
        f"about {_clock(times['all'])}: training {_clock(times['training'])}, evaluations "
        f"{_clock(times['evaluation'])}{stages} ({times['measured_steps']} steps measured, {times['step']:.3g} s each)"
    )
    if "step_bf16" not in times:
        return [line]
    ratio = times["step"] / times["step_bf16"]
    return [line, f"with --precision bf16, which is another recipe: {times['step_bf16']:.3g} s a step, x{ratio:.2f}"]


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
