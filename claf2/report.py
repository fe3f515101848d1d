"""What an evaluation found: scores, loss, and a prediction for each example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from claf2.errors import ConfigError, nearest
from claf2.metrics import Metric, Prediction, Scores
from claf2.task import Task

__all__ = ["Report", "TaskReport", "card", "lower_is_better", "score", "stages"]


@dataclass(frozen=True)
class TaskReport:
    """One task's evaluation. Scores are on 0–100 (``None``: undefined), the loss is the mean over targets."""

    scores: Scores
    loss: float | None
    predictions: Sequence[Prediction]


@dataclass(frozen=True)
class Report:
    """The evaluation of all tasks of a run on one split."""

    split: str
    tasks: Mapping[str, TaskReport]
    others: Sequence[Report] = ()
    """What was found on further splits at the same time."""
    average: float | None = None
    """The weighted mean of the deciding scores of several tasks."""

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
                    logs[f"{prefix}/loss"] = task.loss
        if several and self.average is not None:
            logs[f"{self.split}/average"] = self.average
        return logs

    def value(self, key: str) -> float | None:
        """Return the score that ``key`` names.

        Raises:
            ConfigError: when there is none of that name.
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


def card(tasks: Sequence[Task], lock: Mapping[str, Any], logs: Mapping[str, Any]) -> str:
    """Return a model card: what was measured, on what, by which recipe, with which scores; one seed's scores have no
    band, and the card says so."""
    scores = "\n".join(f"| {name} | {value} |" for name, value in logs["best"].items())
    counts = "\n".join(
        f"- {split}: {', '.join(f'{name} {value}' for name, value in each.items() if value)}"
        for split, each in lock["counts"].items()
    )
    data = "\n".join(f"- {split}: `{digest}`" for split, digest in lock["data"].items())
    sources = "\n".join(
        f"Data of {each.name}: {each.source or 'see its publisher'}; licence: {each.licence or 'not stated'}."
        for each in tasks
    )
    languages = "\n".join(dict.fromkeys(f"- {each.language}" for each in tasks))
    where = "best/" if len(tasks) == 1 else "best/<task>/"
    return f"""---
language:
{languages}
library_name: transformers
---

# {", ".join(each.name for each in tasks)}

Fine-tuned by claf2 from the BaseConfig `{lock["base_config"]}`, seed {lock["seed"]}; best of the run's evaluations by
`{logs["metric_key"]}`, at step {logs["best_global_step"]}. They are one seed's and say nothing of the spread.

| score | value |
| --- | --- |
{scores}

Rows, and what was counted in them (`in_train`: rows of the training data):

{counts}

Recipe digest `{lock["recipe"]}`: scores of runs with another recipe are not comparable. SHA-256 of the data:

{data}

{sources}

`config.json` repeats the run, and `{where}` loads with `transformers`, by label name.
"""


def stages(rows: Mapping[str, tuple[str, Mapping[str, float | None]]]) -> str:
    """Return a Markdown table of what each task scored in each stage: task → the score's key, and stage → value."""
    columns = [name for name in ("single", "refined", "fine_tuned") if any(name in each for _, each in rows.values())]
    lines = ["| task | score | " + " | ".join(columns) + " |", "| --- " * (2 + len(columns)) + "|"]
    for task, (key, values) in rows.items():
        shown = ["–" if (value := values.get(name)) is None else f"{value:.1f}" for name in columns]
        lines.append(f"| {task} | {key} | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


def score(metrics: Sequence[Metric], predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
    """Return all scores of a task's metrics; nothing where the examples are unlabelled."""
    if any(prediction.gold is None for prediction in predictions):
        return {}
    scores: Scores = {}
    for metric in metrics:
        scores |= {key: value for key, value in metric.compute(predictions, labels).items() if key not in scores}
    return scores


def lower_is_better(metrics: Sequence[Metric], key: str) -> bool:
    """Say whether less of the score ``key`` is better: the loss always, others as their metric declares."""
    last = key.rsplit("/", 1)[-1]
    return last == "loss" or any(last in metric.lower_is_better for metric in metrics)
