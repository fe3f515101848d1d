"""The third pass, build: an experiment with everything it names found: its data, the weights, the tokenizer."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from claf2 import config, ranks
from claf2.batch import Source
from claf2.config import Experiment
from claf2.data import Data, locate
from claf2.errors import Claf2Error, ConfigError, DataError, RunError
from claf2.features import FeatureSet, featurize, key
from claf2.judge import EvaluationData
from claf2.judge import evaluate as judge
from claf2.loop import Precision
from claf2.models import SCRATCH
from claf2.models.encoder import EncoderWithHeads, Part, build, label_order, position_limit
from claf2.models.source import cache_dir, resolve, weights_digest
from claf2.process import code_digest, device, settle, versions
from claf2.readers import Example
from claf2.report import Report, TaskReport
from claf2.schema import DataReader
from claf2.split import Costs
from claf2.store import best_folder, check_digests
from claf2.tokenizers import Tokenizer
from claf2.tokenizers.build import compose, load_tokenizer
from claf2.tokenizers.subword import WordPiece
from claf2.tokenizers.word import BertBasic

__all__ = ["Run", "Sets", "cache", "data_root", "find", "joined", "reopen", "split_name", "splits"]

logger = logging.getLogger("claf2")

OVERHEAD = {"cpu": 256, "cuda": 8192}
"""What a micro-batch costs besides its tokens, in tokens, by device: a pass over little keeps a GPU waiting for the
launch of its kernels."""

NEVER = 1e12
"""An overhead for which nothing is cut."""

COMPILED_MULTIPLE = 32
"""Compiled models see lengths that are multiples of this many tokens."""


Sets: TypeAlias = Mapping[str, Mapping[str, tuple[FeatureSet, list[Example]]]]
"""Split → task → features and examples to be judged."""


@dataclass(frozen=True)
class Run:
    """An experiment with everything it names found: the model's source, the tokenizer, the labels in their order."""

    experiment: Experiment
    source: Path | str
    """Where the weights come from: a folder, a hub id, or ``scratch``."""
    tokenizer: Tokenizer
    labels: Mapping[str, list[str]]
    """The labels of each task."""
    added: int = 0
    """How many tokens the tasks have added to the tokenizer."""

    @property
    def folder(self) -> Path:
        """Where the run lives."""
        return Path(self.experiment.trainer.log_dir)

    def features(self, task: str, data: Data) -> FeatureSet:
        """Return the features of a data set of a task, from the cache where they are there."""
        featurizer, labels = self.experiment.parts[task].featurizer, self.labels[task]
        folder = cache(self.experiment) / "features" / key(data.identity(), featurizer, self.tokenizer, labels)
        try:
            with ranks.in_turn():
                found = featurize(data.examples(), featurizer, self.tokenizer, labels, folder)
        except Claf2Error as error:
            raise error if isinstance(error, DataError) else DataError(data.path, str(error)) from error
        lost = {name: count for name, count in found.counts.items() if name not in ("examples", "features") and count}
        logger.info(
            "%s: %d examples, %d features%s",
            data.path, found.counts["examples"], len(found), f", {lost}" if lost else "",
        )  # fmt: skip
        return found

    def sets(self, data: Mapping[str, Mapping[str, Data]]) -> Sets:
        """Return features and examples of all splits to be judged, given by task: all but ``train``."""
        found: dict[str, dict[str, tuple[FeatureSet, list[Example]]]] = {}
        for task, own in data.items():
            for split, each in own.items():
                if split != "train":
                    found.setdefault(split, {})[task] = (self.features(task, each), list(each.examples()))
        return found

    def batches(self, task: str, features: FeatureSet) -> Source:
        """Say how a task's features become batches."""
        head = self.experiment.parts[task].head
        multiple = COMPILED_MULTIPLE if self.experiment.runtime.compile else 1
        fields = {**head.inputs, **head.targets}
        return Source(features, pad_id=self.tokenizer.pad_id, fields=fields, multiple=multiple)

    def costs(self, model: EncoderWithHeads) -> Costs | None:
        """Say how batches are cut into micro-batches; ``None``: not at all."""
        runtime = self.experiment.runtime
        whole = model.packing is not None or runtime.padding == "keep"
        if whole and runtime.max_tokens_per_micro_batch is None:
            return None
        usual = OVERHEAD.get(model.device.type, OVERHEAD["cuda"])
        overhead: float = usual if runtime.micro_batch_overhead is None else runtime.micro_batch_overhead
        if whole:
            overhead = NEVER
        config: Any = getattr(model.head(model.names[0]), "config", None)
        width = getattr(config, "hidden_size", None) or 768
        return Costs(overhead, 1 / (6 * width), runtime.max_tokens_per_micro_batch)

    def model(self) -> EncoderWithHeads:
        """Load or make the model, on its device."""
        model = build(
            self.experiment.model,
            self.source,
            {task: Part(part.head, self.labels[task], part.dropout) for task, part in self.experiment.parts.items()},
            vocab_size=self.tokenizer.vocab_size,
            pad_id=self.tokenizer.pad_id,
            seed=self.experiment.seed,
            added=self.added,
        )
        runtime = self.experiment.runtime
        for name, objective in self.experiment.objectives.items():
            learned = objective.learned(self.experiment.parts)
            if learned is not None:
                model.learned[name] = learned
        self._pad(model)
        for name in model.names:
            module: Any = model.head(name)
            if runtime.activation_checkpointing:
                module.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
            if runtime.compile:
                module.compile(dynamic=True)
        model.place(device(runtime.device), runtime.engine, offload=runtime.cpu_offload)
        return model

    def _pad(self, model: EncoderWithHeads) -> None:
        """Pack the encoder where that is asked for."""
        runtime = self.experiment.runtime
        wanted = runtime.padding
        if wanted == "pack" and runtime.compile:
            raise ConfigError("runtime.padding", "a packed encoder cannot be compiled", hint="split")
        if runtime.engine == "fsdp" and runtime.compile:
            raise ConfigError("runtime.engine", "a compiled model cannot be divided", hint="--compile false")
        if runtime.engine == "ddp" and runtime.cpu_offload:
            raise ConfigError("runtime.cpu_offload", "ddp has no shares to keep elsewhere", hint="--engine fsdp")
        packed = wanted in ("auto", "pack") and not runtime.compile and model.pack()
        if wanted == "pack" and not packed:
            raise ConfigError("runtime.padding", "this architecture cannot be packed", hint="split")

    def precision(self) -> Precision:
        """Say in what numbers passes are made."""
        return Precision(self.experiment.runtime.precision, device(self.experiment.runtime.device))

    def judge(self, model: EncoderWithHeads, sets: Sets) -> Report:
        """Evaluate a model on one split or more; the first one is what the report is of."""
        reports = []
        for split, own in sets.items():
            data, sizes = {}, {}
            for task, (features, examples) in own.items():
                part = self.experiment.parts[task]
                data[task] = EvaluationData(
                    self.batches(task, features),
                    examples,
                    part.head,
                    self.labels[task],
                    part.task.metrics,
                    self.tokenizer,
                )
                sizes[task] = part.iterator.eval_batch_size
            reports.append(judge(model, data, split=split, batch_sizes=sizes, precision=self.precision()))
        return joined(self.experiment, reports)

    def lock(self, data: Mapping[str, Mapping[str, Data]]) -> dict[str, Any]:
        """Return what the run's scores depend on, for ``run.json``."""
        return {
            "base_config": self.experiment.name,
            "overrides": list(self.experiment.overrides),
            "recipe": self.experiment.recipe_digest(),
            "experiment": self.experiment.digest(),
            "data": {
                split_name(data, task, split): each.sha256()
                for task, own in data.items()
                for split, each in own.items()
            },
            "tokenizer": self.tokenizer.digest,
            "weights": weights_digest(self.source),
            "seed": self.experiment.seed,
            "device": str(device(self.experiment.runtime.device)),
            "versions": versions(),
            "code": code_digest(),
        }


