"""Folders with a finished model: what was trained, and what computes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from claf2 import config
from claf2.config import Experiment
from claf2.evaluation.engine import Engine
from claf2.models.shared_encoder import join_heads
from claf2.runs.folder import check_openable
from claf2.runs.resolve import Run, open_run
from claf2.runtime.files import read_json

__all__ = ["LoadedModel", "ModelFolder", "TrainedFolder"]


@dataclass(frozen=True)
class LoadedModel:
    """The model of one task, ready to answer."""

    run: Run
    """Its experiment, which has this task alone, and its tokenizer."""
    engine: Engine


class ModelFolder(ABC):
    """A folder with a finished model. Opening it reads no weights.

    Raises:
        RunError: when the folder holds no such model, or is damaged.
    """

    path: Path
    """The folder."""
    experiment: Experiment
    """What was trained, all tasks of it."""

    @property
    @abstractmethod
    def split_digests(self) -> Mapping[str, str]:
        """The digests of the run's splits, as its training recorded them, by their names in the run."""

    @abstractmethod
    def load_model(self, task: str) -> LoadedModel:
        """Load the model of a task.

        Raises:
            RunError: when a file is missing or has changed.
        """

    def load_models(self, tasks: Sequence[str]) -> dict[str, LoadedModel]:
        """Load the models of several tasks; see ``load_model``."""
        return {task: self.load_model(task) for task in tasks}


class TrainedFolder(ModelFolder):
    """The folder of a run, whose best checkpoint PyTorch computes."""

    def __init__(self, path: Path) -> None:
        check_openable(path)
        self.path = path
        self.experiment = config.load(str(path / "config.json"))

    @property
    def split_digests(self) -> Mapping[str, str]:
        record = self.path / "run.json"
        digests: Mapping[str, str] | None = read_json(record).get("data") if record.is_file() else None
        return digests or {}

    def load_model(self, task: str) -> LoadedModel:
        return self.load_models([task])[task]

    def load_models(self, tasks: Sequence[str]) -> dict[str, LoadedModel]:
        """Load the models of several tasks; as one engine where they have the same encoder."""
        runs = {task: open_run(self.path, task) for task in tasks}
        models = {task: run.model().eval() for task, run in runs.items()}
        joined = join_heads(models) if len(models) > 1 else None
        return {task: LoadedModel(run, joined or models[task]) for task, run in runs.items()}
