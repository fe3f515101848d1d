"""Classification: one label for a text or a pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from claf2.heads import (
    TEXT_FIELDS,
    Featurizer,
    HubRow,
    LabelFeaturizer,
    Request,
    SingleLabelHead,
    hub_text_example,
    register_head,
    text_request,
)
from claf2.readers import Example, TextExample

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@register_head("classify")
class ClassificationHead(SingleLabelHead[TextExample]):
    """Softmax over the labels on the summary of the sequence; cross-entropy."""

    featurizer: ClassVar[type[Featurizer]] = LabelFeaturizer
    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    request_fields: ClassVar[tuple[str, ...]] = TEXT_FIELDS

    def configure(self, config: PreTrainedConfig, labels: Sequence[str]) -> None:
        super().configure(config, labels)
        config.problem_type = "single_label_classification"

    def request(self, request: Request) -> Example:
        return text_request(request)

    @classmethod
    def from_hub_row(cls, row: HubRow) -> Example:
        return hub_text_example(row)
