"""A decoder that restores a damaged text from the vector of it alone, with the weights of the encoder (TSDAE)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

from claf2.heads.networks import EncoderNetwork
from claf2.heads.pooling import pool
from claf2.heads.predicted_tokens import NO_TARGET

__all__ = ["DENOISED", "SentenceDenoiser"]

DENOISED = frozenset({"bert", "camembert", "roberta", "xlm-roberta"})
"""The architectures whose layers can be used as those of a decoder: they have the parts of BERT's."""


class VectorAttention(nn.Module):
    """Attention to a single vector, whose weight is always 1: queries and keys would change nothing, and are left
    out."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.heads: int = config.num_attention_heads
        self.weight_dropout: float = config.attention_probs_dropout_prob
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """Return tokens (B, L, H) that have attended to the vectors (B, H)."""
        values = self.value(vectors)[:, None]
        if self.training and self.weight_dropout:  # of the weights, one for each token and head
            weights = functional.dropout(values.new_ones(*hidden.shape[:2], self.heads, 1), self.weight_dropout)
            values = (weights * values.unflatten(-1, (self.heads, -1))).flatten(2)
        attended: torch.Tensor = self.norm(self.dropout(self.dense(values)) + hidden)
        return attended


class TokenLogits(nn.Module):
    """The decoder of masked tokens of BERT or RoBERTa without its matrix, which is the word embeddings.

    Its parameters have the names that they have in checkpoints.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.activation = ACT2FN[config.hidden_act if config.model_type == "bert" else "gelu"]
        self.is_bert = config.model_type == "bert"
        dense = nn.Linear(config.hidden_size, config.hidden_size)
        norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        if self.is_bert:
            self.transform = nn.ModuleDict({"dense": dense, "LayerNorm": norm})
        else:
            self.dense, self.layer_norm = dense, norm
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """Return the logits (M, V) of the tokens (M, H).

        Args:
            hidden: the tokens.
            embeddings: the word embeddings, (V, H).
        """
        dense, norm = self.transform.values() if self.is_bert else (self.dense, self.layer_norm)
        return functional.linear(norm(self.activation(dense(hidden))), embeddings, self.bias)


class SentenceDenoiser(EncoderNetwork):
    """An encoder that reads a text of which words are missing, and a decoder that produces the whole text from the
    encoder's vector of it (Wang et al., 2021, https://arxiv.org/abs/2104.06979).

    The decoder consists of the encoder's own embeddings and layers, in which a token sees those before it, with
    attention to the vector in each layer. Only that attention and the logits have weights of their own.

    From the configuration: ``sentence_pooling``.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.vector_attention = nn.ModuleList(VectorAttention(config) for _ in range(config.num_hidden_layers))
        logits = TokenLogits(config)
        if logits.is_bert:
            self.cls = nn.ModuleDict({"predictions": logits})
        else:
            self.lm_head = logits
        self.post_init()  # type: ignore[no-untyped-call]

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, TokenLogits):
            nn.init.zeros_(module.bias)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        labels: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> dict[str, Any]:
        """Return ``logits``, (1, M, V), of the M tokens with a target; ``target_ids`` and ``target_rows``, both (M,);
        and ``rows``, the number B.

        Args:
            input_ids: the damaged texts, (B, S); their first token begins the whole text, too.
            attention_mask: 1 for a token, 0 for padding, (B, S).
            labels: the tokens of the whole text after the first one, (B, L); ``NO_TARGET`` after the last one.
            token_type_ids: the segments, (B, S).
        """
        hidden = self.hidden(input_ids, attention_mask, token_type_ids=token_type_ids)
        vectors = pool(hidden, attention_mask, self.config.sentence_pooling)
        before = torch.cat([input_ids[:, :1], labels[:, :-1]], 1)
        decoded = self.decode(before.masked_fill(before == NO_TARGET, self.config.pad_token_id), vectors)
        targets = labels.flatten()
        places = (targets != NO_TARGET).nonzero().squeeze(1)
        predictions = self.cls["predictions"] if hasattr(self, "cls") else self.lm_head
        logits = predictions(decoded.flatten(0, 1).index_select(0, places), self.word_embeddings())
        return {
            "logits": logits[None],
            "target_ids": targets.index_select(0, places),
            "target_rows": torch.div(places, labels.shape[1], rounding_mode="floor"),
            "rows": len(labels),
        }

    def decode(self, ids: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """Return what the decoder knows before each next token, (B, L, H).

        Args:
            ids: the tokens so far, (B, L).
            vectors: the vectors of the damaged texts, (B, H).
        """
        encoder: Any = self.encoder
        hidden: torch.Tensor = encoder.embeddings(input_ids=ids)
        # An encoder with fewer layers than it was made with uses the first ones.
        for layer, attend in zip(encoder.encoder.layer, self.vector_attention, strict=False):
            hidden = attend(_attend_before(layer.attention, hidden, training=self.training), vectors)
            hidden = layer.feed_forward_chunk(hidden)
        return hidden


def _attend_before(attention: Any, hidden: torch.Tensor, *, training: bool) -> torch.Tensor:
    """Return what an encoder's attention computes if each token sees only itself and those before it, (B, L, H)."""
    own = attention.self
    shape = (*hidden.shape[:-1], own.num_attention_heads, own.attention_head_size)
    query, key, value = (project(hidden).view(shape).transpose(1, 2) for project in (own.query, own.key, own.value))
    context = functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, dropout_p=own.dropout.p if training else 0.0
    )
    attended: torch.Tensor = attention.output(context.transpose(1, 2).flatten(2), hidden)
    return attended
