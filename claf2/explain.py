"""What a run would be: prepared as ``run`` prepares it, a few steps taken and thrown away, and told. Nothing is left
behind but caches."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from claf2.build import Run, find, split_name, splits
from claf2.config import Experiment
from claf2.data import Data
from claf2.estimate import few, measure, memory, shares, tokens_in, tokens_per_step
from claf2.loop import State
from claf2.overrides import leaves
from claf2.prepare import Ready, lock_of, look_up, padding_of, plan_of, prepare, stream_of
from claf2.run import staged
from claf2.schema import SELECTORS
from claf2.store import read_json, refuse_changes, refuse_taken
from claf2.task import tables
from claf2.trainers import Later

__all__ = ["explain", "show"]

FEW = 8
"""How many examples are judged to see which scores there are."""

POINTS = 10
"""How many points of the learning rate's curve are told."""

WIDTH = 24
"""How many characters the highest rate is drawn with."""


def explain(experiment: Experiment, *, steps: int = 3, resume: bool = False, overwrite: bool = False) -> dict[str, Any]:
    """Return what ``train`` would do, as JSON values: memory in MiB, times in seconds, lengths in tokens.

    Args:
        experiment: what would be trained.
        steps: the steps that are measured, behind one to warm up; 0: nothing is measured, and nothing estimated.
        resume, overwrite: as in ``train``.

    Raises:
        Claf2Error: where ``train`` would, for the same reasons; for a score that is none before the first step already.
    """
    folder = Path(experiment.trainer.log_dir)
    holds = refuse_taken(folder, resume=resume, overwrite=overwrite)
    later = experiment.stage.later(experiment.parts)
    run, data = look_up(experiment)
    state = State()
    if holds and resume:
        refuse_changes(read_json(folder / "run.json"), lock_of(run, data))
        last = folder / ("last" if (folder / "last").exists() else ".last.old")
        state = State(**read_json(last / "state.json"))
    ready = prepare(run, data)
    plan, stream, model = ready.plan, ready.stream, ready.model
    first = next(iter(ready.valid))
    sample = few(ready.valid[first], dict.fromkeys(experiment.parts, FEW))
    run.judge(model, {first: sample}).value(plan.metric_key)
    found: dict[str, Any] = {
        "base_config": experiment.name,
        "folder": str(folder),
        "state": _state(holds, state, plan.total_steps, overwrite=overwrite),
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "precision": experiment.runtime.precision,
        "tasks": _tasks(ready),
        "splits": dict(_splits(ready, data)),
        "steps": {
            "epoch": stream.steps_per_epoch,
            "epochs": plan.total_steps / stream.steps_per_epoch,
            "all": plan.total_steps,
            "warmup": experiment.schedule.warmup(plan.total_steps),
            "left": plan.total_steps - state.step,
        },
        "rates": _rates(ready),
        "evaluations": {
            "steps": _evaluations(ready),
            "metric_key": plan.metric_key,
            "lower_is_better": plan.lower_is_better,
            "patience": plan.patience,
        },
        "accumulation": experiment.trainer.gradient_accumulation_steps,
        "padding": padding_of(run, model),
        "model": _model(ready),
        "stages": [_stage(ready, each) for each in later],
    }
    found |= _costs(ready, state, found, steps)
    return {**found, "leaves": _left_behind(ready, found), "values": _values(experiment)}


