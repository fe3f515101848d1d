"""Provenance: everything that a run's numbers depend on, written to `run.json`."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import platform
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache

import claf2
from claf2.errors import RunError
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
    "SCORE_PACKAGES",
    "code_digest",
    "collect_provenance",
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
