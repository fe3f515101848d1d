"""The cells of a bench that measure an export: the export is made of the run of another cell, and scored as it is."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from claf2.benchmarking.runs import METRICS
from claf2.config.source import parse_json, parse_overrides
from claf2.errors import RunError, nearest
from claf2.runtime.files import read_json, write_json

__all__ = ["EXPORT_FOLDER", "check_export_words", "export_cell", "is_exported"]

EXPORT_FOLDER = "export"
"""The folder of the export within that of the cell."""

NOT_IN_VARIANTS = ("run_dir", "out", "task", "changes", "overwrite")
"""The arguments of an export that the bench sets, or that JSON cannot hold."""


def _parse_words(words: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for override in parse_overrides(words):
        try:
            values[override.key] = True if override.text is None else parse_json(override.text)
        except ValueError:  # a text
            values[override.key] = override.text
    return values


def check_export_words(words: Sequence[str]) -> None:
    """Check the arguments of an export, before anything is trained.

    Raises:
        RunError: if there is no such argument.
    """
    from claf2.export.build import export_run

    known = [name for name in inspect.signature(export_run).parameters if name not in NOT_IN_VARIANTS]
    for name in _parse_words(words):
        if name not in known:
            raise RunError(f"export: there is no argument {name!r}; {nearest(name, known)}")


def is_exported(run_dir: Path, folder: Path) -> bool:
    """Say whether a cell holds a finished export of the run in a folder, as it is now."""
    if not (folder / METRICS).is_file() or not (run_dir / "run.json").is_file():
        return False
    return read_json(folder / "run.json").get("id") == read_json(run_dir / "run.json").get("id")


def export_cell(run_dir: Path, folder: Path, words: Sequence[str], *, keep: bool) -> None:
    """Export a run into the folder of a cell, and write there what a finished run has: config, provenance, predictions
    and scores.

    Args:
        run_dir: the folder of the run.
        folder: that of the cell.
        words: the arguments of the export.
        keep: keep the export, not only its scores and predictions.

    Raises:
        Claf2Error: if the run cannot be exported in this way.
    """
    from claf2.export.build import export_run

    (folder / METRICS).unlink(missing_ok=True)
    export = export_run(run_dir, folder / EXPORT_FOLDER, overwrite=True, **_parse_words(words))
    shutil.copytree(folder / EXPORT_FOLDER / "predictions", folder / "predictions", dirs_exist_ok=True)
    shutil.copyfile(run_dir / "config.json", folder / "config.json")
    # What was trained is what the run trained; memory and size are those of the export, where they are known. An
    # export holds the whole model, also where the run stores an adapter.
    provenance = {**read_json(run_dir / "run.json"), "weight_bytes": export.parity["bytes"], "export": list(words)}
    for name in ("peak_memory_mib", "peak_gpu_memory_mib", "latency", "adapter_bytes"):
        provenance.pop(name, None)
    write_json(folder / "run.json", provenance)
    write_json(folder / METRICS, {"best": export.report.logs()})  # last: it marks the cell as finished
    if not keep:
        shutil.rmtree(folder / EXPORT_FOLDER)
