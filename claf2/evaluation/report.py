"""Reports of evaluations: scores, loss, and a prediction for each example; tables made from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from claf2.errors import ConfigError, nearest
from claf2.metrics import Metric, Prediction, Scores

__all__ = ["Report", "TaskReport", "compute_scores", "lower_is_better", "merge_reports", "stage_table"]


@dataclass(frozen=True)
class TaskReport:
    """One task's evaluation. Scores are on 0–100 (``None``: undefined), the loss is the mean over targets."""

    scores: Scores
    loss: float | None
    """``None``: the examples are unlabelled, or the engine does not compute the loss of this head."""
    predictions: Sequence[Prediction]
    undefined: int = 0
    """The number of predictions that are undefined, because the outputs of the model are not finite."""


@dataclass(frozen=True)
class Report:
    """The evaluation of all tasks of a run on one split."""

    split: str
    tasks: Mapping[str, TaskReport]
    others: Sequence[Report] = ()
    """The evaluations of further splits at the same time."""
    average: float | None = None
    """The weighted mean of the selecting scores of several tasks."""

    def logs(self) -> dict[str, float | None]:
        """Return every score as ``split/key``, or as ``split/task/key`` and ``split/average`` where there is more than
        one task."""
        several = len(self.tasks) > 1
        logs: dict[str, float | None] = {}
        for report in (self, *self.others):
            for name, task in report.tasks.items():
                prefix = f"{report.split}/{name}" if several else report.split
                logs |= {f"{prefix}/{key}": value for key, value in task.scores.items()}
                if task.loss is not None:
                    logs[f"{prefix}/loss"] = _finite_or_none(task.loss)
        if several and self.average is not None:
            logs[f"{self.split}/average"] = self.average
        return logs

    def value(self, key: str) -> float | None:
        """Return the score that ``key`` names.

        Raises:
            ConfigError: when there is no score of that name.
        """
        logs = self.logs()
        if f"{self.split}/{key}" not in logs:
            known = [name.removeprefix(f"{self.split}/") for name in logs]
            raise ConfigError("trainer.metric_key", f"{key!r} is not a score of this task", hint=nearest(key, known))
        return logs[f"{self.split}/{key}"]

    def summary(self) -> str:
        """Return the scores as one line each, for a console."""
        return "\n".join(
            f"{name}: {'undefined' if value is None else format(value, '.4f')}" for name, value in self.logs().items()
        )


def merge_reports(reports: Sequence[Report], average_weights: Mapping[str, float], keys: Mapping[str, str]) -> Report:
    """Merge reports on splits and tasks into one on the first split, with the other splits beside it.

    Args:
        reports: at least one.
        average_weights: the weight of each task in the average.
        keys: the selecting score of each task, which is averaged.
    """
    splits: dict[str, dict[str, TaskReport]] = {}
    for report in (nested for top in reports for nested in (top, *top.others)):
        splits.setdefault(report.split, {}).update(report.tasks)
    first, *others = (Report(split, tasks) for split, tasks in splits.items())
    weighted = [
        # An undefined score, such as the correlation of constant predictions, counts as 0.
        (average_weights[task], task_report.scores.get(keys[task]) or 0.0)
        for task, task_report in first.tasks.items()
    ]
    total = sum(weight for weight, _ in weighted)
    average = sum(weight * score for weight, score in weighted) / total if total else None
    return replace(first, others=others, average=average)


def stage_table(rows: Mapping[str, tuple[str, Mapping[str, float | None]]]) -> str:
    """Return a Markdown table of what each task scored in each stage: task → the score's key, and stage → value."""
    columns = [
        name for name in ("single", "refined", "fine_tuned") if any(name in scores for _, scores in rows.values())
    ]
    lines = ["| task | score | " + " | ".join(columns) + " |", "| --- " * (2 + len(columns)) + "|"]
    for task, (key, values) in rows.items():
        shown = ["–" if (value := values.get(name)) is None else f"{value:.1f}" for name in columns]
        lines.append(f"| {task} | {key} | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


def compute_scores(metrics: Sequence[Metric], predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
    """Return all scores of a task's metrics; none where the examples have no labels. If a prediction is undefined, the
    scores that metrics select are ``None``, and there are no others."""
    if any(prediction.gold is None for prediction in predictions):
        return {}
    if any(prediction.prediction is None for prediction in predictions):
        return {metric.selects: None for metric in metrics}
    scores: Scores = {}
    for metric in metrics:
        computed = metric.compute(predictions, labels)
        scores |= {key: _finite_or_none(value) for key, value in computed.items() if key not in scores}
    return scores


def _finite_or_none(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def lower_is_better(metrics: Sequence[Metric], key: str) -> bool:
    """Say whether a lower value of the score ``key`` is better: always for a loss, else as the metric declares."""
    last = key.rsplit("/", 1)[-1]
    return last == "loss" or any(last in metric.lower_is_better for metric in metrics)
