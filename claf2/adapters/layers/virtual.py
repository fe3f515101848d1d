"""Virtual tokens: learned keys and values in the attention of every layer, or learned vectors in the input."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from claf2.adapters.layers.parts import attention_modules, check_architecture
from claf2.errors import ModelError
from claf2.models.packing import LAYER_PREFIX

__all__ = ["LayerPrefix", "add_prefixes", "add_prompt"]

PREFIX_ATTENTION = "claf2_prefix"
"""The name of attention with a prefix in the registry of `transformers`."""


class LayerPrefix(nn.Module):
    """The learned keys and values of one layer, (2, heads, P, D).

    Args:
        heads: the number of heads.
        num_tokens: P.
        size: D.
        dropout: the dropout of keys and values.
    """

    def __init__(self, heads: int, num_tokens: int, size: int, dropout: float) -> None:
        super().__init__()
        # P-tuning v2 keeps them in an embedding, which begins as standard normal.
        self.key_values = nn.Parameter(torch.randn(2, heads, num_tokens, size))
        self._dropout = dropout

    def extend(
        self, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Put the prefix before keys and values, (N, heads, L, D), and a mask of what may be attended, (N, 1, Q, L)."""
        prefix = functional.dropout(self.key_values, self._dropout, self.training).to(key.dtype)
        keys, values = (part.expand(len(key), -1, -1, -1) for part in prefix)
        if mask is not None:
            size = prefix.shape[2]
            mask = functional.pad(mask, (size, 0), value=True if mask.dtype == torch.bool else 0.0)
        return torch.cat([keys, key], 2), torch.cat([values, value], 2), mask


def add_prefixes(encoder: Any, num_tokens: int, dropout: float) -> None:
    """Give the attention of every layer a prefix.

    Raises:
        ModelError: when the attention of the architecture cannot be replaced.
    """
    config, kind = encoder.config, check_architecture(encoder)
    if kind == "deberta-v2":
        raise ModelError(f"a prefix cannot serve {kind}, whose attention reads distances between tokens: use 'lora'")
    encoder.set_attn_implementation(PREFIX_ATTENTION)
    heads = config.num_attention_heads
    for module in attention_modules(encoder):
        module.add_module(LAYER_PREFIX, LayerPrefix(heads, num_tokens, config.hidden_size // heads, dropout))


def _attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **settings: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as `transformers` does, with the prefix of the layer before keys and values."""
    prefix: Any = getattr(module, LAYER_PREFIX)
    key, value, attention_mask = prefix.extend(key, value, attention_mask)
    attended, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
    return attended, None


AttentionInterface.register(PREFIX_ATTENTION, _attend)
AttentionMaskInterface.register(PREFIX_ATTENTION, sdpa_mask)


class PromptVectors(nn.Module):
    """Learned input vectors, (P, E).

    Args:
        vectors: what they begin as.
        hidden_size: the width of a network that computes them from learned ones; ``None``: they are learned as such.
    """

    def __init__(self, vectors: torch.Tensor, hidden_size: int | None) -> None:
        super().__init__()
        self.vectors = nn.Parameter(vectors.clone())
        width, size = vectors.shape[1], hidden_size
        self.network = None if size is None else nn.Sequential(
            nn.Linear(width, size), nn.ReLU(), nn.Linear(size, size), nn.ReLU(), nn.Linear(size, width)
        )  # fmt: skip

    def forward(self) -> torch.Tensor:
        """Return the vectors, (P, E)."""
        computed: torch.Tensor = self.vectors if self.network is None else self.network(self.vectors)
        return computed


def add_prompt(encoder: Any, num_tokens: int, hidden_size: int | None = None) -> None:
    """Put learned vectors after the first token of every input. The encoder's outputs have none for them, so that the
    first token stays the first, and heads see the shapes of the texts.

    Args:
        encoder: a model of `transformers`.
        num_tokens: the number of vectors.
        hidden_size: see ``PromptVectors``.
    """
    check_architecture(encoder)
    embedding: Any = encoder.get_input_embeddings()
    ids = torch.randint(embedding.num_embeddings, (num_tokens,))
    prompt = PromptVectors(embedding.weight.detach()[ids], hidden_size)
    encoder.add_module("prompt", prompt)
    hooks = _PromptHooks(prompt, num_tokens)
    encoder.register_forward_pre_hook(hooks.extend_inputs, with_kwargs=True)
    embedding.register_forward_hook(hooks.insert)
    encoder.register_forward_hook(hooks.shorten)


class _PromptHooks:
    """The hooks of an encoder with a prompt."""

    def __init__(self, prompt: PromptVectors, num_tokens: int) -> None:
        self._prompt, self._size = prompt, num_tokens
        self._length: int | None = None

    def extend_inputs(self, module: nn.Module, args: tuple[Any, ...], inputs: dict[str, Any]) -> Any:
        """Make room after the first token by repeating its id, mask and segment."""
        inputs = {**inputs, **({"input_ids": args[0]} if args else {})}
        self._length = inputs["input_ids"].shape[1]
        for name in ("input_ids", "attention_mask", "token_type_ids"):
            if isinstance(tensor := inputs.get(name), torch.Tensor):
                inputs[name] = torch.cat([tensor[:, :1].expand(-1, self._size + 1), tensor[:, 1:]], 1)
        return args[1:], inputs

    def insert(self, module: nn.Module, args: Any, embedded: torch.Tensor) -> torch.Tensor:
        """Replace the vectors of the repeated token, (N, L + P, E)."""
        if self._length is None:
            return embedded
        vectors = self._prompt().to(embedded.dtype).expand(len(embedded), -1, -1)
        return torch.cat([embedded[:, :1], vectors, embedded[:, self._size + 1 :]], 1)

    def shorten(self, module: nn.Module, args: Any, outputs: Any) -> Any:
        """Drop the outputs of the vectors, if there are any."""
        hidden = outputs.last_hidden_state
        if hidden.shape[1] > 1:
            outputs.last_hidden_state = torch.cat([hidden[:, :1], hidden[:, self._size + 1 :]], 1)
        self._length = None
        return outputs
