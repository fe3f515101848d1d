"""The composition root: an Experiment becomes a run in its folder, and the run a Report. Start reading here."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from claf2.adapters.layers.stored import adapter_bytes
from claf2.config import Experiment
from claf2.config.fill import error_prefix
from claf2.errors import ConfigError, Interrupted, RunError
from claf2.evaluation.model_card import card_licence, model_card
from claf2.evaluation.predictions import predictions_path, read_predictions
from claf2.evaluation.report import Report, TaskReport, stage_table
from claf2.models.embeddings import trained_rows
from claf2.models.encoder import EncoderWithHeads
from claf2.runs.changes import SAME_RESULT, check_repeatable, check_resumable, describe_changes
from claf2.runs.demonstrations import write_demonstrations
from claf2.runs.folder import RunDir, acquire_run_dir, is_finished
from claf2.runs.follow_ups import describe_follow_ups, follow_up_experiment
from claf2.runs.prepare import PreparedRun, check_metric_key, prepare
from claf2.runs.provenance import collect_provenance, read_provenance
from claf2.runs.resolve import Run, resolve
from claf2.runtime import distributed
from claf2.runtime.device import kernel_settings, peak_memory_mib
from claf2.runtime.files import read_json, write_json, write_text
from claf2.runtime.process import Stopwatch, interruptible
from claf2.runtime.seed import derive_seed
from claf2.training.callbacks import Callback, CallbackList, RunInfo
from claf2.training.callbacks.console import ConsoleLogger, ProgressBar, progress_display
from claf2.training.callbacks.jsonl import JsonlLogger
from claf2.training.checkpoint import CheckpointManager, check_best, read_step, task_best_dir
from claf2.training.loop import forget_best, metric_logs
from claf2.training.optim import build_optimizer
from claf2.training.state import State
from claf2.training.trainers import FollowUpRun

__all__ = ["RepeatedRun", "read_report", "train"]

logger = logging.getLogger("claf2")

SAME_IN_ALL_PROCESSES = ("experiment", "recipe", "data", "tokenizer", "weights", "code", "versions")
"""The entries of the provenance that all processes of a run must share."""


RECORDED_IN_STEPS = ("experiment", "recipe", "data", "tokenizer", "weights", "code", "leakage", "weights_leakage")
"""The entries of the provenance that the manifest of a kept step records."""


@dataclass(frozen=True)
class RepeatedRun:
    """The run that a new one repeats."""

    folder: Path
    provenance: Mapping[str, Any]
    accepted: Sequence[str]
    """The kinds of change that the user accepts."""
    runtime: Mapping[str, list[Any]]
    """Path in section `runtime` → its value then and now, where they differ."""

    def record_changes(self, now: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the new run records about the repeated one.

        Raises:
            ChangedError: naming the changes that the user has not accepted.
        """
        changed = check_repeatable(self.provenance, now, self.accepted)
        for name, (before, after) in self.runtime.items():
            if name.split(".")[1] not in SAME_RESULT:
                effect = "the last digits may differ or, if dropout draws other masks, scores as between two seeds"
                logger.warning("%s is %s instead of %s: %s", name, after, before, effect)
        return {"folder": str(self.folder), "changed": changed, "runtime": self.runtime}


