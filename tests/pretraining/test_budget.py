"""What `explain` says of a pre-training: tokens, floating-point operations, days and costs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import AlbertConfig, AlbertForMaskedLM

from claf2 import config
from claf2.errors import RunError
from claf2.runs.budget import Hardware, flops_per_token
from claf2.runs.explain import explain
from claf2.runs.explanation_text import format_explanation
from claf2.runs.prepare import prepare
from claf2.runs.resolve import resolve

Words = Callable[..., list[str]]
NAME = "scratch/pretrain"


def test_explain_states_phases_tokens_and_days(words: Words) -> None:
    experiment = config.load(NAME, words("--keep_step_count", "3", "--keep_last", "2"))
    hardware = Hardware.parse("2xV100", 0.5, 3.0)
    explanation = explain(experiment, steps=1, hardware=hardware)
    pretraining = explanation["pretraining"]
    first, second = pretraining["phases"]
    assert (first["steps"], second["steps"]) == (8, 4)
    assert 0.5 < second["fill"] <= 1
    assert first["tokens"] == pytest.approx(8 * 16 * 24 * first["fill"])
    assert pretraining["tokens"] == pytest.approx(first["tokens"] + second["tokens"])
    # Two layers of 4 H² + 2 H F weights, attention's 2 L H, and a decoder for 15 % of the tokens.
    prepared = prepare(*resolve(config.load(NAME, words())))
    per_token = flops_per_token(prepared.model.heads[0], 24, 0.15)
    vocabulary = prepared.run.tokenizer.vocab_size
    assert per_token == 6 * (2 * (4 * 32 * 32 + 2 * 32 * 64) + 2 * 2 * 32 * 24 + 0.15 * (32 * vocabulary + 32 * 32))
    hours = pretraining["flops"] / (2 * 125e12 * 0.5) / 3600
    assert pretraining["hardware"]["days"] == pytest.approx(hours / 24)
    assert pretraining["hardware"]["cost"] == pytest.approx(hours * 2 * 3.0)
    assert pretraining["epochs"] == pytest.approx(pretraining["tokens"] / pretraining["corpus_tokens"])
    corpus = prepared.texts["corpus_mlm"].open(prepared.run.tokenizer, 0)
    assert pretraining["corpus_tokens"] == pytest.approx(sum(len(corpus.shard(n)) for n in range(len(corpus))), rel=0.1)
    assert explanation["leaves"]["steps/"] == pytest.approx(2 * explanation["leaves"]["best/"])
    text = format_explanation(explanation)
    assert "until step" in text
    assert "steps        12; 2 of warm-up\n" in text
    assert "on 2 V100 at 50 % of 1.25e+14 FLOPs a second each" in text
    with pytest.raises(RunError, match=r"--hardware 3xV10: not a known device; .*V100"):
        Hardware.parse("3xV10", 0.5, None)


def test_the_layers_of_a_decoder_count(words: Words) -> None:
    """TSDAE decodes the whole text with the encoder's layers, and the encoder reads two fifths of it."""
    experiment = config.load("scratch/tsdae", words())
    (phase, *_) = explain(experiment)["pretraining"]["phases"]
    model = prepare(*resolve(experiment)).model.heads[0]
    one = flops_per_token(model, phase["max_seq_length"], 0.0)
    assert flops_per_token(model, phase["max_seq_length"], 0.0, 2.0) == pytest.approx(3 * one)
    assert phase["flops"] > 2.5 * one * phase["tokens"]


WRONG = [
    ("0xT4", 0.3, None, "--hardware 0xT4: give one device or more, e.g. 16xT4"),
    ("T4", 0.0, None, "--utilization 0: give a share of the peak above 0, at most 1"),
    ("T4", -0.1, None, "--utilization -0.1: give a share"),
    ("T4", 1.5, None, "--utilization 1.5: give a share"),
    ("T4", float("nan"), None, "--utilization nan: give a share"),
    ("T4", 0.3, -1.0, "--price -1: give the price of a device for an hour"),
]


@pytest.mark.parametrize(("text", "utilization", "price", "message"), WRONG)
def test_hardware_that_cannot_be_is_refused(text: str, utilization: float, price: float | None, message: str) -> None:
    with pytest.raises(RunError) as error:
        Hardware.parse(text, utilization, price)
    assert message in str(error.value)


def test_hardware_is_checked_without_a_text() -> None:
    with pytest.raises(RunError, match="give one device or more"):
        Hardware("T4", devices=0)
    assert Hardware.parse("v100", 1.0, 0.0) == Hardware("V100", 1, 1.0, 0.0)


@pytest.mark.parametrize("groups", [1, 2])
def test_layers_that_share_weights_count_each(groups: int) -> None:
    """Six layers of 4 H² + 2 H F weights, a projection of E to H, and a decoder of E columns."""
    shape = AlbertConfig(
        vocab_size=100, embedding_size=16, hidden_size=32, num_hidden_layers=6, num_hidden_groups=groups,
        num_attention_heads=2, intermediate_size=64, max_position_embeddings=32,
    )  # fmt: skip
    with torch.device("meta"):
        model = AlbertForMaskedLM(shape)
    layers = 6 * (4 * 32 * 32 + 2 * 32 * 64 + 2 * 32 * 24) + 16 * 32
    assert flops_per_token(model, 24, 0.15) == pytest.approx(6 * (layers + 0.15 * (16 * 100 + 32 * 16)))
