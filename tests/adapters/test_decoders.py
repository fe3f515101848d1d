"""Adapters of decoders: what was pre-trained stays, the decoder's output layer included."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from language_models import save_language_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from claf2 import config
from claf2.errors import ModelError
from claf2.runs.inference import evaluate_run
from claf2.runs.train import train

pytest.importorskip("peft")


def load(folder: Path, model: Path, method: str, *words: str) -> config.Experiment:
    """Return a short instruction tuning on a generated sample."""
    given = ["--pretrained_model_name", str(model), "--token", "null", "--data_reader.source", "sample"]
    steps = ["--num_steps", "4", "--eval_and_save_step_count", "2", "--batch_size", "8", "--learning_rate", "1e-2"]
    return config.load(
        "scratch/instruct", [*given, *steps, "--model.peft.name", method, "--log_dir", str(folder), *words]
    )


@pytest.mark.parametrize(
    ("kind", "words", "changed"),
    [
        ("llama", ["--lora.r", "2"], {"q_proj", "v_proj"}),
        ("gpt_neox", ["--lora.r", "2", "--lora.targets", '["query_key_value"]'], {"query_key_value"}),
        ("gpt_neox", ["--lora.targets", '["query", "outer"]', "--lora.quantize", "nf4"], None),
    ],
)
def test_a_tuned_decoder_keeps_what_is_not_adapted(
    kind: str, words: list[str], changed: set[str] | None, tmp_path: Path
) -> None:
    if "nf4" in words:
        pytest.importorskip("bitsandbytes")
    model, folder = save_language_model(kind, tmp_path / "model"), tmp_path / "run"
    report = train(load(folder, model, "lora", *words))
    before, after = (load_file(place / "model.safetensors") for place in (model, folder / "best"))
    assert before.keys() == after.keys()
    different = {name.split(".")[-2] for name in before if not torch.equal(before[name], after[name])}
    if changed is None:  # best/ has what the 4 bits stand for, in the layers that were quantized
        assert {"query_key_value", "dense_4h_to_h"} <= different
        assert not different & {"embed_in", "embed_out", "final_layer_norm"}
    else:
        assert different == changed
    assert evaluate_run(folder).logs() == report.logs()
    plain = AutoModelForCausalLM.from_pretrained(folder / "best").get_output_embeddings()
    assert torch.equal(plain.weight, after["embed_out.weight" if "embed_out.weight" in after else "lm_head.weight"])


@pytest.mark.parametrize(
    ("kind", "method", "message"),
    [
        ("llama", "bottleneck", "cannot serve llama, which is a decoder: use 'lora'"),
        ("llama", "prefix", "cannot serve llama, which is a decoder: use 'lora'"),
        ("gpt_neox", "ia3", "cannot serve gpt_neox, which is a decoder: use 'lora'"),
        ("llama", "head_only", "'head_only' leaves nothing to train in this llama: use 'lora'"),
        ("gpt2", "lora", "do not know the layers of gpt2; supported: .*gpt_neox, llama, mistral"),
        ("gpt2", "head_only", "'head_only' leaves nothing to train in this gpt2: leave out model.peft"),
    ],
)
def test_what_cannot_be_served_is_refused(kind: str, method: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        train(load(tmp_path / "run", save_language_model(kind, tmp_path / "model"), method))
