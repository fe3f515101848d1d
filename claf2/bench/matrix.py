"""The matrix of a bench: every model, task and seed is a cell, trained in a folder of its own that says what it is.

There is no central record: a bench is what its cells' folders hold, so that two of them in one folder cannot disagree,
and a process that dies loses the cells that it was training.
"""

from __future__ import annotations

import fcntl
import glob
import logging
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from claf2 import config
from claf2.bench.backends import Backend
from claf2.errors import ChangedError, Interrupted, RunError
from claf2.overrides import parse_arguments
from claf2.registry import digest
from claf2.store import read_json, write_json
from claf2.task import Suite

__all__ = ["Cell", "Job", "Measured", "Model", "Outcome", "Progress", "cells", "checkpoints", "found", "measure", "run"]

GIVEN = {"seed_num": "--seeds", "pretrained_model_name": "--models", "log_dir": "--out"}
"""Fields that a bench sets itself, and the option that says them."""

IDENTITY = "cell.json"

DETERMINES = ("experiment", "data", "tokenizer", "weights")
"""What of a run's lock its scores depend on."""

logger = logging.getLogger("claf2")


@dataclass(frozen=True)
class Model:
    """One model to be measured, or one checkpoint of its pre-training."""

    name: str
    weights: str
    """A hub id, folder, archive or URL."""
    step: int | None = None


@dataclass(frozen=True)
class Cell:
    """One model, task and seed."""

    suite: str
    model: str
    weights: str
    task: str
    seed: int
    recipe: str
    """The ending of the BaseConfig's name."""
    base_config: str
    overrides: tuple[str, ...] = ()
    step: int | None = None
    plugins: tuple[str, ...] = ()

    def words(self) -> list[str]:
        """Return what stands behind the BaseConfig on the command line, but for the folder."""
        return ["--pretrained_model_name", self.weights, "--seed_num", str(self.seed), *self.overrides]


@dataclass(frozen=True)
class Job:
    """A cell to be trained, and where."""

    cell: Cell
    folder: str
    cpus: int | None = None
    """Threads; ``None``: as the process has."""
    keep: bool = True
    """Whether the best checkpoint stays; what a resume would need goes in any case."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    failure: str = ""
    """Why there are no scores."""
    busy: bool = False
    """Another bench is at it."""
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class Measured:
    """A cell as its folder has it."""

    cell: Cell
    folder: Path
    scores: Mapping[str, float | None]
    """The best evaluation's, by key (``valid/accuracy``); nothing where it is not finished."""
    failure: str = ""
    lock: Mapping[str, Any] | None = None

    @property
    def digest(self) -> str:
        """The digest of all that determines the scores: filled config, data, tokenizer, weights."""
        return digest([self.lock and self.lock.get(name) for name in DETERMINES])


@dataclass(frozen=True)
class Progress:
    """How far a bench is."""

    total: int
    done: int
    failed: int
    running: int
    eta: float | None
    """Seconds left, from the cells that were trained so far."""
    last: str = ""

    def line(self) -> str:
        """Return it as a line for a log."""
        eta = "" if self.eta is None else f", {time.strftime('%H:%M:%S', time.gmtime(self.eta))} left"
        return f"[{self.done}/{self.total}] {self.running} running, {self.failed} failed{eta}  {self.last}".rstrip()


def checkpoints(pattern: str) -> list[Model]:
    """Return the checkpoints that a pattern such as ``dir/step-*`` finds, in the order of the last number in each name.

    Raises:
        RunError: when there are none, or one has no number.
    """
    found = []
    for path in sorted(glob.glob(pattern)):
        numbers = re.findall(r"\d+", Path(path).name)
        if not numbers:
            raise RunError(f"--checkpoints {pattern}: {path} has no step in its name, such as step-100000")
        found.append(Model(str(Path(path).parent), path, int(numbers[-1])))
    if not found:
        raise RunError(f"--checkpoints {pattern}: no such files or folders")
    return sorted(found, key=lambda model: (model.name, model.step or 0))


def cells(
    suite: Suite, models: Sequence[Model], *, tasks: Sequence[str] = (), seeds: Sequence[int], recipe: str,
    overrides: Sequence[str] = (), plugins: Sequence[str] = (),
) -> list[Cell]:  # fmt: skip
    """Return the cells of a matrix, seed by seed, so that every model has a score of every task early.

    Args:
        tasks: those of the suite's that are wanted; none: all.
        recipe: the ending of the BaseConfigs' names.
        overrides: words of the command line, for every cell.

    Raises:
        RunError: when there is no such task or recipe, or a bench sets a field itself.
    """
    wanted = list(dict.fromkeys(tasks or suite.columns))
    unknown = [task for task in wanted if task not in suite.columns]
    if unknown or recipe not in suite.recipes:
        known = list(suite.columns) if unknown else list(suite.recipes)
        raise RunError(f"suite {suite.name!r} has no {(unknown or [recipe])[0]!r}; it has {', '.join(known)}")
    for each in parse_arguments(overrides):
        name = each.key.rsplit(".", 1)[-1]
        if name in GIVEN:
            raise RunError(f"--{each.key} is set for each cell: say {GIVEN[name]}")
    return [
        Cell(
            suite.name, model.name, model.weights, task, seed, recipe, f"{suite.configs[task]}_{recipe}",
            tuple(overrides), model.step, tuple(plugins),
        )
        for seed in dict.fromkeys(seeds)
        for model in dict.fromkeys(models)
        for task in wanted
    ]  # fmt: skip


