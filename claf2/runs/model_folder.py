"""Folders with a finished model: what was trained, and what computes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from claf2 import config
from claf2.config import Experiment
from claf2.evaluation.engine import Engine
from claf2.runs.folder import check_openable
from claf2.runs.resolve import Run, open_run

__all__ = ["LoadedModel", "ModelFolder", "TrainedFolder"]


@dataclass(frozen=True)
class LoadedModel:
    """The model of one task, ready to answer."""

    run: Run
    """Its experiment, which has this task alone, and its tokenizer."""
    engine: Engine


class ModelFolder(ABC):
    """A folder with a finished model. Opening it reads no weights.

    Args:
        path: the folder.

    Raises:
        RunError: when the folder holds no such model, or is damaged.
    """

    path: Path
    experiment: Experiment
    """What was trained, all tasks of it."""

    @abstractmethod
    def load_model(self, task: str) -> LoadedModel:
        """Load the model of a task.

        Raises:
            RunError: when a file is missing or has changed.
        """


class TrainedFolder(ModelFolder):
    """The folder of a run, whose best checkpoint PyTorch computes."""

    def __init__(self, path: Path) -> None:
        check_openable(path)
        self.path = path
        self.experiment = config.load(str(path / "config.json"))

    def load_model(self, task: str) -> LoadedModel:
        run = open_run(self.path, task)
        return LoadedModel(run, run.model().eval())
