"""Finished runs, grouped as the statistics need them: one model on one task, one run per seed, on the same examples."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from claf2 import config
from claf2.config.source import parse_overrides
from claf2.errors import Claf2Error, ConfigError, RunError
from claf2.evaluation.predictions import predictions_path, read_predictions
from claf2.metrics import Metric, Prediction, Resampler
from claf2.registry import digest
from claf2.runtime.files import read_json
from claf2.task import Task

__all__ = [
    "CELL_FILE", "ScoredRuns", "SeedRun", "TaskRuns", "check_same_examples", "collapse_reason", "examples_digest",
    "load_runs", "merge_runs", "recipe_words",
]  # fmt: skip

Floats: TypeAlias = NDArray[np.float64]

CELL_FILE = "cell.json"
"""The file of a cell's folder that says which cell it is."""

PATH_OPTIONS = ("data_dir", "cache_dir")
"""Overrides that only say where files are. They do not make a row of their own in a comparison of options."""

METRICS = "metrics.json"
"""The last file that a run writes. ``claf2.runs.folder``, which knows it too, imports torch; tables do without."""


@dataclass(frozen=True)
class ScoredRuns:
    """The runs of one model on one task, one per seed, all on the same examples (at least two) in the same order."""

    examples: tuple[tuple[str, object], ...]
    """The id and gold answer of each example."""
    resamplers: tuple[Resampler, ...]
    """The deciding score of each run."""
    lower_is_better: bool = False
    bounds: tuple[float, float] = (-math.inf, math.inf)
    """The lowest and the highest value of the score."""
    scale: float = 100.0
    """What 100 points are: 100 or, for a score without an upper end, the mean score of these runs."""

    def __post_init__(self) -> None:
        if not self.resamplers:
            raise Claf2Error("there are no predictions to score; at least one seed is needed")
        if len(self.examples) < 2:
            raise Claf2Error(f"got {len(self.examples)} examples; at least 2 are needed to estimate chance")
        if any(gold is None for _, gold in self.examples):
            raise Claf2Error("there are examples without a gold answer, so there is no score")
        if any(resampler.size != len(self.examples) for resampler in self.resamplers):
            raise Claf2Error(f"not every run has predictions for all {len(self.examples)} examples")

    @classmethod
    def from_predictions(
        cls, metric: Metric, predictions: Sequence[Sequence[Prediction]], labels: Sequence[str]
    ) -> ScoredRuns:
        """Score the predictions of each seed by the score that the metric selects.

        Raises:
            Claf2Error: if the runs differ in examples or gold answers, or there are none.
        """
        examples = [tuple((prediction.id, prediction.gold) for prediction in run) for run in predictions]
        for number, run_examples in enumerate(examples[1:], start=2):
            check_same_examples(examples[0], run_examples, f"run {number}")
        resamplers = tuple(_resampler(metric, run, labels) for run in predictions if run)
        scale = 100.0
        if not all(map(math.isfinite, metric.bounds)):
            values = [value for resampler in resamplers if (value := resampler.value()) is not None]
            scale = abs(fmean(values)) if values else scale
        return cls(
            examples[0] if examples else (), resamplers, metric.selects in metric.lower_is_better, metric.bounds, scale
        )

    @cached_property
    def scores(self) -> Floats:
        """The score of each run, [seeds].

        Raises:
            Claf2Error: if one is undefined.
        """
        values = [resampler.value() for resampler in self.resamplers]
        undefined = [str(number) for number, value in enumerate(values, start=1) if value is None]
        if undefined:
            raise Claf2Error(f"the score of run {', '.join(undefined)} of {len(values)} is undefined: it collapsed")
        return np.array(values, dtype=np.float64)

    def __len__(self) -> int:
        return len(self.resamplers)