def place(out: Path, cell: Cell) -> Path:
    """Return a cell's folder: named after the digest of its experiment, so that another recipe has another one.

    Raises:
        ConfigError: when its BaseConfig or an override is wrong.
    """
    experiment = config.load(cell.base_config, cell.words(), cell.plugins)
    model = re.sub(r"[^\w.-]+", "_", cell.weights.strip("/"))
    return out / model / f"{cell.task}-{cell.seed}-{experiment.digest()[:12]}"


def run(
    wanted: Sequence[Cell], out: Path, *, backend: Backend, cpus: int | None = None, keep: bool = True,
    retries: int = 1, tell: Callable[[Progress], None] = lambda _: None,
) -> list[Measured]:  # fmt: skip
    """Train what is not finished, and return all cells that were wanted, in their order.

    Args:
        out: the folder of the bench.
        backend: who trains.
        cpus: threads of each cell; scores can depend on them in their last digits.
        keep: keep the best checkpoint of each cell, not only its scores and predictions.
        retries: how often a cell that fails, or whose process dies, is tried again.
        tell: called when a cell has ended.

    Raises:
        ConfigError: when a cell cannot be configured; nothing is trained then.
        Interrupted: after Ctrl-C; what was being trained has saved itself.
    """
    jobs = [Job(cell, str(place(out, cell)), cpus, keep) for cell in wanted]
    left = list({job.folder: job for job in jobs}.values())
    total, done, seconds = len(left), 0, [0.0]
    for attempt in range(retries + 1):
        again: list[Job] = []
        for job, outcome in backend.map(measure, left):
            failure = "its process died" if outcome is None else outcome.failure
            if outcome is None:
                _write(Path(job.folder), job.cell, failure)
            elif not failure and not outcome.busy:
                seconds.append(outcome.seconds)
            if failure:
                logger.warning("%s, %s, seed %d: %s", job.cell.model, job.cell.task, job.cell.seed, failure)
                again.append(job)
            done += 1 if not failure or attempt == retries else 0
            ahead = total - done
            mean = sum(seconds) / max(1, len(seconds) - 1)
            tell(
                Progress(
                    total, done, len(again), min(ahead, backend.workers),
                    ahead * mean / backend.workers if len(seconds) > 1 else None,
                    f"{job.cell.model} {job.cell.task} seed {job.cell.seed}{': failed' if failure else ''}",
                )
            )  # fmt: skip
        left = again
        if not left:
            break
    return [one(Path(job.folder)) for job in jobs]


def measure(job: Job) -> Outcome:
    """Train one cell in its folder; what is finished there is taken as it is, what was interrupted goes on, and what
    was of other data or weights is done anew."""
    import torch

    from claf2 import run as training

    begun, folder = time.monotonic(), Path(job.folder)
    threads = torch.get_num_threads()
    with _claimed(folder) as mine:
        if not mine:
            return Outcome(busy=True)
        failure = ""
        _write(folder, job.cell, failure)
        try:
            if job.cpus:
                torch.set_num_threads(job.cpus)
            words = [*job.cell.words(), "--log_dir", str(folder)]
            experiment = config.load(job.cell.base_config, words, job.cell.plugins)
            try:
                training.train(experiment, resume=True)
            except ChangedError as error:
                logger.warning("%s is trained again: %s", folder, error)
                training.train(experiment, overwrite=True)
            for name in ("last",) if job.keep else ("last", "best"):
                shutil.rmtree(folder / name, ignore_errors=True)
        except Interrupted:
            raise
        except Exception as error:  # noqa: BLE001 whatever it is, the other cells go on
            failure = str(error) or type(error).__name__
            _write(folder, job.cell, failure)
        finally:
            torch.set_num_threads(threads)
    return Outcome(failure, seconds=time.monotonic() - begun)


@contextmanager
def _claimed(folder: Path) -> Iterator[bool]:
    """Keep other benches out of a cell; the claim ends with the process, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _write(folder: Path, cell: Cell, failure: str) -> None:
    try:
        write_json(folder / IDENTITY, {**asdict(cell), "failure": failure})
    except OSError as error:  # a full disk fails this cell, not the bench
        logger.warning("%s: %s", folder, error)


def found(out: Path) -> list[Measured]:
    """Return all cells of a bench's folder.

    Raises:
        RunError: when there are none, or one is damaged.
    """
    paths = sorted(out.glob(f"*/*/{IDENTITY}"))
    if not paths:
        raise RunError(f"{out} holds no bench: nothing was measured there; see claf2 bench run")
    return [one(path.parent) for path in paths]


def one(folder: Path) -> Measured:
    """Return the cell of a folder.

    Raises:
        RunError: when it is damaged.
    """
    record = read_json(folder / IDENTITY)
    try:
        failure = record.pop("failure")
        cell = Cell(**{**record, **{name: tuple(record[name]) for name in ("overrides", "plugins")}})
    except (KeyError, TypeError) as error:
        raise RunError(f"{folder / IDENTITY}: damaged: {error!r}") from error
    if not (folder / "metrics.json").is_file():
        return Measured(cell, folder, {}, failure)
    scores = read_json(folder / "metrics.json").get("best")
    if not isinstance(scores, dict) or any(not isinstance(each, float | int | None) for each in scores.values()):
        raise RunError(f"{folder / 'metrics.json'}: damaged: it names no best evaluation")
    return Measured(cell, folder, scores, "", read_json(folder / "run.json"))
