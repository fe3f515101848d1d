"""Opening a finished model, be it a run or an export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from claf2.errors import RunError
from claf2.evaluation.report import Report
from claf2.export.folder import ExportFolder, is_export
from claf2.runs.answerer import Answerer
from claf2.runs.inference import evaluate_folder, evaluate_run
from claf2.runs.model_folder import ModelFolder, TrainedFolder

__all__ = ["evaluate_finished", "open_answerer", "open_model_folder"]


def open_model_folder(folder: Path, *, threads: int | None = None) -> ModelFolder:
    """Open the folder of a run or of an export.

    Args:
        folder: the folder.
        threads: how many threads compute a batch of an export; ``None``: as many as PyTorch uses.

    Raises:
        RunError: when it is neither, or damaged.
    """
    if is_export(folder):
        return ExportFolder(folder, threads=threads)
    if not any((folder / name).exists() for name in ("best", ".best.old", "config.json")):
        raise RunError(f"{folder}: is neither a run nor an export; give the --log_dir of a run, or the -o of an export")
    return TrainedFolder(folder)


def open_answerer(folder: Path, *, tasks: Sequence[str] | None = None, threads: int | None = None) -> Answerer:
    """Load the model of a run or of an export, to answer requests in memory.

    Args:
        folder: the folder.
        tasks: the tasks to load; ``None``: all of them.
        threads: how many threads compute a batch of an export; ``None``: as many as PyTorch uses.

    Raises:
        RunError: when the folder is neither, or damaged, or has no such task.
    """
    return Answerer(open_model_folder(folder, threads=threads), tasks)


def evaluate_finished(folder: Path, data_file: Path | None = None, task: str | None = None) -> Report:
    """Evaluate a run or an export; see ``claf2.runs.inference.evaluate_run``."""
    if is_export(folder):
        return evaluate_folder(folder, ExportFolder, data_file, task)
    return evaluate_run(folder, data_file, task)
