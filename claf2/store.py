"""The run folder: written atomically, digested, exactly resumable.

A file appears by rename; a folder (`best/`, `last/`) is written beside its place, its digests noted in it, and then
swapped in. Whatever moment a run is killed at, ``Store`` finds the newest whole state.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from claf2 import ranks, shards
from claf2.errors import ChangedError, RunError
from claf2.loop import State
from claf2.metrics import Prediction
from claf2.models.encoder import EncoderWithHeads
from claf2.process import KINDS, changes
from claf2.report import Report
from claf2.seed import capture, derive, restore
from claf2.tokenizers import Tokenizer

__all__ = [
    "Store",
    "best_folder",
    "check_digests",
    "claim",
    "prediction_line",
    "read_json",
    "read_lock",
    "read_predictions",
    "recover",
    "refuse_changes",
    "refuse_differences",
    "refuse_taken",
    "write_json",
    "write_predictions",
    "write_text",
]

DIGESTS = "sha256.json"

RUN_FILES = (
    "best", "last", "predictions", "stages", "stages.*", "config.json", "run.json", "metrics.json",
    "metrics.jsonl", "evaluation*.json", "events.out.tfevents.*", "train.log", "README.md",
)  # fmt: skip
"""All that a run leaves in its folder, and so all that may be deleted from it."""

LOCK: Mapping[str, type] = {
    "base_config": str, "overrides": list, "config": dict, "data": dict, "tokenizer": str, "weights": str,
    "recipe": str, "experiment": str, "code": str, "versions": dict, "device": str, "threads": int, "processes": int,
}  # fmt: skip
"""What ``run.json`` must say for a run to be repeated from it."""


class Store:
    """The folder of one run.

    Args:
        folder: where the run lives.
        model, tokenizer, optimizer, scaler: what is saved, and restored in place.
    """

    def __init__(
        self,
        folder: Path,
        model: EncoderWithHeads,
        tokenizer: Tokenizer,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
    ) -> None:
        self._scaler = scaler
        self._folder = folder
        self._model = model
        self._tokenizer = tokenizer
        self._optimizer = optimizer

    def keep_best(self, report: Report, tasks: Collection[str] | None = None) -> None:
        """Store each task's model as `transformers` stores one, in `best/`, or in `best/<task>/` where there are
        several; and its predictions."""
        several = len(self._model.names) > 1
        for task in self._model.names if tasks is None else tasks:
            fill = partial(save_task, self._model, self._tokenizer, task)
            swap_in(best_folder(self._folder, task if several else None), fill)
        if ranks.first():
            write_predictions(self._folder / "predictions", report, tasks)

    def keep_last(self, state: State) -> None:
        """Store weights, optimizer, every process's generators, and position."""
        generators = ranks.gathered(capture())

        def fill(target: Path) -> None:
            shards.save(target, self._model, self._optimizer)
            if ranks.first():
                torch.save({"scaler": self._scaler.state_dict(), "generators": generators}, target / "training.pt")
                write_json(target / "state.json", dataclasses.asdict(state))

        swap_in(self._folder / "last", fill)

    def resume(self) -> State:
        """Restore weights, optimizer and generators from `last/`, and return where the run stood.

        Raises:
            RunError: when the checkpoint is damaged.
        """
        last = self._folder / "last"
        check_digests(last)
        try:
            shards.load(last, self._model, self._optimizer)
            training = torch.load(last / "training.pt", weights_only=True)
        except SafetensorError as error:
            raise RunError(f"{last}: damaged: {error}") from error
        if training["scaler"]:
            self._scaler.load_state_dict(training["scaler"])
        state = State(**read_json(last / "state.json"))
        if len(training["generators"]) == ranks.count():
            restore(training["generators"][ranks.number()])
        else:  # other processes than before: dropout goes on from here in its own way
            torch.manual_seed(derive(state.step, "resumed", ranks.count(), ranks.number()))
        return state


def best_folder(folder: Path, task: str | None) -> Path:
    """Return where a run's best checkpoint is; ``task`` is given where the run has several."""
    return folder / "best" if task is None else folder / "best" / task


