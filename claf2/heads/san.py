"""One label for a pair, by an answer module that reads the pair in several steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from claf2.errors import ConfigError
from claf2.heads import Featurizer, LabelFeaturizer, OneLabel, register_head, text_request
from claf2.readers import Example

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


@register_head("san")
class San(OneLabel):
    """The stochastic answer network (``claf2/networks/san.py``); cross-entropy of the mean of its steps. It stands in
    for ``classify`` where an encoder knows first and second texts apart."""

    featurizer: ClassVar[type[Featurizer]] = LabelFeaturizer
    answers: ClassVar[str] = "classify"
    inputs: ClassVar[Mapping[str, int]] = {"token_type_ids": 0}

    san_steps: int = Field(5, ge=1)
    """How often the first text is read."""
    san_dropout: float = Field(0.2, ge=0, lt=1)
    """The part of the steps that is left out while training."""

    def configure(self, config: PreTrainedConfig, labels: Sequence[str]) -> None:
        if getattr(config, "type_vocab_size", 0) < 2:
            problem = f"{config.model_type} does not tell a first text from a second, which head 'san' reads"
            raise ConfigError("model.name", problem, hint="bert_for_seq_cls")
        super().configure(config, labels)
        config.san_steps, config.san_dropout = self.san_steps, self.san_dropout

    def network(self) -> type[PreTrainedModel]:
        from claf2.networks.san import StochasticAnswer

        return StochasticAnswer

    def request(self, values: Mapping[str, Any]) -> Example:
        return text_request(values)
