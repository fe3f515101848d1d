"""Distillation for every kind of head: what a student learns, how it is cached, and that runs with a teacher resume."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from head_configs import CONFIGS
from pretraining_runs import train_until
from stored import last_bytes

from claf2 import config
from claf2.data.batch import Batch
from claf2.data.ragged import RaggedColumn, crop_absent, list_ragged, write_ragged
from claf2.errors import ChangedError, Interrupted, RunError
from claf2.heads import Head
from claf2.runs import provenance
from claf2.runs.prepare import prepare
from claf2.runs.resolve import resolve
from claf2.runs.train import train
from claf2.training.objectives import Distillation, ForwardPass, soft_field

TASKS = {"classify": "mrpc", "san": "mrpc", "regress": "stsb", "tag": "klue_ner", "span": "korquad",
         "choice": "jcommonsenseqa", "parse": "klue_dp", "dialogue": "wos"}  # fmt: skip
ANSWERS = {
    "tag": {"tags": "labels"},
    "span": {"start": "start_positions", "end": "end_positions"},
    "parse": {"heads": "heads", "relations": "relations"},
}
"""The answers of a head, and the targets that they are about."""
DISTILLED = ["classify", "san", "regress", "tag", "span", "choice", "parse"]
NETWORKS = {
    "parse": ["--pos_size", "8", "--bert_for_parse.hidden_size", "8", "--head_size", "8", "--relation_size", "8"],
    "dialogue": [],
}


def load(kind: str, model: Path, folder: Path, *words: str) -> config.Experiment:
    base, *more = CONFIGS[kind]
    given = ["--pretrained_model_name", str(model), "--source", "sample", "--log_dir", str(folder), "--num_steps", "4",
             "--batch_size", "8", "--eval_and_save_step_count", "4", *more, *NETWORKS.get(kind, [])]  # fmt: skip
    return config.load(base, [*given, *words])


def teachers(kind: str, folder: Path) -> list[str]:
    return ["--distil.teachers", json.dumps({TASKS[kind]: str(folder)})]


def test_arrays_of_different_shapes_are_stored_and_padded(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in ((2, 3), (4, 1), (0, 0), (1, 5))]
    write_ragged(tmp_path, "some", arrays)
    assert list_ragged(tmp_path) == ["some"]
    column = RaggedColumn(tmp_path, "some")
    assert len(column) == 4
    assert isinstance(column.values, np.memmap)
    rows = column[np.array([3, 0, 2])]
    assert rows.shape == (3, 2, 5)
    for row, array in zip(rows, (arrays[3], arrays[0], arrays[2]), strict=True):
        assert np.array_equal(crop_absent(row), array)
    assert column[np.array([2])].shape == (1, 0, 0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[..., Path]) -> Callable[[str], Path]:
    """A run of each kind, which is trained when it is first asked for."""
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("teacher") / kind
            train(load(kind, model_folder(), made[kind], "--learning_rate", "1e-3"))
        return made[kind]

    return make


def gradient(objective: Distillation, model: Any, task: str, head: Head[Any, Any], batch: Batch) -> tuple[float, float]:
    """Return the loss of a batch under the objective, and the norm of its gradient."""
    tensors = batch.tensors(torch.device("cpu"))
    model.zero_grad()
    outputs = model(task, tensors)
    shares = torch.as_tensor(1 / np.maximum(1, head.weight(batch.arrays)), dtype=torch.float32)
    loss = (head.loss(outputs, tensors) * shares).sum()
    loss = objective.loss(loss, ForwardPass(model, task, head, tensors, outputs, torch.tensor(1 / len(batch)), shares))
    loss.backward()
    norms = [parameter.grad.norm() for parameter in model.parameters() if parameter.grad is not None]
    return float(loss.detach()), float(torch.stack(norms).norm())


@pytest.mark.parametrize("kind", DISTILLED)
def test_a_student_that_answers_as_its_teacher_has_nothing_to_learn(
    kind: str, finished: Callable[[str], Path], model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """The gradient of the teacher's part vanishes where both give the same answers, in every row of a padded batch."""
    folder = finished(kind)
    experiment = load(kind, folder / "best", tmp_path / "run", *teachers(kind, folder))
    prepared = prepare(*resolve(experiment))
    ((task, task_config),) = experiment.tasks.items()
    model, head = prepared.model.eval(), task_config.head
    rows = np.arange(6)
    dataset: Any = prepared.stream._datasets[task]  # type: ignore[attr-defined]
    batch = dataset.batch(rows)
    objective = Distillation(teachers={task: "RUN"}, weight=1)
    taught, own = (gradient(it, model, task, head, batch) for it in (objective, Distillation(weight=0)))
    assert np.isfinite(taught).all()
    if kind != "parse":  # where the chosen head is wrong, relations differ: those to the right head are not computed
        assert taught[1] < 1e-4 * own[1]
    softer = gradient(Distillation(teachers={task: "RUN"}, weight=1, temperature=3), model, task, head, batch)
    assert softer[1] < 1e-3 * own[1]
    if kind != "regress":  # the teacher's entropy is left, and it is nats, so a softer one has more of them
        assert softer[0] > 9 * taught[0] > 0
    # A teacher that is sure of the right answers says what the labels say.
    sure = gradient(objective, model, task, head, Batch({**batch.arrays, **sure_answers(kind, batch)}))
    own_loss = gradient(Distillation(weight=0), model, task, head, batch)
    assert sure == pytest.approx(own_loss, rel=1e-4)
    fields = [name for name in batch.arrays if name.startswith("soft_")]
    assert fields
    others = {name: array - np.arange(1, array.shape[-1] + 1) for name in fields for array in [batch.arrays[name]]}
    changed = Batch({**batch.arrays, **others})
    assert gradient(objective, model, task, head, changed)[1] > 1e3 * taught[1]
    # The parts of a batch add up, however its rows are divided.
    ones = [dataset.batch(rows[index : index + 1]) for index in rows]
    whole = gradient_of_parts(objective, model, task, head, [batch])
    torch.testing.assert_close(gradient_of_parts(objective, model, task, head, ones), whole, rtol=1e-3, atol=1e-6)


