"""The comparison of two models: what differs in config and data, then for each task whether the scores differ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from claf2.benchmarking.runs import TaskRuns, collapse_reason, load_runs
from claf2.benchmarking.statistics import Difference, Verdict, classify_difference, compare_runs, holm_correction
from claf2.benchmarking.summary import FULL
from claf2.config.source import iter_leaves
from claf2.errors import Claf2Error, RunError
from claf2.metrics import Metric, Prediction

__all__ = [
    "Comparison", "Flip", "TaskComparison", "compare_models", "compare_task_runs", "format_comparison", "list_flips",
    "list_notes",
]  # fmt: skip

IGNORED_FIELDS = ("seed_num", "trainer.log_dir", "runtime.", "plugins", "trainer.verbose_step_count")
"""The fields whose differences are not listed: they differ between runs of one recipe."""


@dataclass(frozen=True)
class Flip:
    """How often the runs of two models have an example right."""

    id: str
    gold: object
    first: float
    """The share of the first model's runs that have the example right."""
    second: float
    predictions: tuple[object, object]
    """What each model predicts with its first seed."""

    @property
    def is_gained(self) -> bool:
        """Whether most runs of the second model have it right, and most of the first wrong."""
        return self.second > 0.5 > self.first

    @property
    def is_lost(self) -> bool:
        """Whether most runs of the first model have it right, and most of the second wrong."""
        return self.first > 0.5 > self.second


@dataclass(frozen=True)
class TaskComparison:
    """The comparison of two models on one task."""

    task: str
    score: str
    means: tuple[float, float]
    difference: Difference
    p: float
    """Holm's p value, corrected for the number of tasks."""
    verdict: Verdict
    gained: Sequence[Flip]
    """Examples that most runs of the second model have right and most of the first wrong, clearest first."""
    lost: Sequence[Flip]
    """Examples that most runs of the first model have right and most of the second wrong, clearest first."""
    collapsed: Mapping[str, str]
    """Run → why it counts as collapsed."""


@dataclass(frozen=True)
class Comparison:
    """The comparison of two models on the tasks that both have runs of."""

    names: tuple[str, str]
    differences: Sequence[str]
    """What differs in config and data."""
    forced: bool
    """The recipes differ, so that differences of scores cannot be attributed to the models."""
    tasks: Sequence[TaskComparison]
    variants: tuple[str, str] | None
    """The names of two variants of one recipe, which differ in config on purpose; ``None``: they are no variants."""
    missing: Sequence[str]
    """The tasks that only one model has runs of, and those that cannot be compared, each with the reason."""


def compare_models(
    first_dir: Path, second_dir: Path, *, force: bool = False, level: float = 0.95, margin: float = 2.0
) -> Comparison:
    """Compare the runs in two folders, each of which is a run or holds the runs of one model.

    Args:
        first_dir: the model compared with.
        second_dir: the model under test.
        force: compare scores of different recipes as well; the result says so.
        level: the coverage of intervals. Differences are significant at ``1 - level`` after Holm's correction.
        margin: the difference in points that the comparison should be able to find.

    Raises:
        Claf2Error: if recipes differ and ``force`` is not set, data differ, no task has a score in both, or an argument
            is out of range.
    """
    if first_dir.resolve() == second_dir.resolve():
        raise RunError(f"{first_dir} is given twice: name two folders, one for each model")
    names = str(first_dir), str(second_dir)
    return compare_task_runs(
        names, load_runs(first_dir), load_runs(second_dir), force=force, level=level, margin=margin
    )


