"""Submissions: predictions for a suite's official test files, zipped in the format of the benchmark's server."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

from claf2 import config
from claf2.benchmarking.cells import CellResult, list_cells
from claf2.errors import Claf2Error, RunError
from claf2.metrics import Prediction
from claf2.runs import inference
from claf2.runs.locate import data_dir
from claf2.runtime.files import replace_file_atomic
from claf2.task import Suite

__all__ = ["write_submission"]


def write_submission(suite: Suite, folder: Path, archive: Path) -> list[str]:
    """Predict the suite's official test files with the best run of each task in a bench's folder, and zip the results.

    Returns:
        The files that could not be made, each with the reason.

    Raises:
        RunError: if the suite takes no submissions, or no file could be made.
    """
    if not suite.submission:
        raise RunError(f"suite {suite.name!r} has no format for submissions; use the suite glue")
    results = list_cells(folder)
    missing, texts = [], {}
    for name, (task, test_file) in suite.submission.items():
        # An export has the predictions of the run that it was made of, or worse ones.
        finished = [r for r in results if r.cell.task == task and r.scores and r.cell.export is None]
        if not finished:
            missing.append(f"{name}: {task} was not trained")
            continue
        best = max(finished, key=lambda result: _total_score(suite, result)).folder
        try:
            path = data_dir(config.load(str(best / "config.json")).only_task.data) / test_file
            texts[name] = _format_predictions(inference.predict_file(best, path))
        except (Claf2Error, OSError) as error:
            missing.append(f"{name}: {error}")
    if not texts:
        raise RunError(f"nothing to submit: {'; '.join(missing)}")
    with replace_file_atomic(archive) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as target:
        for name, text in texts.items():
            target.writestr(zipfile.ZipInfo(name), text)  # a fixed time stamp: equal predictions give equal archives
    return missing


def _total_score(suite: Suite, result: CellResult) -> float:
    return sum(result.scores.get(key) or 0.0 for key in suite.columns[result.cell.task])


def _format_predictions(predictions: Sequence[Prediction]) -> str:
    """Return the lines of a submission, numbers with three decimals as in GLUE's own examples.

    Raises:
        RunError: if a prediction is undefined.
    """
    if any(prediction.prediction is None for prediction in predictions):
        raise RunError("there are undefined predictions: the outputs of the model are NaN or infinite")
    values = [prediction.prediction for prediction in predictions]
    texts = [f"{value:.3f}" if isinstance(value, float) else str(value) for value in values]
    lines = [f"{prediction.id}\t{text}" for prediction, text in zip(predictions, texts, strict=True)]
    return "\n".join(["index\tprediction", *lines]) + "\n"
