"""A generator of dialogue states: for each slot whether it has a value, and the value, copied or generated."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedConfig

from claf2.heads.networks import EncoderNetwork

__all__ = ["SlotGenerator", "SlotOutput"]


@dataclass
class SlotOutput:
    """The output for S slots: ``gates`` (B, S, G), logits; ``values`` (B, S, T), the most probable tokens;
    ``gold_log_probs`` (B, S, T), the log-probabilities of the gold tokens, where there are any. In training, both are 0
    where there is no gold token."""

    gates: torch.Tensor
    values: torch.Tensor
    gold_log_probs: torch.Tensor | None


class SlotGenerator(EncoderNetwork):
    """TRADE's state generator on an encoder, as KLUE-baseline builds it (Wu et al., 2019,
    https://arxiv.org/abs/1905.08743): a GRU begins at the sum of a slot's name's embeddings and the encoder's summary
    of the dialogue, and each step mixes a distribution over the vocabulary (the encoder's own word embeddings) with one
    over the tokens of the dialogue. All slots are decoded in parallel. The first step's context decides the gate.

    From the configuration: ``slot_gates``, ``slot_value_maxlen``, ``slot_teacher_forcing``.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        width: int = config.hidden_size
        narrow = self.word_embeddings().shape[1]
        self.summary = nn.Linear(width, width)
        self.decoder = nn.GRUCell(narrow, width)
        self.narrow = nn.Identity() if narrow == width else nn.Linear(width, narrow)
        self.dropout = nn.Dropout(float(getattr(config, "hidden_dropout_prob", 0.1)))
        self.mix = nn.Linear(2 * width + narrow, 1)
        self.gate = nn.Linear(width, config.slot_gates)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        slots: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
        gates: torch.Tensor | None = None,
        values: torch.Tensor | None = None,
    ) -> SlotOutput:
        """Generate the states of a batch.

        Args:
            input_ids: the token ids of the dialogues, (B, L).
            attention_mask: 1 for a token, 0 for padding, (B, L).
            slots: the tokens of the slots' names, (B, S, K), negative where there is none.
            token_type_ids: the segment of each token, (B, L).
            gates: not read here.
            values: the gold tokens, (B, S, T), negative where there is none.
        """
        table = self.word_embeddings()
        states = self.hidden(input_ids, attention_mask, token_type_ids=token_type_ids)
        batch, count = slots.shape[:2]
        step = (table[slots.clamp_min(0)] * (slots >= 0).unsqueeze(-1)).sum(2).flatten(0, 1)
        state = torch.tanh(self.summary(states[:, 0])).repeat_interleave(count, 0)
        forced = values is not None and self.training and bool(torch.rand(()) < self.config.slot_teacher_forcing)
        length = self.config.slot_value_maxlen if values is None or not self.training else values.shape[2]
        absent = (attention_mask == 0)[:, None, :]
        copied = input_ids.repeat_interleave(count, 0)
        generated, gold_log_probs, gate = [], [], states.new_zeros(0)
        for position in range(length):
            step = self.dropout(step)
            state = self.decoder(step, state)
            here = state.view(batch, count, -1)
            scores = here @ states.transpose(1, 2)
            attention = scores.masked_fill(absent, torch.finfo(scores.dtype).min).softmax(-1)
            context = attention @ states
            if position == 0:
                gate = self.gate(context)
            share = torch.sigmoid(self.mix(torch.cat([step.view(batch, count, -1), here, context], -1)))
            gold = None
            if values is not None and position < values.shape[2]:
                gold = values[:, :, position].flatten()
            # Most values are "none", so most of them end before the longest one. What training would generate after
            # their end is not read, and the product with all word embeddings is the most expensive part.
            rows = gold.ge(0).nonzero().squeeze(1) if gold is not None and self.training else slice(None)
            share, attention = share.flatten(0, 1)[rows], attention.flatten(0, 1)[rows]
            chances = share * (self.narrow(state[rows]) @ table.T).float().softmax(-1)
            chances = chances.scatter_add(1, copied[rows], ((1 - share) * attention).to(chances.dtype))
            best = input_ids.new_zeros(batch * count)
            best[rows] = chances.argmax(-1)
            generated.append(best.view(batch, count))
            if gold is not None:
                gold = gold.clamp_min(0)
                log_probs = chances.new_zeros(batch * count)
                log_probs[rows] = chances.gather(1, gold[rows, None]).squeeze(1).clamp_min(1e-30).log()
                gold_log_probs.append(log_probs.view(batch, count))
                best = gold if forced else best
            step = table[best]
        return SlotOutput(gate, torch.stack(generated, 2), torch.stack(gold_log_probs, 2) if gold_log_probs else None)