def _costs(ready: Ready, state: State, found: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """Return memory, and the seconds that the rest of the run takes, scaled by tokens from a few measured steps."""
    if not steps:
        return {"memory_mib": memory(ready, None), "seconds": None}
    measured = measure(ready, steps)
    left = [step for step in found["evaluations"]["steps"] if step > state.step]
    training = measured.token * tokens_per_step(ready.run, ready.train) * found["steps"]["left"]
    evaluation = measured.judged * tokens_in(ready.valid) * len(left)
    stages = 0.0
    for each in found["stages"]:
        own = {split: {each["of"]: sets[each["of"]]} for split, sets in ready.valid.items() if each["of"] in sets}
        stages += measured.token * each["tokens"] + measured.judged * tokens_in(own) * len(each["evaluations"])
    times = {"step": measured.step, "training": training, "evaluation": evaluation, "stages": stages}
    return {
        "memory_mib": memory(ready, measured),
        "seconds": {**times, "all": training + evaluation + stages, "measured_steps": steps},
    }


def _state(holds: str, state: State, total: int, *, overwrite: bool) -> str:
    """Say what would become of what the folder holds."""
    if not holds:
        return "a new run"
    if overwrite:
        return f"a new run in the place of {holds} one"
    if holds == "a finished":
        return "a finished run: nothing is trained"
    return f"a run that stands after step {state.step} of {total} and goes on"


def _tasks(ready: Ready) -> dict[str, Any]:
    """Return what is asked of each task, and its part of the steps of the first epoch."""
    parts, share = ready.run.experiment.parts, shares(ready.run, ready.train)
    return {
        task: {
            "share": share.get(task, 0.0),
            "head": part.task.head,
            "labels": list(ready.run.labels[task]),
            "metric_key": part.task.metrics[0].selects,
            "batch_size": part.iterator.batch_size,
            "eval_batch_size": part.iterator.eval_batch_size,
            "loss_weight": part.mix.loss_weight,
            "average_weight": part.mix.average_weight,
        }
        for task, part in parts.items()
    }


def _splits(ready: Ready, data: Mapping[str, Mapping[str, Data]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what is in each split: what was counted on the way to its features, and their lengths."""
    sets = {"train": {task: (each, ()) for task, each in ready.train.items()}, **ready.valid}
    for split, own in sets.items():
        for task, (features, _) in own.items():
            lengths = features.lengths()
            name = split_name(data, task, split)
            tokens = {
                "least": int(lengths.min()),
                "median": int(np.quantile(lengths, 0.5, method="nearest")),
                "95 %": int(np.quantile(lengths, 0.95, method="nearest")),
                "most": int(lengths.max()),
                "all": int(lengths.sum()),
            }
            counts = dict(ready.counts[name])
            yield name, {"path": str(data[task][split].path), **counts, "tokens": tokens}


def _evaluations(ready: Ready) -> list[int]:
    """Return the steps after which the model is evaluated, as the loop asks the plan."""
    per_epoch = ready.stream.steps_per_epoch
    steps = range(1, ready.plan.total_steps + 1)
    return [step for step in steps if ready.plan.due(State(step=step, position=(step - 1) % per_epoch + 1))]


def _rates(ready: Ready) -> list[list[float]]:
    """Return [step, learning rate] from the first step to the last, the end of the warm-up among them."""
    plan, schedule = ready.plan, ready.run.experiment.schedule
    total = plan.total_steps
    even = {1 + round(point * (total - 1) / (POINTS - 1)) for point in range(POINTS)}
    chosen = sorted(even | {min(total, schedule.warmup(total) + 1)})
    return [[step, plan.learning_rate * schedule.factor(step - 1, total)] for step in chosen]


def _model(ready: Ready) -> dict[str, Any]:
    config: Any = getattr(ready.model.head(ready.model.names[0]), "config", None)
    return {
        "name": ready.run.experiment.model.pretrained_model_name,
        "architecture": getattr(config, "model_type", None),
        "parameters": sum(each.numel() for each in ready.model.parameters()),
        "trained": sum(each.numel() for each in ready.model.parameters() if each.requires_grad),
    }


def _stage(ready: Ready, each: Later) -> dict[str, Any]:
    """Return how long a later run on one task is; a refined one has the tokenizer of the run before."""
    run, alone = ready.run, staged(ready.run, each)
    (task,) = alone.parts
    data = splits(alone)[task]["train"]
    if each.refined:
        own = Run(alone, run.source, run.tokenizer, {task: run.labels[each.task]}, run.added)
    else:
        own = find(alone, data.texts)
    features = {task: own.features(task, data)}
    stream = stream_of(own, features, ready.model)
    plan = plan_of(alone, stream.steps_per_epoch)
    return {
        "stage": each.stage,
        "of": each.task,
        "folder": str(own.folder),
        "steps": plan.total_steps,
        "warmup": alone.schedule.warmup(plan.total_steps),
        "evaluations": _evaluations(replace(ready, stream=stream, plan=plan)),
        "tokens": tokens_per_step(own, features) * plan.total_steps,
    }


def _left_behind(ready: Ready, found: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the names of what the run leaves in its folder, and the MiB of what is large."""
    names, sizes = ready.model.names, found["memory_mib"]
    best = {task: sum(each.nbytes for each in ready.model.head(task).state_dict().values()) / 2**20 for task in names}
    several = len(names) > 1
    files: dict[str, float | None] = {
        **({f"best/{task}/": size for task, size in best.items()} if several else {"best/": best[names[0]]}),
        "last/": sizes["weights"] + sizes["optimizer"],
        **{f"predictions/{task}-{split}.jsonl": None for split, own in ready.valid.items() for task in own},
    }
    plain = "config.json run.json metrics.json metrics.jsonl README.md train.log events.out.tfevents.*".split()
    stages = [*(f"stages/{each['stage']}/{each['of']}/" for each in found["stages"]), "stages.json", "stages.md"]
    return files | dict.fromkeys([*plain, *(stages if found["stages"] else [])])


def _values(experiment: Experiment) -> list[dict[str, Any]]:
    """Return every value that is no default, and where it came from: a file, the command line, a plug-in."""
    registries = {each.path: each.registry for each in SELECTORS}
    found = []
    for path, value in leaves(experiment.values):
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
            found.append({"path": path, "value": value, "origin": origin})
    return found


def _with_plugin(origin: str, owner: str) -> str:
    """Return where a name came from, with the plug-in that its meaning comes from."""
    if owner.startswith(("claf2.", str(tables()))):
        return origin
    module = sys.modules.get(owner.partition(".")[0])
    file = owner.rpartition(":")[0] or getattr(module, "__file__", None) or owner
    return f"{origin}, of plug-in {file}"


def show(found: Mapping[str, Any]) -> str:
    """Return what ``explain`` has found, for people to read."""
    tasks = found["tasks"].items()
    sizes = ", ".join(
        f"{task} {each['batch_size']}" if len(tasks) > 1 else f"{each['batch_size']}" for task, each in tasks
    )
    parts = f", {found['accumulation']} of them a step" if found["accumulation"] > 1 else ""
    later = [
        f"{each['stage']} {each['of']}: {each['steps']} steps, {each['warmup']} of warm-up, "
        f"{len(each['evaluations'])} evaluations"
        for each in found["stages"]
    ]
    files = [f"{name} {size:,.1f} MiB" if size is not None else name for name, size in found["leaves"].items()]
    blocks = {
        "run": [f"{found['base_config']} in {found['folder']}: {found['state']}"],
        "tasks": [
            f"{task}: {each['head']}, decided by {each['metric_key']}; {100 * each['share']:.3g} % of the steps"
            for task, each in tasks
        ],
        "data": _data_lines(found["splits"]),
        "model": [_model_line(found["model"])],
        "on": [f"{found['device']}, {found['threads']} threads, {found['precision']}"],
        "batches": [f"of {sizes} rows{parts}; padding: {found['padding']}"],
        "steps": [_steps_line(found["steps"])],
        "rate": _rate_lines(found["rates"]),
        "evaluations": [_evaluations_line(found["evaluations"])],
        "then": later,
        "memory": _memory_lines(found["memory_mib"]),
        "time": [_time_line(found["seconds"])],
        "leaves": files,
        "set": [
            f"{each['path']} = {json.dumps(each['value'], ensure_ascii=False)}  # {each['origin']}"
            for each in found["values"]
        ],
    }
    return "\n".join(
        f"{'' if index else name:<13}{line}" for name, lines in blocks.items() for index, line in enumerate(lines)
    )


def _data_lines(splits: Mapping[str, Any]) -> list[str]:
    """Return a table of rows, features and lengths, and the files."""
    table = [["split", "rows", "features", "cut", "tokens: least", "median", "95 %", "most"]]
    for name, each in splits.items():
        counts = [each["examples"], each["features"], each.get("truncated", 0)]
        lengths = [each["tokens"][key] for key in ("least", "median", "95 %", "most")]
        table.append([name, *(f"{number:,}" for number in (*counts, *lengths))])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])  # numbers to the right
        for row in table
    ]
    for name, each in splits.items():
        shared = f", {each['in_train']:,} rows stand in train as well" if each.get("in_train") else ""
        lines.append(f"{name}: {each['path']}{shared}")
    return lines


