"""A finished run is trained again from its `run.json` alone."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from claf2.config import Experiment, diff, validate
from claf2.config.fill import complete
from claf2.config.source import Override, parse_overrides
from claf2.errors import ConfigError, ModelError, RunError, nearest
from claf2.evaluation.report import Report
from claf2.registry import load_plugin
from claf2.runs.changes import CHANGE_KINDS, DATA_PATHS
from claf2.runs.provenance import read_provenance
from claf2.runs.train import RepeatedRun, train

__all__ = ["repeat"]

logger = logging.getLogger("claf2")


def repeat(
    place: Path,
    overrides: Sequence[str | Override] = (),
    *,
    changed: Sequence[str] = (),
    resume: bool = False,
    overwrite: bool = False,
) -> Report:
    """Train a finished run again from its ``run.json`` alone, in a new folder. On the same machine the new run has the
    same bytes.

    Args:
        place: the run's folder, or its ``run.json``.
        overrides: words of the command line, or overrides. They may set ``trainer.log_dir``, which is
            ``<folder>-again`` by default, where the data are, and section ``runtime`` except the precision.
        changed: the kinds of change to accept, from ``CHANGE_KINDS``; the new ``run.json`` records the changes.
        resume: continue the run in the new folder, if there is one.
        overwrite: replace the run in the new folder, if there is one.

    Raises:
        Claf2Error: naming what has changed, is missing, or cannot be repeated.
    """
    for kind in changed:
        if kind not in CHANGE_KINDS:
            raise RunError(f"--changed {kind}: not a kind of change; {nearest(kind, CHANGE_KINDS)}")
    provenance, folder = read_provenance(place), place.parent if place.is_file() else place
    if provenance.get("directory") != str(Path.cwd()):
        logger.info(
            "%s was made in %s; its relative paths are resolved in %s", folder, provenance.get("directory"), Path.cwd()
        )
    for plugin in provenance["config"].get("plugins") or ():
        load_plugin(plugin)
    named = folder if folder.name not in ("", "..") else folder.resolve()
    new_dir = Override("trainer.log_dir", str(named.with_name(f"{named.name}-again")))
    new_overrides = parse_overrides(overrides)
    words = (*provenance["overrides"], *(word for override in new_overrides for word in override.words()))
    before, now = (
        complete(provenance["base_config"], json.loads(json.dumps(provenance["config"])), {}, given, words)
        for given in ([], [new_dir, *new_overrides])
    )
    differences = {
        path: [old, new]
        for path, old, new in diff(before, now)
        if not path.endswith("trainer.log_dir") and path.rpartition(".")[2] not in DATA_PATHS
    }
    for path in differences:
        if not path.startswith("runtime.") or path == "runtime.precision":
            problem = "changes scores, but --from_run repeats a run unchanged"
            raise ConfigError(path, problem, hint="train with --base_config instead")
    experiment = validate(now)
    _check_repeat_target(experiment, folder, provenance)
    repeated = RepeatedRun(folder, provenance, changed, differences)
    return train(experiment, resume=resume, overwrite=overwrite, repeated=repeated)


def _check_repeat_target(experiment: Experiment, old: Path, provenance: Mapping[str, Any]) -> None:
    """Refuse what cannot be repeated, before any data or weights are looked up."""
    new, old = Path(experiment.trainer_config.log_dir).resolve(), old.resolve()
    if new == old or old in new.parents or new in old.parents:
        raise RunError(f"{old} is the run to repeat: give another folder with --log_dir")
    if any(task_config.data.source == "sample" for task_config in experiment.tasks.values()):
        raise RunError(f"{old} was trained on a generated sample and cannot be repeated: train again with --sample")
    name = experiment.model.pretrained_model_name
    is_local = provenance["weights"] != name and "://" not in name
    if is_local and not Path(name).expanduser().exists():
        raise ModelError(f"model {name}: no such file or folder; restore it, because the run to repeat used it")