def compare_task_runs(
    names: tuple[str, str], first: Mapping[str, TaskRuns], second: Mapping[str, TaskRuns], *, force: bool = False,
    level: float = 0.95, margin: float = 2.0,
) -> Comparison:  # fmt: skip
    """Compare the runs of two models.

    Args:
        names: the names of the models.
        first: task → runs of the model compared with.
        second: task → runs of the model under test.
        force: as in ``compare_models``.
        level: as in ``compare_models``.
        margin: as in ``compare_models``.

    Raises:
        Claf2Error: as ``compare_models`` does.
    """
    if not (0.5 <= level < 1 and 0 <= margin < math.inf):  # also false for NaN
        raise RunError(f"level {level} and margin {margin}: expected a level in [0.5, 1) and a margin from 0")
    shared = [task for task in first if task in second]
    if not shared:
        raise RunError(f"no task in common: {names[0]} has {', '.join(first)}, {names[1]} has {', '.join(second)}")
    config_differences = [line for task in shared for line in _list_differences(task, first[task], second[task])]
    other_recipes = [task for task in shared if first[task].recipe != second[task].recipe]
    for task in shared:
        if first[task].data.get("valid") != second[task].data.get("valid"):
            raise RunError(f"{task}: the models were evaluated on different data; evaluate both on the same files")
    variants = _variant_names(first, second)
    if other_recipes and not force and variants is None:
        listed = "; ".join(config_differences[:4]) or "see config.json of both"
        raise RunError(
            f"{other_recipes[0]}: the models have different recipes, so their scores are not comparable ({listed}); "
            "use --force to compare them anyway"
        )
    missing = [f"{task} ({names[0] if task in first else names[1]} only)" for task in first.keys() ^ second.keys()]
    differences: dict[str, Difference] = {}
    for task in shared:
        try:
            differences[task] = compare_runs(first[task].scored(), second[task].scored(), level=level)
        except Claf2Error as error:  # a run without a score must not hide the other tasks
            missing.append(f"{task} ({error})")
    if not differences:
        raise RunError(f"there is nothing to compare: {'; '.join(missing)}")
    p_values = holm_correction({task: difference.p for task, difference in differences.items()})
    tasks = [
        _compare_task(task, first[task], second[task], difference, p_values[task], margin)
        for task, difference in differences.items()
    ]
    forced = bool(other_recipes) and variants is None
    return Comparison(names, config_differences, forced, tasks, variants, sorted(missing))


def _variant_names(first: Mapping[str, TaskRuns], second: Mapping[str, TaskRuns]) -> tuple[str, str] | None:
    """Return the names of the variants, if both are one each of the same weights."""

    def describe(runs_by_task: Mapping[str, TaskRuns]) -> set[tuple[str, object]]:
        return {
            (runs.variant, value)
            for runs in runs_by_task.values()
            for path, value in iter_leaves(runs.seed_runs[0].config)
            if path.endswith(".pretrained_model_name")
        }

    described = describe(first), describe(second)
    if any(len(pairs) != 1 for pairs in described):
        return None
    ((first_name, first_weights),), ((second_name, second_weights),) = described
    if first_weights != second_weights or first_name == second_name:
        return None
    if not (first_name and second_name) and not _adds_to_recipe(first, second):
        return None
    return first_name or FULL, second_name or FULL


def _adds_to_recipe(first: Mapping[str, TaskRuns], second: Mapping[str, TaskRuns]) -> bool:
    """Say whether one side is the recipe itself and the other one sets further fields of it."""
    for task in first.keys() & second.keys():
        full, variant = sorted((first[task], second[task]), key=lambda runs: bool(runs.variant))
        if variant.overrides[: len(full.overrides)] != full.overrides:
            return False
    return True


def _compare_task(
    task: str, first: TaskRuns, second: TaskRuns, difference: Difference, p: float, margin: float
) -> TaskComparison:
    flips = list_flips(first.metric, *([run.predictions for run in runs.seed_runs] for runs in (first, second)))
    gained = [flip for flip in flips if flip.is_gained]
    lost = [flip for flip in flips if flip.is_lost]
    collapsed = {
        f"{task}, seed {run.seed} ({run.folder})": reason
        for runs in (first, second)
        for run in runs.seed_runs
        if (reason := collapse_reason(runs.metric, run.predictions, runs.task.labels))
    }
    scored = first.scored(), second.scored()
    return TaskComparison(
        task=task,
        score=first.metric.selects,
        means=(float(scored[0].scores.mean()), float(scored[1].scores.mean())),
        difference=difference,
        p=p,
        verdict=classify_difference(difference, p=p, margin=margin * scored[0].scale / 100.0),
        gained=sorted(gained, key=lambda flip: flip.first - flip.second),
        lost=sorted(lost, key=lambda flip: flip.second - flip.first),
        collapsed=collapsed,
    )


