"""Small models that generate text, with a byte-level tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig

from claf2.tokenizers import Tokenizer
from claf2.tokenizers.build import compose_tokenizer
from claf2.tokenizers.subword import ByteBPE
from claf2.tokenizers.word import ByteLevelWord

TEXTS = [
    "Sentence 1: the film was good\nSentence 2: a bad movie\nSame meaning: Yes No Maybe True False\n 긍정 부정",
    "### Instruction:\nName the colour.\n\n### Input:\na ripe banana\n\n### Response:\nyellow\n\nUser: 수도는?",
] * 9

SIZES: dict[str, dict[str, Any]] = {
    "t5": {"d_kv": 16, "decoder_start_token_id": 0},
    "bart": {
        "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, "decoder_start_token_id": 3,
    },
    "gemma2": {"head_dim": 16, "num_key_value_heads": 2, "final_logit_softcapping": 2.0, "sliding_window": 256},
    "gpt_neo": {"num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]], "window_size": 16},
    "lfm2": {"num_key_value_heads": 2, "layer_types": ["conv", "full_attention"]},
}  # fmt: skip
CAUSAL, SEQ2SEQ = ("gpt2", "llama", "gpt_neox"), ("t5", "bart")


def byte_tokenizer() -> Tokenizer:
    """Return a tokenizer that knows every text."""
    return compose_tokenizer(ByteLevelWord(), ByteBPE(vocab_size=400), lambda: TEXTS, 512)


def make_language_model(kind: str, **settings: Any) -> Any:
    """Return a small model of an architecture. Its weights are large, so that likelihoods differ."""
    sizes: dict[str, Any] = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
        "vocab_size": 400, "initializer_range": 0.3, "init_std": 0.3,
    }  # fmt: skip
    torch.manual_seed(0)
    auto = "AutoModelForSeq2SeqLM" if kind in SEQ2SEQ else "AutoModelForCausalLM"
    config = AutoConfig.for_model(kind, **{**sizes, **SIZES.get(kind, {}), **settings})
    return getattr(transformers, auto).from_config(config).eval()


def save_language_model(kind: str, folder: Path) -> Path:
    """Write a small model of an architecture, and its tokenizer."""
    tokenizer = byte_tokenizer()
    make_language_model(kind, vocab_size=tokenizer.vocab_size).save_pretrained(folder)
    tokenizer.save(folder)
    return folder
