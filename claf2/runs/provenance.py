"""Provenance: everything that a run's numbers depend on, written to `run.json`, and compared before a run is resumed or
repeated."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import platform
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache

import claf2
from claf2.config.source import iter_leaves
from claf2.errors import ChangedError, RunError
from claf2.models import SCRATCH
from claf2.models.configuration import stored_label_order
from claf2.models.source import weights_digest
from claf2.registry import ENTRY_POINTS
from claf2.runs.corpus_splits import recorded_leakage
from claf2.runs.locate import TaskSplits
from claf2.runs.resolve import Run, split_name
from claf2.runtime import distributed
from claf2.runtime.device import select_device
from claf2.runtime.files import read_json
from claf2.training.checkpoint import best_dir

__all__ = [
    "CHANGE_KINDS",
    "SCORE_PACKAGES",
    "changed_settings",
    "check_repeatable",
    "check_resumable",
    "code_digest",
    "collect_provenance",
    "describe_changes",
    "diff_provenance",
    "plugin_digests",
    "read_provenance",
]

PACKAGES = ("claf2", "torch", "transformers", "tokenizers", "numpy", "scikit-learn", "scipy", "seqeval", "pyarrow")
"""The packages whose versions are recorded."""

SCORE_PACKAGES = (
    "torch", "transformers", "tokenizers", "numpy", "scikit-learn", "scipy", "seqeval", "kiwipiepy", "fugashi"
)  # fmt: skip
"""The packages of which another version may change a score. `torch` computes, and draws dropout and fresh weights;
`transformers` is the model; `tokenizers`, `kiwipiepy` and `fugashi` tokenize; NumPy's generators order the batches;
`scikit-learn`, `scipy` and `seqeval` compute scores. Python and `pyarrow` only move numbers, and claf2's version says
less than the digest of its code."""

CHANGE_KINDS: Mapping[str, tuple[str, ...]] = {
    "data": ("data",),
    "tokenizer": ("tokenizer",),
    "weights": ("weights", "commit", "teachers"),
    "code": ("code", "recipe", "experiment", "plugins"),
    "versions": ("versions",),
    "device": ("device", "hardware"),
    "threads": ("threads",),
    "processes": ("processes",),
}
"""The kinds of change that a user may accept → the entries of ``run.json`` that record them. All of them change scores:
the first four change what is computed, the others at least the last digits. ``code`` covers claf2, plug-ins and the
tasks' rows, and with them what becomes of an unchanged config."""

PHASES = "trainer.pretrain.phases"
"""The setting of a pre-training of which the future may change when it is resumed."""

NEUTRAL = {f"trainer.pretrain.{name}" for name in ("keep_step_count", "keep_last", "keep_every")}
"""The settings of a pre-training that change no weight: they are no part of the experiment's digest."""

REQUIRED: Mapping[str, type] = {
    "base_config": str, "overrides": list, "config": dict, "data": dict, "tokenizer": str, "weights": str,
    "recipe": str, "experiment": str, "code": str, "versions": dict, "device": str, "threads": int, "processes": int,
}  # fmt: skip
"""The entries of ``run.json`` without which a run cannot be repeated, and their types."""


def collect_provenance(run: Run, data: TaskSplits) -> dict[str, Any]:
    """Return everything that a run's numbers depend on: the first part of ``run.json``, sufficient to repeat the run.

    Args:
        run: the resolved experiment.
        data: task → split → its examples.
    """
    experiment = run.experiment
    device = select_device(experiment.runtime.device)
    return {
        "base_config": experiment.name,
        "overrides": list(experiment.overrides),
        "recipe": experiment.recipe_digest(),
        "experiment": experiment.digest(),
        "data": {
            split_name(data, task, split): split_data.data_digest()
            for task, splits in data.items()
            for split, split_data in splits.items()
        },
        "tokenizer": run.tokenizer.digest,
        "weights": weights_digest(run.source),
        **_label_orders(run),
        **recorded_leakage(data, run.source),
        "seed": experiment.seed,
        "device": str(device),
        "versions": _versions(),
        "code": code_digest(),
        "commit": _hub_commit(run),
        "teachers": _teacher_digests(run),
        "plugins": plugin_digests(experiment.values["plugins"]),
        **_environment(device),
        "config": experiment.values,
    }


