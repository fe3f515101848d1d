"""The composition root: an experiment becomes a run, a run becomes a report. A newcomer reads this first."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from claf2.batch import Stream
from claf2.build import Run, find, reopen, splits
from claf2.config import Experiment
from claf2.data import Data
from claf2.errors import Interrupted, RunError
from claf2.features import FeatureSet, featurize
from claf2.loop import Job, Observer, Plan, State
from claf2.metrics import Prediction
from claf2.observe import Console, Journal, Observers, ProgressBar, TensorBoard
from claf2.process import Stopwatch, interruptible, kernels, log_file, peak_memory_mib, settle
from claf2.readers import Example
from claf2.report import Report, TaskReport, card, lower_is_better
from claf2.seed import derive
from claf2.store import (
    Store,
    claim,
    read_json,
    read_predictions,
    recover,
    refuse_changes,
    write_json,
    write_predictions,
    write_text,
)
from claf2.task import tasks
from claf2.tokenizers import language_warning

__all__ = ["answer", "evaluate", "predict", "train"]

logger = logging.getLogger("claf2")


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
    folder = Path(experiment.trainer.log_dir)
    claim(folder, resume=resume, overwrite=overwrite)
    with log_file(folder / "train.log"):
        settle(deterministic=experiment.runtime.deterministic)
        data = splits(experiment)
        run = find(experiment, data["train"].texts)
        _warn_of_language(run, data["train"])
        lock = run.lock(data)
        if (folder / "run.json").exists():
            refuse_changes(read_json(folder / "run.json"), lock)
        if not (folder / "metrics.json").exists():
            _fit(run, data, lock, started)
        return _finished(run)


def _fit(run: Run, data: Mapping[str, Data], lock: Mapping[str, Any], started: float) -> None:
    """Train from where the folder stands to the end, and write what a finished run leaves behind."""
    experiment, folder = run.experiment, run.folder
    train_features = run.features(data["train"])
    train_features.require(experiment.head.targets, data["train"].path)
    model, precision = run.model(), run.precision()
    stream = Stream(
        {run.name: run.batches(train_features)},
        batch_size=experiment.iterator.batch_size,
        parts=experiment.trainer.gradient_accumulation_steps,
        seed=experiment.seed,
        workers=experiment.runtime.workers,
        costs=run.costs(model),
    )
    plan = _plan(experiment, stream.steps_per_epoch)
    valid = run.sets(data)
    for split, (features, _) in valid.items():
        features.require(experiment.head.targets, data[split].path)
    lock = {**lock, "counts": _counts(train_features, valid)}
    optimizer = experiment.update.build(model, plan.learning_rate)
    store = Store(folder, model, run.tokenizer, optimizer, precision.scaler)
    write_json(folder / "config.json", experiment.values)
    write_json(folder / "run.json", lock)
    torch.manual_seed(derive(experiment.seed, "train"))
    state = store.resume() if (folder / "last").exists() else State()
    before, judging = state.step, Stopwatch()

    def judge_valid() -> Report:
        with judging:
            return run.judge(model, valid)

    training = Stopwatch()
    with (
        training,
        interruptible() as interrupted,
        closing(Observers(_observers(run, plan, stream, state))) as observer,
    ):
        job = Job(
            model=model,
            heads={run.name: experiment.head},
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
        )
        experiment.stage.run(job)
    if not state.finished:
        raise Interrupted(f"stopped after step {state.step}, all saved in {folder}; add --resume to go on")
    rows = (state.step - before) * experiment.iterator.batch_size * experiment.trainer.gradient_accumulation_steps
    write_json(folder / "run.json", {**lock, **_costs(started, training.seconds - judging.seconds, rows)})
    logs = _metric_logs(plan, state)
    write_text(folder / "README.md", card(experiment.task, lock, logs))
    write_json(folder / "metrics.json", logs)


def evaluate(folder: Path, data_file: Path | None = None, task: str | None = None) -> Report:
    """Judge a run's best checkpoint anew, and write scores and predictions into its folder.

    Args:
        folder: the run.
        data_file: another file; ``None``: the run's own validation data.
        task: the task whose format and metrics the file has, where it is not the run's own: one with the same head and
            labels.

    Raises:
        Claf2Error: when there is no such run, or the task does not fit it.
    """
    recover(folder)
    run = reopen(folder)
    if task is not None:
        run = dataclasses.replace(run, experiment=_for_task(run.experiment, task))
    data = splits(run.experiment) if data_file is None else {"eval": Data(run.experiment.task, data_file)}
    report = run.judge(run.model(), run.sets(data))
    write_predictions(folder / "predictions", report)
    write_json(folder / ("evaluation.json" if data_file is None else "evaluation-file.json"), report.logs())
    return report


def answer(folder: Path, test_file: Path) -> list[Prediction]:
    """Return the answers of a run's best checkpoint to its task's official test file, which has no labels."""
    run = reopen(folder)
    task = run.experiment.task
    data = Data(task.model_copy(update={"reader": task.test_reader or task.reader}), test_file)
    report = run.judge(run.model(), run.sets({"test": data}))
    return list(report.tasks[run.name].predictions)


def _for_task(experiment: Experiment, name: str) -> Experiment:
    """Return the experiment as it stands, but for another task's files, reader and metrics."""
    other, own = tasks.get(name), experiment.task
    if other.head != own.head or set(other.labels) != set(own.labels):
        raise RunError(
            f"task {name!r} cannot be judged by a run of {own.name!r}: it has head {other.head!r} and labels "
            f"{list(other.labels)}, the run {own.head!r} and {list(own.labels)}"
        )
    return dataclasses.replace(experiment, task=other)


