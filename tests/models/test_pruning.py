"""Smaller encoders: what is saved loads in plain transformers and computes what the kept parts computed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification

from claf2 import config
from claf2.errors import ConfigError, ModelError
from claf2.heads import heads
from claf2.models import ModelSpec
from claf2.models.encoder import TaskHead, build_model
from claf2.models.pruning import PRUNABLE, keep_layers, narrow_feed_forward
from claf2.runs.inference import evaluate_run
from claf2.runs.resolve import open_run, resolve_weights
from claf2.runs.train import train

ARCHITECTURES = {
    "bert": {"num_hidden_layers": 4},
    "roberta": {"num_hidden_layers": 4},
    "xlm-roberta": {"num_hidden_layers": 4},
    "electra": {"num_hidden_layers": 4},
    "distilbert": {"n_layers": 4, "num_hidden_layers": 4},
    "deberta-v2": {"num_hidden_layers": 4, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "modernbert": {"num_hidden_layers": 4, "global_attn_every_n_layers": 3},
}

KEPT = [0, 1, 3]


@pytest.fixture
def inputs() -> dict[str, torch.Tensor]:
    ids = torch.tensor([[2, *range(10, 30), 3], [2, 9, 3, *[0] * 19]])
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}


def outputs_of_layers(model: Any, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Return what each layer gives, in order."""
    states: list[torch.Tensor] = []
    stack = model.get_submodule(PRUNABLE[model.config.model_type].layers)
    for layer in stack:
        layer.register_forward_hook(
            lambda _, __, output: states.append(output[0] if isinstance(output, tuple) else output)
        )
    with torch.no_grad():
        model(**inputs)
    return states


def without(model: Any, removed: int) -> None:
    """Let one layer return its input."""
    stack = model.get_submodule(PRUNABLE[model.config.model_type].layers)

    def skip(_: Any, args: Any, kwargs: Any, output: Any) -> Any:
        given = args[0] if args else kwargs["hidden_states"]
        return (given, *output[1:]) if isinstance(output, tuple) else given

    stack[removed].register_forward_hook(skip, with_kwargs=True)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_kept_layers_compute_what_the_model_computes_without_the_others(
    kind: str, model_folder: Callable[..., Path], inputs: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    folder = model_folder(kind, **ARCHITECTURES[kind])
    whole = AutoModel.from_pretrained(folder).eval()
    without(whole, 2)
    with torch.no_grad():
        expected = whole(**inputs).last_hidden_state
    small = AutoModel.from_pretrained(folder).eval()
    keep_layers(small, KEPT)
    small.save_pretrained(tmp_path)
    loaded, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert loaded.config.num_hidden_layers == len(outputs_of_layers(loaded.eval(), inputs)) == 3
    with torch.no_grad():
        torch.testing.assert_close(small(**inputs).last_hidden_state, expected)
        assert torch.equal(loaded(**inputs).last_hidden_state, small(**inputs).last_hidden_state)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_largest_neurons_stay(
    kind: str, model_folder: Callable[..., Path], inputs: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    """Neurons that write nothing are the first to go, and then nothing changes."""
    parts = PRUNABLE[kind]
    model = AutoModel.from_pretrained(model_folder(kind, **ARCHITECTURES[kind])).eval()
    silent = torch.arange(1, 64, 4)
    with torch.no_grad():
        for layer in model.get_submodule(parts.layers):
            layer.get_submodule(parts.outer).weight[:, silent] = 0
        expected = model(**inputs).last_hidden_state
    narrow_feed_forward(model, 48)
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).last_hidden_state, expected)
    narrow_feed_forward(model, 7)
    model.save_pretrained(tmp_path)
    loaded, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        assert torch.equal(loaded.eval()(**inputs).last_hidden_state, model(**inputs).last_hidden_state)
        assert not torch.allclose(model(**inputs).last_hidden_state, expected)
    assert json.loads((tmp_path / "config.json").read_text())[parts.width] == 7


def test_near_and_global_attention_stay_with_their_layers(model_folder: Callable[..., Path]) -> None:
    model = AutoModel.from_pretrained(model_folder("modernbert", **ARCHITECTURES["modernbert"]))
    kinds = list(model.config.layer_types)
    assert kinds == ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
    keep_layers(model, [0, 3])
    assert model.config.layer_types == [layer.attention_type for layer in model.layers] == ["full_attention"] * 2
    with pytest.raises(ModelError, match="keep layer 0"):
        keep_layers(AutoModel.from_pretrained(model_folder("modernbert", **ARCHITECTURES["modernbert"])), [1, 2])


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "ascending"),
        ([1, 0], "ascending"),
        ([1, 1], "ascending"),
        ([-1, 0], "ascending"),
        ([0, 2], "last one is 1"),
    ],
)
def test_wrong_layers_are_refused(layers: list[int], message: str, model_folder: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match=message):
        keep_layers(AutoModel.from_pretrained(model_folder()), layers)