def _list_differences(task: str, first: TaskRuns, second: TaskRuns) -> list[str]:
    first_config, second_config = (dict(iter_leaves(runs.seed_runs[0].config)) for runs in (first, second))
    lines = [
        f"{task}: {path}: {first_config.get(path)!r} and {second_config.get(path)!r}"
        for path in dict.fromkeys([*first_config, *second_config])
        if first_config.get(path) != second_config.get(path)
        # The model is what is compared, and is named in the title.
        and not (path.startswith(IGNORED_FIELDS) or path.endswith(".pretrained_model_name"))
    ]
    lines += [
        f"{task}: data of {split} differ"
        for split in dict.fromkeys([*first.data, *second.data])
        if first.data.get(split) != second.data.get(split)
    ]
    if first.task.identity() != second.task.identity():
        lines.append(f"{task}: the task's reader, labels or metrics differ")
    return lines


def list_flips(
    metric: Metric, first: Sequence[Sequence[Prediction]], second: Sequence[Sequence[Prediction]]
) -> list[Flip]:
    """Return for each example how often the runs of each model have it right.

    Args:
        metric: says which predictions are right.
        first: the predictions of each run of the first model.
        second: the same for the second model, on the same examples.
    """
    return [
        Flip(
            before[0].id, before[0].gold, fmean(map(metric.is_right, before)), fmean(map(metric.is_right, after)),
            (before[0].prediction, after[0].prediction),
        )
        for before, after in zip(zip(*first, strict=True), zip(*second, strict=True), strict=True)
    ]  # fmt: skip


def format_comparison(comparison: Comparison, *, examples: int = 3) -> str:
    """Return a comparison as Markdown: what differs in config and data, the tasks, then the flipped examples.

    Args:
        comparison: the comparison.
        examples: how many gained and lost examples are shown of each task.
    """
    first, second = comparison.names
    parts = [f"# {second} against {first}"]
    if comparison.forced:
        parts.append("**FORCED: the recipes differ, so no difference below can be attributed to the models alone.**")
    if comparison.variants:
        parts.append(f"Variants of one recipe: {comparison.variants[0]} and {comparison.variants[1]}.")
    if comparison.differences:
        lines = "\n".join(f"- {line}" for line in comparison.differences)
        parts.append(f"Differences besides seeds and folders:\n\n{lines}")
    interval = f"{100 * comparison.tasks[0].difference.level:.3g} % interval"
    rows = [
        f"| task | score | first | second | difference, {interval} | p (Holm) | detectable | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for task in comparison.tasks:
        difference = task.difference
        rows.append(
            f"| {task.task} | {task.score} | {task.means[0]:.2f} | {task.means[1]:.2f} | {difference.value:+.2f} "
            f"({difference.low:+.2f} to {difference.high:+.2f}) | {task.p:.3f} | {difference.detectable:.1f} | "
            f"{task.verdict} |"
        )
    parts += ["\n".join(rows), "\n".join(f"- {note}" for note in list_notes(comparison))]
    parts += [_format_flips(task, examples) for task in comparison.tasks]
    return "\n\n".join(part for part in parts if part) + "\n"


def list_notes(comparison: Comparison) -> list[str]:
    """Return what limits a comparison: tasks with one seed, collapsed runs, tasks that cannot be compared."""
    lines = []
    for task in comparison.tasks:
        difference = task.difference
        if difference.about == "runs":
            lines.append(
                f"{task.task}: one seed each, so the result holds for these two runs ({difference.test}), not for "
                "the models."
            )
        elif difference.borrowed:
            lines.append(f"{task.task}: one model has one seed, so the other's variance over seeds is used for both.")
        lines += [f"collapsed: {run}: {reason}" for run, reason in task.collapsed.items()]
    lines += [f"not compared: {task}" for task in comparison.missing]
    return lines


def _format_flips(task: TaskComparison, examples: int) -> str:
    if not (task.gained or task.lost) or not examples:
        return ""
    lines = [f"{task.task}: {len(task.gained)} examples gained, {len(task.lost)} lost (by most of the runs)", ""]
    for direction, flips in (("gained", task.gained), ("lost", task.lost)):
        lines += [
            f"- {direction} `{flip.id}` (gold {flip.gold!r}): {flip.predictions[0]!r} → {flip.predictions[1]!r}, "
            f"right in {100 * flip.first:.0f} % → {100 * flip.second:.0f} % of the runs"
            for flip in flips[:examples]
        ]
    return "\n".join(lines)
