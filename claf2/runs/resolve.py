"""The third pass, resolve: an Experiment → a Run, with everything that it names found: data, weights, tokenizer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from claf2 import config
from claf2.adapters.layers.adapt import adapt
from claf2.adapters.layers.stored import is_adapted
from claf2.config import Experiment, TaskConfig
from claf2.data.batch import TaskDataset
from claf2.data.features import FeatureList, FeatureSet, feature_key, featurize
from claf2.data.microbatch import CostModel
from claf2.data.splits import SplitData
from claf2.errors import Claf2Error, ConfigError, DataError, ModelError
from claf2.evaluation.engine import Engine
from claf2.evaluation.evaluate import EvaluationData, evaluate_model
from claf2.evaluation.report import Report, lower_is_better, merge_reports
from claf2.heads import MIN_LENGTH
from claf2.models import PRUNING_FIELDS, SCRATCH
from claf2.models.configuration import position_limit
from claf2.models.embeddings import restrict_embeddings
from claf2.models.encoder import EncoderWithHeads, TaskHead, build_model
from claf2.models.source import resolve_model
from claf2.readers import Example
from claf2.runs.corpus_splits import AnySplit, CorpusText, HeldOutRows
from claf2.runs.demonstrations import draw_demonstrations, restore_demonstrations
from claf2.runs.folder import check_openable, check_readable
from claf2.runs.locate import TaskSplits, cache_dir, locate_splits, splits_to_read
from claf2.runtime import distributed
from claf2.runtime.device import configure_backends, select_device
from claf2.runtime.precision import Precision
from claf2.tokenizers import Tokenizer
from claf2.tokenizers.build import compose_cached, compose_tokenizer, load_tokenizer
from claf2.tokenizers.coverage import MAX_UNKNOWN, check_coverage
from claf2.tokenizers.subword import WordPiece
from claf2.tokenizers.word import BertBasic
from claf2.training.checkpoint import task_best_dir

__all__ = [
    "EvaluationSets", "Run", "average_weight", "make_run", "merge_evaluations", "open_run", "resolve",
    "resolve_weights", "split_name",
]  # fmt: skip

logger = logging.getLogger("claf2")

MICROBATCH_OVERHEAD = {"cpu": 256, "cuda": 8192}
"""The cost of a micro-batch besides its tokens, in tokens, by device: a GPU waits for the launch of its kernels,
however little they compute."""

NEVER_SPLIT = 1e12
"""An overhead with which no batch is divided."""

COMPILED_MULTIPLE = 32
"""Compiled models see lengths that are multiples of this many tokens, since each new shape may compile again."""

DEFAULT_WIDTH = 768
"""The hidden size of architectures whose configuration does not name it."""

EvaluationSets: TypeAlias = Mapping[str, Mapping[str, tuple[FeatureSet, list[Example]]]]
"""Split → task → the features and examples to evaluate."""


@dataclass(frozen=True)
class Run:
    """An experiment with everything that it names: weights and tokenizer."""

    experiment: Experiment
    source: Path | str
    """The weights: a folder, a hub id, or ``scratch``."""
    tokenizer: Tokenizer
    added_tokens: int = 0
    """How many tokens the tasks have added to the tokenizer."""

    @property
    def labels(self) -> dict[str, list[str]]:
        """The labels of each task, in its published order: a label's position is its id."""
        return {task: list(task_config.task.labels) for task, task_config in self.experiment.tasks.items()}

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.experiment.trainer_config.log_dir)

    def features(self, task: str, data: AnySplit) -> FeatureSet:
        """Return the features of a split of a task, from the cache where they are there.

        Raises:
            DataError: naming the file that cannot be used.
        """
        if isinstance(data, HeldOutRows):
            return data.features(self.tokenizer)
        assert isinstance(data, SplitData)  # the text of a corpus has no features: its stream makes the rows
        featurizer, labels = self.experiment.tasks[task].featurizer, self.labels[task]
        key = feature_key(data.identity(), featurizer, self.tokenizer, labels)
        try:
            with distributed.main_process_first():
                folder = cache_dir(self.experiment) / "features" / key
                features = featurize(data.examples(), featurizer, self.tokenizer, labels, folder)
        except Claf2Error as error:
            raise error if isinstance(error, DataError) else DataError(data.path, str(error)) from error
        lost = {name: n for name, n in features.counts.items() if name not in ("examples", "features") and n}
        logger.info(
            "%s: %d examples, %d features%s",
            data.path, features.counts["examples"], len(features), f", {lost}" if lost else "",
        )  # fmt: skip
        return features

    def evaluation_sets(self, data: TaskSplits) -> EvaluationSets:
        """Return the features and examples of all splits but ``train``."""
        sets: dict[str, dict[str, tuple[FeatureSet, list[Example]]]] = {}
        for task, splits in data.items():
            for split, split_data in splits.items():
                if split == "train" or isinstance(split_data, CorpusText):
                    continue
                check_coverage(self.tokenizer, split_data.task.language, split_data.texts(), split_data.path)
                features = self.features(task, split_data)
                sets.setdefault(split, {})[task] = (features, _examples(split_data, features))
        return sets

    def dataset(self, task: str, features: FeatureSet | FeatureList) -> TaskDataset:
        """Return a task's features with the rules by which they become batches."""
        head = self.experiment.tasks[task].head
        multiple = COMPILED_MULTIPLE if self.experiment.runtime.compile else 1
        fields = {**head.inputs, **head.targets}
        return TaskDataset(features, pad_id=self.tokenizer.pad_id, fields=fields, multiple=multiple)

    def evaluation_data(
        self, task: str, features: FeatureSet | FeatureList, examples: Sequence[Example]
    ) -> EvaluationData:
        """Return a task's features and examples with what is needed to evaluate them."""
        task_config = self.experiment.tasks[task]
        return EvaluationData(
            dataset=replace(self.dataset(task, features), unread=task_config.head.unread_texts(examples)),
            examples=examples,
            head=task_config.head,
            labels=self.labels[task],
            metrics=task_config.task.metrics,
            tokenizer=self.tokenizer,
            batch_size=task_config.iterator.eval_batch_size,
        )

    def cost_model(self, model: EncoderWithHeads) -> CostModel | None:
        """Return the costs by which batches are divided into micro-batches; ``None``: they are not divided."""
        runtime = self.experiment.runtime
        # A packed encoder computes nothing for padding, so only a limit of memory is a reason to divide a batch.
        undivided = model.packing is not None or runtime.padding == "keep"
        if undivided and runtime.max_tokens_per_micro_batch is None:
            return None
        default = MICROBATCH_OVERHEAD.get(model.device.type, MICROBATCH_OVERHEAD["cuda"])
        overhead: float = default if runtime.micro_batch_overhead is None else runtime.micro_batch_overhead
        if undivided:
            overhead = NEVER_SPLIT
        settings: Any = getattr(model.head(model.names[0]), "config", None)
        width = getattr(settings, "hidden_size", None) or DEFAULT_WIDTH
        # A layer multiplies each token by about 12 H² weights, and attention adds 2 L H products per token: their
        # ratio is L / (6 H).
        return CostModel(overhead, 1 / (6 * width), runtime.max_tokens_per_micro_batch)

    def model(self, trained_ids: np.ndarray | None = None) -> EncoderWithHeads:
        """Load or make the model, and move it to its device.

        Args:
            trained_ids: the ids whose word embeddings alone are trained, ascending; all of them unless given.

        Raises:
            ModelError: when the weights cannot be used.
            ConfigError: when the architecture does not allow the settings of ``runtime``.
        """
        experiment, runtime = self.experiment, self.experiment.runtime
        model = build_model(
            experiment.model,
            self.source,
            {
                task: TaskHead(
                    task_config.head,
                    self.labels[task],
                    task_config.dropout,
                    may_be_new=task_config.corpus is not None,
                    is_filled_later=is_adapted(self.source),
                )
                for task, task_config in experiment.tasks.items()
            },
            vocab_size=self.tokenizer.vocab_size,
            pad_id=self.tokenizer.pad_id,
            seed=experiment.seed,
            added_tokens=self.added_tokens,
            special_ids=self._special_ids(),
            has_token_section=experiment.token is not None,
        )
        if experiment.adapter is not None:
            adapt(
                model, experiment.adapter, experiment.model, self.source, seed=experiment.seed,
                added_ids=range(self.tokenizer.vocab_size - self.added_tokens, self.tokenizer.vocab_size),
            )  # fmt: skip
        for wrapper in experiment.wrappers.values():
            wrapper.wrap(model)
        for name, objective in experiment.objectives.items():
            learned = objective.learned(experiment.tasks)
            if learned is not None:
                model.learned[name] = learned
        if trained_ids is not None:
            restrict_embeddings(model.encoder, torch.from_numpy(trained_ids))
        if any(objective.reads_all_tokens for objective in experiment.objectives.values()):
            model.first_token_tasks = frozenset()
        self._pack(model)
        if runtime.activation_checkpointing:
            encoder: Any = model.encoder  # not the heads: a network of ours does not know what its encoder can do
            if not encoder.supports_gradient_checkpointing:
                problem = f"{encoder.config.model_type} cannot compute activations again"
                raise ConfigError("runtime.activation_checkpointing", problem, hint="use false")
            encoder.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        for name in model.names:
            module: Any = model.head(name)
            experiment.tasks[name].head.prepare_generation(module, experiment.tasks[name].featurizer, self.tokenizer)
            if runtime.compile:
                module.compile(dynamic=True)
        model.place(select_device(runtime.device), runtime.engine, offload=runtime.cpu_offload)
        return model

    def _special_ids(self) -> dict[str, int]:
        """Return the ids that a fresh model needs to generate text; none for encoders."""
        kinds = {task_config.head.auto_class for task_config in self.experiment.tasks.values()}
        if not kinds & {"AutoModelForCausalLM", "AutoModelForSeq2SeqLM"}:
            return {}
        begin, end = self.tokenizer.template.single[0].ids, self.tokenizer.end_id
        start = {"decoder_start_token_id": self.tokenizer.pad_id} if "AutoModelForSeq2SeqLM" in kinds else {}
        return {"bos_token_id": begin[0] if begin else end, "eos_token_id": end, **start}

    def _pack(self, model: EncoderWithHeads) -> None:
        """Pack the encoder where that is wanted and possible."""
        runtime = self.experiment.runtime
        padding = runtime.padding
        packed = padding in ("auto", "pack") and not runtime.compile and model.pack()
        if padding == "pack" and not packed:
            raise ConfigError("runtime.padding", "this architecture cannot be packed", hint="use split")

    def precision(self) -> Precision:
        """Return the number format of the passes."""
        return Precision(self.experiment.runtime.precision, select_device(self.experiment.runtime.device))

    def evaluate_sets(self, engine: Engine, sets: EvaluationSets) -> Report:
        """Evaluate a model on one split or more; the report is that of the first one, with the others beside it."""
        reports = []
        for split, tasks in sets.items():
            data = {task: self.evaluation_data(task, *rows) for task, rows in tasks.items()}
            reports.append(evaluate_model(engine, data, split=split, precision=self.precision()))
        return merge_evaluations(self.experiment, reports)


