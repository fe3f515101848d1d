"""The composition root: an experiment becomes a run, a run becomes a report. A newcomer reads this first."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from claf2 import config
from claf2.batch import Source, Stream
from claf2.config import Experiment
from claf2.data import Data, locate
from claf2.errors import ConfigError, Interrupted, RunError
from claf2.features import FeatureSet, featurize, key
from claf2.loop import EvaluationData, Job, Observer, Plan, State
from claf2.loop import evaluate as judge
from claf2.metrics import Prediction
from claf2.models import SCRATCH
from claf2.models.encoder import EncoderWithHeads, Part, build, label_order, position_limit
from claf2.models.source import cache_dir, resolve
from claf2.observe import Console, Journal, Observers, ProgressBar, TensorBoard
from claf2.process import Stopwatch, device, interruptible, log_file, peak_memory_mib, settle, versions
from claf2.readers import Example
from claf2.report import Report, TaskReport, card, lower_is_better
from claf2.seed import derive
from claf2.store import (
    Store,
    check_digests,
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
from claf2.tokenizers import Tokenizer, language_warning
from claf2.tokenizers.build import compose, load_tokenizer
from claf2.tokenizers.subword import WordPiece
from claf2.tokenizers.word import BertBasic

__all__ = ["answer", "data_root", "evaluate", "predict", "train"]

logger = logging.getLogger("claf2")


@dataclass(frozen=True)
class Run:
    """An experiment with everything it names found: the model's source, the tokenizer, the labels in their order."""

    experiment: Experiment
    source: Path | str
    """Where the weights come from: a folder, a hub id, or ``scratch``."""
    tokenizer: Tokenizer
    labels: list[str]
    added: int = 0
    """How many tokens the task has added to the tokenizer."""

    @property
    def folder(self) -> Path:
        """Where the run lives."""
        return Path(self.experiment.trainer.log_dir)

    @property
    def name(self) -> str:
        """The task's name."""
        return self.experiment.task.name

    def features(self, data: Data) -> FeatureSet:
        """Return the features of a data set, from the cache where they are there."""
        featurizer = self.experiment.featurizer
        folder = _cache(self.experiment) / "features" / key(data.identity(), featurizer, self.tokenizer, self.labels)
        found = featurize(data.examples(), featurizer, self.tokenizer, self.labels, folder)
        lost = {name: count for name, count in found.counts.items() if name not in ("examples", "features") and count}
        logger.info(
            "%s: %d examples, %d features%s",
            data.path, found.counts["examples"], len(found), f", {lost}" if lost else "",
        )  # fmt: skip
        return found

    def batches(self, features: FeatureSet) -> Source:
        """Say how features become batches."""
        head = self.experiment.head
        return Source(features, pad_id=self.tokenizer.pad_id, fields={**head.inputs, **head.targets})

    def model(self) -> EncoderWithHeads:
        """Load or make the model, on its device."""
        model = build(
            self.experiment.model,
            self.source,
            {self.name: Part(self.experiment.head, self.labels)},
            vocab_size=self.tokenizer.vocab_size,
            pad_id=self.tokenizer.pad_id,
            seed=self.experiment.seed,
            added=self.added,
        )
        return model.to(device(self.experiment.runtime.device))

    def judge(self, model: EncoderWithHeads, sets: Mapping[str, tuple[FeatureSet, list[Example]]]) -> Report:
        """Evaluate a model on one data set or more, given by split; the first one is what the report is of."""
        reports = []
        for split, (features, examples) in sets.items():
            data = EvaluationData(
                self.batches(features),
                examples,
                self.experiment.head,
                self.labels,
                self.experiment.task.metrics,
                self.tokenizer,
            )
            size = self.experiment.iterator.eval_batch_size
            reports.append(judge(model, {self.name: data}, split=split, batch_size=size))
        return dataclasses.replace(reports[0], others=reports[1:])

    def lock(self, data: Mapping[str, Data]) -> dict[str, Any]:
        """Return what the run's scores depend on, for ``run.json``."""
        return {
            "base_config": self.experiment.name,
            "overrides": list(self.experiment.overrides),
            "recipe": self.experiment.recipe_digest(),
            "experiment": self.experiment.digest(),
            "data": {split: each.sha256() for split, each in data.items()},
            "tokenizer": self.tokenizer.digest,
            "seed": self.experiment.seed,
            "device": str(device(self.experiment.runtime.device)),
            "versions": versions(),
        }


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
        data = _splits(experiment)
        run = _find(experiment, data["train"].texts)
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
    stream = Stream(
        {run.name: run.batches(train_features)},
        batch_size=experiment.iterator.batch_size,
        parts=experiment.trainer.gradient_accumulation_steps,
        seed=experiment.seed,
        workers=experiment.runtime.workers,
    )
    plan = _plan(experiment, stream.steps_per_epoch)
    valid = {split: (run.features(each), list(each.examples())) for split, each in data.items() if split != "train"}
    lock = {**lock, "counts": _counts({"train": train_features, **{split: each for split, (each, _) in valid.items()}})}
    model = run.model()
    optimizer = experiment.update.build(model, plan.learning_rate)
    store = Store(folder, model, run.tokenizer, optimizer)
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
        )
        experiment.stage.run(job)
    if not state.finished:
        raise Interrupted(f"stopped after step {state.step}, all saved in {folder}; add --resume to go on")
    seconds = training.seconds - judging.seconds
    rows = (state.step - before) * experiment.iterator.batch_size * experiment.trainer.gradient_accumulation_steps
    costs = {
        "wall_seconds": round(time.monotonic() - started, 3),
        "train_seconds": round(seconds, 3),
        "rows_per_second": round(rows / seconds, 3) if seconds else None,
        "peak_memory_mib": round(peak_memory_mib(), 1),
    }
    write_json(folder / "run.json", {**lock, **costs})
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
    run = _reopen(folder)
    if task is not None:
        run = dataclasses.replace(run, experiment=_for_task(run.experiment, task))
    sets: dict[str, Data]
    if data_file is not None:
        sets = {"eval": Data(run.experiment.task, data_file)}
    else:
        sets = {split: each for split, each in _splits(run.experiment).items() if split != "train"}
    report = run.judge(
        run.model(), {split: (run.features(each), list(each.examples())) for split, each in sets.items()}
    )
    write_predictions(folder / "predictions", report)
    write_json(folder / ("evaluation.json" if data_file is None else "evaluation-file.json"), report.logs())
    return report


