"""Heads: one kind of answer each. Example → features, hidden states → loss, logits → prediction.

A member has two halves. The *featurizer* turns examples into token ids and targets and knows nothing of weights;
its fields are the data block of a BaseConfig. The *head* wraps the encoder, states the loss and reads answers off
the logits; its fields stand in the model block.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from pydantic import Field

from claf2.errors import Claf2Error
from claf2.metrics import Prediction
from claf2.readers import Example, TextExample
from claf2.registry import Component, Registry
from claf2.tokenizers import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

__all__ = [
    "Feature",
    "Featurizer",
    "Head",
    "LabelFeaturizer",
    "OneLabel",
    "TextFeaturizer",
    "heads",
    "register_head",
    "text_request",
]

Feature: TypeAlias = dict[str, Any]
"""One model input: ``input_ids``, ``token_type_ids``, ``labels`` … as plain numbers or lists of them (lists as long as
``input_ids`` are padded in a batch), and ``example``: the position of its example among those given."""


SHORTEST = 4
"""The least that an input may be limited to, in tokens."""


class Featurizer(Component, ABC):
    """The data half: examples → features. Fields, class and ``version`` are part of the key of cached features."""

    version: ClassVar[int] = 1

    max_seq_length: int = Field(128, ge=SHORTEST)
    """The longest model input in tokens, special tokens included."""
    lang_code: str | None = None
    """The language of the texts when it is not the task's own (ISO 639-1)."""

    @abstractmethod
    def features(
        self, examples: Sequence[Any], tokenizer: Tokenizer, labels: Sequence[str], counts: Counter[str]
    ) -> Iterator[Feature]:
        """Turn a slice of examples into features, one or more for each, in order.

        ``counts`` is where whatever did not survive the way is counted: ``truncated``, ``lost_spans`` …
        """


class TextFeaturizer(Featurizer, ABC):
    """Featurizer of heads that read one text or a pair as a whole: ``labels`` is one number a feature."""

    @abstractmethod
    def target(self, label: str, labels: Sequence[str]) -> int | float:
        """Return what the loss compares with; ``label`` is the name or number as the file wrote it.

        Raises:
            ValueError: when it is no label of this kind.
        """

    def features(
        self, examples: Sequence[TextExample], tokenizer: Tokenizer, labels: Sequence[str], counts: Counter[str]
    ) -> Iterator[Feature]:
        paired = [example.text_b is not None for example in examples]
        if any(paired) and not all(paired):
            odd = examples[paired.index(False)]
            raise Claf2Error(f"example {odd.id!r} has one text where others have two")
        second = [example.text_b or "" for example in examples] if any(paired) else None
        encodings = tokenizer.encode([example.text_a for example in examples], second, max_length=self.max_seq_length)
        for position, (example, (encoding,)) in enumerate(zip(examples, encodings, strict=True)):
            feature: Feature = {
                "input_ids": encoding.ids, "token_type_ids": encoding.type_ids, "example": position
            }  # fmt: skip
            if example.label is not None:
                try:
                    feature["labels"] = self.target(example.label, labels)
                except ValueError as error:
                    raise Claf2Error(f"example {example.id!r} (row {example.line}): {error}") from error
            texts = (example.text_a, example.text_b or "")
            counts["truncated"] += any(encoding.covered(n) < len(text.rstrip()) for n, text in enumerate(texts))
            yield feature


class LabelFeaturizer(TextFeaturizer):
    """``[CLS] text_a [SEP] (text_b [SEP])``, with the label's id."""

    def target(self, label: str, labels: Sequence[str]) -> int:
        return labels.index(label)


def text_request(values: Mapping[str, Any]) -> TextExample:
    """Make an unlabelled example of ``text_a`` (or ``text``) and, for pairs, ``text_b``."""
    known = {"id": "0", **values}
    text = known.pop("text_a", known.pop("text", None))
    pair = known.pop("text_b", None)
    if text is None or set(known) - {"id", "label"}:
        raise Claf2Error(f"a request has text_a and, for pairs, text_b; got: {', '.join(values) or 'nothing'}")
    return TextExample(id=str(known["id"]), text_a=str(text), text_b=None if pair is None else str(pair))


