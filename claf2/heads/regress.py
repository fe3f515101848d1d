"""Regression: one number for a text or a pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from claf2.heads import (
    TEXT_FIELDS,
    CollectedOutputs,
    Featurizer,
    Head,
    HubRow,
    LogitsOutput,
    Request,
    TextFeaturizer,
    hub_text_example,
    register_head,
    text_request,
)
from claf2.heads.numbers import predict_numbers, read_number
from claf2.metrics import Prediction
from claf2.readers import Example, TextExample

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedConfig


class NumberFeaturizer(TextFeaturizer):
    """``[CLS] text_a [SEP] (text_b [SEP])``, with the number as the file states it."""

    def target(self, label: str, labels: Sequence[str]) -> float:
        return read_number(label)


@register_head("regress")
class RegressionHead(Head[TextExample, LogitsOutput]):
    """One output on the summary of the sequence; squared error, on the task's own scale."""

    featurizer: ClassVar[type[Featurizer]] = NumberFeaturizer
    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    request_fields: ClassVar[tuple[str, ...]] = TEXT_FIELDS

    def configure(self, config: PreTrainedConfig, labels: Sequence[str]) -> None:
        config.problem_type = "regression"
        config.num_labels = 1

    def weight(self, batch: Mapping[str, np.ndarray]) -> float:
        return float(len(batch["labels"]))

    def loss(self, outputs: LogitsOutput, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        from torch.nn.functional import mse_loss

        return mse_loss(outputs.logits.float().squeeze(-1), batch["labels"], reduction="sum")

    def pooled_logits(self, outputs: LogitsOutput) -> torch.Tensor:
        return outputs.logits.float()

    def collect(self, outputs: LogitsOutput) -> dict[str, torch.Tensor]:
        return {"value": outputs.logits.float().squeeze(-1)}

    def predict(self, collected: CollectedOutputs[TextExample]) -> list[Prediction]:
        return predict_numbers(collected)

    def request(self, request: Request) -> Example:
        return text_request(request)

    @classmethod
    def from_hub_row(cls, row: HubRow) -> Example:
        return hub_text_example(row)