def train(
    experiment: Experiment,
    *,
    resume: bool = False,
    overwrite: bool = False,
    repeated: RepeatedRun | None = None,
    needs_best: bool = True,
    needs_last: bool = True,
    is_last: bool = True,
) -> Report:
    """Train an experiment in its folder, and return the report of its best checkpoint.

    Args:
        experiment: what to train.
        resume: continue the run in the folder; start a new one where there is none.
        overwrite: replace the run in the folder. It stays until everything before the first step has succeeded.
        repeated: the run that this one must equal.
        needs_best: whether a finished run that is resumed must still have its best checkpoint.
        needs_last: whether a finished run must have `last/`. Otherwise it may lack it, or hold that of an earlier step.
        is_last: whether the caller trains nothing after this run.

    Raises:
        Claf2Error: for everything that the user can fix.
        RunInUseError: when another process uses the folder.
        Interrupted: after Ctrl-C, SIGTERM, SIGHUP or SIGUSR1, with everything saved; of a run that has just finished
            only where another one would follow.
    """
    started = time.monotonic()
    follow_ups = experiment.trainer.follow_ups(experiment.tasks)
    for name, spec in experiment.callbacks.items():
        with error_prefix(f"runtime.callbacks.{name}"):
            spec.check()
    if follow_ups:
        logger.info("%s", describe_follow_ups(experiment, follow_ups))
    with acquire_run_dir(experiment, resume=resume, overwrite=overwrite) as run_dir:
        run, data = resolve(experiment)
        provenance = collect_provenance(run, data)
        distributed.assert_same({name: provenance[name] for name in SAME_IN_ALL_PROCESSES})
        before = _read_before(run_dir, provenance)
        if repeated is not None:
            provenance["from_run"] = repeated.record_changes(provenance)
        is_trained = run_dir.resumes and is_finished(run_dir.path)
        if not is_trained:
            prepared = prepare(run, data)
            # FSDP cannot record gradients of what it has gathered for an evaluation first.
            if overwrite and not distributed.is_sharded(prepared.model):
                check_metric_key(prepared)
            distributed.barrier()  # every process has read the files that the main process replaces next
            interrupted = _train(prepared, run_dir, provenance, before, started, needs_last=needs_last)
            if interrupted and (follow_ups or not is_last):
                raise Interrupted(f"stopped after {run_dir.path}, which is finished; add --resume to continue")
        elif needs_best:
            distributed.call_on_main(lambda: check_best(run_dir.path, experiment.tasks))
        distributed.barrier()  # the main process has written all files
        report = read_report(run)
        logger.info("the run is in %s", run_dir.path)
        if follow_ups:
            _train_follow_ups(run, report, follow_ups)
    return report


def _train(
    prepared: PreparedRun, run_dir: RunDir, provenance: dict[str, Any], before: Mapping[str, Any], started: float,
    *, needs_last: bool,
) -> bool:  # fmt: skip
    """Train from the state of the folder to the end, and write the files of a finished run. Returns whether the user
    has asked to stop meanwhile.

    Args:
        prepared: the run.
        run_dir: its folder.
        provenance: what the run depends on now.
        before: what it depended on when it began or was last resumed; empty for a new run.
        started: when this process began to work on the run, in seconds of ``time.monotonic``.
        needs_last: see ``train``.
    """
    run, model, plan = prepared.run, prepared.model, prepared.plan
    experiment, folder = run.experiment, run.folder
    optimizer = build_optimizer(experiment.optimizer, model, plan.learning_rate)
    checkpointer = CheckpointManager(
        folder, model, run.tokenizer, optimizer, prepared.precision.scaler, saves_finished=needs_last,
        digests={name: provenance[name] for name in RECORDED_IN_STEPS if name in provenance},
        sentences=prepared.sentence_modules(),
    )  # fmt: skip
    # Each process draws its own dropout; the first one draws what a single process would.
    rank_names = [distributed.rank()] if distributed.rank() else []
    torch.manual_seed(derive_seed(experiment.seed, "train", *rank_names))
    state = _resume(prepared, checkpointer) if run_dir.resumes else State()
    kept = {name: before[name] for name in ("id", "from_run", "resumed") if name in before}
    provenance = {"id": uuid.uuid4().hex, **kept, **provenance, "counts": prepared.counts, **_embedding_rows(model)}
    if state.step:
        changed = describe_changes(before, provenance)
        provenance["resumed"] = [*before.get("resumed", ()), {"step": state.step, "changed": changed}]
    callbacks: list[Callback] = []
    distributed.call_on_main(lambda: callbacks.extend(_begin(prepared, run_dir, provenance, state)))
    rows_before, training, evaluation = state.rows, Stopwatch(), Stopwatch()

    def evaluate() -> Report:
        with evaluation, model.merged():  # the weights that best/ holds
            return run.evaluate_sets(model, prepared.valid)

    with interruptible() as interrupted, CallbackList(callbacks) as callback:
        with training:
            context = prepared.training_context(
                optimizer=optimizer,
                state=state,
                evaluate=evaluate,
                checkpointer=checkpointer,
                callback=callback,
                interrupted=interrupted,
            )
            experiment.trainer.run(context)
        if not state.finished:
            raise Interrupted(f"stopped after step {state.step} and saved {folder}; add --resume to continue")
        if distributed.is_main():
            seconds = training.seconds - evaluation.seconds
            costs = _costs(started, seconds, state.rows - rows_before)
            sizes = {**prepared.count_weights(), **adapter_bytes(folder / "best")}
            _finish(prepared, state, {**provenance, **costs, **sizes})
        return any(distributed.all_gather(interrupted()))


