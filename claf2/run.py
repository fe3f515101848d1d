"""The composition root: an experiment becomes a run, a run becomes a report. A newcomer reads this first."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from claf2 import ranks
from claf2.build import Run
from claf2.config import Experiment, diff, validate
from claf2.errors import ConfigError, Interrupted, ModelError, RunError, nearest
from claf2.fill import complete
from claf2.loop import Observer, State, metric_logs
from claf2.observe import Console, Journal, Observers, ProgressBar, TensorBoard
from claf2.overrides import Override, parse_arguments
from claf2.prepare import Ready, lock_of, look_up, prepare
from claf2.process import KINDS, Stopwatch, changes, interruptible, kernels, log_file, peak_memory_mib
from claf2.registry import load_plugin
from claf2.report import Report, TaskReport, card, stages
from claf2.seed import derive
from claf2.store import (
    Store,
    best_folder,
    claim,
    read_json,
    read_lock,
    read_predictions,
    refuse_changes,
    refuse_differences,
    write_json,
    write_text,
)
from claf2.trainers import Later

__all__ = ["repeat", "staged", "train"]

logger = logging.getLogger("claf2")

ALIKE = ("experiment", "recipe", "data", "tokenizer", "weights", "code", "versions")
"""What all processes of a run must have alike."""


@dataclass(frozen=True)
class Repeated:
    """The run that is to be repeated."""

    folder: Path
    lock: Mapping[str, Any]
    accepted: Sequence[str]
    """The kinds of changes that the user accepts."""
    runtime: Mapping[str, list[Any]]
    """What is set otherwise in section `runtime`: then and now."""

    def noted(self, now: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the new run's lock, which is ``now``, says of this one; refuse what the user does not accept."""
        changed = refuse_differences(self.lock, now, self.accepted)
        for name in self.runtime:
            logger.info(
                "%s is %s instead of %s: sums may differ in their last digits", name, *reversed(self.runtime[name])
            )
        return {"folder": str(self.folder), "changed": changed, "runtime": self.runtime}