def test_what_cannot_be_pruned_is_refused_by_name(model_folder: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match="albert"):
        keep_layers(AutoModel.from_pretrained(model_folder("albert")), [0])
    with pytest.raises(ModelError, match="choose 1 to 64"):
        narrow_feed_forward(AutoModel.from_pretrained(model_folder()), 65)
    other = AutoModel.from_pretrained(model_folder())
    other.config.model_type = "mpnet"
    with pytest.raises(ModelError, match=r"layers of mpnet .* supported: bert"):
        narrow_feed_forward(other, 8)
    with pytest.raises(ConfigError, match=r"model\.architecture"):
        resolve_weights(config.load("scratch/rte", ["--keep_layers", "[0]"]), lambda: ())


def test_all_heads_share_the_small_encoder(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    """Each module says the same sizes, a network of claf2's own included, so each stored model loads."""
    tasks = {
        "classify": TaskHead(heads.get("classify")(), ["a", "b"]),
        "parse": TaskHead(heads.get("parse")(hidden_size=8, head_size=8, relation_size=8), ["x", "y"]),
    }
    spec = ModelSpec(keep_layers=[1], ffn_width=10)
    model = build_model(spec, model_folder(), tasks, vocab_size=100, pad_id=0, seed=1)
    for task in tasks:
        module: Any = model.head(task)
        assert module.base_model is model.encoder
        module.save_pretrained(tmp_path / task)
        loaded, info = AutoModel.from_pretrained(tmp_path / task, output_loading_info=True)
        assert not info["missing_keys"] | info["mismatched_keys"]
        assert (loaded.config.num_hidden_layers, loaded.config.intermediate_size) == (1, 10)


def short(folder: Path, model: Path, *words: str) -> config.Experiment:
    given = ["--pretrained_model_name", str(model), "--source", "sample", "--log_dir", str(folder), "--num_steps", "3"]
    return config.load("glue/mrpc_bert", [*given, *words])


def test_a_run_begins_with_kept_layers_and_stores_a_small_model(
    model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    model = model_folder("bert", num_hidden_layers=3)
    words = ["--keep_layers", "[0, 2]", "--ffn_width", "16"]
    experiment = short(tmp_path / "run", model, *words)
    report = train(experiment)
    best = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run/best")
    assert (best.config.num_hidden_layers, best.config.intermediate_size) == (2, 16)
    # What is stored is small already: its layers are not chosen again.
    assert evaluate_run(tmp_path / "run").tasks["mrpc"].scores == report.tasks["mrpc"].scores
    assert open_run(tmp_path / "run").experiment.model.keep_layers is None
    again = short(tmp_path / "again", model, *words)
    train(again)
    stored = [(tmp_path / name / "best/model.safetensors").read_bytes() for name in ("run", "again")]
    assert stored[0] == stored[1]


def test_defaults_leave_every_digest_as_it_was() -> None:
    plain = config.load("glue/mrpc_bert")
    block = plain.values["model"]["bert_for_seq_cls"]
    assert "keep_layers" not in block
    assert "ffn_width" not in block
    small = config.load("glue/mrpc_bert", ["--keep_layers", "[0]", "--ffn_width", "8"])
    assert small.recipe_digest() == plain.recipe_digest()  # a model's size is compared, as its name is
    assert small.digest() != plain.digest()


def test_several_tasks_begin_with_the_same_layers(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    words = ["--tasks", "glue/rte_bert,glue/mrpc_bert", "--pretrained_model_name", str(model_folder()), "--source",
             "sample", "--num_steps", "2", "--tasks.num_steps", "2", "--log_dir", str(tmp_path / "run")]  # fmt: skip
    with pytest.raises(ConfigError, match="whole run"):
        config.load("multi_task/mtdnn", [*words, "--rte.keep_layers", "[0]"])
    train(config.load("multi_task/mtdnn", [*words, "--keep_layers", "[1]"]))
    for folder in ("best/rte", "stages/fine_tuned/rte/best", "stages/single/mrpc/best"):
        stored = json.loads((tmp_path / "run" / folder / "config.json").read_text())
        assert stored["num_hidden_layers"] == 1, folder
