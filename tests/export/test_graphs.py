"""Every head on every architecture as a graph: the same outputs as PyTorch at shapes that were not traced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

import claf2
from claf2.data.batch import TaskDataset
from claf2.data.features import FeatureList, featurize_in_memory
from claf2.data.samples import generate
from claf2.errors import RunError
from claf2.export.onnx import TOKEN_INPUTS, write_graph
from claf2.export.onnx_engine import OnnxEngine
from claf2.export.parity import compared_shapes, largest_differences, random_batches
from claf2.export.rows import ModelRows
from claf2.heads import heads
from claf2.models import ModelSpec
from claf2.models.encoder import TaskHead, build_model
from claf2.runs.resolve import resolve
from claf2.task import Task, tasks
from claf2.tokenizers.build import load_tokenizer

ARCHITECTURES = ("bert", "roberta", "xlm-roberta", "electra", "albert", "distilbert", "deberta-v2", "modernbert")
HEADS = ("classify", "regress", "tag", "span", "choice")
FAST = {("bert", "choice"), ("modernbert", "tag")}


def task_of(head: str) -> Task:
    """Return a task that a head answers."""
    kind = "classify" if head == "san" else head
    named = (tasks.get(name) for name in tasks.names())
    return next(t for t in named if t.head == kind and not t.is_corpus and (head != "san" or t.reader.pairs))


def rows_of(head_name: str, folder: Path) -> ModelRows:
    """Return rows of a generated sample, with a model of a head on the encoder in a folder."""
    task, head, tokenizer = task_of(head_name), heads.get(head_name)(), load_tokenizer(folder)
    model = build_model(
        ModelSpec(), folder, {"t": TaskHead(head, task.labels)}, vocab_size=tokenizer.vocab_size,
        pad_id=tokenizer.pad_id, seed=1,
    ).eval()  # fmt: skip
    featurizer = heads.get(head_name).featurizer(max_seq_length=64)
    examples: list[Any] = [example.unlabelled() for example in generate(task, "train", 6)]
    features = featurize_in_memory(examples, featurizer, tokenizer, task.labels)
    return ModelRows("t", TaskDataset(features, pad_id=tokenizer.pad_id, fields=dict(head.inputs)), model)


def differences(rows: ModelRows, path: Path) -> dict[str, float]:
    """Write the graph, and return its largest differences to PyTorch."""
    module, example = rows.model.head("t"), rows.arguments(np.arange(3))
    ports = write_graph(module, example, path, free_axes=rows.free_axes())
    if set(example) <= set(TOKEN_INPUTS):
        batches = list(random_batches(example, compared_shapes(100), vocab_size=100, pad_id=rows.dataset.pad_id))
    else:
        batches = [rows.arguments(chosen) for chosen in (np.array([4]), np.arange(5), np.array([3, 1]))]
    return largest_differences(module, OnnxEngine(path, "exact"), "t", batches, ports.outputs)


@pytest.mark.parametrize(
    ("architecture", "head"),
    [
        pytest.param(kind, head, marks=[] if (kind, head) in FAST else pytest.mark.slow)
        for kind in ARCHITECTURES
        for head in HEADS
    ],
)
def test_heads_of_transformers(architecture: str, head: str, model_folder: Callable[..., Path], tmp_path: Path) -> None:
    found = differences(rows_of(head, model_folder(architecture)), tmp_path / "model.onnx")
    assert list(found) == ["1x7", "2x100", "5x2"]
    assert max(found.values()) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("head", ["san", "parse", "dialogue"])
@pytest.mark.parametrize("architecture", ["bert", "electra"])
def test_own_networks(architecture: str, head: str, model_folder: Callable[..., Path], tmp_path: Path) -> None:
    assert max(differences(rows_of(head, model_folder(architecture)), tmp_path / "model.onnx").values()) <= 1e-5


def read_rows(task: str, folder: Path, count: int) -> ModelRows:
    """Return validation rows of a task with an untrained model."""
    run, _ = resolve(claf2.load(f"scratch/{task}", sample=True, log_dir=folder))
    module = run.model().head(task)
    assert isinstance(module, PreTrainedModel)
    return ModelRows.read(run, module, "valid", count)


def test_the_axis_of_words_is_free_where_all_rows_have_as_many(tmp_path: Path) -> None:
    rows = read_rows("klue_dp", tmp_path, 1)
    assert len(rows) == 1
    axes = rows.free_axes()
    assert {name: axes[name] for name in ("first", "last", "pos")} == {"first": [1], "last": [1], "pos": [1]}


def test_the_longest_rows_are_traced(tmp_path: Path) -> None:
    rows = read_rows("klue_dp", tmp_path, 24)
    features = rows.dataset.features
    assert isinstance(features, FeatureList)
    ascending = sorted(features.features, key=lambda feature: len(feature["input_ids"]))
    rows = replace(rows, dataset=replace(rows.dataset, features=FeatureList(ascending)))
    longest = int(features.lengths().max())
    assert rows.example(3)["input_ids"].shape == (3, longest)
    assert rows.example(3)["attention_mask"].sum(1).tolist()[0] == longest
    assert read_rows("klue_dp", tmp_path, 1).example(3)["input_ids"].shape[0] == 3


def test_what_differs_is_seen_and_padding_is_not(export: Path) -> None:
    class Module(nn.Module):
        """Adds a number to what the graph computes."""

        def __init__(self, engine: OnnxEngine, added: float) -> None:
            super().__init__()
            self.engine, self.added = engine, added

        def forward(self, **inputs: torch.Tensor) -> Any:
            outputs = self.engine("nsmc", inputs)
            outputs.logits = outputs.logits + self.added
            return outputs

    engine = OnnxEngine(export / "model.onnx", "exact")
    example = {name: torch.zeros(1, 1, dtype=torch.int64) for name in TOKEN_INPUTS}
    batches = list(random_batches(example, compared_shapes(100), vocab_size=100, pad_id=0))
    assert batches[1]["attention_mask"].sum(1).tolist() == [100, 50]
    assert bool((batches[1]["input_ids"] == 0).eq(batches[1]["attention_mask"] == 0).all())
    for added in (0.0, 0.25):
        found = largest_differences(Module(engine, added), engine, "nsmc", batches, ["logits"])
        assert list(found.values()) == pytest.approx([added] * 3, abs=1e-6)


def test_outputs_that_are_no_data_class_are_refused_by_name(tmp_path: Path) -> None:
    class Bare(nn.Module):
        """Returns a tensor, as a head of a plug-in may."""

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return input_ids

    with pytest.raises(RunError, match="outputs of type Tensor cannot be exported: return a data class"):
        write_graph(Bare(), {"input_ids": torch.zeros(2, 3, dtype=torch.int64)}, tmp_path / "model.onnx")


def test_a_module_that_cannot_be_traced_is_refused_by_name(tmp_path: Path) -> None:
    from transformers.modeling_outputs import SequenceClassifierOutput

    class Branching(nn.Module):
        """Computes what depends on a value."""

        def forward(self, input_ids: torch.Tensor) -> SequenceClassifierOutput:
            rows = input_ids[: int(input_ids[0, 0])]
            return SequenceClassifierOutput(logits=rows.float() if rows.sum() > 3 else rows.float() * 2)

    with pytest.raises(RunError, match=r"Branching cannot be exported to ONNX: .*; answer with the run itself"):
        write_graph(Branching(), {"input_ids": torch.ones(2, 3, dtype=torch.int64)}, tmp_path / "model.onnx")
