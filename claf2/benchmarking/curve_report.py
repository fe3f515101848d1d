"""The curve of a watched pre-training as files and sentences."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from claf2.benchmarking.cell_queue import CellQueue, CellState, QueuedCell
from claf2.benchmarking.curve import (
    Change,
    CheckpointCurve,
    CheckpointScores,
    CheckpointVerdict,
    CurveAnalysis,
    CurveScore,
)
from claf2.benchmarking.runs import ScoredRuns
from claf2.errors import Claf2Error
from claf2.evaluation.predictions import predictions_path, read_predictions
from claf2.runtime.files import write_json, write_text
from claf2.task import tasks

__all__ = ["CURVE_FILE", "CurveReport", "format_curve", "format_verdict", "read_verdicts"]

CURVE_FILE = "curve.json"
"""The file in the folder of a bench with the curve of the watched model."""

VERDICTS = "verdicts"
"""The folder in it with what was told about each checkpoint."""

logger = logging.getLogger("claf2")


@dataclass
class CurveReport:
    """Analyzes the curve when cells have ended, writes ``curve.json`` and ``curve.md``, and tells each verdict once.

    What was told is in the folder ``verdicts``, so that neither a watch that is started again nor a second one repeats
    it.

    Args:
        out: the folder of the bench.
        suite: the name of the suite.
        model: the name of the model.
        analysis: of the curve.
        on_verdict: called with every new verdict: the curve, whose last points and verdicts are those of the
            checkpoint, and the sentence that says it.
    """

    out: Path
    suite: str
    model: str
    analysis: CurveAnalysis
    on_verdict: Sequence[Callable[[CheckpointCurve, str], None]] = ()
    _points: dict[int, CheckpointScores] = field(default_factory=dict)
    _measured: dict[int, list[str]] = field(default_factory=dict)
    """Step → the folders of the cells whose scores are in its point."""
    _settled: set[int] = field(default_factory=set)
    """The steps whose verdict was given, and those that have none."""

    def update(self, queue: CellQueue) -> None:
        """Look at what has ended since the last call. A checkpoint is analyzed when all its cells of a seed, or all
        its cells, have ended."""
        changed = [step for step in queue.steps if self._measure(step, queue)]
        if changed:
            self._write()
        for step in queue.steps:
            if step in self._settled:
                continue
            if not queue.has_ended(step):
                break  # the verdict of a checkpoint waits for those before it
            self._settled.add(step)
            runs = _load_runs(_done(queue.cells(step)))
            if runs and not any(step <= other for other in self.analysis.steps):
                self.analysis.add(step, runs)
                self._write()
                self._tell(step, queue)

    def curve(self) -> CheckpointCurve:
        """Return the curve as it is known."""
        return self.analysis.curve(self.suite, self.model, [self._points[step] for step in sorted(self._points)])

    def _measure(self, step: int, queue: CellQueue) -> bool:
        """Compute the scores of a checkpoint if more of its cells have ended, and say whether it was so."""
        cells = queue.cells(step)
        whole = queue.has_ended(step)
        waiting = {queued.cell.seed for queued in cells if queued.state in (CellState.WAITING, CellState.RUNNING)}
        done = [queued for queued in _done(cells) if whole or queued.cell.seed not in waiting]
        folders = [str(queued.folder) for queued in done]
        if not done or self._measured.get(step) == [*folders, str(whole)]:
            return False
        self._measured[step] = [*folders, str(whole)]
        try:
            self._points[step] = self.analysis.scores(step, _load_runs(done), complete=whole)
        except Claf2Error as error:  # undefined in many resamples
            logger.warning("step %d has no score in the curve: %s", step, error)
            self._points[step] = CheckpointScores(step, None, {}, whole)
        return True

    def _write(self) -> None:
        curve = self.curve()
        write_json(self.out / CURVE_FILE, asdict(curve))
        write_text(self.out / "curve.md", format_curve(curve))

    def _tell(self, step: int, queue: CellQueue) -> None:
        curve = self.curve()
        text = format_verdict(curve, step)
        try:
            path = self.out / VERDICTS / f"{step:09d}.txt"
            path.parent.mkdir(exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(f"{text}\n")
        except FileExistsError:
            if path.read_text(encoding="utf-8").strip() == text:
                # Told before the watch was started again, or by another watch of this folder.
                logger.info("%s", text)
                return
            write_text(path, f"{text}\n")  # of other seeds or tasks, or before a cell was repaired
        for listener in self.on_verdict:
            try:
                listener(curve, text)
            except Exception as error:  # noqa: BLE001 whoever listens must not end the watch
                logger.warning("the verdict on step %d could not be passed on: %s", step, error)


def _done(cells: Sequence[QueuedCell]) -> list[QueuedCell]:
    return [queued for queued in cells if queued.state is CellState.DONE and queued.folder is not None]


def _load_runs(done: Sequence[QueuedCell]) -> dict[str, ScoredRuns]:
    """Return the runs of a checkpoint by task, without the tasks in which a score is undefined."""
    runs = {}
    for task in dict.fromkeys(queued.cell.task for queued in done):
        folders = [queued.folder for queued in done if queued.cell.task == task and queued.folder is not None]
        definition = tasks.get(task)
        try:
            predictions = [read_predictions(predictions_path(folder, task, "valid")) for folder in folders]
            scored = ScoredRuns.from_predictions(definition.metrics[0], predictions, definition.labels)
            _ = scored.scores
            runs[task] = scored
        except (Claf2Error, OSError) as error:
            logger.warning("%s of step %s is left out of the curve: %s", task, done[0].cell.step, error)
    return runs


def read_verdicts(out: Path) -> list[str]:
    """Return the sentences that a watch has told about the checkpoints in the folder of its bench, by step."""
    return [path.read_text(encoding="utf-8").strip() for path in sorted((out / VERDICTS).glob("*.txt"))]


def short_step(step: int) -> str:
    """Return the number of a step as it is said: ``300k``."""
    return f"{step // 1000}k" if step and step % 1000 == 0 else str(step)


def format_verdict(curve: CheckpointCurve, step: int) -> str:
    """Return what is known about a checkpoint as one sentence."""
    point = next(point for point in curve.points if point.step == step)
    parts = [f"step {short_step(step)}: average {_format_score(point.average)}"]
    previous, best = (_find(verdicts, step) for verdicts in (curve.previous, curve.best))
    if previous:
        parts.append(f"{_format_change(previous.average)} since {short_step(previous.reference)}")
        parts += _format_tasks(previous.tasks)
    if best and previous and best.reference != previous.reference:
        parts.append(f"against the best, {short_step(best.reference)}: {_format_change(best.average)}")
    if best and best.average and best.average.verdict == "worse":
        parts.append(f"a real drop since {short_step(best.reference)}")
    if curve.plateau_since is not None and previous and previous.step == curve.previous[-1].step:
        parts.append(
            f"plateau since {short_step(curve.plateau_since)} (gain below {curve.tolerance:g}): more steps may not pay"
        )
    return "; ".join(parts)


def _find(verdicts: Sequence[CheckpointVerdict], step: int) -> CheckpointVerdict | None:
    return next((verdict for verdict in verdicts if verdict.step == step), None)


def _format_score(score: CurveScore | None) -> str:
    if score is None:
        return "unknown"
    return f"{score.value:.1f}" + ("" if score.high is None else f" ± {score.high - score.value:.1f}")


def _format_change(change: Change | None) -> str:
    if change is None:
        return "no average to compare"
    verdict = "no evidence of a change" if change.verdict == "no evidence" else f"really {change.verdict}"
    return f"{change.value:+.1f} ({verdict}{' of these two runs' if change.about == 'runs' else ''})"


def _format_tasks(changes: Mapping[str, Change]) -> list[str]:
    """Name the tasks by verdict; those without evidence last."""
    parts = []
    for verdict in ("better", "worse"):
        names = [f"{task} {change.value:+.1f}" for task, change in changes.items() if change.verdict == verdict]
        parts += [f"{verdict} in {', '.join(names)}"] if names else []
    unclear = [task for task, change in changes.items() if change.verdict == "no evidence"]
    return parts + ([f"no evidence in {', '.join(unclear)}"] if unclear else [])


def format_curve(curve: CheckpointCurve) -> str:
    """Return a curve as Markdown: scores by step, the verdicts, and what they may be wrong in."""
    header = ["step", "average", *curve.tasks, "since the previous", "since the best"]
    lines = [header, ["---"] * len(header)]
    for point in curve.points:
        previous, best = (_find(verdicts, point.step) for verdicts in (curve.previous, curve.best))
        lines.append(
            [
                f"{point.step}{'' if point.complete else ' (not complete)'}",
                _format_score(point.average) if point.average else "",
                *(_format_score(point.tasks[task]) if task in point.tasks else "" for task in curve.tasks),
                _format_change(previous.average) if previous else "",
                f"{short_step(best.reference)}: {_format_change(best.average)}" if best else "",
            ]
        )
    parts = [f"# {curve.model} on {curve.suite}", "\n".join("| " + " | ".join(line) + " |" for line in lines)]
    settled = {verdict.step for verdict in curve.previous}
    parts += [f"- {format_verdict(curve, point.step)}" for point in curve.points if point.step in settled]
    rate = f"{100 * curve.error_rate:g}"
    parts.append(
        "Mean over seeds ± half of the 95 % interval over seeds and examples. The average is that of the deciding "
        "scores. Verdicts are corrected for all checkpoints of the curve, those to come included. In at most "
        f"{rate} of 100 curves, a verdict on the average against the previous checkpoint is wrong; the same holds for "
        "the verdicts against the best checkpoint, for those on single tasks, and for plateaus."
    )
    return "\n\n".join(parts) + "\n"