def predict(folder: Path, requests: Iterable[Mapping[str, Any]]) -> Iterator[Prediction]:
    """Answer requests with a run's best checkpoint, one prediction each, in order.

    A request names what its kind of task asks about: ``text_a`` (and ``text_b``), ``text``, or ``question`` and
    ``context``; an ``id`` is given back.
    """
    run = reopen(folder)
    model = run.model()
    for request in requests:
        try:
            example = run.experiment.head.request(request)
            for text in (example.id, *example.texts()):
                text.encode()
        except (TypeError, ValueError, AttributeError, RecursionError) as error:
            raise RunError(f"request {str(request)[:80]!r}: not of this form: {error}") from error
        with tempfile.TemporaryDirectory() as scratch:
            features = featurize([example], run.experiment.featurizer, run.tokenizer, run.labels, Path(scratch) / "f")
            yield from run.judge(model, {"predict": (features, [example])}).tasks[run.name].predictions


def _costs(started: float, seconds: float, rows: int) -> dict[str, float | None]:
    return {
        "wall_seconds": round(time.monotonic() - started, 3),
        "train_seconds": round(seconds, 3),
        "rows_per_second": round(rows / seconds, 3) if seconds else None,
        **peak_memory_mib(),
        **kernels(),
    }


def _counts(train: FeatureSet, valid: Mapping[str, tuple[FeatureSet, list[Example]]]) -> dict[str, dict[str, int]]:
    """Return what was counted in each split on the way to its features, and the rows that stand in train as well."""
    counts = {"train": dict(train.counts)}
    for split, (features, _) in valid.items():
        shared = features.shared_rows(train)
        counts[split] = {**features.counts, "in_train": shared}
        if shared:
            logger.warning("%d of %d rows of %s stand in train as well", shared, counts[split]["examples"], split)
    return counts


def _plan(experiment: Experiment, steps_per_epoch: int) -> Plan:
    trainer, task = experiment.trainer, experiment.task
    total = trainer.num_steps or math.ceil(trainer.num_epochs * steps_per_epoch)
    experiment.schedule.warmup(total)
    every = trainer.eval_and_save_step_count
    if isinstance(every, int):
        interval, per_epoch = every, False
    else:
        interval, per_epoch = max(1, int(steps_per_epoch * (1.0 if every == "epoch" else float(every)))), True
    metric_key = trainer.metric_key or task.metrics[0].selects
    return Plan(
        total_steps=total,
        interval=interval,
        per_epoch=per_epoch,
        metric_key=metric_key,
        lower_is_better=lower_is_better(task.metrics, metric_key),
        patience=trainer.early_stopping_threshold,
        max_norm=trainer.grad_max_norm,
        learning_rate=experiment.optimizer.learning_rate,
        look_every=trainer.verbose_step_count,
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


def _metric_logs(plan: Plan, state: State) -> dict[str, Any]:
    """Return the Metric Logs: the best evaluation and where it was."""
    return {
        "best_epoch": state.best_epoch,
        "best_global_step": state.best_step,
        "best": state.best,
        "best_score": state.best_score,
        "metric_key": plan.metric_key,
    }


def _finished(run: Run) -> Report:
    """Say what a finished run found, and return it."""
    logs = read_json(run.folder / "metrics.json")
    if not isinstance(logs.get("best"), dict):
        raise RunError(f"{run.folder / 'metrics.json'}: damaged: it names no best evaluation")
    logger.info("Metric Logs %s", json.dumps(logs, indent=2))
    scores = {name.removeprefix("valid/"): value for name, value in logs["best"].items() if name.startswith("valid/")}
    predictions = read_predictions(run.folder / "predictions" / f"{run.name}-valid.jsonl")
    return Report("valid", {run.name: TaskReport(scores, scores.pop("loss", None), predictions)})


def _warn_of_language(run: Run, data: Data) -> None:
    language = run.experiment.task.language
    warning = language_warning(run.tokenizer, language, islice(data.texts(), 100))
    if warning:
        logger.warning("%s", warning)
