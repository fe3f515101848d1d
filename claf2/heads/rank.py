"""Answers ranked by a language model: label names and choices are words, and the most likely one is the prediction."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from claf2.heads import (
    Featurizer,
    HubRow,
    Request,
    SingleLabelHead,
    choice_request,
    hub_text_example,
    register_head,
    text_request,
)
from claf2.heads.prompts import NO_ANSWER, CausalPromptFeaturizer, MaskPromptFeaturizer, Seq2SeqPromptFeaturizer
from claf2.readers import Example

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

    from claf2.heads.networks.ranking import Ranking
    from claf2.task import Task


class RankingHead(SingleLabelHead[Any], ABC):
    """Heads that compare answers by a language model's own decoder, and add no weights. They take the place of a
    classifier, or of the head for choices, so tasks, metrics and comparisons stay the same."""

    substitutes_for: ClassVar[tuple[str, ...]] = ("classify", "choice")
    request_fields: ClassVar[tuple[str, ...]] = ("text_a", "text_b")

    def configure(self, config: PreTrainedConfig, labels: Sequence[str]) -> None:
        """Leave the configuration as it is: labels are words, not outputs."""

    def fields_for(self, task: Task) -> Sequence[str]:
        return ("question", "choices") if task.head == "choice" else self.request_fields

    def request(self, request: Request) -> Example:
        return choice_request(request) if request.task.head == "choice" else text_request(request)

    @classmethod
    def from_hub_row(cls, row: HubRow) -> Example:
        return hub_text_example(row)


@register_head("rank_causal")
class CausalRankingHead(RankingHead):
    """Answers ranked by their likelihood after a prompt, under a causal language model (Brown et al., 2020). Trained,
    it minimizes the cross-entropy over the answers; with the trainer `in_context` it takes no step."""

    featurizer: ClassVar[type[Featurizer]] = CausalPromptFeaturizer
    auto_class: ClassVar[str] = "AutoModelForCausalLM"
    inputs: ClassVar[Mapping[str, int]] = {"segments": -1, "divisors": 1, "free_ids": 0, "free_segments": -1}

    def bind(self, module: PreTrainedModel) -> Callable[..., Ranking]:
        from claf2.heads.networks.ranking import rank_by_tree

        return rank_by_tree(module)


@register_head("rank")
class Seq2SeqRankingHead(RankingHead):
    """Label names ranked by their likelihood under an encoder-decoder such as T5, BART or mT5."""

    featurizer: ClassVar[type[Featurizer]] = Seq2SeqPromptFeaturizer
    auto_class: ClassVar[str] = "AutoModelForSeq2SeqLM"
    inputs: ClassVar[Mapping[str, int]] = {"answer_ids": NO_ANSWER}

    loss_kind: Literal["tokens", "labels"] = "tokens"
    """What is trained: the cross-entropy of the right answer's `tokens`, as T5 is fine-tuned (Raffel et al., 2020), or
    that over the `labels`, each by its mean log-probability per token (Liu et al., 2022, section 3.2)."""
    per_token: bool = False
    """Whether answers are compared by the mean of their tokens' log-probabilities, instead of the sum."""

    def bind(self, module: PreTrainedModel) -> Callable[..., Ranking]:
        from claf2.heads.networks.ranking import rank_by_decoder

        return rank_by_decoder(module, per_token=self.per_token or self.loss_kind == "labels")

    def weight(self, batch: Mapping[str, np.ndarray]) -> float:
        if self.loss_kind == "labels":
            return super().weight(batch)
        rows = range(len(batch["labels"]))
        return float((batch["answer_ids"][rows, batch["labels"]] != NO_ANSWER).sum())

    def loss(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        if self.loss_kind == "labels":
            return super().loss(outputs, batch)
        loss: torch.Tensor = -outputs.log_probabilities.gather(1, batch["labels"][:, None]).sum()
        return loss


@register_head("rank_mask")
class MaskRankingHead(RankingHead):
    """Label words compared at a masked place of the text (LM-BFF; Gao et al., 2021), by the decoder of masked tokens
    that the encoder was pre-trained with; cross-entropy over the words."""

    substitutes_for: ClassVar[tuple[str, ...]] = ("classify",)
    featurizer: ClassVar[type[Featurizer]] = MaskPromptFeaturizer
    auto_class: ClassVar[str] = "AutoModelForMaskedLM"
    inputs: ClassVar[Mapping[str, int]] = {"mask_places": 0, "word_ids": 0}

    def bind(self, module: PreTrainedModel) -> Callable[..., Ranking]:
        from claf2.heads.networks.ranking import rank_by_mask

        return rank_by_mask(module)
