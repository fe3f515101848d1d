"""What a teacher says of a task's training rows, for distillation: asked once, and kept in the cache."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import torch

from claf2 import config, ranks
from claf2.batch import by_length
from claf2.build import Run, cache, reopen, splits
from claf2.errors import Claf2Error, RunError
from claf2.features import FeatureSet
from claf2.models.source import weights_digest
from claf2.objectives import TEACHER, Distil
from claf2.process import settle
from claf2.registry import digest
from claf2.seed import undisturbed

__all__ = ["said"]

logger = logging.getLogger("claf2")


def said(run: Run, task: str, features: FeatureSet) -> dict[str, np.ndarray]:
    """Return the field that holds what the task's teacher says of each feature, (M, C), memory-mapped; nothing where it
    has none.

    Raises:
        RunError: when the teacher answers something else than the task asks.
    """
    found = [each for each in run.experiment.objectives.values() if isinstance(each, Distil) and task in each.teachers]
    if not found:
        return {}
    folder = Path(found[0].teachers[task])
    try:
        known = config.load(str(folder / "config.json")).parts
        teacher = reopen(folder, task if task in known else None)
    except Claf2Error as error:
        raise RunError(f"objectives.distil.teachers.{task}: no run that can teach: {error}") from error
    settle(deterministic=run.experiment.runtime.deterministic)
    (name,), part = teacher.experiment.parts, teacher.experiment.part
    labels, theirs = run.labels[task], teacher.labels[name]
    if part.task.head != run.experiment.parts[task].task.head or sorted(labels) != sorted(theirs):
        raise RunError(f"{found[0].teachers[task]}: a run of {part.task.name!r} cannot teach {task!r}")
    data = splits(run.experiment)[task]["train"]
    key = digest([weights_digest(teacher.source), data.identity(), part.featurizer.model_dump(mode="json"), labels])
    path = cache(run.experiment) / "teachers" / f"{key}.npy"
    if not ranks.told(path.is_file()):
        logger.info("%s: asking the teacher %s about %d rows", task, found[0].teachers[task], len(features))
        answers = _ask(teacher, name, teacher.features(name, data))
        if labels:
            answers = answers[:, [theirs.index(label) for label in labels]]
        if ranks.first():
            path.parent.mkdir(parents=True, exist_ok=True)
            new = path.with_suffix(f".{os.getpid()}.new")
            with new.open("wb") as file:
                np.save(file, answers)
            os.replace(new, path)
        ranks.meet()
    rows = np.load(path, mmap_mode="r")
    if len(rows) != len(features):
        raise RunError(
            f"{found[0].teachers[task]}: its head gives {len(rows)} answers for {len(features)} rows of {task!r}"
        )
    return {TEACHER: rows}


def _ask(teacher: Run, name: str, features: FeatureSet) -> np.ndarray:
    model, source, part = teacher.model().eval(), teacher.batches(name, features), teacher.experiment.part
    answers: list[np.ndarray] = [np.zeros(0)] * len(features)
    with undisturbed(), torch.inference_mode():
        for rows in by_length(source.lengths, part.iterator.eval_batch_size):
            answer = part.head.answer(model(name, source.batch(rows).tensors(model.device)))
            if answer is None:
                raise RunError(f"a head {part.task.head!r} cannot teach: it does not answer for whole inputs")
            for row, each in zip(rows, answer.cpu().numpy(), strict=True):
                answers[row] = each
    return np.stack(answers).astype(np.float32)