def split_name(tasks: Collection[str], task: str, split: str) -> str:
    """Return what a split of a task is called: by itself, or behind the task's name where there are several."""
    return f"{task}/{split}" if len(tasks) > 1 else split


def joined(experiment: Experiment, reports: Sequence[Report]) -> Report:
    """Join reports of splits, or of tasks, into one of the first one's split with the others beside it."""
    splits: dict[str, dict[str, TaskReport]] = {}
    for each in (each for report in reports for each in (report, *report.others)):
        splits.setdefault(each.split, {}).update(each.tasks)
    first, *others = (Report(split, tasks) for split, tasks in splits.items())
    total = weights = 0.0
    for task, found in first.tasks.items():
        part = experiment.parts[task]
        # What is undefined, as the correlation of a constant answer is, counts as 0.
        total += part.mix.average_weight * (found.scores.get(part.task.metrics[0].selects) or 0.0)
        weights += part.mix.average_weight
    return dataclasses.replace(first, others=others, average=total / weights if weights else None)


def find(experiment: Experiment, texts: Callable[[], Iterable[str]]) -> Run:
    """Find the weights and the tokenizer that an experiment names."""
    name = experiment.model.pretrained_model_name
    source: Path | str = SCRATCH if name == SCRATCH else resolve(name, cache=cache(experiment))
    limit = position_limit(experiment.model, source)
    longest = max(part.featurizer.max_seq_length for part in experiment.parts.values())
    for task, part in experiment.parts.items():
        if limit is not None and part.featurizer.max_seq_length > limit:
            path = f"data_reader.{part.data.dataset}.max_seq_length"
            path = path if part.alone is None else f"tasks.{task}.{path}"
            problem = f"{part.featurizer.max_seq_length} is more than the {limit} positions of {name}"
            raise ConfigError(path, problem, origin=experiment.origins.get(path))
    if experiment.token is None and source != SCRATCH:
        tokenizer = load_tokenizer(source, revision=experiment.model.revision)
    else:
        word, subword = experiment.token or (BertBasic(), WordPiece())
        tokenizer = compose(word, subword, texts, longest)
    return _run(experiment, source, tokenizer)


