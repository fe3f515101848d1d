"""One label for a pair, by an answer module that reads the pair in several steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from claf2.errors import ConfigError
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
    from transformers import PreTrainedConfig, PreTrainedModel


@register_head("san")
class SanHead(SingleLabelHead[TextExample]):
    """The stochastic answer network (``networks/san.py``); cross-entropy of the mean of its steps. It substitutes
    for ``classify`` where an encoder distinguishes first and second texts."""

    featurizer: ClassVar[type[Featurizer]] = LabelFeaturizer
    substitutes_for: ClassVar[str] = "classify"
    request_fields: ClassVar[tuple[str, ...]] = TEXT_FIELDS
    inputs: ClassVar[Mapping[str, int]] = {"token_type_ids": 0}

    san_steps: int = Field(5, ge=1, le=1000)
    """How many times the first text is read."""
    san_dropout: float = Field(0.2, ge=0, lt=1)
    """The share of the steps that are dropped in training."""

    def configure(self, config: PreTrainedConfig, labels: Sequence[str]) -> None:
        if getattr(config, "type_vocab_size", 0) < 2:
            problem = f"{config.model_type} does not distinguish a first text from a second, which head 'san' needs"
            raise ConfigError("model.name", problem, hint="use bert_for_seq_cls")
        super().configure(config, labels)
        config.san_steps, config.san_dropout = self.san_steps, self.san_dropout

    def network(self) -> type[PreTrainedModel]:
        from claf2.heads.networks.san import StochasticAnswer

        return StochasticAnswer

    def request(self, request: Request) -> Example:
        return text_request(request)

    @classmethod
    def from_hub_row(cls, row: HubRow) -> Example:
        return hub_text_example(row)
