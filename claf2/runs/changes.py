"""What has changed between two provenances, before a run is resumed or repeated."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain
from typing import Any

from claf2.config.source import iter_leaves
from claf2.errors import ChangedError
from claf2.runs.provenance import SCORE_PACKAGES

__all__ = [
    "CHANGE_KINDS",
    "DATA_PATHS",
    "SAME_RESULT",
    "changed_runtime",
    "changed_settings",
    "check_repeatable",
    "check_resumable",
    "describe_changes",
    "diff_provenance",
]

CHANGE_KINDS: Mapping[str, tuple[str, ...]] = {
    "data": ("data",),
    "tokenizer": ("tokenizer",),
    "weights": ("weights", "commit", "teachers"),
    "code": ("code", "recipe", "experiment", "plugins"),
    "versions": ("versions",),
    "device": ("device", "hardware"),
    "threads": ("threads",),
    "processes": ("processes",),
    "runtime": ("runtime",),
}
"""The kinds of change that a user may accept → the entries of ``run.json`` that record them. All of them change scores:
the first four change what is computed, the others at least the last digits. ``code`` covers claf2, plug-ins and the
tasks' rows, and with them what becomes of an unchanged config; ``runtime`` covers the settings of a run that was
resumed with others than it began with."""

SAME_RESULT = ("workers", "cache_dir", "callbacks")
"""The settings in section `runtime` that change nothing of a result."""

DATA_PATHS = ("data_dir", "train_file_path", "valid_file_path")
"""The settings that say where the data are. The digests of the data say what they are."""

PHASES = "trainer.pretrain.phases"
"""The setting of a pre-training of which the future may change when it is resumed."""

NEUTRAL = {f"trainer.pretrain.{name}" for name in ("keep_step_count", "keep_last", "keep_every")}
"""The settings of a pre-training that change no weight: they are no part of the experiment's digest."""


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
    compared = ("experiment", "data", "tokenizer", "weights", "label_order", "teachers")
    for name, pair in _diff_all_but_paths(before, now, compared).items():
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


def _diff_all_but_paths(
    before: Mapping[str, Any], now: Mapping[str, Any], names: Sequence[str]
) -> dict[str, list[Any]]:
    """Return the entries in which two provenances differ, without an experiment that only reads its data elsewhere."""
    differences = diff_provenance(before, now, names)
    settings = changed_settings(before["config"], now["config"])
    if settings and all(path.rpartition(".")[2] in DATA_PATHS for path, _, _ in settings):
        differences.pop("experiment", None)
    return differences


def changed_runtime(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return path → [then, now] of the settings in section `runtime` of two configs that differ and may change a
    result."""
    old, new = dict(iter_leaves(before.get("runtime") or {})), dict(iter_leaves(now.get("runtime") or {}))
    return {
        path: [old.get(path), new.get(path)]
        for path in {**old, **new}
        if old.get(path) != new.get(path) and path.partition(".")[0] not in SAME_RESULT
    }


def describe_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return what has changed since a run began or was last resumed."""
    changed = _diff_all_but_paths(before, now, list(chain.from_iterable(CHANGE_KINDS.values())))
    changed |= {f"runtime {path}": pair for path, pair in changed_runtime(before["config"], now["config"]).items()}
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
        differences |= {name: (kind, pair) for name, pair in _diff_all_but_paths(before, now, names).items()}
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
