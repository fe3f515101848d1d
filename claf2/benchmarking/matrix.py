"""The matrix of a bench: each model, task and seed is a cell, trained in its own folder, which says what it is.

There is no central record: a bench is what the folders of its cells hold. Two benches in one folder therefore cannot
disagree, and a process that dies loses only the cells that it was training.
"""

from __future__ import annotations

import glob
import logging
import re
import shutil
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from claf2 import config
from claf2.benchmarking.backends import Backend
from claf2.benchmarking.cells import Cell, CellResult, cell_dir, read_cell, write_cell
from claf2.benchmarking.exported_cells import check_export_words, export_cell, is_exported
from claf2.benchmarking.runs import CELL_FILE, METRICS
from claf2.benchmarking.variants import BEFORE_EXPORT, Variant
from claf2.config.source import parse_overrides
from claf2.errors import ChangedError, Claf2Error, Interrupted, RunError, RunInUseError
from claf2.runtime.files import write_text
from claf2.task import Suite

__all__ = [
    "BenchModel", "CellJob", "CellOutcome", "Progress", "find_checkpoints", "plan_cells", "run_bench", "run_cell",
]  # fmt: skip

BENCH_FIELDS = {"seed_num": "--seeds", "pretrained_model_name": "--models", "log_dir": "--out"}
"""The fields that a bench sets for each cell → the option to use instead."""

FAILURE_LOG = "failure.log"
"""The file of a cell's folder with the traceback of an error that no user can correct."""

logger = logging.getLogger("claf2")


@dataclass(frozen=True)
class BenchModel:
    """A model of a bench, or one checkpoint of its pre-training."""

    name: str
    weights: str
    """A hub id, folder, archive or URL."""
    step: int | None = None
    """The pre-training step of a checkpoint."""
    weights_digest: str | None = None
    """The digest of the weights, if it is known without reading them."""


@dataclass(frozen=True)
class CellJob:
    """A request to train a cell."""

    cell: Cell
    folder: str
    cpus: int | None = None
    """The number of threads; by default, that of the process."""
    keep: bool = True
    """Whether to keep the best checkpoint. The state for a resume is deleted in any case."""
    exports: tuple[tuple[Cell, str], ...] = ()
    """The cells that measure an export of this one, with their folders. They are made when it is trained."""
    weights_digest: str | None = None
    """The digest of the weights, if it is known without reading them."""


@dataclass(frozen=True)
class CellOutcome:
    """How a job ended."""

    failure: str = ""
    """Why there are no scores."""
    busy: bool = False
    """Another process is training the cell."""
    seconds: float = 0.0


@dataclass(frozen=True)
class Progress:
    """The progress of a bench."""

    total: int
    done: int
    failed: int
    running: int
    eta: float | None
    """The estimated seconds left, from the cells trained so far."""
    last: str = ""
    """The cell that ended last."""

    def format_line(self) -> str:
        """Return the progress as one line of a log."""
        minutes, seconds = divmod(round(self.eta or 0), 60)
        eta = "" if self.eta is None else f", {minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d} left"
        return f"[{self.done}/{self.total}] {self.running} running, {self.failed} failed{eta}  {self.last}".rstrip()


def find_checkpoints(pattern: str) -> list[BenchModel]:
    """Return the checkpoints that match a pattern such as ``dir/step-*``, sorted by the last number in their names.

    Raises:
        RunError: if nothing matches, or a name has no number.
    """
    models = []
    for path in sorted(glob.glob(pattern)):
        numbers = re.findall(r"\d+", Path(path).name)
        if not numbers:
            raise RunError(f"--checkpoints {pattern}: {path} has no step number in its name, such as step-100000")
        models.append(BenchModel(str(Path(path).parent), path, int(numbers[-1])))
    if not models:
        raise RunError(f"--checkpoints {pattern}: no such files or folders")
    return sorted(models, key=lambda model: (model.name, model.step or 0))