class Head(Component, ABC):
    """The model half: what is put on the encoder, its loss, and how an answer is read off its logits."""

    featurizer: ClassVar[type[Featurizer]]
    """The data half."""
    auto_class: ClassVar[str] = ""
    """The `transformers` class that *is* this head for each architecture, e.g. ``AutoModelForTokenClassification``."""
    targets: ClassVar[Mapping[str, int]] = {"labels": 0}
    """The feature fields that the loss compares with, and what fills them in the shorter rows of a batch."""
    inputs: ClassVar[Mapping[str, int]] = {}
    """The feature fields that a ``network`` reads besides ids, mask and segments, and what fills them."""

    follows: ClassVar[tuple[str, ...]] = ()
    """The targets that a ``network`` reads while it is trained, to go on from what is right."""
    answers: ClassVar[str] = ""
    """The kind of head that it may stand in for: a task that asks for that one can be given this one."""

    def configure(self, config: PreTrainedConfig, labels: Sequence[str]) -> None:
        """Write what the head needs into the encoder's configuration: the label names, and with them the number of
        outputs."""
        if labels:
            config.id2label = dict(enumerate(labels))
            config.label2id = {label: index for index, label in enumerate(labels)}

    def network(self) -> type[PreTrainedModel]:
        """Return the class of a head that `transformers` has none for (no ``auto_class``): made from a configuration,
        it holds an encoder under its ``base_model_prefix``, and its ``forward`` takes ``input_ids`` (B, L),
        ``attention_mask`` (B, L), where the encoder knows segments ``token_type_ids`` (B, L), every field of
        ``inputs``, and those of ``targets`` where the data has them."""
        raise NotImplementedError(f"{type(self).__name__} names no auto_class and has no network")

    @abstractmethod
    def weight(self, batch: Mapping[str, np.ndarray]) -> float | np.ndarray:
        """Return how many targets a batch holds: its loss is the sum over them divided by this number. A loss of
        several terms with targets of their own has a number for each, (T,)."""

    @abstractmethod
    def loss(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the loss *summed* over the targets of a batch, a scalar or (T,), so that parts of a batch add up."""

    def answer(self, outputs: Any) -> torch.Tensor | None:
        """Return what is said of each whole input: logits (B, C), or (B, 1) numbers; ``None`` where a head says
        something else."""
        return None

    @abstractmethod
    def collect(self, outputs: Any) -> dict[str, torch.Tensor]:
        """Return what ``predict`` needs of a batch's outputs, each of shape (B, …)."""

    @abstractmethod
    def predict(
        self,
        examples: Sequence[Any],
        features: Sequence[Feature],
        collected: Sequence[Mapping[str, np.ndarray]],
        labels: Sequence[str],
        tokenizer: Tokenizer,
    ) -> list[Prediction]:
        """Read one prediction for each example, in order.

        Args:
            examples: N examples.
            features: M ≥ N features, in order of their ``example`` field.
            collected: for each feature what ``collect`` returned of its row, padding included.
            labels: the task's label names.
            tokenizer: what made the ids.
        """

    def request(self, values: Mapping[str, Any]) -> Example:
        """Make an unlabelled example of what a user asks ``predict`` about, e.g. ``{"text_a": …}``."""
        raise NotImplementedError(f"{type(self).__name__} does not answer single requests")


class OneLabel(Head, ABC):
    """Heads that give each example one of the labels: softmax over ``logits`` (B, labels), cross-entropy."""

    def weight(self, batch: Mapping[str, np.ndarray]) -> float:
        return float(len(batch["labels"]))

    def loss(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        return cross_entropy(outputs.logits.float(), batch["labels"], reduction="sum")

    def answer(self, outputs: Any) -> torch.Tensor:
        logits: torch.Tensor = outputs.logits.float()
        return logits

    def collect(self, outputs: Any) -> dict[str, torch.Tensor]:
        return {"probabilities": outputs.logits.float().softmax(-1)}

    def predict(
        self,
        examples: Sequence[Any],
        features: Sequence[Feature],
        collected: Sequence[Mapping[str, np.ndarray]],
        labels: Sequence[str],
        tokenizer: Tokenizer,
    ) -> list[Prediction]:
        predictions = []
        for example, row in zip(examples, collected, strict=True):
            probabilities = [float(each) for each in row["probabilities"]]
            best = int(row["probabilities"].argmax())
            predictions.append(
                Prediction(
                    id=example.id,
                    gold=example.label,
                    prediction=labels[best],
                    score=probabilities[best],
                    details={"probabilities": probabilities},
                )
            )
        return predictions


heads: Registry[type[Head]] = Registry("head", home="claf2.heads")
register_head = heads.register