def sure_answers(kind: str, batch: Batch) -> dict[str, np.ndarray]:
    """Return the right answers as those of a teacher that has no doubt."""
    if kind == "regress":
        return {soft_field("pooled"): batch.arrays["labels"].astype(np.float32)[:, None]}
    answers = {}
    for name, target in ANSWERS.get(kind, {"pooled": "labels"}).items():
        given, targets = batch.arrays[soft_field(name)], batch.arrays[target]
        taught = np.isfinite(given)
        if name == "relations":  # the teacher's own answers leave out those to heads that it gets wrong
            taught = np.broadcast_to((targets >= 0)[..., None], (*targets.shape, given.shape[-1]))
        answers[soft_field(name)] = soft = np.where(taught, np.float32(0), np.float32(-np.inf))
        places = np.nonzero(targets >= 0)
        soft[(*places, targets[places])] = 99
    return answers


def gradient_of_parts(
    objective: Distillation, model: Any, task: str, head: Head[Any, Any], batches: list[Batch]
) -> torch.Tensor:
    """Return the gradient of a softened loss, with one denominator for all parts."""
    objective = Distillation(teachers=objective.teachers, weight=0.5, temperature=2)
    weight = np.sum([head.weight(batch.arrays) for batch in batches], axis=0)
    shares = torch.as_tensor(1 / np.maximum(1, weight), dtype=torch.float32)
    model.zero_grad()
    for batch in batches:
        tensors = batch.tensors(torch.device("cpu"))
        outputs = model(task, tensors)
        loss = (head.loss(outputs, tensors) * shares).sum()
        objective.loss(loss, ForwardPass(model, task, head, tensors, outputs, shares, shares)).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("kind", ["tag", "span", "parse"])
def test_a_run_with_a_teacher_is_resumed(
    kind: str,
    finished: Callable[[str], Path],
    model_folder: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["--keep_layers", "[0]", *teachers(kind, finished(kind))]
    whole, parts = (load(kind, model_folder(), tmp_path / name, *words) for name in ("whole", "parts"))
    train(whole)
    with pytest.raises(Interrupted):
        train_until(parts, 2, monkeypatch)
    train(parts, resume=True)
    assert last_bytes(tmp_path / "parts") == last_bytes(tmp_path / "whole")
    (tmp_path / "parts/metrics.json").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "_teacher_digests", lambda run: {TASKS[kind]: "another"})
        with pytest.raises(ChangedError, match=f"teachers {TASKS[kind]} has changed since the run began"):
            train(parts, resume=True)
    plain = load(kind, model_folder(), tmp_path / "plain", *words[:2])
    train(plain)
    assert last_bytes(tmp_path / "plain") != last_bytes(tmp_path / "whole")


def test_answers_for_tokens_need_the_same_tokens(
    finished: Callable[[str], Path], model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    words = [*teachers("tag", finished("tag")), "--max_seq_length", "64"]
    with pytest.raises(RunError, match=r"same tokens as the student: use the tokenizer and .* data_reader\.klue_ner"):
        train(load("tag", model_folder(), tmp_path / "run", *words))
    # One answer per input does not depend on tokens.
    words = [*teachers("classify", finished("classify")), "--max_seq_length", "64"]
    train(load("classify", model_folder(), tmp_path / "run", *words))


def test_what_cannot_be_distilled_is_refused(
    finished: Callable[[str], Path], model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    words = teachers("dialogue", finished("dialogue"))
    with pytest.raises(RunError, match="head 'dialogue' cannot be distilled"):
        train(load("dialogue", model_folder(), tmp_path / "run", *words))