def check_same_examples(
    first: Sequence[tuple[str, object]], second: Sequence[tuple[str, object]], second_name: str
) -> None:
    """Check that two lists of ids and gold answers are equal.

    Raises:
        Claf2Error: naming the first difference.
    """
    if len(first) != len(second):
        raise Claf2Error(f"{second_name} has predictions for {len(second)} examples, the first for {len(first)}")
    for (first_id, first_gold), (second_id, second_gold) in zip(first, second, strict=True):
        if first_id != second_id:
            raise Claf2Error(f"{second_name} has example {second_id!r} where the first has {first_id!r}; align by id")
        if first_gold != second_gold:
            raise Claf2Error(
                f"{second_name} has gold {second_gold!r} for example {first_id!r}, not {first_gold!r}: the data differ"
            )


@dataclass(frozen=True)
class SeedRun:
    """One finished run of one task."""

    folder: Path
    seed: int
    config: Mapping[str, object]
    """The filled config."""
    predictions: Sequence[Prediction]


@dataclass(frozen=True)
class TaskRuns:
    """All runs of one model on one task."""

    task: Task
    seed_runs: Sequence[SeedRun]
    recipe: str
    """The digest of the recipe. Only scores of equal recipes are comparable."""
    data: Mapping[str, str]
    """Split → SHA-256."""
    variant: str = ""
    """The name of the variant of a bench; empty: the recipe itself."""
    overrides: tuple[str, ...] = ()
    """The overrides of a cell of a bench (``recipe_words``)."""

    @property
    def metric(self) -> Metric:
        """The metric whose first score decides."""
        metric: Metric = self.task.metrics[0]
        return metric

    def scored(self) -> ScoredRuns:
        """Return the runs scored by the deciding score.

        Raises:
            Claf2Error: if their examples differ.
        """
        predictions = [run.predictions for run in self.seed_runs]
        return ScoredRuns.from_predictions(self.metric, predictions, self.task.labels)


def _why_no_run(folder: Path) -> str:
    """Return what is wrong with a folder without finished runs, and what to do about it."""
    if not folder.is_dir():
        return "is not a folder; give a run, or a folder with the runs of one model"
    config = folder / "config.json"
    if config.is_file() and "model_type" in config.read_text(encoding="utf-8", errors="replace"):
        commands = f"claf2 bench run --suite SUITE --models {folder} OTHER, then claf2 compare its folders in the bench"
        return f"is a model, which has no scores yet; measure both on the same tasks: {commands}"
    return "contains no finished run; finish a run with --resume"


def recipe_words(overrides: Sequence[str]) -> tuple[str, ...]:
    """Return the overrides of a cell as words, without those that only say where files are.

    Raises:
        ConfigError: if one is not an override.
    """
    return tuple(
        f"{override.key}={override.text}"
        for override in parse_overrides(overrides)
        if override.key.rpartition(".")[2] not in PATH_OPTIONS
    )


def load_runs(folder: Path) -> dict[str, TaskRuns]:
    """Load the finished runs in a folder, which is a run itself or holds runs at any depth, by task.

    Raises:
        RunError: if there are none, predictions are missing, or runs of one task differ in recipe or data.
    """
    paths = [folder] if (folder / METRICS).is_file() else sorted(_finished_below(folder))
    if not paths:
        raise RunError(f"{folder}: {_why_no_run(folder)}")
    by_task: dict[str, TaskRuns] = {}
    for path in paths:
        cell = read_json(path / CELL_FILE) if (path / CELL_FILE).is_file() else {}
        recipe, digests = _read_identity(path / "run.json")
        try:
            experiment = config.load(str(path / "config.json"))
        except ConfigError as error:
            raise RunError(f"{path}: {error}") from error
        for name, task_config in experiment.tasks.items():
            prefix = f"{name}/" if len(experiment.tasks) > 1 else ""
            data = {split.removeprefix(prefix): sha256 for split, sha256 in digests.items() if split.startswith(prefix)}
            run = SeedRun(
                path, experiment.seed, experiment.values, read_predictions(predictions_path(path, name, "valid"))
            )
            runs = TaskRuns(
                task_config.task,
                [run],
                recipe,
                data,
                str(cell.get("variant", "")),
                _cell_words(path / CELL_FILE, cell),
            )
            by_task[name] = merge_runs(name, by_task[name], runs) if name in by_task else runs
    return by_task