def plan_cells(
    suite: Suite, models: Sequence[BenchModel], *, tasks: Sequence[str] = (), seeds: Sequence[int], recipe: str,
    overrides: Sequence[str] = (), plugins: Sequence[str] = (), variants: Sequence[Variant] = (Variant(),),
) -> list[Cell]:  # fmt: skip
    """Return the cells of a matrix, seed by seed, so that every model has a score in every task early.

    Before an export of other fields than those of the recipe comes the cell that trains them.

    Args:
        suite: the suite.
        models: the models or checkpoints.
        tasks: tasks of the suite; all of them by default.
        seeds: the seeds.
        recipe: the suffix of the BaseConfigs' names.
        overrides: command-line arguments for every cell.
        plugins: files or modules to load before a cell is configured.
        variants: the variants of each model.

    Raises:
        RunError: if the suite has no such task or recipe, there is no seed, or an override sets a field that the bench
            sets.
    """
    if isinstance(seeds, int) or not seeds:
        raise RunError(f"seeds {seeds!r}: expected a list of seeds, such as [1, 2, 3]")
    selected = list(dict.fromkeys(tasks or suite.columns))
    unknown = [task for task in selected if task not in suite.columns]
    if unknown or recipe not in suite.recipes:
        known = list(suite.columns) if unknown else list(suite.recipes)
        raise RunError(f"suite {suite.name!r} has no {(unknown or [recipe])[0]!r}; it has {', '.join(known)}")
    for override in parse_overrides([*overrides, *(word for variant in variants for word in variant.overrides)]):
        field = override.key.rsplit(".", 1)[-1]
        if field in BENCH_FIELDS:
            raise RunError(f"--{override.key} is set for each cell: use {BENCH_FIELDS[field]}")
    return [
        Cell(
            suite.name, model.name, model.weights, task, seed, recipe, f"{suite.configs[task]}_{recipe}",
            (*overrides, *variant.overrides), model.step, tuple(plugins), variant.name, variant.export,
        )
        for seed in dict.fromkeys(seeds)
        for model in dict.fromkeys(models)
        for variant in _with_trained(variants)
        for task in selected
    ]  # fmt: skip


def _with_trained(variants: Sequence[Variant]) -> list[Variant]:
    """Return the variants, and those that train what others export."""
    trained = {variant.overrides for variant in variants if variant.export is None}
    complete: list[Variant] = []
    for variant in variants:
        if variant.overrides not in trained:
            complete.append(Variant(f"{variant.name}{BEFORE_EXPORT}", variant.overrides))
            trained.add(variant.overrides)
        complete.append(variant)
    return complete


def _make_jobs(cells: Sequence[Cell], out: Path, cpus: int | None, *, keep: bool) -> list[CellJob]:
    """Return a job for each cell that is trained, with the cells that are exports of it."""
    jobs = {replace(cell, variant=""): CellJob(cell, str(cell_dir(out, cell)), cpus, keep)
            for cell in cells if cell.export is None}  # fmt: skip
    for cell in cells:
        if cell.export is not None:
            run = replace(cell, variant="", export=None)
            jobs[run] = replace(jobs[run], exports=(*jobs[run].exports, (cell, str(cell_dir(out, cell)))))
    return list(jobs.values())


def run_bench(
    cells: Sequence[Cell], out: Path, *, backend: Backend, cpus: int | None = None, keep: bool = True,
    retries: int = 1, on_progress: Callable[[Progress], None] = lambda _: None,
) -> list[CellResult]:  # fmt: skip
    """Train the cells that are not finished, and return the results of all of them, in their order.

    Args:
        cells: the cells.
        out: the folder of the bench.
        backend: trains the cells.
        cpus: threads per cell; the last digits of scores can depend on them.
        keep: keep the best checkpoint of each cell, not only its scores and predictions.
        retries: how often a cell is trained again after it failed or its process died.
        on_progress: called whenever a cell has ended.

    Raises:
        ConfigError: if a cell cannot be configured; nothing is trained then.
        Interrupted: after Ctrl-C; the runs in progress have saved their state.
    """
    folders = [cell_dir(out, cell) for cell in cells]
    for words in {cell.export for cell in cells if cell.export is not None}:
        check_export_words(words)
    pending = list({job.folder: job for job in _make_jobs(cells, out, cpus, keep=keep)}.values())
    for job in pending:
        _announce_exports(job)
    total, done, trained, seconds = len(pending), 0, 0, 0.0
    finished = {job.folder: _finished_at(job) for job in pending}
    untrained = {folder for folder, when in finished.items() if when is None}
    for attempt in range(retries + 1):
        failed: list[CellJob] = []
        for job, outcome in backend.map(run_cell, pending):
            failure = "its process died" if outcome is None else outcome.failure
            if outcome is None:
                write_cell(Path(job.folder), job.cell, failure)
            elif not failure and not outcome.busy and _finished_at(job) != finished[job.folder]:
                trained, seconds = trained + 1, seconds + outcome.seconds
            if failure:
                logger.warning("%s, %s, seed %d: %s", job.cell.model, job.cell.task, job.cell.seed, failure)
                failed.append(job)
            if not failure or attempt == retries:
                done += 1
                untrained.discard(job.folder)
            on_progress(
                Progress(
                    total, done, len(failed), min(total - done, backend.workers),
                    len(untrained) * seconds / trained / backend.workers if trained else None,
                    f"{job.cell.model} {job.cell.task} seed {job.cell.seed}{': failed' if failure else ''}",
                )
            )  # fmt: skip
        pending = failed
        if not pending:
            break
    return [read_cell(folder) for folder in folders]


