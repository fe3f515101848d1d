"""The answers to a suite's official test files, zipped as its server wants them."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

from claf2 import config, inference
from claf2.bench.matrix import Measured, found
from claf2.build import data_root
from claf2.errors import Claf2Error, RunError
from claf2.metrics import Prediction
from claf2.task import Suite

__all__ = ["submit"]


def submit(suite: Suite, folder: Path, archive: Path) -> list[str]:
    """Answer the suite's official test files with the best run of each task in ``folder``, and zip the answers.

    Returns:
        The files of the submission that could not be made, with the reason.

    Raises:
        RunError: when the suite takes no submissions, or nothing was measured in ``folder``.
    """
    if not suite.submission:
        raise RunError(f"suite {suite.name!r} takes no submissions")
    cells = found(folder)
    missing, answers = [], {}
    for name, (task, file) in suite.submission.items():
        own = {each: _sum(suite, each) for each in cells if each.cell.task == task and each.scores}
        if not own:
            missing.append(f"{name}: {task} was not trained")
            continue
        best = max(own, key=lambda each: own[each]).folder
        try:
            path = data_root(config.load(str(best / "config.json")).data) / file
            answers[name] = _answers(inference.answer(best, path))
        except (Claf2Error, OSError) as error:
            missing.append(f"{name}: {error}")
    if not answers:
        raise RunError(f"nothing to submit: {'; '.join(missing)}")
    archive.parent.mkdir(parents=True, exist_ok=True)
    scratch = archive.with_name(f".{archive.name}.new")
    with zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED) as target:
        for name, text in answers.items():
            target.writestr(zipfile.ZipInfo(name), text)
    os.replace(scratch, archive)
    return missing


def _sum(suite: Suite, each: Measured) -> float:
    return sum(each.scores.get(key) or 0.0 for key in suite.columns[each.cell.task])


def _answers(predictions: Sequence[Prediction]) -> str:
    """Return the lines of a submission, numbers to three places as GLUE's own examples have them."""
    said = [each.prediction for each in predictions]
    shown = [f"{value:.3f}" if isinstance(value, float) else str(value) for value in said]
    lines = [f"{each.id}\t{value}" for each, value in zip(predictions, shown, strict=True)]
    return "\n".join(["index\tprediction", *lines]) + "\n"
