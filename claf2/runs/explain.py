"""A description of what ``train`` would do: the run is prepared in the same way, and a few steps are measured. Nothing
is written but caches."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from claf2.config import Experiment
from claf2.config.schema import SELECTORS
from claf2.config.source import iter_leaves
from claf2.errors import ConfigError
from claf2.runs.budget import Hardware, pretraining_costs
from claf2.runs.changes import check_resumable
from claf2.runs.estimate import (
    checkpoint_bytes,
    count_tokens,
    estimate_memory,
    measure_steps,
    seconds_to_save,
    task_shares,
    tokens_per_step,
)
from claf2.runs.folder import check_run_dir
from claf2.runs.follow_ups import follow_up_experiment
from claf2.runs.locate import TaskSplits, locate_splits
from claf2.runs.prepare import PreparedRun, build_plan, build_stream, check_metric_key, describe_padding, prepare
from claf2.runs.provenance import collect_provenance, read_provenance
from claf2.runs.resolve import Run, average_weight, resolve, resolve_weights, split_name
from claf2.runtime import distributed
from claf2.runtime.files import LOCK_FILES
from claf2.runtime.precision import Precision
from claf2.task import task_tables
from claf2.training.checkpoint import read_state, read_step
from claf2.training.kept_steps import KeptSteps
from claf2.training.state import State
from claf2.training.trainers import FollowUpRun

__all__ = ["explain"]

POINTS = 10
"""The number of steps at which the learning rate is shown."""


def explain(
    experiment: Experiment,
    *,
    steps: int = 3,
    resume: bool = False,
    overwrite: bool = False,
    hardware: Hardware | None = None,
) -> dict[str, Any]:
    """Return what ``train`` would do, as JSON values: memory in MiB, times in seconds, lengths in tokens.

    Args:
        experiment: what would be trained.
        steps: the number of steps to measure, after one to warm up; 0: nothing is measured or estimated.
        resume: as in ``train``.
        overwrite: as in ``train``.
        hardware: what a pre-training would run on.

    Raises:
        Claf2Error: where ``train`` would.
        ConfigError: when there is no training to describe, or an argument does not fit it.
    """
    _check_arguments(experiment, steps, hardware)
    folder = Path(experiment.trainer_config.log_dir)
    existing = check_run_dir(experiment, resume=resume, overwrite=overwrite)
    follow_ups = experiment.trainer.follow_ups(experiment.tasks)
    run, data = resolve(experiment)
    state = _resumed_state(folder, run, data) if existing and resume else State()
    prepared = prepare(run, data)
    plan, model = prepared.plan, prepared.model
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
        "steps": _steps(prepared, state),
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
    if prepared.texts:
        remaining = sum(step > state.step for step in explanation["evaluations"]["steps"])
        explanation |= pretraining_costs(prepared, state, remaining, steps, hardware)
    else:
        explanation |= _costs(prepared, state, explanation, steps)
    return {**explanation, "leaves": _files(prepared, explanation), "values": _values(experiment)}


def _check_arguments(experiment: Experiment, steps: int, hardware: Hardware | None) -> None:
    """Refuse what cannot be described, before any data or weights are looked up."""
    if not experiment.trainer.trains:
        name = experiment.trainer_config.name
        problem = f"{name!r} takes no step, so there is no training to describe"
        raise ConfigError("trainer.name", problem, hint="run claf2 train, or see the settings with claf2 config show")
    if steps < 0:
        raise ConfigError("steps", f"{steps} steps cannot be measured", hint="give 0 or more")
    if hardware is not None and not any(task_config.task.is_corpus for task_config in experiment.tasks.values()):
        problem = "its days and costs are computed for a pre-training, and this is a fine-tuning"
        raise ConfigError("hardware", problem, hint="leave it out; the seconds on this machine are measured")


def _resumed_state(folder: Path, run: Run, data: TaskSplits) -> State:
    """Return where the run in a folder stands, if it can be resumed."""
    check_resumable(read_provenance(folder, finished=False), collect_provenance(run, data), partial(read_step, folder))
    return read_state(folder)


def _steps(prepared: PreparedRun, state: State) -> dict[str, Any]:
    """Return the numbers of steps."""
    total, per_epoch = prepared.plan.total_steps, prepared.stream.steps_per_epoch
    return {
        "epoch": per_epoch,
        "epochs": total / per_epoch,
        "all": total,
        "warmup": prepared.run.experiment.schedule.warmup(total),
        "left": total - state.step,
    }


def _costs(prepared: PreparedRun, state: State, explanation: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """Return memory, and the seconds that the rest of the run takes, scaled by tokens from some measured steps."""
    if not steps:
        return {"memory_mib": estimate_memory(prepared, None), "seconds": None}
    costs = measure_steps(prepared, steps)
    remaining = [step for step in explanation["evaluations"]["steps"] if step > state.step]
    tokens = tokens_per_step(prepared.run, prepared.train) * explanation["steps"]["left"]
    training = costs.seconds_per_token * tokens
    evaluation = costs.seconds_per_evaluated_token * count_tokens(prepared.valid) * len(remaining)
    evaluated = [(stage["of"], len(stage["evaluations"])) for stage in explanation["stages"]]
    saving = seconds_to_save(prepared, len(remaining), evaluated)
    stages = 0.0
    for stage in explanation["stages"]:
        task = stage["of"]
        sets = {split: {task: tasks[task]} for split, tasks in prepared.valid.items() if task in tasks}
        evaluated_tokens = count_tokens(sets) * len(stage["evaluations"])
        stages += costs.seconds_per_token * stage["tokens"] + costs.seconds_per_evaluated_token * evaluated_tokens
    times = {"training": training, "evaluation": evaluation, "saving": saving, "stages": stages}
    times |= {"all": sum(times.values()), "step": costs.seconds_per_step}
    runtime = prepared.run.experiment.runtime
    if runtime.precision == "fp32" and not runtime.compile and distributed.world_size() == 1:
        half = Precision("bf16", prepared.model.device)
        times["step_bf16"] = measure_steps(replace(prepared, precision=half), steps).seconds_per_step
    return {
        "memory_mib": estimate_memory(prepared, costs),
        "seconds": {**times, "measured_steps": steps},
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
            "average_weight": average_weight(task_config),
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
                "all": int(features.token_counts().sum()),
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
    counts = prepared.count_weights()
    return {
        "name": prepared.run.experiment.model.pretrained_model_name,
        "architecture": getattr(config, "model_type", None),
        "parameters": counts["parameters"],
        "trained": counts["trained_parameters"],
    }


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
    names = prepared.model.names
    sizes, last = checkpoint_bytes(prepared)
    best = {task: size / 2**20 for task, size in sizes.items()}
    several = len(names) > 1
    files: dict[str, float | None] = {
        **({f"best/{task}/": size for task, size in best.items()} if several else {"best/": best[names[0]]}),
        "last/": last / 2**20,
        **{f"predictions/{task}-{split}.jsonl": None for split, tasks in prepared.valid.items() for task in tasks},
    }
    kept = prepared.plan.kept_steps
    if kept is not None:
        files["steps/"] = _num_kept(kept, prepared.plan.total_steps) * sum(best.values())
    plain = "config.json run.json metrics.json metrics.jsonl README.md train.log events.out.tfevents.*".split()
    stages = [f"stages/{stage['stage']}/{stage['of']}/" for stage in explanation["stages"]]
    return files | dict.fromkeys([*plain, LOCK_FILES[0], *([*stages, "stages.json", "stages.md"] if stages else [])])


def _num_kept(kept_steps: KeptSteps, total: int) -> int:
    """Return how many steps are kept at the end of a run."""
    steps = [*range(kept_steps.interval, total, kept_steps.interval), total]
    return len(steps) - len(kept_steps.superseded(steps))


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