def save_task(model: EncoderWithHeads, tokenizer: Tokenizer, task: str, folder: Path) -> None:
    """Write one task's model and the tokenizer into ``folder``, so that `transformers` loads them without claf2; the
    first process writes what all have."""
    head: Any = model.head(task)
    weights = {}
    for name, each in head.state_dict().items():
        full = ranks.whole(each)
        if ranks.first():
            weights[name] = full.cpu()
    if ranks.first():
        folder.mkdir(parents=True, exist_ok=True)
        head.save_pretrained(folder, state_dict=weights)
        tokenizer.save(folder)


def write_predictions(folder: Path, report: Report, tasks: Collection[str] | None = None) -> None:
    """Write ``<task>-<split>.jsonl``, of some tasks only where they are given: one line an example with id, gold,
    prediction, score and details."""
    folder.mkdir(parents=True, exist_ok=True)
    for task, each in report.tasks.items():
        if tasks is not None and task not in tasks:
            continue
        lines = [prediction_line(prediction) + "\n" for prediction in each.predictions]
        write_text(folder / f"{task}-{report.split}.jsonl", "".join(lines))
    for other in report.others:
        write_predictions(folder, other, tasks)


def prediction_line(prediction: Prediction) -> str:
    """Return a prediction as one line of JSON."""
    return json.dumps(dataclasses.asdict(prediction), ensure_ascii=False)


def read_predictions(path: Path) -> list[Prediction]:
    """Read a predictions file.

    Raises:
        RunError: when it is not there or is damaged.
    """
    try:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")  # no other line break ends a line
        return [Prediction(**json.loads(line)) for line in lines]
    except (FileNotFoundError, UnicodeDecodeError, json.JSONDecodeError, TypeError) as error:
        raise RunError(f"{path}: missing or damaged: {error}") from error


def refuse_taken(folder: Path, *, resume: bool, overwrite: bool) -> str:
    """Say which run is in a folder that another one is to be in: ``""``, ``"an unfinished"`` or ``"a finished"``.

    Raises:
        RunError: when it holds a run and neither ``resume`` nor ``overwrite`` says what is to become of it.
    """
    if resume and overwrite:
        raise RunError("--resume and --overwrite exclude each other")
    finished = (folder / "metrics.json").exists()
    if not finished and not any((folder / name).exists() for name in ("last", ".last.old")):
        return ""
    state = "a finished" if finished else "an unfinished"
    if not (resume or overwrite):
        raise RunError(f"{folder} holds {state} run: add --resume to go on with it, or --overwrite to replace it")
    return state


