"""The decoder of TSDAE: that of `transformers` with tied weights, which sees nothing but the vector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, PreTrainedConfig

from claf2.errors import ConfigError
from claf2.heads.networks.denoising import DENOISED, SentenceDenoiser
from claf2.heads.pooling import pool
from claf2.heads.tsdae import DenoisingHead

SIZES = {
    "vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 32, "initializer_range": 0.3, "pad_token_id": 1,
}  # fmt: skip
CAUSAL = {
    "bert": "BertLMHeadModel", "roberta": "RobertaForCausalLM", "xlm-roberta": "XLMRobertaForCausalLM",
    "camembert": "CamembertForCausalLM",
}  # fmt: skip


def make_config(kind: str = "bert", pooling: str = "cls") -> PreTrainedConfig:
    config = AutoConfig.for_model(kind, **SIZES)
    DenoisingHead(pooling=pooling).configure(config, ())  # type: ignore[arg-type]
    return config


def make(kind: str = "bert", pooling: str = "cls") -> Any:
    torch.manual_seed(0)
    module = SentenceDenoiser(make_config(kind, pooling))
    with torch.no_grad():
        for parameter in module.parameters():  # biases and norms as well
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return module


def batch() -> dict[str, torch.Tensor]:
    """Two texts of 6 and 4 tokens, of which 3 and 2 are left."""
    labels = torch.tensor([[11, 12, 13, 14, 3, -100], [21, 22, 3, -100, -100, -100]])
    return {
        "input_ids": torch.tensor([[2, 11, 14, 3], [2, 22, 3, 1]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]),
        "labels": labels,
    }


@pytest.mark.parametrize("kind", sorted(DENOISED))
def test_the_decoder_is_that_of_transformers_with_the_weights_of_the_encoder(kind: str) -> None:
    module = make(kind).eval()
    inputs = batch()
    with torch.no_grad():
        outputs = module(**inputs)
        vectors = module.encoder(inputs["input_ids"], inputs["attention_mask"]).last_hidden_state[:, 0]
    config = AutoConfig.for_model(kind, **SIZES, is_decoder=True, add_cross_attention=True)
    decoder: Any = getattr(transformers, CAUSAL[kind])(config).eval()
    weights = {name: tensor for name, tensor in module.state_dict().items() if "vector_attention" not in name}
    for number, layer in enumerate(module.vector_attention):
        prefix = f"{module.base_model_prefix}.encoder.layer.{number}.crossattention"
        for own, theirs in (("value", "self.value"), ("dense", "output.dense"), ("norm", "output.LayerNorm")):
            weights |= {f"{prefix}.{theirs}.{key}": tensor for key, tensor in getattr(layer, own).state_dict().items()}
    missing, unexpected = decoder.load_state_dict(weights, strict=False)
    decoder.tie_weights()
    assert all(part in name for name in missing for part in ("crossattention.self.",) if "decoder" not in name)
    assert not [name for name in unexpected if "pooler" not in name]
    ids = torch.tensor([[2, 11, 12, 13, 14, 1], [2, 21, 22, 1, 1, 1]])
    with torch.no_grad():
        expected = decoder(ids, encoder_hidden_states=vectors[:, None]).logits
    places = inputs["labels"] != -100
    torch.testing.assert_close(outputs["logits"][0], expected[places], atol=1e-5, rtol=1e-5)
    assert outputs["target_ids"].tolist() == [11, 12, 13, 14, 3, 21, 22, 3]
    assert outputs["target_rows"].tolist() == [0] * 5 + [1] * 3


@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_the_decoder_sees_the_damaged_text_through_its_vector_alone(
    pooling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = make(pooling=pooling).eval()
    inputs = batch()
    before = module(**inputs)["logits"]
    other = {**inputs, "input_ids": torch.tensor([[2, 40, 41, 3], [2, 42, 3, 1]])}
    assert (module(**other)["logits"] - before).abs().max() > 1e-3
    hidden = module.hidden(inputs["input_ids"], inputs["attention_mask"])
    vectors = pool(hidden, inputs["attention_mask"], pooling).detach().requires_grad_()  # type: ignore[arg-type]
    monkeypatch.setattr("claf2.heads.networks.denoising.pool", lambda *_: vectors)
    torch.testing.assert_close(module(**inputs)["logits"], before)
    assert torch.equal(module(**other)["logits"], module(**inputs)["logits"])
    # What the encoder returns for other tokens has no gradient.
    seen: list[torch.Tensor] = []
    hook = module.encoder.register_forward_hook(lambda *parts: seen.append(parts[-1].last_hidden_state))
    module(**inputs)["logits"].square().sum().backward()
    hook.remove()
    assert vectors.grad is not None
    assert vectors.grad.abs().min() > 0
    assert torch.autograd.grad(seen[0].sum() * 0 + vectors.sum(), seen[0], allow_unused=True)[0].abs().max() == 0


def test_a_token_sees_only_those_before_it() -> None:
    module = make().eval()
    vectors = torch.randn(1, 16)
    first = module.decode(torch.tensor([[2, 11, 12, 13]]), vectors)
    second = module.decode(torch.tensor([[2, 11, 40, 41]]), vectors)
    torch.testing.assert_close(first[:, :2], second[:, :2])
    assert (first[:, 2:] - second[:, 2:]).abs().min(-1).values.max() > 0


def test_dropout_is_that_of_each_place(monkeypatch: pytest.MonkeyPatch) -> None:
    module = make().train()
    one, other = module.decode(torch.tensor([[2, 11]]), torch.ones(1, 16)).unbind(1)
    assert not torch.equal(one, other)
    with torch.no_grad():
        losses = {float(module(**batch())["logits"].sum()) for _ in range(3)}
    assert len(losses) == 3


@pytest.mark.parametrize("kind", sorted(DENOISED))
def test_weights_are_stored_once_and_the_folder_is_that_of_an_encoder(kind: str, tmp_path: Path) -> None:
    module = make(kind).eval()
    module.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    layers = sum(parameter.numel() for parameter in module.vector_attention.parameters())
    logits = sum(tensor.numel() for name, tensor in stored.items() if name.startswith(("cls.", "lm_head.")))
    encoder = AutoModel.from_pretrained(tmp_path).eval()
    assert sum(map(torch.numel, stored.values())) == sum(p.numel() for p in encoder.parameters()) + layers + logits
    assert logits == 16 * 16 + 16 + 2 * 16 + 60
    inputs = batch()
    torch.testing.assert_close(
        encoder(inputs["input_ids"], inputs["attention_mask"]).last_hidden_state,
        module.hidden(inputs["input_ids"], inputs["attention_mask"]),
    )
    again = SentenceDenoiser.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(again(**inputs)["logits"], module(**inputs)["logits"])


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_the_decoder_of_masked_tokens_of_a_checkpoint_is_used(kind: str, tmp_path: Path) -> None:
    masked = transformers.AutoModelForMaskedLM.from_config(AutoConfig.for_model(kind, **SIZES))
    masked.save_pretrained(tmp_path)
    module, info = SentenceDenoiser.from_pretrained(tmp_path, config=make_config(kind), output_loading_info=True)
    assert all("vector_attention" in key or "pooler" in key for key in info["missing_keys"])
    bias = module.vector_attention[0].value.bias
    assert torch.equal(bias, torch.zeros_like(bias))
    hidden = torch.randn(3, 16)
    own = module.cls["predictions"] if kind == "bert" else module.lm_head
    theirs = masked.cls.predictions if kind == "bert" else masked.lm_head
    torch.testing.assert_close(own(hidden, module.word_embeddings()), theirs(hidden))


def test_other_architectures_are_refused_by_name() -> None:
    for kind in ("electra", "distilbert", "modernbert"):
        with pytest.raises(ConfigError, match=f"the layers of {kind} cannot be"):
            DenoisingHead().configure(AutoConfig.for_model(kind), ())
