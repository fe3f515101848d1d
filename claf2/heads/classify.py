"""One label for a text or a pair."""

from __future__ import annotations

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


class ClassifyFeaturizer(TextFeaturizer):
    """``[CLS] text_a [SEP] (text_b [SEP])``, with the label's id."""

    def target(self, label: str, labels: Sequence[str]) -> int:
        return labels.index(label)


@register_head("classify")
class Classify(Head):
    """Softmax over the labels on the summary of the sequence; cross-entropy."""

    featurizer: ClassVar[type[Featurizer]] = ClassifyFeaturizer
    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"

    def configure(self, config: PreTrainedConfig, labels: Sequence[str]) -> None:
        config.problem_type = "single_label_classification"
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: index for index, label in enumerate(labels)}

    def weight(self, batch: Mapping[str, np.ndarray]) -> float:
        return float(len(batch["labels"]))

    def loss(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        return cross_entropy(outputs.logits.float(), batch["labels"], reduction="sum")

    def collect(self, outputs: Any) -> dict[str, torch.Tensor]:
        return {"probabilities": outputs.logits.float().softmax(-1)}

    def predict(
        self,
        examples: Sequence[TextExample],
        features: Sequence[Feature],
        collected: Sequence[Mapping[str, np.ndarray]],
        labels: Sequence[str],
        tokenizer: Tokenizer,
    ) -> list[Prediction]:
        predictions = []
        for example, row in zip(examples, collected, strict=True):
            probabilities = row["probabilities"]
            best = int(probabilities.argmax())
            predictions.append(
                Prediction(
                    id=example.id,
                    gold=example.label,
                    prediction=labels[best],
                    score=float(probabilities[best]),
                    details={"probabilities": [float(each) for each in probabilities]},
                )
            )
        return predictions

    def request(self, values: Mapping[str, Any]) -> Example:
        return text_request(values)
