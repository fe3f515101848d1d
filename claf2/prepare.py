"""From an experiment to the first step: all that a run needs is found, made and checked; nothing is written but caches.

``run`` trains what is ready here, ``explain`` describes it, so neither can know something else than the other.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache

from claf2 import ranks
from claf2.batch import Stream
from claf2.build import Run, Sets, find, split_name, splits
from claf2.config import Experiment
from claf2.data import Data
from claf2.errors import ConfigError, nearest
from claf2.features import FeatureSet
from claf2.loop import Decides, Job, Plan, Precision
from claf2.models import SCRATCH
from claf2.models.encoder import EncoderWithHeads
from claf2.models.source import weights_digest
from claf2.objectives import Distil
from claf2.process import device, plugin_digests, settle, surroundings
from claf2.report import lower_is_better
from claf2.schema import MixedTrainerSection
from claf2.store import best_folder
from claf2.teachers import said
from claf2.tokenizers import language_warning

__all__ = ["Ready", "lock_of", "look_up", "padding_of", "plan_of", "prepare", "stream_of"]

logger = logging.getLogger("claf2")


def look_up(experiment: Experiment) -> tuple[Run, dict[str, dict[str, Data]]]:
    """Find all that an experiment names, and return it with the data of each task by split."""
    settle(deterministic=experiment.runtime.deterministic)
    with ranks.in_turn():  # what is fetched or generated is there for the others
        data = splits(experiment)
        run = find(experiment, lambda: chain.from_iterable(own["train"].texts() for own in data.values()))
    for task, own in data.items():
        _warn_of_language(run, task, own["train"])
    return run, data


def lock_of(run: Run, data: Mapping[str, Mapping[str, Data]]) -> dict[str, Any]:
    """Return all that a run's numbers depend on, which is enough to repeat it: what ``run.json`` begins with."""
    experiment = run.experiment
    teachers = {}
    for task, folder in chain.from_iterable(
        each.teachers.items() for each in experiment.objectives.values() if isinstance(each, Distil)
    ):
        own = best_folder(Path(folder), task)
        best = own if own.is_dir() else best_folder(Path(folder), None)
        teachers[task] = weights_digest(best) if best.is_dir() else None
    return {
        **run.lock(data),
        "commit": _commit(run),
        "teachers": teachers,
        "plugins": plugin_digests(experiment.values["plugins"]),
        **surroundings(device(experiment.runtime.device)),
        "config": experiment.values,
    }


def _commit(run: Run) -> str | None:
    """Return which commit of the hub the weights are of; nothing where they are from elsewhere."""
    if isinstance(run.source, Path) or run.source == SCRATCH:
        return None
    config = try_to_load_from_cache(run.source, "config.json", revision=run.experiment.model.revision)
    return Path(config).parent.name if isinstance(config, str) else None


@dataclass(frozen=True)
class Ready:
    """A run of which everything is there but the first step."""

    run: Run
    train: Mapping[str, FeatureSet]
    valid: Sets
    counts: Mapping[str, Mapping[str, int]]
    """What was counted in each split, and how many of its rows stand in train as well."""
    model: EncoderWithHeads
    precision: Precision
    stream: Stream
    plan: Plan

    def job(self, **rest: Any) -> Job:
        """Return the job of the loop; ``rest`` are the fields of ``Job`` that no run has before it begins."""
        experiment = self.run.experiment
        return Job(
            model=self.model,
            heads={task: part.head for task, part in experiment.parts.items()},
            stream=self.stream,
            schedule=experiment.schedule,
            plan=self.plan,
            precision=self.precision,
            weights={task: part.mix.loss_weight for task, part in experiment.parts.items()},
            objectives=list(experiment.objectives.values()),
            **rest,
        )


def prepare(run: Run, data: Mapping[str, Mapping[str, Data]]) -> Ready:
    """Make features, model and plan, and refuse what cannot be trained."""
    train_features = {task: run.features(task, own["train"]) for task, own in data.items()}
    model = run.model()
    stream = stream_of(run, train_features, model)
    plan = plan_of(run.experiment, stream.steps_per_epoch)
    stream.epochs = math.ceil(plan.total_steps / stream.steps_per_epoch)
    logger.info("padding: %s", padding_of(run, model))
    if ranks.count() > 1:
        usual, worst = stream.imbalance()
        logger.info(
            "%d processes: the longest share of a batch has %.1f %% more tokens than their mean, at worst %.0f %%",
            ranks.count(), usual, worst,
        )  # fmt: skip
    valid = run.sets(data)
    for split, own in (("train", {task: (each, None) for task, each in train_features.items()}), *valid.items()):
        for task, (features, _) in own.items():
            features.require(run.experiment.parts[task].head.targets, data[task][split].path)
    counts = _counts(train_features, valid)
    return Ready(run, train_features, valid, counts, model, run.precision(), stream, plan)


def padding_of(run: Run, model: EncoderWithHeads) -> str:
    """Say what becomes of padding."""
    kept = "as it is" if run.experiment.runtime.padding == "keep" else "little, batches are cut by length"
    return kept if model.packing is None else "none, the layers see a batch's real tokens as one row"


def stream_of(run: Run, features: Mapping[str, FeatureSet], model: EncoderWithHeads) -> Stream:
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


def plan_of(experiment: Experiment, steps_per_epoch: int) -> Plan:
    """Say how long to train, when to evaluate and which score decides.

    Raises:
        ConfigError: when the run would end before its warm-up does, or the score is of no task.
    """
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


def _warn_of_language(run: Run, task: str, data: Data) -> None:
    language = run.experiment.parts[task].task.language
    warning = language_warning(run.tokenizer, language, islice(data.texts(), 100))
    if warning:
        logger.warning("%s", warning)