def _run(experiment: Experiment, source: Path | str, tokenizer: Tokenizer) -> Run:
    labels = {task: label_order(experiment.model, source, part.task.labels) for task, part in experiment.parts.items()}
    marks = dict.fromkeys(mark for part in experiment.parts.values() for mark in part.task.markers)
    return Run(experiment, source, tokenizer, labels, tokenizer.mark(tuple(marks)))


def reopen(folder: Path, task: str | None = None) -> Run:
    """Return the run of a folder with its best checkpoint as the model; of several tasks, the one that is named."""
    if not (folder / "best").is_dir():
        raise RunError(f"{folder}: holds no best/ checkpoint; give the folder of a run (its trainer.log_dir)")
    if not (folder / "config.json").is_file():
        raise RunError(f"{folder}: holds no config.json; it is not whole")
    experiment = config.load(str(folder / "config.json"))
    several = len(experiment.parts) > 1
    experiment = experiment if task is None else experiment.only(task)
    name = next(each for each, part in experiment.parts.items() if part is experiment.part)
    best = best_folder(folder, name if several else None)
    check_digests(best)
    moved = experiment.trainer.model_copy(update={"log_dir": str(folder)})
    experiment = dataclasses.replace(experiment, trainer=moved)
    settle(deterministic=experiment.runtime.deterministic)
    return _run(experiment, best, load_tokenizer(best))


def splits(experiment: Experiment) -> dict[str, dict[str, Data]]:
    """Return where the training and the validation examples of each task come from."""
    return {task: _splits(experiment, task) for task in experiment.parts}


def _splits(experiment: Experiment, name: str) -> dict[str, Data]:
    reader, task = experiment.parts[name].data, experiment.parts[name].task
    root = data_root(reader)

    def file_of(split: str, given: str | None) -> Path | None:
        return locate(task, split, origin=reader.source, given=given, root=root, cache=cache(experiment))

    train_path = file_of("train", reader.train_file_path)
    if train_path is None:
        raise ConfigError("data_reader.train_file_path", f"task {task.name!r} names no training file", hint="give one")
    if reader.valid_fraction is not None:
        return {
            "train": Data(task, train_path, "train", reader.valid_fraction),
            "valid": Data(task, train_path, "valid", reader.valid_fraction),
        }
    valid_path = file_of("valid", reader.valid_file_path)
    if valid_path is None:
        hint = "give one, or cut it from the training file with --data_reader.valid_fraction 0.1"
        raise ConfigError("data_reader.valid_file_path", f"task {task.name!r} names no validation file", hint=hint)
    found = {"train": Data(task, train_path), "valid": Data(task, valid_path)}
    for split in task.files if reader.valid_file_path is None else ():
        path = file_of(split, None) if split.startswith("valid_") else None
        if path is not None and path.is_file():
            found[split] = Data(task, path)
        elif path is not None:
            logger.warning("%s: no such file, so %s of %s is not scored", path, split, task.name)
    return found


def data_root(reader: DataReader) -> Path:
    """Return the folder that relative data files are in."""
    return Path(reader.data_dir or os.environ.get("CLAF2_DATA_DIR") or ".")


def cache(experiment: Experiment) -> Path:
    """Return the folder of what is kept between runs."""
    return Path(experiment.runtime.cache_dir) if experiment.runtime.cache_dir else cache_dir()