def _announce_exports(job: CellJob, failure: str = "") -> None:
    """Write which cells measure an export of a job's cell, for those that are not finished."""
    for cell, place in job.exports:
        if failure or not (Path(place) / CELL_FILE).is_file():
            write_cell(Path(place), cell, failure)


def _finished_at(job: CellJob) -> int | None:
    """Return when the run of a cell was finished, in nanoseconds; ``None`` if it is not."""
    path = Path(job.folder) / METRICS
    return path.stat().st_mtime_ns if path.is_file() else None


def run_cell(job: CellJob) -> CellOutcome:
    """Train one cell in its folder.

    A finished run is used as it is, an interrupted one is resumed, and one with other data or weights is trained again.
    """
    started = time.monotonic()
    try:
        failure = _train_cell(job)
        if failure:
            _announce_exports(job, f"the run that it exports failed: {failure}")
        failure = failure or _export_cells(job)
        if not failure and not job.keep:
            shutil.rmtree(Path(job.folder) / "best", ignore_errors=True)
    except RunInUseError:  # a killed process blocks no cell: its lock ends with it
        return CellOutcome(busy=True)
    return CellOutcome(failure, seconds=time.monotonic() - started)


def _train_cell(job: CellJob) -> str:
    """Train a cell, and return why it failed, or an empty text.

    Raises:
        RunInUseError: when another process is training it.
        Interrupted: after Ctrl-C or a signal.
    """
    import torch

    from claf2.runs import train as training
    from claf2.runtime.device import reset_peak_memory

    folder, threads = Path(job.folder), torch.get_num_threads()
    unexported = [cell for cell, place in job.exports if not is_exported(folder, Path(place))]
    is_lost = bool(unexported) and (folder / METRICS).is_file() and not (folder / "best").is_dir()
    if is_lost:
        logger.warning("%s is trained again: its weights were not kept, and are needed for an export", folder)
    write_cell(folder, job.cell, "")
    reset_peak_memory()
    try:
        if job.cpus:
            torch.set_num_threads(job.cpus)
        arguments = [*job.cell.arguments(), "--log_dir", str(folder)]
        experiment = config.load(job.cell.base_config, arguments, job.cell.plugins)
        try:
            # An earlier bench may have deleted the best checkpoint, and `last/` is deleted below.
            training.train(
                experiment, resume=not is_lost, overwrite=is_lost, needs_best=bool(unexported), needs_last=False,
                is_last=False,
            )  # fmt: skip
        except ChangedError as error:
            logger.warning("%s is trained again: %s", folder, error)
            training.train(experiment, overwrite=True, needs_last=False, is_last=False)
        shutil.rmtree(folder / "last", ignore_errors=True)
        (folder / FAILURE_LOG).unlink(missing_ok=True)
    except (Interrupted, RunInUseError):
        raise
    except Exception as error:  # noqa: BLE001 whatever went wrong, the other cells can still be trained
        return _record_failure(folder, job.cell, error)
    finally:
        torch.set_num_threads(threads)
    return ""


def _export_cells(job: CellJob) -> str:
    """Make the exports of a cell that was trained, and return why one failed, or an empty text."""
    failures = []
    for cell, place in job.exports:
        folder = Path(place)
        if is_exported(Path(job.folder), folder):
            continue
        assert cell.export is not None
        write_cell(folder, cell, "")
        try:
            export_cell(Path(job.folder), folder, cell.export, keep=job.keep)
            (folder / FAILURE_LOG).unlink(missing_ok=True)
        except Interrupted:
            raise
        except Exception as error:  # noqa: BLE001 as for a cell that is trained
            failures.append(_record_failure(folder, cell, error))
    return failures[0] if failures else ""


def _record_failure(folder: Path, cell: Cell, error: Exception) -> str:
    """Write into the folder of a cell why it failed, and return it."""
    failure = str(error)
    if not isinstance(error, Claf2Error | OSError):
        failure = f"{type(error).__name__}: {failure}; its traceback is in {folder / FAILURE_LOG}"
        with suppress(OSError):
            write_text(folder / FAILURE_LOG, traceback.format_exc())
    write_cell(folder, cell, failure)
    return failure
