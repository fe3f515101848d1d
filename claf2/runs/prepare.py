"""From a Run to the first step: features, model, batches and plan are made and checked. Nothing is written but caches.

``train`` trains what is prepared here and ``explain`` describes it, so the two cannot disagree.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from claf2.config import Experiment
from claf2.config.schema import MultiTaskTrainerSection
from claf2.corpus.section import Phase
from claf2.data.batch import BatchStream, Stream
from claf2.data.features import FeatureSet
from claf2.errors import ConfigError, nearest
from claf2.evaluation.report import Report, lower_is_better
from claf2.models.embeddings import trained_rows
from claf2.models.encoder import EncoderWithHeads
from claf2.readers import Example
from claf2.runs.corpus_splits import CorpusText
from claf2.runs.distillation import make_companions, soft_labels
from claf2.runs.locate import TaskSplits
from claf2.runs.resolve import EvaluationSets, Run, split_name
from claf2.runtime import distributed
from claf2.runtime.precision import Precision
from claf2.training.callbacks import Callback
from claf2.training.loop import Checkpointer, Plan, SelectionMetric, TrainingContext
from claf2.training.state import State

if TYPE_CHECKING:
    from claf2.corpus.stream import CorpusStream
    from claf2.models.sentence_modules import SentenceModules

__all__ = [
    "PreparedRun",
    "build_corpus_stream",
    "build_plan",
    "build_stream",
    "check_metric_key",
    "describe_padding",
    "first_examples",
    "prepare",
    "trained_ids",
]

logger = logging.getLogger("claf2")

MOST_TRAINED_ROWS = 0.8
"""The share of the word embeddings above which all of them are trained."""

SAMPLE_SIZE = 8
"""The examples that are evaluated to learn which scores there are."""


@dataclass(frozen=True)
class PreparedRun:
    """A run with everything that the first step needs."""

    run: Run
    train: Mapping[str, FeatureSet]
    valid: EvaluationSets
    counts: Mapping[str, Mapping[str, int]]
    """What was counted in each split, and how many of its rows also occur in ``train``."""
    model: EncoderWithHeads
    precision: Precision
    stream: Stream
    plan: Plan
    companions: Mapping[str, object] = field(default_factory=dict)
    """What the objectives use besides the model, by their names."""
    texts: Mapping[str, CorpusText] = field(default_factory=dict)
    """The text of a task on a corpus, which has no features in ``train``."""

    def count_weights(self) -> dict[str, int]:
        """Return the number of parameters, those that are trained, and the bytes of all."""
        parameters = list(self.model.parameters())
        restricted = trained_rows(self.model)  # the other rows of the word embeddings are no parameters
        idle = restricted[1].num_idle if restricted else 0
        stored = sum(parameter.numel() * parameter.element_size() for parameter in parameters)
        return {
            "parameters": sum(parameter.numel() for parameter in parameters) + idle,
            "trained_parameters": sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
            "weight_bytes": stored + idle * parameters[0].element_size(),
        }

    def sentence_modules(self) -> dict[str, SentenceModules]:
        """Return how the models of sentence encoders make the vector of a text, by task; none of other heads."""
        tasks = self.run.experiment.tasks.items()
        poolings = {task: pooling for task, of in tasks if (pooling := getattr(of.head, "pooling", None))}
        if not poolings:
            return {}
        from claf2.models.sentence_modules import SentenceModules  # of no use to other runs

        lengths = {task: of.featurizer.max_seq_length for task, of in tasks}
        return {task: SentenceModules(pooling, lengths[task]) for task, pooling in poolings.items()}

    def training_context(
        self,
        *,
        optimizer: torch.optim.Optimizer,
        state: State,
        evaluate: Callable[[], Report],
        checkpointer: Checkpointer,
        callback: Callback,
        interrupted: Callable[[], bool],
    ) -> TrainingContext:
        """Return the context of the loop; the arguments are what does not exist before the run begins."""
        experiment = self.run.experiment
        return TrainingContext(
            model=self.model,
            heads={task: task_config.head for task, task_config in experiment.tasks.items()},
            stream=self.stream,
            optimizer=optimizer,
            schedule=experiment.schedule,
            plan=self.plan,
            state=state,
            evaluate=evaluate,
            checkpointer=checkpointer,
            callback=callback,
            interrupted=interrupted,
            precision=self.precision,
            loss_weights={task: task_config.mix.loss_weight for task, task_config in experiment.tasks.items()},
            objectives=list(experiment.objectives.values()),
            companions=self.companions,
        )


def prepare(run: Run, data: TaskSplits) -> PreparedRun:
    """Make features, model and plan.

    Raises:
        Claf2Error: when the run cannot be trained, and why.
    """
    texts = {task: text for task, splits in data.items() if isinstance(text := splits.get("train"), CorpusText)}
    trains = run.experiment.trainer.trains
    read = [task for task in data if trains and task not in texts]
    train = {task: run.features(task, data[task]["train"]) for task in read}
    model = run.model(trained_ids(run, train))
    stream = build_corpus_stream(run, texts) if texts else build_stream(run, train, model)
    plan = build_plan(run.experiment, stream.steps_per_epoch)
    stream.epochs = math.ceil(plan.total_steps / max(1, stream.steps_per_epoch))
    logger.info("padding: %s", describe_padding(run, model))
    if distributed.world_size() > 1 and isinstance(stream, BatchStream):
        mean, worst = stream.imbalance()
        logger.info(
            "%d processes: the largest share of a batch has %.1f %% more tokens than the mean, at worst %.0f %% more",
            distributed.world_size(), mean, worst,
        )  # fmt: skip
    valid = run.evaluation_sets(data)
    checked = {split: {task: features for task, (features, _) in sets.items()} for split, sets in valid.items()}
    for split, features_by_task in {**({"train": train} if train else {}), **checked}.items():
        for task, features in features_by_task.items():
            features.check_targets(run.experiment.tasks[task].head.targets, data[task][split].path)
    companions = make_companions(run, model)
    counts = _counts(data, train, valid)
    return PreparedRun(run, train, valid, counts, model, run.precision(), stream, plan, companions, texts)


def trained_ids(run: Run, train: Mapping[str, FeatureSet]) -> np.ndarray | None:
    """Return the ids whose word embeddings alone need to be trained, ascending; ``None`` where all of them do, or where
    leaving some out would not give the same result or save little."""
    experiment, runtime = run.experiment, run.experiment.runtime
    heads = [task_config.head for task_config in experiment.tasks.values()]
    reads_other_ids = any(head.trains_all_rows for head in heads) or any(
        objective.changes_inputs for objective in experiment.objectives.values()
    )
    is_sharded = runtime.engine == "fsdp" and distributed.world_size() > 1
    no_factor = experiment.optimizer.idle_factor(experiment.optimizer_config.learning_rate) is None
    is_fixed = experiment.adapter is not None or not train
    if is_fixed or runtime.embedding_rows == "all" or reads_other_ids or is_sharded or no_factor:
        return None
    ids = np.unique(np.concatenate([[run.tokenizer.pad_id], *(features.token_ids() for features in train.values())]))
    if len(ids) > MOST_TRAINED_ROWS * run.tokenizer.vocab_size:
        return None
    logger.info("%d of %d word embeddings occur in the training data", len(ids), run.tokenizer.vocab_size)
    return ids


def check_metric_key(prepared: PreparedRun) -> None:
    """Evaluate a few examples, to learn before the first step whether there is the score that selects the best
    checkpoint.

    Raises:
        ConfigError: when there is none.
    """
    run = prepared.run
    split = next(iter(prepared.valid))
    sample = first_examples(prepared.valid[split], dict.fromkeys(run.experiment.tasks, SAMPLE_SIZE))
    run.evaluate_sets(prepared.model, {split: sample}).value(prepared.plan.metric_key)


def first_examples(
    sets: Mapping[str, tuple[FeatureSet, list[Example]]], sizes: Mapping[str, int]
) -> dict[str, tuple[FeatureSet, list[Example]]]:
    """Return the first ``sizes[task]`` examples of each task, with their features."""
    first = {}
    for task, (features, examples) in sets.items():
        rows = np.arange(np.searchsorted(features.table["example"].to_numpy(), sizes[task]))
        first[task] = (replace(features, table=features.table.take(rows)), examples[: sizes[task]])
    return first


def describe_padding(run: Run, model: EncoderWithHeads) -> str:
    """Say how padding is treated."""
    if model.packing is not None:
        return "none; the layers process the real tokens of a batch as one row"
    return "kept" if run.experiment.runtime.padding == "keep" else "little; batches are divided by length"


def build_stream(run: Run, features: Mapping[str, FeatureSet], model: EncoderWithHeads) -> BatchStream:
    """Return the batches of a run. A task with loss weight 0 is only evaluated and takes no steps from the others."""
    experiment = run.experiment
    trained = {task: config for task, config in experiment.tasks.items() if config.mix.loss_weight and task in features}
    return BatchStream(
        {
            task: replace(run.dataset(task, features[task]), extra_columns=soft_labels(run, task, features[task]))
            for task in trained
        },
        batch_sizes={task: task_config.iterator.batch_size for task, task_config in trained.items()},
        accumulation_steps=experiment.trainer_config.gradient_accumulation_steps,
        seed=experiment.seed,
        workers=experiment.runtime.workers,
        costs=run.cost_model(model),
        sampler=experiment.sampler,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
    )


def build_corpus_stream(
    run: Run, texts: Mapping[str, CorpusText], phases: Sequence[Phase] | None = None
) -> CorpusStream:
    """Return the batches of a run on a corpus; of other phases than the run's, where they are given.

    Raises:
        ConfigError: when a batch cannot be divided equally among the processes.
    """
    from claf2.corpus.stream import CorpusStream  # of no use to a fine-tuning

    ((task, text),) = texts.items()
    trainer, runtime = run.experiment.trainer, run.experiment.runtime
    world_size = distributed.world_size()
    for phase in trainer.all_phases():
        if phase.batch_size % world_size:
            problem = f"a batch of {phase.batch_size} rows cannot be divided among {world_size} processes"
            raise ConfigError("trainer.pretrain.phases", problem, hint="change the batch size or the processes")
    return CorpusStream(
        task,
        text.open(run.tokenizer, runtime.workers),
        phases or trainer.all_phases(),
        seed=run.experiment.seed,
        rank=distributed.rank(),
        world_size=world_size,
        workers=runtime.workers,
        max_tokens=runtime.max_tokens_per_micro_batch,
    )


def build_plan(experiment: Experiment, steps_per_epoch: int) -> Plan:
    """Return how long to train, when to evaluate, and which score selects the best checkpoint.

    Raises:
        ConfigError: when the warm-up is as long as the run, or ``metric_key`` names an unknown task.
    """
    trainer, several = experiment.trainer_config, len(experiment.tasks) > 1
    selection = {
        task: SelectionMetric(config.selection_key, lower_is_better(config.task.metrics, config.selection_key))
        for task, config in experiment.tasks.items()
    }
    num_steps = trainer.num_steps or experiment.trainer.num_steps()
    # Rounded, since 1.1 · 50 is a little more than 55, and 0.29 · 100 a little less than 29.
    total_steps = num_steps or math.ceil(round(trainer.num_epochs * steps_per_epoch, 6))
    if experiment.trainer.trains:
        experiment.schedule.warmup(total_steps)  # raises where the warm-up is too long
    else:
        total_steps = 0
    every = trainer.eval_and_save_step_count
    if isinstance(every, int):
        interval, per_epoch = every, False
    else:
        interval, per_epoch = max(1, int(round(steps_per_epoch * (1.0 if every == "epoch" else float(every)), 6))), True
    metric_key = trainer.metric_key or ("average" if several else next(iter(selection.values())).metric_key)
    first, _, rest = metric_key.partition("/")
    if rest and first not in experiment.tasks:
        problem = f"{first!r} is not a task of this run"
        raise ConfigError("trainer.metric_key", problem, hint=nearest(first, experiment.tasks))
    selecting_task = experiment.tasks.get(first if rest else next(iter(experiment.tasks)))
    metrics = selecting_task.task.metrics if selecting_task is not None and metric_key != "average" else ()
    multi_task = trainer if several and isinstance(trainer, MultiTaskTrainerSection) else None
    return Plan(
        total_steps=total_steps,
        interval=interval,
        per_epoch=per_epoch,
        metric_key=metric_key,
        lower_is_better=lower_is_better(metrics, metric_key),
        patience=trainer.early_stopping_threshold,
        max_norm=trainer.grad_max_norm,
        learning_rate=experiment.optimizer_config.learning_rate,
        read_loss_every=trainer.verbose_step_count,
        tasks=selection if several else {},
        task_patience=multi_task.task_early_stopping_threshold if multi_task else None,
        keep_best_per_task=multi_task is not None and multi_task.keep == "each",
        kept_steps=experiment.trainer.kept_steps(),
    )


def _counts(data: TaskSplits, train: Mapping[str, FeatureSet], valid: EvaluationSets) -> dict[str, dict[str, int]]:
    """Return what was counted in each split, and how many of its rows also occur in ``train``."""
    counts = {split_name(data, task, "train"): dict(features.counts) for task, features in train.items()}
    for split, sets in valid.items():
        for task, (features, _) in sets.items():
            name = split_name(data, task, split)  # not all tasks have the split
            shared = features.shared_rows(train[task]) if task in train else 0
            counts[name] = {**features.counts, "in_train": shared}
            if shared:
                logger.warning("%d of %d rows of %s also occur in train", shared, counts[name]["examples"], name)
    return counts