def answer(folder: Path, test_file: Path) -> list[Prediction]:
    """Return the answers of a run's best checkpoint to its task's official test file, which has no labels."""
    run = _reopen(folder)
    task = run.experiment.task
    data = Data(task.model_copy(update={"reader": task.test_reader or task.reader}), test_file)
    report = run.judge(run.model(), {"test": (run.features(data), list(data.examples()))})
    return list(report.tasks[run.name].predictions)


def data_root(experiment: Experiment) -> Path:
    """Return the folder that relative data files are in."""
    return Path(experiment.data.data_dir or os.environ.get("CLAF2_DATA_DIR") or ".")


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
    run = _reopen(folder)
    model = run.model()
    for request in requests:
        example = run.experiment.head.request(request)
        with tempfile.TemporaryDirectory() as scratch:
            features = featurize([example], run.experiment.featurizer, run.tokenizer, run.labels, Path(scratch) / "f")
            yield from run.judge(model, {"predict": (features, [example])}).tasks[run.name].predictions


def _reopen(folder: Path) -> Run:
    """Return the run of a folder with its best checkpoint as the model."""
    best = folder / "best"
    if not best.is_dir():
        raise RunError(f"{folder}: holds no best/ checkpoint; give the folder of a run (its trainer.log_dir)")
    check_digests(best)
    experiment = config.load(str(folder / "config.json"))
    moved = experiment.trainer.model_copy(update={"log_dir": str(folder)})
    experiment = dataclasses.replace(experiment, trainer=moved)
    settle(deterministic=experiment.runtime.deterministic)
    labels = label_order(experiment.model, best, experiment.task.labels)
    tokenizer = load_tokenizer(best)
    return Run(experiment, best, tokenizer, labels, tokenizer.mark(experiment.task.markers))


