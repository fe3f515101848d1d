"""Two models side by side: what differs in config and data, then for each task whether a difference may be chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claf2.bench import statistics
from claf2.bench.runs import TaskRuns, below
from claf2.bench.statistics import Difference, Verdict, holm, verdict
from claf2.errors import RunError
from claf2.metrics import Prediction
from claf2.overrides import leaves

__all__ = ["Comparison", "Swing", "TaskComparison", "compare", "markdown"]

VARIES = ("seed_num", "trainer.log_dir", "runtime.", "plugins", "trainer.verbose_step_count")
"""Fields that runs of one recipe may differ in without a word; the model is named besides."""


@dataclass(frozen=True)
class Swing:
    """An example that changed sides: how many of each model's runs have it right, and what they say."""

    id: str
    gold: Any
    first: float
    """The share of the first model's runs that have it right."""
    second: float
    said: tuple[Any, Any]
    """What a run of each says of it, the first seed's."""


@dataclass(frozen=True)
class TaskComparison:
    """One task of both models."""

    task: str
    score: str
    means: tuple[float, float]
    difference: Difference
    p: float
    """Holm's, corrected for the number of tasks."""
    verdict: Verdict
    gained: Sequence[Swing]
    """Examples that most runs of the second model have right, and most of the first wrong; the clearest first."""
    lost: Sequence[Swing]
    collapsed: Mapping[str, str]
    """Runs that learnt nothing, and why."""


@dataclass(frozen=True)
class Comparison:
    """Two models on the tasks that both have runs of."""

    names: tuple[str, str]
    differences: Sequence[str]
    """What differs in config and data."""
    forced: bool
    """The recipes differ, so that no difference says anything of the models alone."""
    tasks: Sequence[TaskComparison]
    missing: Sequence[str]
    """Tasks that only one of them has runs of."""


def compare(first: Path, second: Path, *, force: bool = False, level: float = 0.95, margin: float = 2.0) -> Comparison:
    """Compare the runs of two folders, each a run or a folder of runs of one model.

    Args:
        force: compare scores of different recipes, and say so.
        level: the coverage of intervals; verdicts are held against ``1 - level`` after Holm's correction.
        margin: a difference of this many points is one that the comparison should be able to find.

    Raises:
        Claf2Error: when recipes differ and it is not forced, when data differ, or a score is undefined.
    """
    one, other = below(first), below(second)
    shared = [task for task in one if task in other]
    if not shared:
        raise RunError(f"{first} has runs of {', '.join(one)}, {second} of {', '.join(other)}: none in common")
    differences = [line for task in shared for line in _differences(task, one[task], other[task])]
    recipes = [task for task in shared if one[task].recipe != other[task].recipe]
    for task in shared:
        if one[task].data.get("valid") != other[task].data.get("valid"):
            raise RunError(f"{task}: the two were judged on different data, and cannot be compared")
    if recipes and not force:
        named = "; ".join(differences[:4]) or "see config.json of both"
        raise RunError(
            f"{recipes[0]}: the two have different recipes, whose scores must not be compared ({named}); --force does, "
            "and says so"
        )
    found = {task: statistics.compare(one[task].runs(), other[task].runs(), level=level) for task in shared}
    corrected = holm({task: each.p for task, each in found.items()})
    words = {task: verdict(each, p=corrected[task], margin=margin) for task, each in found.items()}
    tasks = [_task(task, one[task], other[task], found[task], corrected[task], words[task]) for task in shared]
    missing = [f"{task} ({first if task in one else second} only)" for task in one.keys() ^ other.keys()]
    return Comparison((str(first), str(second)), differences, bool(recipes), tasks, sorted(missing))


def _task(
    task: str, one: TaskRuns, other: TaskRuns, difference: Difference, p: float, found: Verdict
) -> TaskComparison:
    swings = _swings(one, other)
    gained = sorted((each for each in swings if each.second > 0.5 > each.first), key=lambda s: s.first - s.second)
    lost = sorted((each for each in swings if each.first > 0.5 > each.second), key=lambda s: s.second - s.first)
    collapsed = {
        f"{task}, seed {seed.number} ({seed.folder})": why
        for runs in (one, other)
        for seed in runs.seeds
        if (why := statistics.collapsed(runs.metric, seed.predictions, runs.task.labels))
    }
    means = (float(one.runs().scores.mean()), float(other.runs().scores.mean()))
    return TaskComparison(task, one.metric.selects, means, difference, p, found, gained, lost, collapsed)