def _examples(data: SplitData | HeldOutRows, features: FeatureSet) -> list[Example]:
    return data.examples(features) if isinstance(data, HeldOutRows) else list(data.examples())


def average_weight(config: TaskConfig) -> float:
    """Return the weight of a task in the average: 0 if lower values of its selection metric are better."""
    return 0.0 if lower_is_better(config.task.metrics, config.selection_key) else config.mix.average_weight


def merge_evaluations(experiment: Experiment, reports: Sequence[Report]) -> Report:
    """Merge reports on splits and tasks of an experiment into one, with the average of the tasks."""
    weights = {task: average_weight(task_config) for task, task_config in experiment.tasks.items()}
    keys = {task: task_config.selection_key for task, task_config in experiment.tasks.items()}
    return merge_reports(reports, weights, keys)


def split_name(tasks: Collection[str], task: str, split: str) -> str:
    """Return the name of a split: of one of several tasks with the task's name."""
    return f"{task}/{split}" if len(tasks) > 1 else split


def resolve(experiment: Experiment) -> tuple[Run, TaskSplits]:
    """Find the data, the weights and the tokenizer that an experiment names.

    Raises:
        ConfigError: when the experiment names no such file, or inputs longer than the model's.
        DataError: when a data file is missing.
        ModelError: when the weights are missing, or the tokenizer does not know the texts.
    """
    configure_backends(deterministic=experiment.runtime.deterministic)
    with distributed.main_process_first():  # what is downloaded or generated is cached for the others
        data: TaskSplits = locate_splits(experiment)
        corpora = [train for splits in data.values() if isinstance(train := splits["train"], CorpusText)]
        experiment = draw_demonstrations(experiment, data)
        run = resolve_weights(
            experiment,
            lambda: chain.from_iterable(splits["train"].texts() for splits in data.values()),
            corpora[0].identity() if corpora else None,
        )
    data = splits_to_read(experiment, data)
    for split in (next(iter(splits.values())) for splits in data.values()):
        check_coverage(run.tokenizer, split.task.language, split.texts(), split.path, MAX_UNKNOWN)
    return run, data


