"""Masked language modeling: the tokens of a text that are masked, alone or together with whether a second text follows
the first one (BERT's pre-training, Devlin et al., 2019)."""

from __future__ import annotations

from abc import ABC
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from claf2.errors import Claf2Error, ConfigError
from claf2.heads import CollectedOutputs, Feature, Featurizer, register_head
from claf2.heads.predicted_tokens import NO_TARGET, PredictedTokensHead
from claf2.metrics import Prediction
from claf2.readers import TextExample
from claf2.runtime.seed import generator
from claf2.tokenizers import Encoding, Tokenizer

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedConfig

NEXT, RANDOM = "0", "1"
"""The labels of pairs: the second text follows the first, or it was drawn at random. BERT's ids are the same."""

NSP_ARCHITECTURES = frozenset({"bert"})
"""The architectures whose class for pre-training in `transformers` also answers for pairs."""


class MaskedTextFeaturizer(Featurizer):
    """``[CLS] text_a [SEP] (text_b [SEP])`` with some tokens replaced by ``[MASK]``, the same ones every time.

    A single text that is too long is divided; a pair is truncated. Training on a corpus draws other masks in every
    epoch instead.
    """

    mask_rate: float = Field(0.15, gt=0, lt=1)
    """The share of the tokens that are masked, at least one; special and unknown tokens are left out."""

    def features(
        self, examples: Sequence[TextExample], tokenizer: Tokenizer, labels: Sequence[str], counts: Counter[str]
    ) -> Iterator[Feature]:
        if tokenizer.mask_id is None:
            raise Claf2Error("the tokenizer has no mask token; use one with a token such as [MASK]")
        paired = all(example.text_b is not None for example in examples)
        second = [example.text_b or "" for example in examples] if paired else None
        step = None if paired else self.max_seq_length
        encodings = tokenizer.encode(
            [example.text_a for example in examples], second, max_length=self.max_seq_length, step=step
        )
        # Special tokens may also be written in the text, and the unknown token stands for any text.
        kept = tokenizer.special_ids
        for position, (example, windows) in enumerate(zip(examples, encodings, strict=True)):
            for number, encoding in enumerate(windows):
                masked = self._mask(encoding, f"{example.id}/{number}", tokenizer.mask_id, kept)
                feature = {**masked, "example": position}
                if example.label is not None:
                    feature["next_sentence_label"] = labels.index(example.label)
                yield feature

    def _mask(self, encoding: Encoding, name: str, mask_id: int, kept: Collection[int]) -> Feature:
        tokens = enumerate(zip(encoding.ids, encoding.sequence, strict=True))
        positions = [index for index, (token, text) in tokens if text >= 0 and token not in kept]
        count = max(1, round(self.mask_rate * len(positions))) if positions else 0
        chosen = generator(0, "masked tokens", name).permutation(len(positions))[:count]
        ids, targets = list(encoding.ids), [NO_TARGET] * len(encoding.ids)
        for index in (positions[place] for place in chosen.tolist()):
            targets[index], ids[index] = ids[index], mask_id
        return {"input_ids": ids, "token_type_ids": encoding.type_ids, "labels": targets}


class MaskedTokensHead(PredictedTokensHead, ABC):
    """Heads that predict masked tokens by a decoder, which is tied to the word embeddings and computed only for the
    tokens with a target; cross-entropy. An example's prediction is the sum of its losses, in nats, and how many of its
    tokens are right."""

    featurizer: ClassVar[type[Featurizer]] = MaskedTextFeaturizer
    predicts_tokens: ClassVar[bool] = True


@register_head("mlm")
class MaskedLanguageModelHead(MaskedTokensHead):
    """The decoder of masked tokens."""

    auto_class: ClassVar[str] = "AutoModelForMaskedLM"
    logits_name: ClassVar[str] = "logits"


@register_head("mlm_nsp")
class PreTrainingHead(MaskedTokensHead):
    """The decoder of masked tokens, and two classes on the summary of a pair: whether its second text follows the
    first. The loss has two terms, each with its own denominator: the masked tokens, and the pairs."""

    auto_class: ClassVar[str] = "AutoModelForPreTraining"
    targets: ClassVar[Mapping[str, int]] = {"labels": NO_TARGET, "next_sentence_label": 0}
    logits_name: ClassVar[str] = "prediction_logits"

    def configure(self, config: PreTrainedConfig, labels: Sequence[str]) -> None:
        if config.model_type not in NSP_ARCHITECTURES:
            problem = f"{config.model_type} does not predict whether a sentence follows another"
            hint = f"use {', '.join(sorted(NSP_ARCHITECTURES))}, or a task without pairs"
            raise ConfigError("model.architecture.model_type", problem, hint=hint)

    def weight(self, batch: Mapping[str, np.ndarray]) -> float | np.ndarray:
        import numpy as np

        return np.array([super().weight(batch), len(batch["next_sentence_label"])])

    def loss(self, outputs: Mapping[str, Any], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        import torch
        from torch.nn.functional import cross_entropy

        pairs = outputs["seq_relationship_logits"].float()
        next_sentence = cross_entropy(pairs, batch["next_sentence_label"], reduction="sum")
        return torch.stack([super().loss(outputs, batch), next_sentence])

    def collect(self, outputs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        collected = super().collect(outputs)
        return {**collected, "random": outputs["seq_relationship_logits"].float().softmax(-1)[:, 1]}

    def predict(self, collected: CollectedOutputs[TextExample]) -> list[Prediction]:
        predictions = super().predict(collected)
        for feature, row in zip(collected.features, collected.outputs, strict=True):
            prediction = predictions[feature["example"]]
            label = feature.get("next_sentence_label")
            prediction.gold["pair"] = None if label is None else (NEXT, RANDOM)[int(label)]
            prediction.prediction["pair"] = RANDOM if row["random"] > 0.5 else NEXT
        return predictions
