"""The linear layers of an encoder by their role, whatever an architecture calls them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from claf2.errors import ModelError

__all__ = ["LINEAR_ROLES", "attention_modules", "check_architecture", "find_linear", "other_adapter", "parent_of"]

LINEAR_ROLES = ("query", "key", "value", "attention_output", "inner", "outer")
"""The projections of attention, and those of the feed-forward network: to its neurons, and back."""

_BERT = (
    "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
    "intermediate.dense", "output.dense",
)  # fmt: skip
PARTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("bert", "camembert", "electra", "roberta", "xlm-roberta"), _BERT),
    "deberta-v2": tuple(re.sub(r"(query|key|value)$", r"\1_proj", name) for name in _BERT),
    "albert": ("attention.query", "attention.key", "attention.value", "attention.dense", "ffn", "ffn_output"),
    "distilbert": (
        "attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "ffn.lin1", "ffn.lin2",
    ),
    "modernbert": ("attn.Wqkv", "attn.Wqkv", "attn.Wqkv", "attn.Wo", "mlp.Wi", "mlp.Wo"),
}  # fmt: skip
"""Encoder → the name of each role within a layer. ModernBERT has one matrix for query, key and value."""

_LLAMA = (*(f"self_attn.{name}_proj" for name in "qkvo"), "mlp.up_proj", "mlp.down_proj")
DECODER_PARTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), _LLAMA),
    "gpt_neox": (
        *("attention.query_key_value",) * 3, "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h",
    ),
}  # fmt: skip
"""The same for decoders. GPT-NeoX has one matrix for query, key and value."""


def find_linear(encoder: Any, roles: Sequence[str]) -> list[str]:
    """Return the names of the linear layers with some roles, in the order of the model.

    Args:
        encoder: an encoder or a decoder of `transformers`.
        roles: names from ``LINEAR_ROLES``, or the ends of names of linear layers.

    Raises:
        ModelError: when the architecture is not known, or has no such layer.
    """
    kind = str(encoder.config.model_type)
    parts = {**PARTS, **DECODER_PARTS}.get(kind)
    if parts is None:
        raise ModelError(_unknown(kind, (*PARTS, *DECODER_PARTS)))
    names = [name for name, module in encoder.named_modules() if isinstance(module, nn.Linear)]
    found: set[str] = set()
    for role in roles:
        suffix = parts[LINEAR_ROLES.index(role)] if role in LINEAR_ROLES else role
        pattern = re.compile(rf"(.*\.)?layers?\.\d+\.{re.escape(suffix)}|.*_layers\.\d+\.{re.escape(suffix)}")
        matching = {
            name
            for name in names
            if (pattern.fullmatch(name) if role in LINEAR_ROLES else f".{name}".endswith(f".{suffix}"))
        }
        if not matching:
            raise ModelError(f"a {kind} has no linear layer {role!r} to adapt; name some of {', '.join(LINEAR_ROLES)}")
        found |= matching
    return [name for name in names if name in found]


def check_architecture(encoder: Any) -> str:
    """Return the architecture of an encoder.

    Raises:
        ModelError: when the roles of its layers are not known, or it is a decoder.
    """
    kind = str(encoder.config.model_type)
    if kind in DECODER_PARTS:
        raise ModelError(f"this adapter cannot serve {kind}, which is a decoder: use 'lora'")
    if kind not in PARTS:
        raise ModelError(_unknown(kind, PARTS))
    return kind


def _unknown(kind: str, supported: Iterable[str]) -> str:
    return f"adapters do not know the layers of {kind}; supported: {', '.join(sorted(supported))}"


def other_adapter(encoder: Any) -> str:
    """Return advice for the error that a method does not support an architecture."""
    is_known = encoder.config.model_type in {**PARTS, **DECODER_PARTS}
    return "use 'lora'" if is_known else "leave out model.peft"


def parent_of(encoder: Any, name: str) -> tuple[nn.Module, str]:
    """Return the parent of a module, and the module's name in it."""
    path, _, last = name.rpartition(".")
    parent: nn.Module = encoder.get_submodule(path)
    return parent, last


def attention_modules(encoder: Any) -> list[nn.Module]:
    """Return the module of each layer's attention, which holds its query projection; shared ones once."""
    return [parent_of(encoder, name)[0] for name in find_linear(encoder, ("query",))]
