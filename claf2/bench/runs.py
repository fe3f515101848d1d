"""Finished runs as statistics needs them: those of one model on one task, a seed each, on the same examples."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claf2 import config
from claf2.bench.statistics import Runs
from claf2.errors import ConfigError, RunError
from claf2.metrics import Metric, Prediction
from claf2.registry import digest
from claf2.store import read_json, read_predictions
from claf2.task import Task

__all__ = ["Seed", "TaskRuns", "below", "examples_digest"]


@dataclass(frozen=True)
class Seed:
    """One finished run."""

    folder: Path
    number: int
    values: Mapping[str, Any]
    """Its filled config."""
    predictions: Sequence[Prediction]


@dataclass(frozen=True)
class TaskRuns:
    """All runs of one model on one task."""

    task: Task
    seeds: Sequence[Seed]
    recipe: str
    """The digest by which scores may stand beside each other."""
    data: Mapping[str, str]
    """Split → SHA-256."""

    @property
    def metric(self) -> Metric:
        """The metric whose first score decides."""
        metric: Metric = self.task.metrics[0]
        return metric

    def runs(self) -> Runs:
        """Return them by the deciding score.

        Raises:
            Claf2Error: when they are of other examples.
        """
        return Runs.of(self.metric, [each.predictions for each in self.seeds], self.task.labels)


def below(folder: Path) -> dict[str, TaskRuns]:
    """Return the finished runs in a folder, itself or anywhere below, by task.

    Raises:
        RunError: when there are none, some differ in recipe or data, or predictions are missing.
    """
    paths = [folder] if (folder / "metrics.json").is_file() else sorted(each.parent for each in _finished(folder))
    if not paths:
        raise RunError(f"{folder}: holds no finished run")
    found: dict[str, TaskRuns] = {}
    for path in paths:
        lock = read_json(path / "run.json")
        try:
            experiment = config.load(str(path / "config.json"))
        except ConfigError as error:
            raise RunError(f"{path}: {error}") from error
        for name, part in experiment.parts.items():
            prefix = f"{name}/" if len(experiment.parts) > 1 else ""
            data = {key.removeprefix(prefix): each for key, each in lock["data"].items() if key.startswith(prefix)}
            predictions = read_predictions(path / "predictions" / f"{name}-valid.jsonl")
            seed = Seed(path, experiment.seed, experiment.values, predictions)
            before = found.get(name)
            if before is None:
                found[name] = TaskRuns(part.task, [seed], lock["recipe"], data)
                continue
            if (before.recipe, before.data) != (lock["recipe"], data):
                what = "recipe" if before.recipe != lock["recipe"] else "data"
                raise RunError(f"{path}: is of another {what} than {before.seeds[0].folder}: give a folder of one")
            if any(each.number == seed.number for each in before.seeds):
                raise RunError(f"{path}: seed {seed.number} of {name} is there twice: give a folder of one model")
            found[name] = TaskRuns(before.task, [*before.seeds, seed], before.recipe, before.data)
    return found


def _finished(folder: Path) -> list[Path]:
    """Return the metrics of runs below a folder, but not of the later stages of a run."""
    found = folder.rglob("metrics.json")
    return [path for path in found if "stages" not in path.relative_to(folder).parts]


def examples_digest(predictions: Sequence[Prediction]) -> str:
    """Return the digest of the examples that predictions are of: their ids and gold answers, in order."""
    return digest([[each.id, json.dumps(each.gold, ensure_ascii=False)] for each in predictions])