def _find(experiment: Experiment, texts: Callable[[], Iterable[str]]) -> Run:
    """Find the weights and the tokenizer that an experiment names."""
    name = experiment.model.pretrained_model_name
    source: Path | str = SCRATCH if name == SCRATCH else resolve(name, cache=_cache(experiment))
    longest, limit = experiment.featurizer.max_seq_length, position_limit(experiment.model, source)
    if limit is not None and longest > limit:
        path = f"data_reader.{experiment.data.dataset}.max_seq_length"
        raise ConfigError(
            path, f"{longest} is more than the {limit} positions of {name}", origin=experiment.origins.get(path)
        )
    if experiment.token is None and source != SCRATCH:
        tokenizer = load_tokenizer(source, revision=experiment.model.revision)
    else:
        word, subword = experiment.token or (BertBasic(), WordPiece())
        tokenizer = compose(word, subword, texts, longest)
    labels = label_order(experiment.model, source, experiment.task.labels)
    return Run(experiment, source, tokenizer, labels, tokenizer.mark(experiment.task.markers))


def _splits(experiment: Experiment) -> dict[str, Data]:
    """Return where the training and the validation examples come from."""
    reader, task = experiment.data, experiment.task
    root = data_root(experiment)

    def find(split: str, given: str | None) -> Path | None:
        return locate(task, split, origin=reader.source, given=given, root=root, cache=_cache(experiment))

    train_path = find("train", reader.train_file_path)
    if train_path is None:
        raise ConfigError("data_reader.train_file_path", f"task {task.name!r} names no training file", hint="give one")
    if reader.valid_fraction is not None:
        return {
            "train": Data(task, train_path, "train", reader.valid_fraction),
            "valid": Data(task, train_path, "valid", reader.valid_fraction),
        }
    valid_path = find("valid", reader.valid_file_path)
    if valid_path is None:
        hint = "give one, or cut it from the training file with --data_reader.valid_fraction 0.1"
        raise ConfigError("data_reader.valid_file_path", f"task {task.name!r} names no validation file", hint=hint)
    splits = {"train": Data(task, train_path), "valid": Data(task, valid_path)}
    for split in task.files if reader.valid_file_path is None else ():
        path = find(split, None) if split.startswith("valid_") else None
        if path is not None and path.is_file():
            splits[split] = Data(task, path)
        elif path is not None:
            logger.warning("%s: no such file, so %s of %s is not scored", path, split, task.name)
    return splits


def _counts(sets: Mapping[str, FeatureSet]) -> dict[str, dict[str, int]]:
    """Return what was counted in each split on the way to its features, and the rows that stand in train as well."""
    counts = {split: dict(features.counts) for split, features in sets.items()}
    for split in sets.keys() - {"train"}:
        shared = counts[split]["in_train"] = sets[split].shared_rows(sets["train"])
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
        observers.append(ProgressBar(plan.total_steps, state.step))
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
    logger.info("Metric Logs %s", json.dumps(logs, indent=2))
    scores = {name.removeprefix("valid/"): value for name, value in logs["best"].items() if name.startswith("valid/")}
    predictions = read_predictions(run.folder / "predictions" / f"{run.name}-valid.jsonl")
    return Report("valid", {run.name: TaskReport(scores, scores.pop("loss", None), predictions)})


def _warn_of_language(run: Run, data: Data) -> None:
    language = run.experiment.task.language
    warning = language_warning(run.tokenizer, language, islice(data.texts(), 100))
    if warning:
        logger.warning("%s", warning)


def _cache(experiment: Experiment) -> Path:
    return Path(experiment.runtime.cache_dir) if experiment.runtime.cache_dir else cache_dir()