def _versions() -> dict[str, str]:
    """Return the version of Python and of each package that can change a score."""
    versions = {"python": platform.python_version()}
    for package in dict.fromkeys((*PACKAGES, *SCORE_PACKAGES)):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def code_digest(place: Path = Path(claf2.__file__).parent) -> str:
    """Return the digest of the Python sources in a folder, or of one file; claf2's own sources by default."""
    digest = hashlib.sha256()
    folder, paths = (place.parent, [place]) if place.is_file() else (place, sorted(place.rglob("*.py")))
    for path in paths:
        digest.update(f"{path.relative_to(folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def plugin_digests(plugins: Sequence[str]) -> dict[str, str]:
    """Return the digest of the sources of each plug-in, a file or a module, and the version of each installed package
    that provides plug-ins."""
    digests = {}
    for name in plugins:
        path = Path(name)
        spec = None if path.suffix == ".py" else importlib.util.find_spec(name)
        if spec is not None:
            path = Path(next(iter(spec.submodule_search_locations or ()), spec.origin or ""))
        digests[name] = code_digest(path)
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        digests[point.value] = "" if point.dist is None else point.dist.version
    return digests


def _environment(device: torch.device) -> dict[str, str | int]:
    """Return what changes the last digits of every sum: the processor, and the numbers of threads and processes that
    divide the work; and the folder that relative paths start from."""
    gpu = device.type == "cuda"
    processor = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {
        "hardware": torch.cuda.get_device_name(device) if gpu else processor,
        "threads": torch.get_num_threads(),
        "processes": distributed.world_size(),
        "directory": str(Path.cwd()),
    }


def _teacher_digests(run: Run) -> dict[str, str | None]:
    """Return the digest of the weights of each teacher, by task or objective; ``None`` where a folder holds none."""
    digests = {}
    objectives = run.experiment.objectives.values()
    for name, teacher in chain.from_iterable(objective.teacher_folders().items() for objective in objectives):
        folder = Path(teacher)
        candidates = (best_dir(folder, name), best_dir(folder, None), folder)
        source = next((path for path in candidates if any(path.glob("*.safetensors")) or any(path.glob("*.bin"))), None)
        digests[name] = None if source is None else weights_digest(source)
    return digests


def _label_orders(run: Run) -> dict[str, dict[str, list[int]]]:
    """Return how the outputs of stored heads were reordered, by task; nothing where they have the task's order."""
    orders = {
        task: order
        for task, labels in run.labels.items()
        if (order := stored_label_order(run.experiment.model, run.source, labels)) is not None
    }
    return {"label_order": orders} if orders else {}


def _hub_commit(run: Run) -> str | None:
    """Return the hub's commit of the weights; ``None`` where they come from elsewhere."""
    if isinstance(run.source, Path) or run.source == SCRATCH:
        return None
    config = try_to_load_from_cache(run.source, "config.json", revision=run.experiment.model.revision)
    return Path(config).parent.name if isinstance(config, str) else None


def diff_provenance(before: Mapping[str, Any], now: Mapping[str, Any], names: Sequence[str]) -> dict[str, list[Any]]:
    """Return the entries in which two provenances differ: name and entry (``data train``) → [before, now].

    Args:
        before: the content of the earlier `run.json`.
        now: the content of the later one.
        names: the entries to compare.
    """
    differences: dict[str, list[Any]] = {}
    for name in names:
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            keys = [key for key in {**old, **new} if name != "versions" or key in SCORE_PACKAGES]
            inner = diff_provenance(old, new, keys)
            differences |= {f"{name} {key}": pair for key, pair in inner.items()}
        elif old != new and not (name == "device" and _device_kind(old) == _device_kind(new)):
            differences[name] = [old, new]
    return differences


def _device_kind(device: object) -> str:
    """Return the kind of a device's name: any GPU is ``cuda``."""
    return str(device).partition(":")[0]


def read_provenance(path: Path, *, finished: bool = True) -> dict[str, Any]:
    """Read the provenance of a run, to repeat or resume the run.

    Args:
        path: the run's folder, or its file ``run.json``.
        finished: whether the run must be finished.

    Raises:
        RunError: when the file is missing or damaged, was written by an older claf2, or the run is not finished.
    """
    path = path if path.is_file() else path / "run.json"
    provenance = read_json(path)
    if "recipe" in provenance and "config" not in provenance:
        raise RunError(
            f"{path}: written by an older claf2, which did not store the config: train with "
            f"--base_config {path.parent}/config.json"
        )
    for name, kind in REQUIRED.items():
        if not isinstance(provenance.get(name), kind):
            raise RunError(f"{path}: damaged: {name} is missing or not of type {kind.__name__}")
    resumes = provenance.get("resumed", [])
    if not isinstance(resumes, list) or not all(
        isinstance(resume, dict) and {"step", "changed"} <= {*resume} for resume in resumes
    ):
        raise RunError(f"{path}: damaged: resumed is not a list of steps and changes")
    if finished and "wall_seconds" not in provenance:
        raise RunError(f"{path}: the run is not finished: finish it with --resume")
    return provenance


def check_resumable(before: Mapping[str, Any], now: Mapping[str, Any], read_step: Callable[[], int]) -> None:
    """Check that experiment, data, tokenizer, weights and the order of their labels are those that a run began with,
    before it is resumed. Phases may change from the step on that comes next.

    Args:
        before: what the run depended on when it began or was last resumed.
        now: what it depends on now.
        read_step: returns the steps that are done; called where the experiment has changed.

    Raises:
        ChangedError: naming the first entry that differs, then and now; of the experiment every setting.
    """
    compared = ("experiment", "data", "tokenizer", "weights", "label_order")
    for name, pair in diff_provenance(before, now, compared).items():
        changes = changed_settings(before["config"], now["config"]) if name == "experiment" else [("", *pair)]
        if name == "experiment" and _changes_future(changes, read_step):
            continue
        shown = ", ".join(f"{path} {_shorten(old)} → {_shorten(new)}".strip() for path, old, new in changes)
        raise ChangedError(
            f"{name} has changed since the run began{f' ({shown})' if shown else ''}, so the run cannot be resumed; "
            "start again with --overwrite"
        )


def _changes_future(changes: Sequence[tuple[str, Any, Any]], read_step: Callable[[], int]) -> bool:
    """Say whether the phases differ, and nothing else that a run is bound to, after the steps that are done.

    Raises:
        ChangedError: when the phases before it differ, or none comes after it.
    """
    settings = {path: (old, new) for path, old, new in changes if path not in NEUTRAL}
    if PHASES not in settings or {*settings} - {PHASES, "trainer.num_steps"}:
        return False
    old, new = settings[PHASES]
    if not old or not new:  # another trainer
        return False
    step = read_step()
    if new[-1]["until"] <= step:
        raise ChangedError(
            f"{PHASES} now end at step {new[-1]['until']}, but {step} steps are done: let the last phase end after "
            "them, or start again with --overwrite"
        )
    if _done_phases(old, step) != _done_phases(new, step):
        raise ChangedError(
            f"{PHASES} has changed for some of the {step} steps that are done; only phases after them can be "
            "changed: give the others as they were, or start again with --overwrite"
        )
    return True


def _done_phases(phases: Sequence[Mapping[str, int]], step: int) -> list[tuple[int, dict[str, int]]]:
    """Return the end and the sizes of the parts of a pre-training that are done, or begun."""
    starts = [0, *(phase["until"] for phase in phases)]
    done = [(start, phase) for start, phase in zip(starts, phases, strict=False) if start < step]
    return [
        (min(step, phase["until"]), {key: value for key, value in phase.items() if key != "until"}) for _, phase in done
    ]


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return (path, then, now) of the settings that a run is bound to and that differ in two configs."""
    old, new = dict(iter_leaves(dict(before))), dict(iter_leaves(dict(now)))
    return [
        (path, old.get(path), new.get(path))
        for path in {**old, **new}
        if old.get(path) != new.get(path)
        and (path == "runtime.precision" or path.partition(".")[0] not in ("runtime", "plugins"))
        and path.rpartition(".")[2] not in ("log_dir", "verbose_step_count", "pretrained_model_name")
    ]


def describe_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return what has changed since a run began or was last resumed."""
    changed = diff_provenance(before, now, list(chain.from_iterable(CHANGE_KINDS.values())))
    if "experiment" in changed:  # the phases of a pre-training that were still to come
        settings = changed_settings(before["config"], now["config"])
        changed |= {f"experiment {path}": [old, new] for path, old, new in settings}
    return changed


def check_repeatable(
    before: Mapping[str, Any], now: Mapping[str, Any], accepted: Collection[str]
) -> dict[str, list[Any]]:
    """Check that nothing that changes scores has changed, before a run is repeated.

    A run that was resumed in a changed environment differs from its own provenance; that counts as a change too.

    Args:
        before: the provenance of the run to repeat.
        now: the provenance of the new run.
        accepted: the kinds of change that the user accepts, from ``CHANGE_KINDS``.

    Returns:
        The accepted differences, as ``diff_provenance`` does.

    Raises:
        ChangedError: naming all differences that are not accepted.
    """
    differences: dict[str, tuple[str, list[Any]]] = {}
    for kind, names in CHANGE_KINDS.items():
        differences |= {name: (kind, pair) for name, pair in diff_provenance(before, now, names).items()}
        for resume in before.get("resumed", ()):
            changed = {name: pair for name, pair in resume["changed"].items() if name.split()[0] in names}
            differences |= {
                f"{name} when it was resumed at step {resume['step']}": (kind, pair) for name, pair in changed.items()
            }
    refused = {name: kind for name, (kind, _) in differences.items() if kind not in accepted}
    if refused:
        kinds = ",".join(dict.fromkeys([*accepted, *refused.values()]))
        pairs = {name: differences[name][1] for name in refused}
        shown = ", ".join(f"{name} ({_shorten(old)} → {_shorten(new)})" for name, (old, new) in pairs.items())
        raise ChangedError(f"changed since the run was made: {shown}; to accept and record this, add --changed {kinds}")
    return {name: pair for name, (_, pair) in differences.items()}


def _shorten(value: object) -> str:
    """Return a value for a message: the beginning of a digest, other values whole."""
    return "none" if value is None else text if len(text := str(value)) <= 20 else f"{text[:8]}…"
