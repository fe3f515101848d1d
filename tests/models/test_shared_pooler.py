"""An encoder that several heads share has a pooler if one of them reads it, whatever their order."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from claf2.errors import ModelError
from claf2.heads import heads
from claf2.models import SCRATCH, ModelSpec
from claf2.models.encoder import EncoderWithHeads, TaskHead, build_model

LABELS = {"classify": ["no", "yes"], "span": [], "tag": ["O", "B-PS"], "parse": ["NP", "VP"]}
IDS = torch.tensor([[2, 10, 11, 3], [2, 13, 3, 0]])
BATCH = {"input_ids": IDS, "attention_mask": (IDS > 0).long(), "token_type_ids": IDS * 0}


def build(
    source: Path | str, kinds: Sequence[str], spec: ModelSpec | None = None, vocab_size: int = 100
) -> EncoderWithHeads:
    parts = {kind: TaskHead(heads.get(kind)(), LABELS[kind]) for kind in kinds}
    return build_model(spec or ModelSpec(), source, parts, vocab_size=vocab_size, pad_id=0, seed=1)


@pytest.mark.parametrize("model_type", ["bert", "albert"])
def test_the_order_of_heads_does_not_matter(model_type: str, model_folder: Callable[..., Path]) -> None:
    folder = model_folder(model_type)
    stored = {name: tensor for name, tensor in load_file(folder / "model.safetensors").items() if "pooler" in name}
    assert stored
    encoders = []
    for kinds in (("classify", "span"), ("span", "classify"), ("tag", "span", "classify")):
        model = build(folder, kinds).eval()
        assert not model.fresh_weights
        for kind in kinds:
            model(kind, BATCH)
        encoder: Any = model.encoder
        assert model.head("classify").base_model is model.head(kinds[0]).base_model is encoder
        weights = encoder.state_dict()
        for name, tensor in stored.items():
            assert torch.equal(weights[name], tensor)
        encoders.append((list(weights), encoder(**BATCH).pooler_output))
    for names, pooled in encoders[1:]:
        assert names == encoders[0][0]
        torch.testing.assert_close(pooled, encoders[0][1])


def test_a_pooler_that_no_checkpoint_has_is_fresh(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder(), folder)
    weights = load_file(folder / "model.safetensors")
    without = {name: tensor for name, tensor in weights.items() if "pooler" not in name}
    save_file(without, folder / "model.safetensors", {"format": "pt"})
    for kinds in (("classify", "span"), ("span", "classify")):
        model, again = build(folder, kinds), build(folder, kinds)
        assert model.fresh_weights == {"pooler.dense.weight", "pooler.dense.bias"}
        for name in model.fresh_weights:
            assert torch.equal(model.encoder.get_parameter(name), again.encoder.get_parameter(name))
    save_file({}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="encoder weights are missing"):
        build(folder, ("span", "classify"))


def test_a_pooler_is_added_to_a_smaller_encoder_with_more_tokens(model_folder: Callable[..., Path]) -> None:
    """What is loaded for it has the layers and the tokens of the checkpoint."""
    folder = model_folder()
    tokens = len(load_file(folder / "model.safetensors")["embeddings.word_embeddings.weight"]) + 2
    spec = ModelSpec(keep_layers=[1], ffn_width=16)
    parts = {kind: TaskHead(heads.get(kind)(), LABELS[kind]) for kind in ("span", "classify")}
    model = build_model(spec, folder, parts, vocab_size=tokens, pad_id=0, seed=1, added_tokens=2)
    encoder: Any = model.encoder
    assert len(encoder.encoder.layer) == 1
    assert len(encoder.get_input_embeddings().weight) == tokens
    assert torch.equal(encoder.pooler.dense.weight, load_file(folder / "model.safetensors")["pooler.dense.weight"])
    model("classify", BATCH)


def test_only_a_head_that_reads_a_pooler_adds_one(model_folder: Callable[..., Path]) -> None:
    """A network of ours has an encoder with a pooler that it does not read."""
    for kinds in (("span", "tag"), ("span", "parse")):
        encoder: Any = build(model_folder(), kinds).encoder
        assert encoder.pooler is None
    architecture = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    scratch = build(SCRATCH, ("span", "classify"), ModelSpec(architecture=architecture))
    scratch("classify", BATCH)
    assert not scratch.fresh_weights