def _differences(task: str, one: TaskRuns, other: TaskRuns) -> list[str]:
    here, there = (dict(leaves(dict(each.seeds[0].values))) for each in (one, other))
    lines = [
        f"{task}: {path}: {here.get(path)!r} and {there.get(path)!r}"
        for path in dict.fromkeys([*here, *there])
        if here.get(path) != there.get(path)
        and not (path.startswith(VARIES) or path.endswith(".pretrained_model_name"))
    ]
    lines += [
        f"{task}: data of {split} differ"
        for split in dict.fromkeys([*one.data, *other.data])
        if one.data.get(split) != other.data.get(split)
    ]
    if one.task.identity() != other.task.identity():
        lines.append(f"{task}: the task's reader, labels or metrics differ")
    return lines


def _swings(one: TaskRuns, other: TaskRuns) -> list[Swing]:
    return [
        Swing(
            mine[0].id, mine[0].gold,
            sum(map(_right, mine)) / len(mine), sum(map(_right, theirs)) / len(theirs),
            (mine[0].prediction, theirs[0].prediction),
        )
        for mine, theirs in zip(_by_example(one), _by_example(other), strict=True)
    ]  # fmt: skip


def _by_example(runs: TaskRuns) -> list[tuple[Prediction, ...]]:
    return list(zip(*(seed.predictions for seed in runs.seeds), strict=True))


def _right(prediction: Prediction) -> bool:
    """Say whether an answer is the gold one, or among those that are accepted; numbers to within half a point."""
    gold, told = prediction.gold, prediction.prediction
    if isinstance(gold, float) and isinstance(told, float):
        return abs(gold - told) <= 0.5
    return bool(gold == told or (isinstance(gold, list) and isinstance(told, str) and told in (gold or [""])))


def markdown(found: Comparison, *, examples: int = 3) -> str:
    """Return a comparison as Markdown: what differs first, then the tasks, then examples that changed sides."""
    first, second = found.names
    parts = [f"# {second} against {first}"]
    if found.forced:
        parts.append("**FORCED: the recipes differ, so no difference below says anything of the models alone.**")
    if found.differences:
        lines = "\n".join(f"- {line}" for line in found.differences)
        parts.append(f"What differs besides seeds and folders:\n\n{lines}")
    rows = [
        "| task | score | first | second | difference, 95 % interval | p (Holm) | detectable | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for each in found.tasks:
        d = each.difference
        rows.append(
            f"| {each.task} | {each.score} | {each.means[0]:.2f} | {each.means[1]:.2f} | {d.value:+.2f} "
            f"({d.low:+.2f} to {d.high:+.2f}) | {each.p:.3f} | {d.detectable:.1f} | {each.verdict} |"
        )
    rows[0] = rows[0].replace("95", f"{100 * found.tasks[0].difference.level:.3g}")
    parts.append("\n".join(rows))
    parts += _notes(found)
    for each in found.tasks:
        parts.append(_sides(each, examples))
    return "\n\n".join(part for part in parts if part) + "\n"


def _notes(found: Comparison) -> list[str]:
    lines = []
    for each in found.tasks:
        d = each.difference
        if d.about == "runs":
            lines.append(f"- {each.task}: one seed each, so this is about these two runs ({d.test}), not the models.")
        elif d.borrowed:
            lines.append(f"- {each.task}: one model has one seed; the other's spread was taken for both.")
        lines += [f"- collapsed: {run}: {why}" for run, why in each.collapsed.items()]
    lines += [f"- not compared: {each}" for each in found.missing]
    return ["\n".join(lines)] if lines else []


def _sides(each: TaskComparison, examples: int) -> str:
    if not (each.gained or each.lost) or not examples:
        return ""
    lines = [f"{each.task}: {len(each.gained)} examples gained, {len(each.lost)} lost (by most of the runs)", ""]
    for word, swings in (("gained", each.gained), ("lost", each.lost)):
        lines += [
            f"- {word} `{swing.id}` (gold {swing.gold!r}): {swing.said[0]!r} → {swing.said[1]!r}, right in "
            f"{100 * swing.first:.0f} % → {100 * swing.second:.0f} % of the runs"
            for swing in swings[:examples]
        ]
    return "\n".join(lines)
