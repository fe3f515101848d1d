"""One number for a text or a pair."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from claf2.heads import Feature, Featurizer, Head, TextFeaturizer, register_head, text_request
from claf2.metrics import Prediction
from claf2.readers import Example, TextExample
from claf2.tokenizers import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedConfig


class RegressFeaturizer(TextFeaturizer):
    """``[CLS] text_a [SEP] (text_b [SEP])``, with the number as the file states it."""

    def target(self, label: str, labels: Sequence[str]) -> float:
        value = float(label)
        if not math.isfinite(value):
            raise ValueError(f"{label!r} is not a finite number")
        return value


@register_head("regress")
class Regress(Head):
    """One output on the summary of the sequence; squared error, on the task's own scale."""

    featurizer: ClassVar[type[Featurizer]] = RegressFeaturizer
    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"

    def configure(self, config: PreTrainedConfig, labels: Sequence[str]) -> None:
        config.problem_type = "regression"
        config.num_labels = 1

    def weight(self, batch: Mapping[str, np.ndarray]) -> float:
        return float(len(batch["labels"]))

    def loss(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        from torch.nn.functional import mse_loss

        return mse_loss(outputs.logits.float().squeeze(-1), batch["labels"], reduction="sum")

    def answer(self, outputs: Any) -> torch.Tensor:
        numbers: torch.Tensor = outputs.logits.float()
        return numbers

    def collect(self, outputs: Any) -> dict[str, torch.Tensor]:
        return {"value": outputs.logits.float().squeeze(-1)}

    def predict(
        self,
        examples: Sequence[TextExample],
        features: Sequence[Feature],
        collected: Sequence[Mapping[str, np.ndarray]],
        labels: Sequence[str],
        tokenizer: Tokenizer,
    ) -> list[Prediction]:
        return [
            Prediction(
                id=example.id,
                gold=None if example.label is None else float(example.label),
                prediction=float(row["value"]),
            )
            for example, row in zip(examples, collected, strict=True)
        ]

    def request(self, values: Mapping[str, Any]) -> Example:
        return text_request(values)
