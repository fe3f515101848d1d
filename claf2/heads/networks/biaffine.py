"""A dependency parser over words: which word is the head of each, and by which relation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import bilinear, elu
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import PreTrainedConfig

from claf2.heads.networks import EncoderNetwork

__all__ = ["Biaffine", "BiaffineParser", "ParserOutput"]

RECURRENT_DROPOUT = 0.33
"""KLUE-baseline's, in words, parts of speech and states."""


@dataclass
class ParserOutput:
    """The scores of W words: ``heads`` (B, W, W + 1), the first candidate being the root; ``relations`` (B, W, R), of
    the gold head while training, else of the best-scored one."""

    heads: torch.Tensor
    relations: torch.Tensor


class BiaffineParser(EncoderNetwork):
    """KLUE-baseline's parser: first and last piece of each word and its part of speech → bidirectional LSTM → LSTM
    decoder → biaffine scores of heads (Dozat & Manning, 2017, https://arxiv.org/abs/1611.01734; the decoder after Ma et
    al., 2018, https://arxiv.org/abs/1805.01087). The sequence's first state stands for the root.

    Sizes come from the configuration: ``parser_pos``, ``parser_pos_size``, ``parser_hidden``, ``parser_head_size``,
    ``parser_relation_size``; relations from its labels.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        width, hidden = config.hidden_size, config.parser_hidden
        self.pos = nn.Embedding(config.parser_pos, config.parser_pos_size)
        self.reader = nn.LSTM(2 * width + config.parser_pos_size, hidden, batch_first=True, bidirectional=True)
        self.decoder = nn.LSTM(hidden, hidden, batch_first=True)
        self.start = nn.Linear(2 * hidden, hidden)
        self.step = nn.Linear(2 * hidden, hidden)
        self.head_of = nn.Linear(2 * hidden, config.parser_head_size)
        self.head_for = nn.Linear(hidden, config.parser_head_size)
        self.relation_of = nn.Linear(2 * hidden, config.parser_relation_size)
        self.relation_for = nn.Linear(hidden, config.parser_relation_size)
        self.heads = Biaffine(config.parser_head_size, 1)
        self.relations = Biaffine(config.parser_relation_size, len(config.id2label or {}))
        self.post_init()  # type: ignore[no-untyped-call]

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, Biaffine):
            for weight in (module.both, module.left, module.right):
                nn.init.xavier_uniform_(weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LSTM):
            module.reset_parameters()
        else:
            super()._init_weights(module)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        first: torch.Tensor,
        last: torch.Tensor,
        pos: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
        heads: torch.Tensor | None = None,
        relations: torch.Tensor | None = None,
    ) -> ParserOutput:
        """Score a batch.

        Args:
            input_ids: token ids, (B, L).
            attention_mask: 1 for a token, 0 for padding, (B, L).
            first: the position of each word's first piece, (B, W); negative where there is no word.
            last: the position of each word's last piece, (B, W); negative where there is no word.
            pos: the part of speech of each word, (B, W); 0 is unknown.
            token_type_ids: the segment of each token, (B, L).
            heads: the gold head of each word, counted from 1, 0 for the root, (B, W); negative where there is none.
            relations: not read here.
        """
        states = self.hidden(input_ids, attention_mask, token_type_ids=token_type_ids)
        there = first >= 0
        root = torch.zeros_like(first[:, :1])
        words = torch.cat([_at(states, torch.cat([root, pieces.clamp_min(0)], 1)) for pieces in (first, last)], -1)
        parts = self._drop(self.pos(torch.cat([root, pos], 1)), whole_words=True)
        lengths = there.sum(1) + 1
        read, cell = _recur(self.reader, torch.cat([words, parts], -1), lengths)
        read = self._drop(read)
        begin = self.start(torch.cat([cell[0], cell[1]], -1))[None]
        decoded, _ = _recur(
            self.decoder, elu(self.step(read[:, 1:])), (lengths - 1).clamp_min(1), (torch.tanh(begin), begin)
        )
        decoded = self._drop(decoded)

        candidates = torch.cat([torch.ones_like(there[:, :1]), there], 1)
        scores = self.heads.all_pairs(elu(self.head_for(decoded)), elu(self.head_of(read)))
        scores = scores.masked_fill(~candidates[:, None, :], torch.finfo(scores.dtype).min)
        chosen = scores.argmax(-1) if heads is None or not self.training else heads.clamp_min(0)
        governors = _at(elu(self.relation_of(read)), chosen)
        return ParserOutput(scores, self.relations(elu(self.relation_for(decoded)), governors))

    def _drop(self, values: torch.Tensor, *, whole_words: bool = False) -> torch.Tensor:
        """Drop whole words of (B, W, D), or the same features at every word of a sentence."""
        shape = (*values.shape[:2], 1) if whole_words else (values.shape[0], 1, values.shape[2])
        return values * nn.functional.dropout(values.new_ones(shape), RECURRENT_DROPOUT, self.training)


class Biaffine(nn.Module):
    """Scores of pairs by each of R outputs: ``left U right + W left + V right + b`` for vectors of length D."""

    def __init__(self, size: int, outputs: int) -> None:
        super().__init__()
        self.both = nn.Parameter(torch.empty(outputs, size, size))
        self.left = nn.Parameter(torch.empty(outputs, size))
        self.right = nn.Parameter(torch.empty(outputs, size))
        self.bias = nn.Parameter(torch.empty(outputs))

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Score each ``left`` (…, D) with its own ``right`` (…, D): (…, R)."""
        # Autocast leaves `bilinear` alone, which wants one number format.
        both, bias = self.both.to(left.dtype), self.bias.to(left.dtype)
        return bilinear(left, right, both, bias) + left @ self.left.T + right @ self.right.T

    def all_pairs(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Score each ``left`` (B, W, D) with each ``right`` (B, V, D) by the first output: (B, W, V)."""
        scores = left @ self.both[0] @ right.transpose(1, 2)
        return scores + left @ self.left[0, :, None] + (right @ self.right[0, :, None]).transpose(1, 2) + self.bias[0]


def _at(states: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return the states (B, L, D) at ``places`` (B, W): (B, W, D)."""
    return states.gather(1, places[:, :, None].expand(-1, -1, states.shape[-1]))


def _recur(
    lstm: nn.LSTM, inputs: torch.Tensor, lengths: torch.Tensor, start: tuple[torch.Tensor, torch.Tensor] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run an LSTM over rows of different lengths.

    Args:
        lstm: has one layer, in D directions.
        inputs: (B, W, I); what comes after the end of a row is not read.
        lengths: (B,).
        start: the first hidden and cell states, (D, B, H) each; zeros unless given.

    Returns:
        The states, (B, W, D * H), zeros after the end of a row; and the last cells, (D, B, H).
    """
    if torch.onnx.is_in_onnx_export():
        return _recur_in_graph(lstm, inputs, lengths, start)
    packed = pack_padded_sequence(inputs, lengths.cpu(), batch_first=True, enforce_sorted=False)
    states, (_, cells) = lstm(packed, start)
    states, _ = pad_packed_sequence(states, batch_first=True, total_length=inputs.shape[1])
    return states, cells


def _recur_in_graph(
    lstm: nn.LSTM, inputs: torch.Tensor, lengths: torch.Tensor, start: tuple[torch.Tensor, torch.Tensor] | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what `_recur` does as ONNX's own operator, since packed sequences cannot be traced."""
    directions, hidden, rows, words = 1 + lstm.bidirectional, lstm.hidden_size, inputs.shape[0], inputs.shape[1]

    def weights(name: str) -> torch.Tensor:
        """Return a weight of each direction, with the gates in ONNX's order: input, output, forget, cell."""
        parts = [getattr(lstm, f"{name}_l0{suffix}") for suffix in ("", "_reverse")[:directions]]
        return torch.stack([part.unflatten(0, (4, hidden))[[0, 3, 1, 2]].flatten(0, 1) for part in parts])

    biases = torch.cat([weights("bias_ih"), weights("bias_hh")], 1)
    zeros = inputs.new_zeros(directions, rows, hidden)
    states, _, cells = torch.onnx.ops.symbolic_multi_out(
        "LSTM",
        [
            inputs.transpose(0, 1),
            weights("weight_ih"),
            weights("weight_hh"),
            biases,
            lengths.int(),
            *(start or (zeros, zeros)),
        ],
        {"hidden_size": hidden, "direction": "bidirectional" if lstm.bidirectional else "forward"},
        dtypes=[inputs.dtype] * 3,
        shapes=[(words, directions, rows, hidden), (directions, rows, hidden), (directions, rows, hidden)],
    )
    return states.permute(2, 0, 1, 3).flatten(2), cells
