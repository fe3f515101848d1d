"""The composition root: an experiment becomes a run, a run becomes a report. A newcomer reads this first."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch

from claf2 import ranks
from claf2.batch import Stream
from claf2.build import Run, Sets, find, split_name, splits
from claf2.config import Experiment
from claf2.data import Data
from claf2.errors import ConfigError, Interrupted, RunError, nearest
from claf2.features import FeatureSet
from claf2.loop import Decides, Job, Observer, Plan, State, metric_logs
from claf2.models.encoder import EncoderWithHeads
from claf2.observe import Console, Journal, Observers, ProgressBar, TensorBoard
from claf2.process import Stopwatch, interruptible, kernels, log_file, peak_memory_mib, settle
from claf2.report import Report, TaskReport, card, lower_is_better, stages
from claf2.schema import MixedTrainerSection
from claf2.seed import derive
from claf2.store import (
    Store,
    best_folder,
    claim,
    read_json,
    read_predictions,
    refuse_changes,
    write_json,
    write_text,
)
from claf2.teachers import said
from claf2.tokenizers import language_warning
from claf2.trainers import Later

__all__ = ["train"]

logger = logging.getLogger("claf2")

ALIKE = ("experiment", "recipe", "data", "tokenizer", "weights", "code", "versions")
"""What all processes of a run must have alike."""


def train(experiment: Experiment, *, resume: bool = False, overwrite: bool = False) -> Report:
    """Train an experiment in its folder, and return the report of its best checkpoint.

    Args:
        experiment: what to train.
        resume: go on with what the folder holds; start where it holds nothing.
        overwrite: throw away what the folder holds.

    Raises:
        Claf2Error: for what the user can mend.
        Interrupted: after Ctrl-C, with everything saved.
    """
    started = time.monotonic()
    later = experiment.stage.later(experiment.parts)
    folder = Path(experiment.trainer.log_dir)
    if ranks.first():
        claim(folder, resume=resume, overwrite=overwrite)
    with log_file(folder / "train.log") if ranks.first() else nullcontext():
        settle(deterministic=experiment.runtime.deterministic)
        with ranks.in_turn():  # what is fetched or generated is there for the others
            data = splits(experiment)
            run = find(experiment, lambda: chain.from_iterable(own["train"].texts() for own in data.values()))
        for task, own in data.items():
            _warn_of_language(run, task, own["train"])
        lock = run.lock(data)
        ranks.agree({name: lock[name] for name in ALIKE})
        if (folder / "run.json").exists():
            refuse_changes(read_json(folder / "run.json"), lock)
        ranks.meet()  # all have read what the first one writes next
        if not (folder / "metrics.json").exists():
            _fit(run, data, lock, started)
        ranks.meet()  # the first one has written all
        report = _finished(run)
    if later:
        _later(run, report, later)
    return report


def _later(run: Run, report: Report, later: Sequence[Later]) -> None:
    """Train what comes after a run on several tasks, and write the scores of all stages side by side."""
    parts = run.experiment.parts
    rows: dict[str, dict[str, float | None]] = {task: {} for task in parts}
    for each in later:
        alone, start = parts[each.task].alone, run.experiment.model.pretrained_model_name
        if alone is None:
            raise RunError("a run of one task has no later stages: name several in section tasks")
        changes: dict[str, Any] = {
            f"model.{alone.values['model']['name']}.pretrained_model_name":
                str(best_folder(run.folder, each.task if len(parts) > 1 else None)) if each.refined else start,
            "trainer.log_dir": str(run.folder / "stages" / each.stage / each.task),
        }  # fmt: skip
        if each.refined:
            changes["token"] = None  # the tokenizer is that of the refined model
        (found,) = train(alone.varied(changes), resume=True).tasks.values()
        rows[each.task][each.stage] = found.scores.get(parts[each.task].task.metrics[0].selects)
    for task, part in parts.items():
        rows[task]["refined"] = report.tasks[task].scores.get(part.task.metrics[0].selects)
    table = stages({task: (part.task.metrics[0].selects, rows[task]) for task, part in parts.items()})
    if ranks.first():
        write_json(run.folder / "stages.json", rows)
        write_text(run.folder / "stages.md", table)
    logger.info("%s", table)


def _fit(run: Run, data: Mapping[str, Mapping[str, Data]], lock: Mapping[str, Any], started: float) -> None:
    """Train from where the folder stands to the end, and write what a finished run leaves behind."""
    experiment, folder = run.experiment, run.folder
    parts = experiment.parts
    train_features = {task: run.features(task, own["train"]) for task, own in data.items()}
    model, precision = run.model(), run.precision()
    stream = _stream(run, train_features, model)
    plan = _plan(experiment, stream.steps_per_epoch)
    stream.epochs = math.ceil(plan.total_steps / stream.steps_per_epoch)
    _say_shapes(run, model, stream)
    valid = run.sets(data)
    for split, own in (("train", {task: (each, None) for task, each in train_features.items()}), *valid.items()):
        for task, (features, _) in own.items():
            features.require(parts[task].head.targets, data[task][split].path)
    lock = {**lock, "counts": _counts(train_features, valid)}
    optimizer = experiment.update.build(model, plan.learning_rate)
    store = Store(folder, model, run.tokenizer, optimizer, precision.scaler)
    if ranks.first():
        write_json(folder / "config.json", experiment.values)
        write_json(folder / "run.json", lock)
    torch.manual_seed(derive(experiment.seed, "train", *([ranks.number()] if ranks.number() else [])))
    state = store.resume() if (folder / "last").exists() else State()
    before, judging = state.rows, Stopwatch()

    def judge_valid() -> Report:
        with judging:
            return run.judge(model, valid)

    training = Stopwatch()
    with (
        training,
        interruptible() as interrupted,
        closing(Observers(_observers(run, plan, stream, state) if ranks.first() else [])) as observer,
    ):
        job = Job(
            model=model,
            heads={task: part.head for task, part in parts.items()},
            stream=stream,
            optimizer=optimizer,
            schedule=experiment.schedule,
            plan=plan,
            state=state,
            judge=judge_valid,
            keeper=store,
            observer=observer,
            interrupted=interrupted,
            precision=precision,
            weights={task: part.mix.loss_weight for task, part in parts.items()},
            objectives=list(experiment.objectives.values()),
        )
        experiment.stage.run(job)
    if not state.finished:
        raise Interrupted(f"stopped after step {state.step}, all saved in {folder}; add --resume to go on")
    if not ranks.first():
        return
    seconds = training.seconds - judging.seconds
    write_json(folder / "run.json", {**lock, **_costs(started, seconds, state.rows - before)})
    logs = metric_logs(plan, state)
    write_text(folder / "README.md", card([part.task for part in parts.values()], lock, logs))
    write_json(folder / "metrics.json", logs)


def _say_shapes(run: Run, model: EncoderWithHeads, stream: Stream) -> None:
    """Log what becomes of padding, and how evenly several processes share the work."""
    kept = "as it is" if run.experiment.runtime.padding == "keep" else "little, batches are cut by length"
    packed = "none, the layers see a batch's real tokens as one row"
    logger.info("padding: %s", kept if model.packing is None else packed)
    if ranks.count() > 1:
        usual, worst = stream.imbalance()
        logger.info(
            "%d processes: the longest share of a batch has %.1f %% more tokens than their mean, at worst %.0f %%",
            ranks.count(), usual, worst,
        )  # fmt: skip


def _stream(run: Run, features: Mapping[str, FeatureSet], model: EncoderWithHeads) -> Stream:
    """Return the order of batches; a task without weight is judged only, and takes no step from the others."""
    experiment = run.experiment
    parts = {task: part for task, part in experiment.parts.items() if part.mix.loss_weight}
    return Stream(
        {task: replace(run.batches(task, features[task]), more=said(run, task, features[task])) for task in parts},
        batch_sizes={task: part.iterator.batch_size for task, part in parts.items()},
        parts=experiment.trainer.gradient_accumulation_steps,
        seed=experiment.seed,
        workers=experiment.runtime.workers,
        costs=run.costs(model),
        sampler=experiment.sampler,
        rank=ranks.number(),
        ranks=ranks.count(),
    )


def _costs(started: float, seconds: float, rows: int) -> dict[str, float | None]:
    return {
        "wall_seconds": round(time.monotonic() - started, 3),
        "train_seconds": round(seconds, 3),
        "rows_per_second": round(rows / seconds, 3) if seconds else None,
        **peak_memory_mib(),
        **kernels(),
    }


def _counts(train: Mapping[str, FeatureSet], valid: Sets) -> dict[str, dict[str, int]]:
    """Return what was counted in each split on the way to its features, and the rows that stand in train as well."""
    counts = {split_name(train, task, "train"): dict(each.counts) for task, each in train.items()}
    for split, own in valid.items():
        for task, (features, _) in own.items():
            shared, name = features.shared_rows(train[task]), split_name(train, task, split)
            counts[name] = {**features.counts, "in_train": shared}
            if shared:
                logger.warning("%d of %d rows of %s stand in train as well", shared, counts[name]["examples"], name)
    return counts


def _plan(experiment: Experiment, steps_per_epoch: int) -> Plan:
    trainer, several = experiment.trainer, len(experiment.parts) > 1
    decides = {
        task: Decides(own := part.task.metrics[0].selects, lower_is_better(part.task.metrics, own))
        for task, part in experiment.parts.items()
    }
    total = trainer.num_steps or math.ceil(trainer.num_epochs * steps_per_epoch)
    experiment.schedule.warmup(total)
    every = trainer.eval_and_save_step_count
    if isinstance(every, int):
        interval, per_epoch = every, False
    else:
        interval, per_epoch = max(1, int(steps_per_epoch * (1.0 if every == "epoch" else float(every)))), True
    metric_key = trainer.metric_key or ("average" if several else next(iter(decides.values())).metric_key)
    named, _, rest = metric_key.partition("/")
    if rest and named not in experiment.parts:
        raise ConfigError(
            "trainer.metric_key", f"{named!r} is no task of this run", hint=nearest(named, experiment.parts)
        )
    deciding = experiment.parts.get(named if rest else next(iter(experiment.parts)))
    metrics = deciding.task.metrics if deciding is not None and metric_key != "average" else ()
    return Plan(
        total_steps=total,
        interval=interval,
        per_epoch=per_epoch,
        metric_key=metric_key,
        lower_is_better=lower_is_better(metrics, metric_key),
        patience=trainer.early_stopping_threshold,
        max_norm=trainer.grad_max_norm,
        learning_rate=experiment.optimizer.learning_rate,
        look_every=trainer.verbose_step_count,
        tasks=decides if several else {},
        task_patience=trainer.task_early_stopping_threshold if isinstance(trainer, MixedTrainerSection) else None,
        each=several and isinstance(trainer, MixedTrainerSection) and trainer.keep == "each",
    )


def _observers(run: Run, plan: Plan, stream: Stream, state: State) -> list[Observer]:
    every = run.experiment.trainer.verbose_step_count
    epochs = math.ceil(plan.total_steps / stream.steps_per_epoch)
    observers: list[Observer] = [
        Journal(run.folder / "metrics.jsonl", state.step),
        Console(every, plan.total_steps, epochs, plan.metric_key),
        TensorBoard(run.folder, every, purge_step=state.step + 1 if state.step else None),
    ]
    if sys.stderr.isatty():
        observers.append(ProgressBar(plan.total_steps, state.step, every))
    return observers


def _finished(run: Run) -> Report:
    """Say what a finished run found, and return it."""
    logs = read_json(run.folder / "metrics.json")
    if not isinstance(logs.get("best"), dict):
        raise RunError(f"{run.folder / 'metrics.json'}: damaged: it names no best evaluation")
    logger.info("Metric Logs %s", json.dumps(logs, indent=2))
    names, reports = run.experiment.parts, {}
    for task in names:
        prefix = f"valid/{task}/" if len(names) > 1 else "valid/"
        found = {key.removeprefix(prefix): each for key, each in logs["best"].items() if key.startswith(prefix)}
        predictions = read_predictions(run.folder / "predictions" / f"{task}-valid.jsonl")
        reports[task] = TaskReport(found, found.pop("loss", None), predictions)
    return Report("valid", reports, average=logs["best"].get("valid/average"))


def _warn_of_language(run: Run, task: str, data: Data) -> None:
    language = run.experiment.parts[task].task.language
    warning = language_warning(run.tokenizer, language, islice(data.texts(), 100))
    if warning:
        logger.warning("%s", warning)