def _read_before(run_dir: RunDir, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run that is resumed depended on when it began or was last resumed; of a new run, nothing."""
    if not run_dir.resumes:
        return {}
    before = read_provenance(run_dir.path, finished=False)
    check_resumable(before, provenance, partial(read_step, run_dir.path))
    return before


def _resume(prepared: PreparedRun, checkpointer: CheckpointManager) -> State:
    """Restore a run, and return where it stands."""
    run = prepared.run
    state = checkpointer.resume()
    if replaced := checkpointer.replaced_best(state):
        forget_best(prepared.plan, state, replaced)
    if state.best_step is not None:
        distributed.call_on_main(lambda: check_best(run.folder, run.experiment.tasks))
    return state


def _finish(prepared: PreparedRun, state: State, provenance: Mapping[str, Any]) -> None:
    """Write the files of a finished run."""
    run = prepared.run
    check_best(run.folder, run.experiment.tasks)
    write_json(run.folder / "run.json", provenance)
    logs = metric_logs(prepared.plan, state)
    _write_model_cards(run, provenance, logs)
    write_json(run.folder / "metrics.json", logs)  # last: it marks the run as finished


def _write_model_cards(run: Run, provenance: Mapping[str, Any], logs: Mapping[str, Any]) -> None:
    """Write the card of the run, and one of each task beside the weights in `best/`."""
    tasks = {name: task_config.task for name, task_config in run.experiment.tasks.items()}
    licence = card_licence(run.source) if isinstance(run.source, Path) else None
    write_text(run.folder / "README.md", model_card(tasks, provenance, logs, licence))
    for name, task in tasks.items():
        folder = task_best_dir(run.folder, name, tasks)
        write_text(folder / "README.md", model_card({name: task}, provenance, logs, licence))


def _costs(started: float, seconds: float, rows: int) -> dict[str, float | None]:
    return {
        "wall_seconds": round(time.monotonic() - started, 3),
        "train_seconds": round(seconds, 3),
        "rows_per_second": round(rows / seconds, 3) if seconds else None,
        **peak_memory_mib(),
        **kernel_settings(),
    }


def _begin(prepared: PreparedRun, run_dir: RunDir, provenance: Mapping[str, Any], state: State) -> list[Callback]:
    """Write the first files of the run, which takes the place of an earlier one here, and return its callbacks."""
    experiment, plan, folder = prepared.run.experiment, prepared.plan, run_dir.path
    callbacks: list[Callback] = []
    record = folder / "run.json"
    if not record.exists():
        write_json(record, provenance)  # first of all: it says that what follows is a run's
    info = RunInfo(
        id=provenance["id"],
        folder=folder,
        config=experiment.values,
        provenance=provenance,
        state=state,
        metric_key=f"valid/{plan.metric_key}",
        lower_is_better=plan.lower_is_better,
        total_steps=plan.total_steps,
        log_every=experiment.trainer_config.verbose_step_count,
        announce=lambda event: CallbackList(callbacks).on_event(event),
    )
    callbacks += _build_trackers(experiment, info)
    run_dir.clear()
    write_json(record, provenance)
    write_json(folder / "config.json", experiment.values)
    write_demonstrations(experiment, folder)
    callbacks[:0] = [
        JsonlLogger(folder / "metrics.jsonl", state.step),
        ConsoleLogger(info.log_every, plan.total_steps, prepared.stream.epochs, plan.metric_key),
    ]
    display = progress_display()
    if display is not None:
        callbacks.append(ProgressBar(plan.total_steps, state.step, info.log_every, display))
    return callbacks


def _build_trackers(experiment: Experiment, info: RunInfo) -> list[Callback]:
    trackers: list[Callback] = []
    for name, spec in experiment.callbacks.items():
        try:
            trackers.append(spec.build(info))
        except Exception as error:
            # Ending the run is right here: a tracker that cannot start is a mistake of the user, and nothing is lost.
            CallbackList(trackers).close()
            hint = f"correct it, or train without it: --runtime.callbacks.{name} null"
            raise ConfigError(f"runtime.callbacks.{name}", f"cannot start: {error}", hint=hint) from error
    return trackers


def read_report(run: Run) -> Report:
    """Return the report of a finished run's best checkpoint, further validation sets included, and log it.

    Raises:
        RunError: when a file of the run is missing or damaged.
    """
    path = run.folder / "metrics.json"
    logs = read_json(path)
    best = logs.get("best")
    if not isinstance(best, dict) or not all(isinstance(score, float | int | None) for score in best.values()):
        raise RunError(f"{path}: damaged: it names no best evaluation")
    logger.info("Metric Logs %s", json.dumps(logs, indent=2))
    names = run.experiment.tasks
    splits = dict.fromkeys(["valid", *(key.partition("/")[0] for key in best if not key.startswith("train/"))])
    reports = []
    for split in splits:
        tasks = {}
        for task in names:
            prefix = f"{split}/{task}/" if len(names) > 1 else f"{split}/"
            scores = {key.removeprefix(prefix): score for key, score in best.items() if key.startswith(prefix)}
            if scores or split == "valid":
                predictions = read_predictions(predictions_path(run.folder, task, split))
                tasks[task] = TaskReport(scores, scores.pop("loss", None), predictions)
        reports.append(Report(split, tasks))
    first, *others = reports
    return Report("valid", first.tasks, others=others, average=best.get("valid/average"))


def _embedding_rows(model: EncoderWithHeads) -> dict[str, Any]:
    """Return what to record of the word embeddings where only some of them are trained."""
    restricted = trained_rows(model)
    if restricted is None:
        return {}
    _, embedding = restricted
    return {"embedding_rows": {"trained": len(embedding.weight), "of": embedding.num_embeddings}}


def _train_follow_ups(run: Run, report: Report, follow_ups: Sequence[FollowUpRun]) -> None:
    """Train what follows a run on several tasks, and write a table of the scores of all stages."""
    tasks = run.experiment.tasks
    rows: dict[str, dict[str, float | None]] = {task: {} for task in tasks}
    for number, follow_up in enumerate(follow_ups, 1):
        experiment = follow_up_experiment(run, follow_up)
        (task_report,) = train(experiment, resume=True, is_last=number == len(follow_ups)).tasks.values()
        rows[follow_up.task][follow_up.stage] = task_report.scores.get(tasks[follow_up.task].selection_key)
    for task, task_config in tasks.items():
        rows[task]["refined"] = report.tasks[task].scores.get(task_config.selection_key)
    table = stage_table({task: (config.selection_key, rows[task]) for task, config in tasks.items()})
    if distributed.is_main():
        write_json(run.folder / "stages.json", rows)
        write_text(run.folder / "stages.md", table)
    logger.info("%s", table)
