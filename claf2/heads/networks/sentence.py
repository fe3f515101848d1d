"""Vectors of texts: an encoder, and one vector for each text of a row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedConfig

from claf2.heads.networks import EncoderNetwork
from claf2.heads.pooling import pool

__all__ = ["PairClassification", "PairClassifier", "SentenceEncoder", "TextVectors"]


@dataclass
class TextVectors:
    """The output for B rows of C texts."""

    vectors: torch.Tensor
    """(B, C, H), in single precision."""


class SentenceEncoder(EncoderNetwork):
    """An encoder whose vectors of tokens become one vector of the text. It has no weights of its own.

    From the configuration: ``sentence_pooling``.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> TextVectors:
        """Return the vectors of the texts of each row.

        Args:
            input_ids: the token ids, (B, C, L).
            attention_mask: 1 for a token, 0 for padding, (B, C, L). A text may be missing, and then has no tokens.
            token_type_ids: the segment of each token, (B, C, L).
        """
        rows, texts = input_ids.shape[:2]
        mask = attention_mask.flatten(0, 1).clone()
        mask[:, 0] = 1  # attention over no token at all is undefined
        segments = None if token_type_ids is None else token_type_ids.flatten(0, 1)
        hidden = self.hidden(input_ids.flatten(0, 1), mask, token_type_ids=segments).float()
        return TextVectors(pool(hidden, mask, self.config.sentence_pooling).view(rows, texts, -1))


@dataclass
class PairClassification:
    """The output for B pairs of texts."""

    logits: torch.Tensor
    """(B, labels)."""


class PairClassifier(SentenceEncoder):
    """A linear layer on the vectors of two texts and the distance of each of their numbers, (u, v, |u - v|), as in
    Sentence-BERT (Reimers & Gurevych, 2019, section 3)."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        width: int = config.hidden_size
        labels: int = config.num_labels or 0
        self.classifier = nn.Linear(3 * width, labels)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(  # type: ignore[override]
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> PairClassification:
        """Return the logits of pairs; the arguments are those of ``SentenceEncoder``, with C = 2."""
        first, second = super().forward(input_ids, attention_mask, token_type_ids).vectors.unbind(1)
        return PairClassification(self.classifier(torch.cat([first, second, (first - second).abs()], -1)))