def _model_line(model: Mapping[str, Any]) -> str:
    fixed = model["parameters"] - model["trained"]
    more = f", {fixed:,} of them fixed" if fixed else ""
    return f"{model['name']} ({model['architecture']}), {model['parameters']:,} parameters{more}"


def _steps_line(steps: Mapping[str, Any]) -> str:
    left = f"; {steps['left']} are left" if steps["left"] < steps["all"] else ""
    return f"{steps['all']}: {steps['epochs']:.4g} epochs of {steps['epoch']}; {steps['warmup']} of warm-up{left}"


def _rate_lines(rates: Sequence[Sequence[float]]) -> list[str]:
    """Return the learning rate at some steps, drawn."""
    highest, width = max(rate for _, rate in rates) or 1.0, len(str(rates[-1][0]))
    return [
        f"step {step:>{width}}  {rate:<9.3g} {'█' * round(WIDTH * rate / highest)}".rstrip() for step, rate in rates
    ]


def _evaluations_line(looks: Mapping[str, Any]) -> str:
    steps = looks["steps"]
    shown = ", ".join(map(str, [*steps[:4], "…", steps[-1]] if len(steps) > 6 else steps))
    lower = ", lower is better" if looks["lower_is_better"] else ""
    patience = f"; {looks['patience']} without a better one end the run" if looks["patience"] else ""
    return f"{len(steps)}, after step {shown}; the best by {looks['metric_key']}{lower} is kept{patience}"


def _memory_lines(sizes: Mapping[str, Any]) -> list[str]:
    lines = [", ".join(f"{name} {sizes[name]:,.1f}" for name in ("weights", "gradients", "optimizer")) + " MiB"]
    if "activations" in sizes:
        lines += [
            f"activations {sizes['activations']:,.1f} MiB at {sizes['activations_tokens']:,} tokens, about "
            f"{sizes['activations_most']:,.1f} at the {sizes['most_tokens']:,} of the longest rows",
            f"about {sizes['all']:,.0f} MiB in all, besides the process itself",
        ]
    if sizes.get("halvings"):
        lines.append(f"batches do not fit as they are: they are halved, {sizes['halvings']} times over")
    return lines


def _time_line(times: Mapping[str, Any] | None) -> str:
    if times is None:
        return "not measured"
    later = f", later stages {_clock(times['stages'])}" if times["stages"] else ""
    return (
        f"about {_clock(times['all'])}: training {_clock(times['training'])}, evaluations "
        f"{_clock(times['evaluation'])}{later} ({times['measured_steps']} steps measured, {times['step']:.3g} s each)"
    )


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
