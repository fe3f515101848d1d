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

from claf2.metrics import Prediction
from claf2.readers import Example
from claf2.registry import Component, Registry
from claf2.tokenizers import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedConfig

__all__ = ["Feature", "Featurizer", "Head", "heads", "register_head"]

Feature: TypeAlias = dict[str, Any]
"""One model input: ``input_ids``, ``token_type_ids``, ``labels`` … as plain numbers or lists of them (lists as long as
``input_ids`` are padded in a batch), and ``example``: the position of its example among those given."""


class Featurizer(Component, ABC):
    """The data half: examples → features. Its fields, its class and ``version`` are part of the key of cached features."""

    version: ClassVar[int] = 1

    max_seq_length: int = 128
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


class Head(Component, ABC):
    """The model half: what is put on the encoder, its loss, and how an answer is read off its logits."""

    featurizer: ClassVar[type[Featurizer]]
    """The data half."""
    auto_class: ClassVar[str] = ""
    """The `transformers` class that *is* this head for each architecture, e.g. ``AutoModelForTokenClassification``."""
    padding: ClassVar[Mapping[str, int]] = {}
    """What fills the shorter rows of a batch, by feature field (``labels``: -100); other lists are filled with 0."""

    def configure(self, config: PreTrainedConfig, labels: Sequence[str]) -> None:
        """Write what the head needs into the encoder's configuration: label names, number of outputs."""

    def module(self, config: PreTrainedConfig) -> torch.nn.Module:
        """Build the head's module with fresh weights, its own encoder included, for architectures' own classes.

        A head without an ``auto_class`` overrides this with a module whose ``base_model_prefix`` names the encoder.
        """
        raise NotImplementedError(f"{type(self).__name__} names no auto_class and builds no module")

    @abstractmethod
    def weight(self, batch: Mapping[str, np.ndarray]) -> float:
        """Return how many targets a batch holds: its loss is the sum over them divided by this number."""

    @abstractmethod
    def loss(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the loss *summed* over the targets of a batch (a scalar), so that parts of a batch add up."""

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
    ) -> list[Prediction]:
        """Read one prediction for each example, in order.

        Args:
            examples: N examples.
            features: M ≥ N features, in order of their ``example`` field.
            collected: for each feature what ``collect`` returned of its row, padding included.
            labels: the task's label names.
        """

    def request(self, values: Mapping[str, Any]) -> Example:
        """Make an unlabelled example of what a user asks ``predict`` about, e.g. ``{"text_a": …}``."""
        raise NotImplementedError(f"{type(self).__name__} does not answer single requests")


heads: Registry[type[Head]] = Registry("head", home="claf2.heads")
register_head = heads.register