def train(
    experiment: Experiment, *, resume: bool = False, overwrite: bool = False, repeated: Repeated | None = None
) -> Report:
    """Train an experiment in its folder, and return the report of its best checkpoint.

    Args:
        experiment: what to train.
        resume: go on with what the folder holds; start where it holds nothing.
        overwrite: throw away what the folder holds.
        repeated: the run that this one must equal.

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
        run, data = look_up(experiment)
        lock = lock_of(run, data)
        ranks.agree({name: lock[name] for name in ALIKE})
        before = read_json(folder / "run.json") if (folder / "run.json").exists() else {}
        if before:
            refuse_changes(before, lock)
        if repeated is not None:
            lock["from_run"] = repeated.noted(lock)
        ranks.meet()  # all have read what the first one writes next
        if not (folder / "metrics.json").exists():
            _fit(prepare(run, data), lock, before, started)
        ranks.meet()  # the first one has written all
        report = _finished(run)
    if later:
        _later(run, report, later)
    return report


def repeat(
    place: Path,
    overrides: Sequence[str] = (),
    *,
    changed: Sequence[str] = (),
    resume: bool = False,
    overwrite: bool = False,
) -> Report:
    """Train a finished run again from its ``run.json`` alone, in a new folder: ``<folder>-again``, or the one that
    ``overrides`` name. On the same machine it gives the same bytes.

    Args:
        place: the run's folder, or its ``run.json``.
        overrides: words of the command line; they may set ``trainer.log_dir`` and section ``runtime``, but for the
            precision.
        changed: what may be other than it was, some of ``KINDS``; the new ``run.json`` notes it.
        resume, overwrite: what is to become of a run in the new folder.

    Raises:
        Claf2Error: naming what was changed, or is gone, or cannot be repeated.
    """
    for kind in changed:
        if kind not in KINDS:
            raise RunError(f"--changed {kind}: no such thing; {nearest(kind, KINDS)}")
    lock, folder = read_lock(place), place.parent if place.is_file() else place
    if lock.get("directory") != str(Path.cwd()):
        logger.info(
            "%s was made in %s: its relative paths are looked for in %s", folder, lock.get("directory"), Path.cwd()
        )
    for plugin in lock["config"].get("plugins") or ():
        load_plugin(plugin)
    near = folder if folder.name not in ("", "..") else folder.resolve()
    again = Override("trainer.log_dir", str(near.with_name(f"{near.name}-again")))
    words = (*lock["overrides"], *overrides)
    was, now = (
        complete(lock["base_config"], json.loads(json.dumps(lock["config"])), {}, given, words)
        for given in ([], [again, *parse_arguments(overrides)])
    )
    runtime = {path: [here, there] for path, here, there in diff(was, now) if not path.endswith("trainer.log_dir")}
    for path in runtime:
        if not path.startswith("runtime.") or path == "runtime.precision":
            raise ConfigError(path, "moves scores: --from_run repeats a run as it was", hint="train with --base_config")
    experiment = validate(now)
    _refuse_unrepeatable(experiment, folder, lock)
    repeated = Repeated(folder, lock, changed, runtime)
    return train(experiment, resume=resume, overwrite=overwrite, repeated=repeated)


def _refuse_unrepeatable(experiment: Experiment, old: Path, lock: Mapping[str, Any]) -> None:
    """Refuse what cannot be repeated, before anything is looked up."""
    new, old = Path(experiment.trainer.log_dir).resolve(), old.resolve()
    if new == old or old in new.parents or new in old.parents:
        raise RunError(f"{old} is the run that is to be repeated: give another folder with --log_dir")
    if any(part.data.source == "sample" for part in experiment.parts.values()):
        raise RunError(f"{old} was trained on a generated sample, which measures nothing: train with --sample anew")
    name = experiment.model.pretrained_model_name
    is_local = lock["weights"] != name and not name.startswith(("http://", "https://"))
    if is_local and not Path(name).expanduser().exists():
        raise ModelError(f"model {name}: gone; the run began with a folder or an archive of that name")


def _later(run: Run, report: Report, later: Sequence[Later]) -> None:
    """Train what comes after a run on several tasks, and write the scores of all stages side by side."""
    parts = run.experiment.parts
    rows: dict[str, dict[str, float | None]] = {task: {} for task in parts}
    for each in later:
        (found,) = train(staged(run, each), resume=True).tasks.values()
        rows[each.task][each.stage] = found.scores.get(parts[each.task].task.metrics[0].selects)
    for task, part in parts.items():
        rows[task]["refined"] = report.tasks[task].scores.get(part.task.metrics[0].selects)
    table = stages({task: (part.task.metrics[0].selects, rows[task]) for task, part in parts.items()})
    if ranks.first():
        write_json(run.folder / "stages.json", rows)
        write_text(run.folder / "stages.md", table)
    logger.info("%s", table)


def staged(run: Run, each: Later) -> Experiment:
    """Return the experiment that comes after a run on several tasks: one task's own, in a folder within the run's."""
    parts = run.experiment.parts
    alone, start = parts[each.task].alone, run.experiment.model.pretrained_model_name
    if alone is None:
        raise RunError("a run of one task has no later stages: name several in section tasks")
    values: dict[str, Any] = {
        f"model.{alone.values['model']['name']}.pretrained_model_name":
            str(best_folder(run.folder, each.task if len(parts) > 1 else None)) if each.refined else start,
        "trainer.log_dir": str(run.folder / "stages" / each.stage / each.task),
    }  # fmt: skip
    if each.refined:
        values["token"] = None  # the tokenizer is that of the refined model
    return alone.varied(values)


def _fit(ready: Ready, lock: dict[str, Any], before: Mapping[str, Any], started: float) -> None:
    """Train from where the folder stands to the end, and write what a finished run leaves behind.

    Args:
        lock: what the run depends on.
        before: what it depended on when it began or was last resumed; nothing where it begins now.
        started: when the process began to work on it.
    """
    run, model, plan = ready.run, ready.model, ready.plan
    experiment, folder = run.experiment, run.folder
    optimizer = experiment.update.build(model, plan.learning_rate)
    store = Store(folder, model, run.tokenizer, optimizer, ready.precision.scaler)
    torch.manual_seed(derive(experiment.seed, "train", *([ranks.number()] if ranks.number() else [])))
    state = store.resume() if (folder / "last").exists() else State()
    lock = {
        **{name: before[name] for name in ("from_run", "resumed") if name in before},
        **lock,
        "counts": ready.counts,
    }
    if state.step:
        differing = changes(before, lock, list(chain.from_iterable(KINDS.values())))
        lock["resumed"] = [*before.get("resumed", ()), {"step": state.step, "changed": differing}]
    if ranks.first():
        write_json(folder / "config.json", experiment.values)
        write_json(folder / "run.json", lock)
    done, judging = state.rows, Stopwatch()

    def judge_valid() -> Report:
        with judging:
            return run.judge(model, ready.valid)

    training = Stopwatch()
    with (
        training,
        interruptible() as interrupted,
        closing(Observers(_observers(ready, state) if ranks.first() else [])) as observer,
    ):
        job = ready.job(
            optimizer=optimizer,
            state=state,
            judge=judge_valid,
            keeper=store,
            observer=observer,
            interrupted=interrupted,
        )
        experiment.stage.run(job)
    if not state.finished:
        raise Interrupted(f"stopped after step {state.step}, all saved in {folder}; add --resume to go on")
    if not ranks.first():
        return
    seconds = training.seconds - judging.seconds
    write_json(folder / "run.json", {**lock, **_costs(started, seconds, state.rows - done)})
    logs = metric_logs(plan, state)
    write_text(folder / "README.md", card([part.task for part in experiment.parts.values()], lock, logs))
    write_json(folder / "metrics.json", logs)


def _costs(started: float, seconds: float, rows: int) -> dict[str, float | None]:
    return {
        "wall_seconds": round(time.monotonic() - started, 3),
        "train_seconds": round(seconds, 3),
        "rows_per_second": round(rows / seconds, 3) if seconds else None,
        **peak_memory_mib(),
        **kernels(),
    }


def _observers(ready: Ready, state: State) -> list[Observer]:
    run, plan = ready.run, ready.plan
    every = run.experiment.trainer.verbose_step_count
    observers: list[Observer] = [
        Journal(run.folder / "metrics.jsonl", state.step),
        Console(every, plan.total_steps, ready.stream.epochs, plan.metric_key),
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
