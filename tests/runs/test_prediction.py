"""Predictions: the same as those of an evaluation, in memory, at the cost of the tokenizer and the model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import claf2
from claf2.data.batch import TaskDataset
from claf2.data.features import FeatureList, featurize, featurize_in_memory
from claf2.data.samples import generate
from claf2.heads import heads
from claf2.models.packing import Layout, Packing
from claf2.runs.locate import locate_splits
from claf2.runs.resolve import open_run
from claf2.task import tasks
from claf2.tokenizers.build import load_tokenizer


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a small classifier."""
    folder = tmp_path_factory.mktemp("prediction") / "run"
    claf2.train("scratch/nsmc", sample=True, log_dir=folder, num_steps=3)
    return folder


@pytest.fixture(scope="module")
def predictor(run: Path) -> claf2.Predictor:
    return claf2.Predictor(run)


def test_a_predictor_answers_as_the_evaluation_did_and_writes_nothing(run: Path, predictor: claf2.Predictor) -> None:
    lines = [json.loads(line) for line in (run / "predictions/nsmc-valid.jsonl").read_text().splitlines()]
    files = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    (splits,) = locate_splits(open_run(run).experiment).values()
    requests = [{"id": example.id, "text": example.texts()[0]} for example in splits["valid"].examples()]
    predictions = [dataclasses.asdict(prediction) for prediction in predictor.predict(requests)]
    assert predictions == [{**line, "gold": None} for line in lines]
    for request, expected in zip(requests[:5], predictions, strict=False):
        single = predictor(**request)
        assert (single.id, single.prediction) == (expected["id"], expected["prediction"])
        assert single.score == pytest.approx(expected["score"], abs=1e-6)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == files


def test_a_request_changes_no_mode_and_draws_no_random_number(
    predictor: claf2.Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: list[bool] = []
    state = torch.get_rng_state()
    monkeypatch.setattr(torch.nn.Module, "train", lambda module, mode=True: changes.append(mode))
    predictor(text="x")
    assert changes == []
    assert torch.equal(torch.get_rng_state(), state)


HEADS = sorted({tasks.get(name).head for name in tasks.names() if not tasks.get(name).is_corpus})


@pytest.mark.parametrize("head", HEADS)
def test_features_in_memory_make_the_batches_of_stored_features(
    head: str, model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    named = map(tasks.get, tasks.names())
    task = next(task for task in named if task.head == head and not task.is_corpus)
    tokenizer = load_tokenizer(model_folder())
    examples: list[Any] = list(generate(task, "train", 9))
    featurizer = heads.get(head).featurizer(max_seq_length=64)
    stored = featurize(examples, featurizer, tokenizer, task.labels, tmp_path / "features")
    listed = featurize_in_memory(examples, featurizer, tokenizer, task.labels)
    assert (len(listed), listed.names) == (len(stored), stored.names)
    np.testing.assert_array_equal(listed.lengths(), stored.lengths())
    np.testing.assert_array_equal(listed.token_counts(), stored.token_counts())
    for here, there in zip(listed.records(), stored.records(), strict=True):
        assert here.keys() == there.keys()
        assert all(np.array_equal(here[name], there[name]) for name in here if not has_lists(here[name]))
        assert all(here[name] == there[name] for name in here if has_lists(here[name]))
    fields = {**heads.get(head).inputs, **heads.get(head).targets}
    rows = np.arange(len(stored))[::-1]
    batch, expected = (
        TaskDataset(features, pad_id=3, fields=fields, multiple=8).batch(rows) for features in (listed, stored)
    )
    assert set(batch.arrays) == {*fields, "input_ids", "token_type_ids", "attention_mask"}
    for name, array in batch.arrays.items():
        np.testing.assert_array_equal(array, expected.arrays[name])


def has_lists(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], list)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "electra", "albert"])
def test_rows_without_padding_are_not_packed_and_give_the_same_bits(
    kind: str, model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = transformers.AutoModel.from_pretrained(model_folder(kind)).eval()
    packing = Packing(model)
    packed: list[int] = []
    pack = Layout.pack
    monkeypatch.setattr(Layout, "pack", lambda layout, hidden: packed.append(len(hidden)) or pack(layout, hidden))

    def forward(ids: torch.Tensor) -> torch.Tensor:
        with packing.packed(torch.full((len(ids),), ids.shape[1]), ids.shape[1], ids.device):
            hidden: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        return hidden

    for rows, length in ((1, 17), (4, 9)):
        ids = torch.arange(rows * length).reshape(rows, length) + 5
        with torch.inference_mode():
            hidden = forward(ids)
        assert packed == []
        assert torch.equal(hidden, forward(ids))  # with gradients, rows are always packed
        assert packed == [rows]
        packed.clear()


def test_rows_of_a_batch_are_padded_on_the_right() -> None:
    features = FeatureList([
        {"input_ids": [1, 2, 3], "texts": [[1], [2, 3]], "labels": 0},
        {"input_ids": [4], "texts": [[4, 5, 6]], "labels": 1},
    ])  # fmt: skip
    arrays = features.arrays(np.array([1, 0]), {"input_ids": 9, "texts": 8, "labels": 0})
    assert arrays["input_ids"].tolist() == [[4, 9, 9], [1, 2, 3]]
    assert arrays["texts"].tolist() == [[[4, 5, 6], [8, 8, 8]], [[1, 8, 8], [2, 3, 8]]]
    assert arrays["labels"].tolist() == [1, 0]