def resolve_weights(
    experiment: Experiment, texts: Callable[[], Iterable[str]], corpus_identity: str | None = None
) -> Run:
    """Find the weights and the tokenizer that an experiment names.

    Args:
        experiment: what names them.
        texts: returns the training texts, which are read where a vocabulary has to be learned.
        corpus_identity: what distinguishes the texts of a corpus from any others. A vocabulary that is learned from
            them is kept in the cache; ``None``: it is learned again each time.

    Raises:
        ConfigError: when inputs are longer than the model allows, or fresh weights are to be pruned or frozen.
        ModelError: when the weights or the tokenizer are missing, or the weights need the adapter that they were
            trained with.
    """
    name = experiment.model.pretrained_model_name
    source: Path | str = SCRATCH if name == SCRATCH else resolve_model(name, cache=cache_dir(experiment))
    if source == SCRATCH and experiment.model.is_pruned:
        raise ConfigError("model", "fresh weights cannot be pruned", hint="set the sizes in model.architecture")
    if is_adapted(source):
        raise ModelError(
            f"model {name}: its weights cannot be used without the adapter that they were trained with: evaluate that "
            "run, or begin with the model that it began with"
        )
    if source == SCRATCH and experiment.adapter is not None:
        hint = "name a model with --pretrained_model_name"
        raise ConfigError("model.peft", "fresh weights would be frozen", hint=hint)
    limit = position_limit(experiment.model, source)
    extra = experiment.adapter.extra_tokens if experiment.adapter else 0
    for task, task_config in experiment.tasks.items():
        length = task_config.featurizer.max_seq_length
        if limit is not None and length + extra > limit:
            path = f"data_reader.{task_config.data.dataset}.max_seq_length"
            path = path if task_config.single_task is None else f"tasks.{task}.{path}"
            path = path if task_config.corpus is None else "trainer.pretrain.phases"
            origin = experiment.origins.get(path)
            tokens = f"{length} and {extra} learned tokens exceed" if extra else f"{length} exceeds"
            hint = f"set it to {limit - extra} or less" if limit - extra >= MIN_LENGTH else "set fewer num_tokens"
            raise ConfigError(path, f"{tokens} the {limit} positions of {name}", origin=origin, hint=hint)
    if experiment.token is None and source != SCRATCH:
        tokenizer = load_tokenizer(source, revision=experiment.model.revision)
    else:
        word, subword = experiment.token or (BertBasic(), WordPiece())
        longest = max(task_config.featurizer.max_seq_length for task_config in experiment.tasks.values())
        if corpus_identity is None or subword.vocab_path is not None:
            tokenizer = compose_tokenizer(word, subword, texts, longest)
        else:
            vocabularies = cache_dir(experiment) / "vocabularies"
            tokenizer = compose_cached(word, subword, texts, longest, identity=corpus_identity, cache=vocabularies)
    return make_run(experiment, source, tokenizer)


