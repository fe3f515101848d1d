"""One label for a text or a pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from claf2.heads import Featurizer, LabelFeaturizer, OneLabel, register_head, text_request
from claf2.readers import Example

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@register_head("classify")
class Classify(OneLabel):
    """Softmax over the labels on the summary of the sequence; cross-entropy."""

    featurizer: ClassVar[type[Featurizer]] = LabelFeaturizer
    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"

    def configure(self, config: PreTrainedConfig, labels: Sequence[str]) -> None:
        super().configure(config, labels)
        config.problem_type = "single_label_classification"

    def request(self, values: Mapping[str, Any]) -> Example:
        return text_request(values)
