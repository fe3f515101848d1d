"""Where the data of an experiment is: the files of each split of each task, and the folder of what is kept."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from claf2.config import Experiment
from claf2.config.schema import DataReaderSection
from claf2.data.splits import SplitData, locate_split
from claf2.errors import ConfigError
from claf2.runs.corpus_splits import AnySplit, locate_corpus
from claf2.runtime.files import default_cache_dir

__all__ = ["TaskSplits", "cache_dir", "data_dir", "locate_splits", "splits_to_read"]

logger = logging.getLogger("claf2")

TaskSplits: TypeAlias = Mapping[str, Mapping[str, AnySplit]]
"""Task → split → where its examples come from."""


def locate_splits(experiment: Experiment) -> dict[str, dict[str, AnySplit]]:
    """Return where the training and validation examples of each task come from.

    Raises:
        ConfigError: when a task has no training file, or no validation file.
    """
    return {task: _locate_task_splits(experiment, task) for task in experiment.tasks}


def _locate_task_splits(experiment: Experiment, name: str) -> dict[str, AnySplit]:
    reader, task = experiment.tasks[name].data, experiment.tasks[name].task
    if experiment.tasks[name].corpus is not None:
        return locate_corpus(experiment, name, data_dir=data_dir(reader), cache=cache_dir(experiment))

    def locate(split: str, given: str | None) -> Path | None:
        cache = cache_dir(experiment)
        return locate_split(task, split, source=reader.source, given=given, data_dir=data_dir(reader), cache=cache)

    train_path = locate("train", reader.train_file_path)
    if train_path is None:
        problem = f"task {task.name!r} has no training file"
        raise ConfigError("data_reader.train_file_path", problem, hint="set it to a file")
    # The first N rows of an order that depends on the seed: fewer shots are a part of more.
    shots: Any = {"shots": reader.shots, "seed": experiment.seed if reader.shots else 0}
    if reader.valid_fraction is not None:
        if reader.valid_file_path is not None:
            problem = "cannot be combined with valid_fraction, which cuts the validation data off the training file"
            hint = "use the file with --valid_fraction null, or leave it out"
            raise ConfigError("data_reader.valid_file_path", problem, hint=hint)
        return {
            "train": SplitData(task, train_path, "train", reader.valid_fraction, **shots),
            "valid": SplitData(task, train_path, "valid", reader.valid_fraction),
        }
    valid_path = locate("valid", reader.valid_file_path)
    if valid_path is None:
        problem = f"task {task.name!r} has no validation file"
        hint = "set it to a file, or use part of the training file: --data_reader.valid_fraction 0.1"
        raise ConfigError("data_reader.valid_file_path", problem, hint=hint)
    splits: dict[str, AnySplit] = {"train": SplitData(task, train_path, **shots), "valid": SplitData(task, valid_path)}
    # A validation file of the user's own replaces all of the task's.
    for split in task.files if reader.valid_file_path is None else ():
        path = locate(split, None) if split.startswith("valid_") else None
        if path is not None and path.is_file():
            splits[split] = SplitData(task, path)
        elif path is not None:
            logger.warning("%s: no such file; %s of %s is not evaluated", path, split, task.name)
    return splits


def splits_to_read(experiment: Experiment, data: TaskSplits) -> TaskSplits:
    """Leave out the training data, which may be missing, where no step is taken and no demonstration is drawn."""
    return {
        task: splits
        if experiment.trainer.trains or experiment.tasks[task].featurizer.shots_to_draw
        else {split: split_data for split, split_data in splits.items() if split != "train"}
        for task, splits in data.items()
    }


def data_dir(reader: DataReaderSection) -> Path:
    """Return the folder of relative data files."""
    return Path(reader.data_dir or os.environ.get("CLAF2_DATA_DIR") or ".").expanduser()


def cache_dir(experiment: Experiment) -> Path:
    """Return the folder of what is kept between runs."""
    return Path(experiment.runtime.cache_dir) if experiment.runtime.cache_dir else default_cache_dir()