def claim(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Make a folder ready for a run: empty, or holding the whole state of one that goes on.

    Raises:
        RunError: as ``refuse_taken`` does.
    """
    refuse_taken(folder, resume=resume, overwrite=overwrite)
    recover(folder)
    if overwrite:
        for name in RUN_FILES:
            for path in folder.glob(name):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not (folder / "last").exists() and not (folder / "metrics.json").exists():
        (folder / "run.json").unlink(missing_ok=True)


def read_lock(path: Path) -> dict[str, Any]:
    """Read a run's lock, to repeat the run from it.

    Args:
        path: its folder, or the file ``run.json`` itself.

    Raises:
        RunError: when it is missing or damaged, of an older claf2, or of a run that is not finished.
    """
    path = path if path.is_file() else path / "run.json"
    lock = read_json(path)
    if "recipe" in lock and "config" not in lock:
        raise RunError(
            f"{path}: of an older claf2, which left the config out: train with --base_config {path.parent}/config.json"
        )
    for name, kind in LOCK.items():
        if not isinstance(lock.get(name), kind):
            raise RunError(f"{path}: damaged: {name} is not there, or no {kind.__name__}")
    again = lock.get("resumed", [])
    if not isinstance(again, list) or not all(
        isinstance(each, dict) and {"step", "changed"} <= {*each} for each in again
    ):
        raise RunError(f"{path}: damaged: resumed is no list of steps and changes")
    if "wall_seconds" not in lock:
        raise RunError(f"{path}: of a run that is not finished: finish it with --resume")
    return lock


def refuse_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Compare what two locks say of experiment, data, tokenizer and weights, before a run is resumed.

    Raises:
        ChangedError: naming the first thing that is not what it was.
    """
    for name in changes(before, now, ("experiment", "data", "tokenizer", "weights")):
        raise ChangedError(
            f"{name} is not what it was when the run began: it cannot be resumed; start again with --overwrite"
        )


def refuse_differences(
    before: Mapping[str, Any], now: Mapping[str, Any], accepted: Collection[str]
) -> dict[str, list[Any]]:
    """Compare all that two locks say of what moves scores, before a run is repeated, and return the differences that
    the user accepts. A run that was resumed under other circumstances differs from what its lock says, too.

    Args:
        accepted: some of ``KINDS``.

    Raises:
        ChangedError: naming all that is not what it was.
    """
    found: dict[str, tuple[str, list[Any]]] = {}
    for kind, names in KINDS.items():
        found |= {name: (kind, pair) for name, pair in changes(before, now, names).items()}
        for again in before.get("resumed", ()):
            moved = {name: pair for name, pair in again["changed"].items() if name.split()[0] in names}
            found |= {f"{name} when it was resumed at step {again['step']}": (kind, moved[name]) for name in moved}
    refused = {name: kind for name, (kind, _) in found.items() if kind not in accepted}
    if refused:
        kinds = ",".join(dict.fromkeys([*accepted, *refused.values()]))
        shown = ", ".join(f"{name} ({_short(found[name][1][0])} → {_short(found[name][1][1])})" for name in refused)
        raise ChangedError(
            f"not what the run was made of: {shown}; to accept that, and have it noted: --changed {kinds}"
        )
    return {name: pair for name, (_, pair) in found.items()}


def _short(value: object) -> str:
    """Return a value as a message shows it: of a digest, the beginning."""
    return "none" if value is None else text if len(text := str(value)) <= 20 else f"{text[:8]}…"


def recover(folder: Path) -> None:
    """Finish a swap that a kill interrupted: where a folder is away, put the one back that it was to replace."""
    for place in (folder, folder / "best"):
        for old in place.glob(".*.old"):
            final = old.with_name(old.name.removeprefix(".").removesuffix(".old"))
            if final.exists():
                shutil.rmtree(old)
            else:
                os.replace(old, final)
        for new in place.glob(".*.new"):
            shutil.rmtree(new) if new.is_dir() else new.unlink()


def swap_in(final: Path, fill: Callable[[Path], None]) -> None:
    """Write a folder beside ``final``, note its files' digests, make it durable, and put it in the place of the old.
    All processes fill it; the first one does the rest."""
    new, old = final.with_name(f".{final.name}.new"), final.with_name(f".{final.name}.old")
    if ranks.first():
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
    ranks.meet()
    fill(new)
    ranks.meet()
    if not ranks.first():
        return
    files = [path for path in sorted(new.rglob("*")) if path.is_file()]
    write_json(new / DIGESTS, {str(path.relative_to(new)): sha256(path) for path in files})
    for path in files:
        _sync(path)
    _sync(new)
    if final.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(final, old)
    os.replace(new, final)
    _sync(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def check_digests(folder: Path) -> None:
    """Hold a stored folder against its digests.

    Raises:
        RunError: naming the file that is missing or was changed.
    """
    for name, expected in read_json(folder / DIGESTS).items():
        path = folder / name
        if not path.is_file():
            raise RunError(f"{path}: missing; {folder.name}/ is damaged")
        if sha256(path) != expected:
            raise RunError(f"{path}: changed since it was saved; {folder.name}/ is damaged")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write a value as indented JSON, atomically."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    _sync(new)
    os.replace(new, path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        RunError: when the file is not there or is not JSON.
    """
    try:
        value: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{path}: no such file; is {path.parent} the folder of a run?") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RunError(f"{path}: not JSON: {error}") from error
    if not isinstance(value, dict) or not value:
        raise RunError(f"{path}: damaged: an object with values is due")
    return value


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
