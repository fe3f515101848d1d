"""An answer module for pairs of texts that reasons in several steps."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.modeling_outputs import SequenceClassifierOutput

from claf2.heads.networks import EncoderNetwork

__all__ = ["StochasticAnswer"]


class StochasticAnswer(EncoderNetwork):
    """The stochastic answer network on an encoder (Liu et al., 2018, https://arxiv.org/abs/1804.07888; MT-DNN's module
    for pair classification): a state that begins as a summary of the second text reads the first text K times through a
    GRU, each step gives probabilities, and their mean is the answer. While training, whole steps are left out at
    random.

    From the configuration: ``id2label``, ``san_steps``, ``san_dropout``.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        width: int = config.hidden_size
        self.steps: int = config.san_steps
        self.left_out: float = config.san_dropout
        self.summary = nn.Linear(width, 1)
        self.attention = nn.Linear(width, width, bias=False)
        self.reader = nn.GRUCell(width, width)
        self.dropout = nn.Dropout(float(getattr(config, "hidden_dropout_prob", 0.1)))
        self.classifier = nn.Linear(4 * width, len(config.id2label or {}))
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> SequenceClassifierOutput:
        """Answer for a batch of pairs, all (B, L); ``token_type_ids`` is 1 where the second text is. ``logits`` are the
        logarithms of the mean probabilities, (B, labels)."""
        hidden = self.dropout(self.hidden(input_ids, attention_mask, token_type_ids=token_type_ids))
        first, second = (attention_mask * (token_type_ids == which) for which in (0, 1))
        second = torch.where(second.any(1, keepdim=True), second, first)  # a single text stands for both
        state = _weighted(self.summary(hidden).squeeze(-1), second, hidden)
        keys = self.attention(hidden)
        step_probabilities = []
        for _ in range(self.steps):
            read = _weighted((keys @ state[:, :, None]).squeeze(-1), first, hidden)
            state = self.reader(self.dropout(read), state)
            both = torch.cat([state, read, (state - read).abs(), state * read], -1)
            step_probabilities.append(self.classifier(self.dropout(both)).float().softmax(-1))
        answers = torch.stack(step_probabilities)
        kept = torch.ones(self.steps, input_ids.shape[0], 1, device=hidden.device)
        if self.training:
            kept = (torch.rand_like(kept) >= self.left_out).float()
            kept[0] = torch.where(kept.any(0), kept[0], 1.0)
        mean = (answers * kept).sum(0) / kept.sum(0)
        return SequenceClassifierOutput(logits=mean.clamp_min(1e-12).log())


def _weighted(scores: torch.Tensor, present: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """Return the mean of the present hidden states, (B, H), weighted by the softmax of their scores, (B, L)."""
    weights = scores.masked_fill(present == 0, torch.finfo(scores.dtype).min).softmax(-1)
    return (weights[:, None, :] @ hidden).squeeze(1)
