"""The common base of heads that predict the ids of tokens: masked tokens, or the next ones."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from claf2.heads import TEXT_FIELDS, CollectedOutputs, Head, Request, text_request
from claf2.metrics import Prediction
from claf2.readers import Example

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["NO_TARGET", "PredictedTokensHead"]

NO_TARGET = -100
"""The target of tokens that are not predicted."""


class PredictedTokensHead(Head[Any, Mapping[str, Any]], ABC):
    """Heads whose targets are the ids ``labels``, (B, L); cross-entropy. An example's prediction is the sum of its
    losses, in nats, and how many of its tokens are right."""

    targets: ClassVar[Mapping[str, int]] = {"labels": NO_TARGET}
    request_fields: ClassVar[tuple[str, ...]] = TEXT_FIELDS
    logits_name: ClassVar[str] = "logits"
    """The name of the decoder's output, (1, M, V) for M tokens with a target."""

    def weight(self, batch: Mapping[str, np.ndarray]) -> float | np.ndarray:
        return float((batch["labels"] != NO_TARGET).sum())

    def loss(self, outputs: Mapping[str, Any], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        return cross_entropy(outputs[self.logits_name][0].float(), outputs["target_ids"], reduction="sum")

    def collect(self, outputs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        from torch.nn.functional import cross_entropy

        logits, targets, rows = outputs[self.logits_name][0].float(), outputs["target_ids"], outputs["target_rows"]
        zeros = logits.new_zeros(outputs["rows"])
        nats = zeros.index_add(0, rows, cross_entropy(logits, targets, reduction="none"))
        right = zeros.index_add(0, rows, (logits.argmax(-1) == targets).float())
        return {"nats": nats, "right": right}

    def predict(self, collected: CollectedOutputs[Any]) -> list[Prediction]:
        import numpy as np

        targets = [np.asarray(feature["labels"]) for feature in collected.features]
        ids = [row[row != NO_TARGET] for row in targets]
        known = np.unique(np.concatenate([*ids, np.empty(0, np.int64)])).astype(np.int64)
        sizes = np.array(collected.tokenizer.byte_lengths(known.tolist()), dtype=np.int64)
        gold = [{"tokens": 0, "bytes": 0} for _ in collected.examples]
        sums = [{"nats": 0.0, "right": 0} for _ in collected.examples]
        for feature, row_ids, row in zip(collected.features, ids, collected.outputs, strict=True):
            example = feature["example"]
            gold[example]["tokens"] += len(row_ids)
            gold[example]["bytes"] += int(sizes[np.searchsorted(known, row_ids)].sum())
            sums[example]["nats"] += float(row["nats"])
            sums[example]["right"] += int(row["right"])
        return [
            Prediction(id=example.id, gold=gold[index], prediction=sums[index])
            for index, example in enumerate(collected.examples)
        ]

    def request(self, request: Request) -> Example:
        return text_request(request)