def make_run(experiment: Experiment, source: Path | str, tokenizer: Tokenizer) -> Run:
    """Return the run of an experiment with these weights; the markers of its tasks are added to the tokenizer."""
    pairs = dict.fromkeys(pair for task_config in experiment.tasks.values() for pair in task_config.task.markers)
    return Run(experiment, source, tokenizer, tokenizer.add_markers(tuple(pairs)))


def open_run(folder: Path, task: str | None = None) -> Run:
    """Return the run of a folder, with its best checkpoint as the weights.

    Args:
        folder: the folder of a run.
        task: one of the run's tasks; ``None`` where it has only one.

    Raises:
        RunError: when the folder holds no complete run, or the run has no such task.
    """
    check_openable(folder)
    experiment = config.load(str(folder / "config.json"))
    name = experiment.task_name(task)
    best = task_best_dir(folder, name, experiment.tasks)
    experiment = experiment.select_task(name)
    check_readable(folder, best)
    # The folder may have been moved since the config was written.
    moved = experiment.trainer_config.model_copy(update={"log_dir": str(folder)})
    small = experiment.model.model_copy(update=dict.fromkeys(PRUNING_FIELDS))
    adapter = experiment.adapter if is_adapted(best) else None  # else best/ holds plain weights
    experiment = replace(experiment, trainer_config=moved, model=small, adapter=adapter)
    experiment = restore_demonstrations(experiment, folder)
    configure_backends(deterministic=experiment.runtime.deterministic)
    return make_run(experiment, best, load_tokenizer(best))
