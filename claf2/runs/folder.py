"""The folder of a run: who may use it, what may be deleted from it, and how to find what it holds."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from claf2.config import Experiment
from claf2.errors import ConfigError, RunError
from claf2.models import SCRATCH
from claf2.runtime import distributed
from claf2.runtime.files import LOCK_FILES, check_digests, lock_dir, read_json, recover_dirs
from claf2.runtime.process import log_file
from claf2.training.checkpoint import last_dir

__all__ = [
    "RunDir",
    "acquire_run_dir",
    "check_openable",
    "check_readable",
    "check_run_dir",
    "is_finished",
    "lock_run_dir",
]

RunState: TypeAlias = Literal["", "an unfinished", "a finished"]

RUN_FILES = (
    # First what says that the run is finished, and what it would be resumed from: a kill in between leaves no mixture.
    "metrics.json", "last", ".last.old", "best", ".best.old", "steps/step-?????????", "steps/.step-*",
    "predictions/*.jsonl", "metrics.jsonl",
    "evaluation.json", "evaluation-file.json", "events.out.tfevents.*", "README.md", "stages.json", "stages.md",
)  # fmt: skip
"""What a new run deletes of an earlier one in its folder. It replaces `config.json`, `run.json` and `train.log`."""

HARMLESS_FILES = (
    *LOCK_FILES, "cell.json", "notifications.jsonl", "*.log", "*.out", "*.err", "events.out.tfevents.*", ".*.new",
    ".nfs*",
)  # fmt: skip
"""What a folder may hold that is not the folder of a run yet: what a start that failed leaves, and logs of a shell or
of SLURM."""

LOG_FILE = "train.log"
NEW_LOG_FILE = f".{LOG_FILE}.new"
"""The log of a run that is to replace another one, until it does."""


def is_finished(run_dir: Path) -> bool:
    """Say whether a folder holds a finished run: `metrics.json` is the last file that a run writes."""
    return (run_dir / "metrics.json").exists()


def check_run_dir(experiment: Experiment, *, resume: bool, overwrite: bool) -> RunState:
    """Return which run the folder of a new one holds already. Nothing is written.

    Raises:
        RunError: when it holds one and neither ``resume`` nor ``overwrite`` is set, or both are; when it holds
            anything but a run, or what the new run reads.
        ConfigError: when it has no name.
    """
    run_dir = _check_use(experiment, resume=resume, overwrite=overwrite)
    return _check_state(run_dir, resume=resume, overwrite=overwrite)


def _check_use(experiment: Experiment, *, resume: bool, overwrite: bool) -> Path:
    """Return the folder of an experiment, if a run may write and delete there."""
    if resume and overwrite:
        raise RunError("--resume and --overwrite cannot be combined; give one of them")
    name = experiment.trainer_config.log_dir
    if not name.strip():
        raise ConfigError("trainer.log_dir", "is empty", hint="name a folder, e.g. --log_dir logs/run")
    run_dir = Path(name)
    for kind, path in _inputs(experiment):
        if run_dir.resolve() in (path.resolve(), *path.resolve().parents):
            raise RunError(f"{run_dir} holds {kind} {path}, which the run reads: give another folder with --log_dir")
    if not run_dir.is_dir() or _is_run(run_dir):
        return run_dir
    foreign = sorted(path.name for path in run_dir.iterdir() if not any(map(path.match, HARMLESS_FILES)))
    if (run_dir / "last").exists():
        reason = "last/ cannot be resumed without the run.json that says what it was trained on"
    elif foreign:
        reason = f"it holds {foreign[0]}, but no run.json of a run"
    else:
        return run_dir
    raise RunError(f"{run_dir} is not the folder of a run: {reason}; give an empty or a new one with --log_dir")


def _inputs(experiment: Experiment) -> Iterator[tuple[str, Path]]:
    """Yield the models that an experiment reads from this machine, and what they are."""
    name = experiment.model.pretrained_model_name
    paths = [] if name == SCRATCH else [("the model", Path(name).expanduser())]
    for objective in experiment.objectives.values():
        paths += [("the teacher", Path(folder).expanduser()) for folder in objective.teacher_folders().values()]
    yield from ((kind, path) for kind, path in paths if path.exists())


def _is_run(run_dir: Path) -> bool:
    """Say whether a run has written into a folder: it writes `run.json` before anything but logs."""
    try:
        return {"recipe", "seed"} <= read_json(run_dir / "run.json").keys()
    except (RunError, OSError):
        return False


def _check_state(run_dir: Path, *, resume: bool, overwrite: bool) -> RunState:
    last = last_dir(run_dir)
    if is_finished(run_dir):
        state: RunState = "a finished"
    elif last.exists() or last.with_name(f".{last.name}.old").exists():
        state = "an unfinished"
    else:
        return ""
    if not (resume or overwrite):
        raise RunError(f"{run_dir} holds {state} run: add --resume to continue it, or --overwrite to replace it")
    return state


@dataclass(frozen=True)
class RunDir:
    """The folder of a run that this process may use, and no other one."""

    path: Path
    resumes: bool
    """Whether the existing run is resumed, finished or not."""
    stale: Sequence[Path]
    """The files and folders of an earlier run that is not resumed."""

    def clear(self) -> None:
        """Delete what is stale. What no run has written stays."""
        for path in self.stale:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            for parent in path.parents:
                if parent == self.path or any(parent.iterdir()):
                    break
                parent.rmdir()
        new_log = self.path / NEW_LOG_FILE
        if new_log.exists():
            os.replace(new_log, self.path / LOG_FILE)


@contextmanager
def acquire_run_dir(experiment: Experiment, *, resume: bool, overwrite: bool) -> Iterator[RunDir]:
    """Hold the folder of a run, which no other process can use in the block, and log into it. All processes of the run
    call this together.

    The folder is as the earlier run has left it, until ``RunDir.clear`` is called.

    Raises:
        Claf2Error: as ``check_run_dir`` does; when the folder cannot be created or written, or is in use.
    """
    with ExitStack() as stack:

        def acquire() -> RunDir:
            run_dir = _check_use(experiment, resume=resume, overwrite=overwrite)
            try:
                stack.enter_context(lock_run_dir(run_dir))
            except OSError as error:
                hint = "give another one with --log_dir"
                raise RunError(f"{run_dir} cannot be used as the folder of a run: {error.strerror}; {hint}") from error
            state = check_run_dir(experiment, resume=resume, overwrite=overwrite)
            log = NEW_LOG_FILE if state and overwrite else LOG_FILE
            stack.callback((run_dir / NEW_LOG_FILE).unlink, missing_ok=True)
            stack.enter_context(log_file(run_dir / log))
            resumes = bool(state) and resume
            stale = list(_run_files(run_dir)) if _is_run(run_dir) and not resumes else []
            return RunDir(run_dir, resumes, stale)

        yield distributed.call_on_main(acquire)


@contextmanager
def lock_run_dir(run_dir: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is created if it is missing, and complete the replacement of a checkpoint that
    was interrupted.

    Raises:
        RunInUseError: when the folder is in use.
        OSError: when it cannot be created or written.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    with lock_dir(run_dir):
        recover_dirs(run_dir, run_dir / "best", run_dir / "steps", run_dir / "predictions")
        yield


def _run_files(run_dir: Path) -> Iterator[Path]:
    """Yield what a run has written into its folder and a new one does not replace at its start; the runs that followed
    it in `stages/` whole."""
    for pattern in RUN_FILES:
        yield from run_dir.glob(pattern)
    for record in run_dir.glob("stages/*/*/run.json"):
        stage = record.parent
        yield from _run_files(stage)
        yield from (stage / name for name in ("config.json", LOG_FILE, *LOCK_FILES, "run.json"))


def check_openable(run_dir: Path, *, is_restored: bool = False) -> None:
    """Check that a folder holds a run with a best checkpoint.

    Args:
        run_dir: the folder.
        is_restored: whether a checkpoint whose replacement was interrupted is restored later.

    Raises:
        RunError: when it does not.
    """
    interrupted = (run_dir / ".best.old").is_dir()
    if not (run_dir / "best").is_dir() and not (is_restored and interrupted):
        if interrupted:
            raise RunError(
                f"{run_dir}: was ended while it replaced best/; restore it with `claf2 evaluate {run_dir}`, or "
                "continue the run with --resume"
            )
        raise RunError(f"{run_dir}: has no best/ checkpoint; give the folder of a run (its trainer.log_dir)")
    if not (run_dir / "config.json").is_file():
        raise RunError(f"{run_dir}: has no config.json; the run is incomplete")


def check_readable(run_dir: Path, checkpoint: Path) -> None:
    """Check that a checkpoint of a run is whole. Its files are read without the lock: where the run is in use, it may
    just be replacing them, and they are read again.

    Raises:
        RunError: naming the file that is missing or has changed.
    """
    for seconds in (0.1, 1.0, 4.0) if (run_dir / LOCK_FILES[1]).exists() else ():
        try:
            return check_digests(checkpoint)
        except (RunError, OSError):
            time.sleep(seconds)
    try:
        return check_digests(checkpoint)
    except RunError as error:
        raise RunError(f"{error}; restore the file, or train again with --overwrite") from error