def _cell_words(path: Path, cell: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    try:
        return recipe_words(cell.get("overrides", ()))
    except (ConfigError, TypeError) as error:
        raise RunError(f"{path}: damaged: {error}") from error


def _read_identity(path: Path) -> tuple[str, dict[str, str]]:
    """Return what scores must share to be comparable: the digest of the recipe, and those of the data."""
    provenance = read_json(path)
    recipe, data = provenance.get("recipe"), provenance.get("data")
    if not recipe or not isinstance(recipe, str) or not isinstance(data, dict):
        raise RunError(f"{path}: damaged: it has no {'data' if recipe else 'recipe'}; train the run again")
    return recipe, data


def _finished_below(folder: Path) -> list[Path]:
    """Return the finished runs below a folder, without the later stages of a run."""
    paths = (path.parent for path in folder.rglob(METRICS))
    return [path for path in paths if "stages" not in path.relative_to(folder).parts]


def merge_runs(task: str, runs: TaskRuns, added: TaskRuns) -> TaskRuns:
    """Return runs of a model on a task with one more run.

    Raises:
        RunError: if the run differs in recipe or data, or there is one with its seed.
    """
    (run,) = added.seed_runs
    if (runs.recipe, runs.data) != (added.recipe, added.data):
        part = "recipe" if runs.recipe != added.recipe else "data"
        raise RunError(
            f"{run.folder}: differs in {part} from {runs.seed_runs[0].folder}: give a folder with runs of one {part}"
        )
    if any(other.seed == run.seed for other in runs.seed_runs):
        raise RunError(f"{run.folder}: {task} has two runs with seed {run.seed}: give a folder with runs of one model")
    return replace(runs, seed_runs=[*runs.seed_runs, run])


def examples_digest(predictions: Sequence[Prediction]) -> str:
    """Return the digest of the examples of some predictions: their ids and gold answers, in order."""
    return digest([[prediction.id, json.dumps(prediction.gold, ensure_ascii=False)] for prediction in predictions])


def collapse_reason(metric: Metric, predictions: Sequence[Prediction], labels: Sequence[str]) -> str | None:
    """Return the reason why a run counts as collapsed (it learned nothing), or ``None`` if it does not.

    A run has collapsed if its score is undefined, if it gives one answer to all examples although the gold answers
    differ, or if, for labels, it scores no better than always predicting the most frequent gold label.

    Raises:
        Claf2Error: if there are no predictions.
    """
    if not predictions:
        raise Claf2Error("there are no predictions to score")
    value = _resampler(metric, predictions, labels).value()
    if value is None:
        return "its score is undefined"
    predicted = {answer for prediction in predictions for answer in _answers(prediction.prediction)}
    gold = {answer for prediction in predictions for answer in _answers(prediction.gold)}
    if len(predicted) <= 1 < len(gold):
        return f"it answers {', '.join(predicted) or 'nothing'} to every example"
    if all(isinstance(prediction.gold, str) for prediction in predictions):
        majority = Counter(str(prediction.gold) for prediction in predictions).most_common(1)[0][0]
        # Not `replace`, which takes several times as long.
        constant = [
            Prediction(prediction.id, prediction.gold, majority, prediction.score, prediction.details)
            for prediction in predictions
        ]
        floor = metric.resampler(constant, labels).value()
        lower = metric.selects in metric.lower_is_better
        if floor is not None and (value >= floor if lower else value <= floor):
            return f"its score, {value:.1f}, is no better than that of always answering {majority!r}, {floor:.1f}"
    return None


def _resampler(metric: Metric, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
    """Return the resampler of the deciding score, which is undefined if a prediction is."""
    if any(prediction.prediction is None for prediction in predictions):
        return Resampler(lambda counts: np.full(len(counts), np.nan), len(predictions))
    return metric.resampler(predictions, labels)


def _answers(value: object) -> list[str]:
    return [repr(answer) for answer in value] if isinstance(value, list) else [repr(value)]
