"""What a run learns from teachers: their answers for the training rows, computed once and cached, and what objectives
use besides."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from claf2 import config
from claf2.data.features import FeatureSet, feature_key
from claf2.data.ragged import RaggedColumn, crop_absent, list_ragged, write_ragged
from claf2.errors import Claf2Error, RunError
from claf2.evaluation.evaluate import forward_batches
from claf2.models.encoder import EncoderWithHeads
from claf2.models.source import weights_digest
from claf2.registry import digest
from claf2.runs.locate import cache_dir, locate_splits
from claf2.runs.resolve import Run, open_run
from claf2.runtime import distributed
from claf2.runtime.device import configure_backends
from claf2.runtime.files import create_dir_atomic, is_intact
from claf2.training.objectives import Distillation, objectives, soft_field

__all__ = ["make_companions", "soft_labels"]

logger = logging.getLogger("claf2")

ANSWERS_FORMAT = 2
"""Raised when the layout of the cached answers changes."""


def make_companions(run: Run, model: EncoderWithHeads) -> dict[str, object]:
    """Return what the objectives of a run use in training besides the model, by their names.

    Raises:
        Claf2Error: when one cannot be used with the model.
    """
    companions = {}
    for name, objective in run.experiment.objectives.items():
        with distributed.main_process_first():  # a teacher that is downloaded is cached for the others
            companion = objective.companion(model, run.tokenizer, cache_dir(run.experiment))
        if companion is not None:
            companions[name] = companion
    return companions


def soft_labels(run: Run, task: str, features: FeatureSet) -> dict[str, RaggedColumn]:
    """Return the fields of a teacher's answers for each of M features, memory-mapped; nothing where the task has no
    teacher.

    Args:
        run: whose objectives name the teacher.
        task: one of its tasks.
        features: the training rows of the task.

    Raises:
        RunError: when the teacher does not answer the task's question, or is not a finished run.
    """
    objective = run.experiment.objectives.get(objectives.name_of(Distillation))
    if not isinstance(objective, Distillation) or task not in objective.teachers:
        return {}
    folder = Path(objective.teachers[task])
    teacher, name = _open_teacher(run, task, folder)
    labels, teacher_labels = run.labels[task], teacher.labels[name]
    data, featurizer = locate_splits(run.experiment)[task]["train"], teacher.experiment.only_task.featurizer
    inputs = feature_key(data.identity(), featurizer, teacher.tokenizer, teacher_labels)
    own_inputs = feature_key(data.identity(), run.experiment.tasks[task].featurizer, run.tokenizer, labels)
    # An answer for each token is of use only to a student that reads the same tokens, so it is kept apart.
    key = digest([ANSWERS_FORMAT, weights_digest(teacher.source), inputs, labels, inputs == own_inputs])
    path = cache_dir(run.experiment) / "teachers" / key
    if not distributed.broadcast(distributed.is_main() and is_intact(path)):
        logger.info("%s: computing the soft labels of %s for %d rows", task, folder, len(features))
        order = [teacher_labels.index(label) for label in labels]
        answers = _soft_answers(teacher, name, teacher.features(name, data), order, same_tokens=inputs == own_inputs)
        if distributed.is_main():
            create_dir_atomic(path, partial(_store, answers))
        distributed.barrier()
    columns = {soft_field(answer): RaggedColumn(path, answer) for answer in list_ragged(path)}
    for column in columns.values():
        if len(column) != len(features):
            raise RunError(f"{folder}: its head gives {len(column)} answers for {len(features)} rows of {task!r}")
    return columns


def _open_teacher(run: Run, task: str, folder: Path) -> tuple[Run, str]:
    """Return the teacher of a task, and the name of its own task."""
    try:
        teacher_tasks = config.load(str(folder / "config.json")).tasks
        teacher = open_run(folder, task if task in teacher_tasks else None)
    except Claf2Error as error:
        raise RunError(f"objectives.distil.teachers.{task}: cannot be used as a teacher: {error}") from error
    configure_backends(deterministic=run.experiment.runtime.deterministic)  # opening the teacher has set its own
    (name,) = teacher.experiment.tasks
    teacher_task = teacher.experiment.only_task.task
    same_head = teacher_task.head == run.experiment.tasks[task].task.head
    if not same_head or sorted(run.labels[task]) != sorted(teacher.labels[name]):
        raise RunError(f"{folder}: a run on task {teacher_task.name!r} cannot be the teacher of {task!r}")
    return teacher, name


def _soft_answers(
    teacher: Run, name: str, features: FeatureSet, order: Sequence[int], *, same_tokens: bool
) -> dict[str, list[np.ndarray]]:
    """Return the answers of the teacher's head for each feature, by name.

    Args:
        teacher: the teacher.
        name: its task.
        features: M features.
        order: which output of the teacher stands for each of the student's labels; empty without labels.
        same_tokens: whether the student reads the same tokens.
    """
    model, task_config = teacher.model(), teacher.experiment.only_task
    dataset, head = teacher.dataset(name, features), task_config.task.head
    own_answers: dict[int, dict[str, np.ndarray]] = {}
    for result in forward_batches(model, name, dataset, task_config.iterator.eval_batch_size):
        terms = task_config.head.soft_answers(result.outputs, result.tensors)
        if not any(terms):
            raise RunError(f"head {head!r} cannot be distilled: it has no answers with alternatives")
        for answer, soft in ((answer, soft) for term in terms for answer, soft in term.items()):
            if soft.mask is not None and not same_tokens:
                raise RunError(
                    f"head {head!r} answers for each token, so the teacher must read the same tokens as the student: "
                    f"use the tokenizer and the fields of data_reader.{task_config.data.dataset} of {teacher.folder}"
                )
            values = soft.masked().cpu().numpy()
            for row, value in zip(map(int, result.rows), values, strict=True):
                value = value[order] if soft.mask is None and order else crop_absent(value)
                own_answers.setdefault(row, {})[answer] = value
    answers = {row: answer for part in distributed.all_gather(own_answers) for row, answer in part.items()}
    return {answer: [answers[row][answer] for row in range(len(features))] for answer in answers[0]}


def _store(answers: Mapping[str, Sequence[np.ndarray]], target: Path) -> None:
    for answer, arrays in answers.items():
        write_ragged(target, answer, arrays)
