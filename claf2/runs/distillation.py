"""Soft labels: a teacher's answers for the training rows of a task, computed once and cached."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from claf2 import config
from claf2.data.features import FeatureSet, feature_key
from claf2.errors import Claf2Error, RunError
from claf2.evaluation.evaluate import forward_batches
from claf2.models.source import weights_digest
from claf2.registry import digest
from claf2.runs.locate import cache_dir, locate_splits
from claf2.runs.resolve import Run, open_run
from claf2.runtime import distributed
from claf2.runtime.device import configure_backends
from claf2.runtime.files import create_dir_atomic, is_intact
from claf2.training.objectives import SOFT_LABELS, Distillation

__all__ = ["soft_labels"]

logger = logging.getLogger("claf2")

ANSWERS = "answers.npy"
"""The file of a cached folder that holds the answers."""


def soft_labels(run: Run, task: str, features: FeatureSet) -> dict[str, np.ndarray]:
    """Return the field of a teacher's answers for each of M features, (M, C), memory-mapped; nothing where the task has
    no teacher.

    Args:
        run: whose objectives name the teacher.
        task: one of its tasks.
        features: the training rows of the task.

    Raises:
        RunError: when the teacher does not answer the task's question, or is not a finished run.
    """
    objectives = run.experiment.objectives.values()
    teachers = [
        objective.teachers[task]
        for objective in objectives
        if isinstance(objective, Distillation) and task in objective.teachers
    ]
    if not teachers:
        return {}
    folder = Path(teachers[0])
    try:
        teacher_tasks = config.load(str(folder / "config.json")).tasks
        teacher = open_run(folder, task if task in teacher_tasks else None)
    except Claf2Error as error:
        raise RunError(f"objectives.distil.teachers.{task}: cannot be used as a teacher: {error}") from error
    configure_backends(deterministic=run.experiment.runtime.deterministic)  # opening the teacher has set its own
    (name,) = teacher.experiment.tasks
    teacher_config = teacher.experiment.only_task
    labels, teacher_labels = run.labels[task], teacher.labels[name]
    same_head = teacher_config.task.head == run.experiment.tasks[task].task.head
    if not same_head or sorted(labels) != sorted(teacher_labels):
        raise RunError(f"{folder}: a run on task {teacher_config.task.name!r} cannot be the teacher of {task!r}")
    data = locate_splits(run.experiment)[task]["train"]
    inputs = feature_key(data.identity(), teacher_config.featurizer, teacher.tokenizer, teacher_labels)
    path = cache_dir(run.experiment) / "teachers" / digest([weights_digest(teacher.source), inputs, labels])
    if not distributed.broadcast(distributed.is_main() and is_intact(path)):
        logger.info("%s: computing the soft labels of %s for %d rows", task, folder, len(features))
        answers = _pooled_logits(teacher, name, teacher.features(name, data))
        if labels:
            answers = answers[:, [teacher_labels.index(label) for label in labels]]
        if distributed.is_main():
            create_dir_atomic(path, lambda target: np.save(target / ANSWERS, answers))
        distributed.barrier()
    rows = np.load(path / ANSWERS, mmap_mode="r")
    if len(rows) != len(features):
        raise RunError(f"{folder}: its head gives {len(rows)} answers for {len(features)} rows of {task!r}")
    return {SOFT_LABELS: rows}


def _pooled_logits(teacher: Run, name: str, features: FeatureSet) -> np.ndarray:
    """Return the answers of the teacher's head for each feature, (M, C)."""
    model, task_config = teacher.model(), teacher.experiment.only_task
    dataset = teacher.dataset(name, features)
    own_answers: dict[int, np.ndarray] = {}
    for result in forward_batches(model, name, dataset, task_config.iterator.eval_batch_size):
        logits = task_config.head.pooled_logits(result.outputs)
        if logits is None:
            raise RunError(f"head {task_config.task.head!r} cannot be distilled: it has no single answer per input")
        own_answers |= dict(zip(map(int, result.rows), logits.cpu().numpy(), strict=True))
    answers = {row: answer for part in distributed.all_gather(own_answers) for row, answer in part.items()}
    return np.stack([answers[row] for row in range(len(features))]).astype(np.float32)
