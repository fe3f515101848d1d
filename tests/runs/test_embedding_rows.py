"""Word embeddings of which only the trained rows are updated: the run is the one that updates all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from stored import last, last_bytes

from claf2 import config
from claf2.data.batch import BatchStream
from claf2.models.embeddings import TrainedRows
from claf2.runs.explain import explain
from claf2.runs.inference import evaluate_run
from claf2.runs.train import train
from claf2.training import shards

WORD_EMBEDDINGS = "bert.embeddings.word_embeddings.weight"
STEPS = 6


@pytest.fixture
def run(model_folder: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Train MRPC's sample with weight decay, and return the folder. Dropout would draw the same numbers, but none is
    needed."""
    model = model_folder(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)

    def run(name: str, *words: str, resume: bool = False) -> Path:
        folder = tmp_path / name
        arguments = ["--pretrained_model_name", str(model), "--data_reader.source", "sample", "--batch_size", "8"]
        arguments += ["--num_steps", str(STEPS), "--weight_decay", "0.1", "--learning_rate", "1e-2"]
        arguments += ["--eval_and_save_step_count", "3", "--log_dir", str(folder)]
        train(config.load("glue/mrpc_bert", [*arguments, *words]), resume=resume)
        return folder

    return run


class Stop(Exception):
    """The end of a run before its time."""


@pytest.fixture
def run_to_step_4(run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Start a run that ends after four steps, of which its last checkpoint has three."""
    epoch = BatchStream.epoch

    def dying(self: BatchStream, *arguments: Any, **options: Any) -> Any:
        for index, batch in enumerate(epoch(self, *arguments, **options)):
            if index == 4:
                raise Stop
            yield batch

    def run_to_step_4(name: str, *words: str) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(BatchStream, "epoch", dying)
            with pytest.raises(Stop):
                run(name, *words)

    return run_to_step_4


def close(first: torch.Tensor, second: torch.Tensor) -> None:
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)


def test_the_run_is_the_one_that_trains_all_rows(run: Callable[..., Path]) -> None:
    some, all_rows = run("some"), run("all", "--embedding_rows", "all")
    trained = json.loads((some / "run.json").read_text())["embedding_rows"]
    assert "embedding_rows" not in json.loads((all_rows / "run.json").read_text())
    weights, expected = (load_file(folder / "best/model.safetensors") for folder in (some, all_rows))
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        close(weights[name], tensor)
    assert trained["of"] == len(weights[WORD_EMBEDDINGS])
    assert 0 < trained["trained"] < trained["of"] / 2
    for name, tensor in last(all_rows).items():
        close(last(some)[name], tensor)
    losses = [
        [json.loads(line).get("valid/loss") for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (some, all_rows)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_what_explain_says_of_it(run: Callable[..., Path], tmp_path: Path) -> None:
    folder = run("some")
    said = explain(config.load(str(folder / "config.json"), ["--log_dir", str(tmp_path / "other")]), steps=1)
    rows = json.loads((folder / "run.json").read_text())["embedding_rows"]
    weights = load_file(folder / "best/model.safetensors")
    assert said["model"]["parameters"] == sum(tensor.numel() for tensor in weights.values())
    width = weights[WORD_EMBEDDINGS].shape[1]
    assert said["model"]["parameters"] - said["model"]["trained"] == (rows["of"] - rows["trained"]) * width
    stored = sum(tensor.nbytes for tensor in last(folder).values())
    assert said["leaves"]["last/"] * 2**20 == pytest.approx(stored, rel=0.01)


def test_evaluating_the_run_gives_its_predictions(run: Callable[..., Path]) -> None:
    folder = run("some")
    before = (folder / "predictions/mrpc-valid.jsonl").read_bytes()
    evaluate_run(folder)
    assert (folder / "predictions/mrpc-valid.jsonl").read_bytes() == before


def test_an_interrupted_run_is_resumed_exactly(run: Callable[..., Path], run_to_step_4: Callable[..., None]) -> None:
    whole = run("whole")
    run_to_step_4("parts")
    parts = run("parts", resume=True)
    assert last_bytes(parts) == last_bytes(whole)
    assert (parts / "best/model.safetensors").read_bytes() == (whole / "best/model.safetensors").read_bytes()


def test_a_checkpoint_of_several_files_is_the_same(
    run: Callable[..., Path], run_to_step_4: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run("whole")
    monkeypatch.setattr(shards, "FILE_BYTES", 10_000)
    run_to_step_4("parts")
    parts = run("parts", resume=True)
    assert len(list((whole / "last").glob("*.safetensors"))) == 1
    assert len(list((parts / "last").glob("*.safetensors"))) > 3
    assert last_bytes(parts) == last_bytes(whole)


@pytest.mark.parametrize(("first", "then"), [("auto", "all"), ("all", "auto")])
def test_a_run_is_resumed_with_more_or_fewer_trained_rows(
    first: str, then: str, run: Callable[..., Path], run_to_step_4: Callable[..., None]
) -> None:
    whole = run("whole")
    run_to_step_4("parts", "--embedding_rows", first)
    parts = last(run("parts", "--embedding_rows", then, resume=True))
    for name, tensor in last(whole).items():
        if not name.endswith("factor"):
            close(parts[name], tensor)


def test_an_id_without_a_trained_row_is_evaluated_and_not_trained() -> None:
    embedding = torch.nn.Embedding(10, 4, padding_idx=0)
    restricted = TrainedRows(embedding, torch.tensor([0, 3, 5]))
    restricted.factor *= 0.5
    ids = torch.tensor([[3, 7], [0, 5]])
    expected = embedding.weight.detach().clone()
    expected[[1, 2, 4, 6, 7, 8, 9]] *= 0.5
    torch.testing.assert_close(restricted.eval()(ids), expected[ids])
    torch.testing.assert_close(restricted.full_weight(), expected)
    torch.testing.assert_close(restricted.state_dict()["weight"], expected)
    restricted.train()(torch.tensor([[3, 0]])).sum().backward()
    assert restricted.weight.grad is not None
    assert restricted.weight.grad.tolist() == [[0.0] * 4, [1.0] * 4, [0.0] * 4]  # padding has no gradient
    with pytest.raises(IndexError):
        restricted(ids)


@pytest.mark.parametrize(
    ("words", "trained"),
    [
        (["--op_type", "adamax", "--adamax.weight_decay", "0.1"], False),  # decay goes through the moments
        (["--op_type", "adamax", "--adamax.weight_decay", "0"], True),
        (["--model.name", "bert_for_san"], False),  # a network that may read other ids
    ],
)
def test_all_rows_are_trained_where_the_result_would_differ(
    words: list[str], trained: bool, run: Callable[..., Path]
) -> None:
    words = ["--num_steps", "1", "--warmup_proportion", "0", *words]
    assert ("embedding_rows" in json.loads((run("x", *words) / "run.json").read_text())) == trained
