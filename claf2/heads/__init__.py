"""Heads, one for each kind of answer. Example → features, hidden states → loss, outputs → prediction.

A member has two halves. The *featurizer* turns examples into token ids and targets and knows nothing about weights; its
fields are the data block. The *head* states the loss and reads answers off outputs; its fields are in the model block.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, Self, TypeAlias, TypeVar

from pydantic import Field

from claf2.errors import Claf2Error, DataError, nearest
from claf2.heads.request import TEXT_FIELDS, Request, choice_request, text_request
from claf2.heads.soft import SoftAnswer
from claf2.metrics import Prediction
from claf2.readers import Example, TextExample
from claf2.registry import Component, Registry
from claf2.task import Task
from claf2.tokenizers import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

__all__ = [
    "TEXT_FIELDS",
    "CollectedOutputs",
    "Feature",
    "Featurizer",
    "Head",
    "HubRow",
    "LabelFeaturizer",
    "LogitsOutput",
    "Request",
    "SingleLabelHead",
    "SoftAnswer",
    "TextFeaturizer",
    "choice_request",
    "heads",
    "hub_text_example",
    "register_head",
    "text_request",
]

Feature: TypeAlias = dict[str, Any]
"""One model input: ``input_ids``, ``token_type_ids``, ``labels`` … as plain numbers or lists of them (lists as long as
``input_ids`` are padded in a batch), and ``example``: the position of its example among those given."""

MIN_LENGTH = 4
"""The smallest value allowed for the maximum length of an input, in tokens."""

LONGEST_INPUT = 2**20
"""The largest value allowed for the maximum length of an input, in tokens."""

WIDEST_LAYER = 2**16
"""The maximum size of a hidden layer."""

ExampleT = TypeVar("ExampleT", bound=Example)
OutputT = TypeVar("OutputT")


class Featurizer(Component, ABC):
    """The data half: examples → features. Fields, class and ``version`` are part of the key of cached features."""

    version: ClassVar[int] = 1

    max_seq_length: int = Field(128, ge=MIN_LENGTH, le=LONGEST_INPUT)
    """The maximum length of a model input in tokens, special tokens included."""
    lang_code: str | None = None
    """The language of the texts when it is not the task's own (ISO 639-1)."""

    @property
    def shots_to_draw(self) -> int:
        """How many examples of the training data the features need; 0 for most featurizers."""
        return 0

    def for_task(self, task: Task) -> Self:
        """Return the featurizer with what depends on the task filled in, such as the words for its labels.

        Raises:
            ConfigError: if the task does not say enough.
        """
        return self

    def with_shots(self, examples: Sequence[Any]) -> Self:
        """Return the featurizer with the examples that it asked for."""
        return self

    @abstractmethod
    def features(
        self, examples: Sequence[Any], tokenizer: Tokenizer, labels: Sequence[str], counts: Counter[str]
    ) -> Iterator[Feature]:
        """Turn a slice of examples into features, one or more for each, in order.

        Args:
            examples: N examples.
            tokenizer: what makes the ids.
            labels: the task's label names; a label's position is its id.
            counts: where to count what did not survive: ``truncated``, ``lost_spans`` …
        """


class TextFeaturizer(Featurizer, ABC):
    """Featurizer of heads that read one text or a pair as a whole: ``labels`` is one number per feature."""

    @abstractmethod
    def target(self, label: str, labels: Sequence[str]) -> int | float:
        """Return the target of the loss; ``label`` is the name or number as it is in the file.

        Raises:
            ValueError: when it is not a label of this kind.
        """

    def features(
        self, examples: Sequence[TextExample], tokenizer: Tokenizer, labels: Sequence[str], counts: Counter[str]
    ) -> Iterator[Feature]:
        paired = [example.text_b is not None for example in examples]
        if any(paired) and not all(paired):
            single = examples[paired.index(False)]
            raise Claf2Error(f"example {single.id!r} has only one text, but other examples have two")
        second = [example.text_b or "" for example in examples] if any(paired) else None
        encodings = tokenizer.encode(
            [example.text_a for example in examples], second, max_length=self.max_seq_length, offsets=False
        )
        for position, (example, (encoding,)) in enumerate(zip(examples, encodings, strict=True)):
            ids = encoding.ids or [tokenizer.end_id]  # an empty text without special tokens
            feature: Feature = {"input_ids": ids, "token_type_ids": encoding.type_ids or [0], "example": position}
            if example.label is not None:
                try:
                    feature["labels"] = self.target(example.label, labels)
                except ValueError as error:
                    raise Claf2Error(f"example {example.id!r} (row {example.line}): {error}") from error
            counts["truncated"] += encoding.dropped > 0
            yield feature


class LabelFeaturizer(TextFeaturizer):
    """``[CLS] text_a [SEP] (text_b [SEP])``, with the label's id."""

    def target(self, label: str, labels: Sequence[str]) -> int:
        return labels.index(label)


@dataclass(frozen=True)
class HubRow:
    """One row of a data set on the hub, as ``Head.from_hub_row`` reads it."""

    task: Task
    values: Mapping[str, Any]
    """Column → value."""
    label_names: Mapping[str, list[str]]
    """Column of numbered labels → their names, as the data set's schema states them."""
    number: int
    """Counted from 1 over all files of the split."""
    file: Path

    @property
    def id(self) -> str:
        """The row's own id, else its number."""
        return str(self.values.get(self.column("id"), self.number))

    def column(self, field: str) -> str:
        """Return the column of an example's field: the task's ``hub_columns``, else the field's own name."""
        return self.task.hub_columns.get(field, field)

    def __getitem__(self, field: str) -> Any:
        """Return the value of an example's field.

        Raises:
            DataError: when the data set has no such column.
        """
        column = self.column(field)
        if column not in self.values:
            raise DataError(self.file, f"no column {column!r}", hint=nearest(column, self.values))
        return self.values[column]

    def label_of(self, column: str) -> str | None:
        """Return the task's name of the label in a column, which holds a number or a name; ``None`` where it is missing
        or hidden (-1)."""
        value, names = self.values.get(column), self.label_names.get(column, [])
        if value is None or (self.task.labels and value == -1):
            return None
        if isinstance(value, int) and names and names[value] in self.task.labels:
            return names[value]
        return str(value)


def hub_text_example(row: HubRow) -> TextExample:
    """Make an example of one text or a pair from a row of the hub."""
    row["label"]  # a missing column is an error, other than a hidden label
    text_b = row["text_b"] if "text_b" in row.task.hub_columns else None
    return TextExample(id=row.id, text_a=row["text_a"], text_b=text_b, label=row.label_of(row.column("label")))


@dataclass(frozen=True)
class CollectedOutputs(Generic[ExampleT]):
    """The input of ``Head.predict``."""

    examples: Sequence[ExampleT]
    """N examples."""
    features: Sequence[Feature]
    """M ≥ N features without their token ids, in the order of their ``example`` field."""
    outputs: Sequence[Mapping[str, np.ndarray]]
    """For each feature, its row of what ``collect`` returned, padding included."""
    labels: Sequence[str]
    """The task's label names in their published order; a label's position is that of its output."""
    tokenizer: Tokenizer
    """The tokenizer that made the ids."""


class Head(Component, ABC, Generic[ExampleT, OutputT]):
    """The model half: what is put on the encoder, its loss, and how an answer is read off its outputs.

    ``ExampleT`` is the kind of example it answers, ``OutputT`` what its module returns.
    """

    featurizer: ClassVar[type[Featurizer]]
    """The data half."""
    auto_class: ClassVar[str] = ""
    """The `transformers` class that *is* this head for each architecture, e.g. ``AutoModelForTokenClassification``."""
    targets: ClassVar[Mapping[str, int]] = {"labels": 0}
    """The feature fields that are targets of the loss → their padding value."""
    inputs: ClassVar[Mapping[str, int]] = {}
    """The feature fields that a ``network`` reads besides ids, mask and segments → their padding value."""
    teacher_forced: ClassVar[tuple[str, ...]] = ()
    """The targets that a ``network`` reads in training, to continue from the right answer."""
    substitutes_for: ClassVar[str | tuple[str, ...]] = ""
    """The kinds of head that it can replace: a task that asks for one of them can use this one."""
    request_fields: ClassVar[tuple[str, ...]] = ()
    """The fields of a request, which its examples have as attributes; a second text is left out where there is none."""
    predicts_tokens: ClassVar[bool] = False
    """Whether it predicts the ids ``labels``, (B, L), of tokens. Its module is then computed only for tokens with
    a target, and all word embeddings are trained."""

    is_shardable: ClassVar[bool] = True
    """Whether its module can be divided among processes: not if it uses the parts of a layer outside of the layer."""
    whole_batch: ClassVar[bool] = False
    """Whether the loss of a row depends on the other rows of its batch, so that those of micro-batches do not add up.
    Its module then returns a data class with one tensor, (B, …), and the loss reads that and ``targets`` alone."""
    is_untrained: ClassVar[bool] = False
    """Whether it has no weights besides those of a pre-trained encoder, so that a model answers before training."""

    @property
    def reads_vocabulary(self) -> bool:
        """Whether it compares tokens that the inputs need not hold, so that all word embeddings are trained."""
        return self.predicts_tokens or self.binds

    @property
    def trains_all_rows(self) -> bool:
        """Whether all word embeddings are trained, and not only those of tokens that occur: what a ``network`` reads is
        not known."""
        return self.reads_vocabulary or not self.auto_class

    @property
    def binds(self) -> bool:
        """Whether something other than its module computes the outputs; see ``bind``."""
        return type(self).bind is not Head.bind

    @classmethod
    def replaces(cls, head: str) -> bool:
        """Say whether a task that asks for another kind of head can use this one."""
        kinds = cls.substitutes_for
        return head in ((kinds,) if isinstance(kinds, str) else kinds)

    def configure(self, config: PreTrainedConfig, labels: Sequence[str]) -> None:
        """Write what the head needs into the encoder's configuration: the label names, and with them the number of
        outputs."""
        if labels:
            config.id2label = dict(enumerate(labels))
            config.label2id = {label: index for index, label in enumerate(labels)}

    def network(self) -> type[PreTrainedModel]:
        """Return the class of a head for which `transformers` has none (no ``auto_class``).

        It is made from a configuration and holds an encoder under its ``base_model_prefix``. Its ``forward`` takes
        ``input_ids`` (B, L), ``attention_mask`` (B, L), ``token_type_ids`` (B, L) where the encoder has segments, every
        field of ``inputs``, and those of ``teacher_forced`` where the data has them.
        """
        raise NotImplementedError(f"{type(self).__name__} names no auto_class and has no network")

    def bind(self, module: PreTrainedModel) -> Callable[..., OutputT] | None:
        """Return what computes the outputs from the arguments of ``module``, where that is not the module itself.

        A language model that ranks answers reads its logits at a few places only.
        """
        return None

    def prepare_generation(self, module: PreTrainedModel, featurizer: Featurizer, tokenizer: Tokenizer) -> None:
        """Tell a module that generates text, in place, which tokens end it. Other modules stay as they are."""

    @abstractmethod
    def weight(self, batch: Mapping[str, np.ndarray]) -> float | np.ndarray:
        """Return the number of targets of a batch: its loss is the sum over them divided by this number. A loss of
        several terms with targets of their own has a number for each, (T,)."""

    @abstractmethod
    def loss(self, outputs: OutputT, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the loss *summed* over the targets of a batch, a scalar or (T,), so that micro-batches add up."""

    def pooled_logits(self, outputs: OutputT) -> torch.Tensor | None:
        """Return one answer per input: logits (B, C), or numbers (B, 1); ``None`` if the head answers per token."""
        return None

    def soft_answers(self, outputs: OutputT, batch: Mapping[str, torch.Tensor]) -> Sequence[Mapping[str, SoftAnswer]]:
        """Return what a student learns from a teacher, by name, for each term of the loss: the mean of its answers."""
        logits = self.pooled_logits(outputs)
        return [] if logits is None else [{"pooled": SoftAnswer(logits)}]

    @abstractmethod
    def collect(self, outputs: OutputT) -> dict[str, torch.Tensor]:
        """Return what ``predict`` needs of a batch's outputs, each of shape (B, …). A prediction is undefined where a
        value is NaN or infinite, so what is read off NaN, such as an index, comes with its probability."""

    @abstractmethod
    def predict(self, collected: CollectedOutputs[ExampleT]) -> list[Prediction]:
        """Return one prediction for each example, in order."""

    def unread_texts(self, examples: Sequence[ExampleT]) -> np.ndarray | None:
        """Return which texts of rows of C texts ``predict`` does not read, (N, C), so that an evaluation need not
        compute them; ``None``: it reads all."""
        return None

    def fields_for(self, task: Task) -> Sequence[str]:
        """Return the fields of a request about a task: ``request_fields``, unless they depend on the task."""
        return self.request_fields

    def request(self, request: Request) -> Example:
        """Make an unlabelled example from what a user asks ``predict`` about.

        Raises:
            Claf2Error: if a field is missing or unknown.
            TypeError: if a value has the wrong type.
        """
        raise NotImplementedError(f"{type(self).__name__} does not answer single requests")

    @classmethod
    def from_hub_row(cls, row: HubRow) -> Example:
        """Make an example from a row of the task's data set on the hub.

        Raises:
            DataError: when a column is missing, or the head does not read rows of the hub.
        """
        raise DataError(row.file, f"{cls.__name__} cannot read data sets from the hub", hint="use local files")


class LogitsOutput(Protocol):
    """The output of `transformers`' heads of classes, values and tags: ``logits`` (B, C) or (B, L, C)."""

    logits: torch.Tensor


class SingleLabelHead(Head[ExampleT, LogitsOutput], ABC, Generic[ExampleT]):
    """Heads that give each example one of the labels: softmax over ``logits`` (B, labels), cross-entropy."""

    def weight(self, batch: Mapping[str, np.ndarray]) -> float:
        return float(len(batch["labels"]))

    def loss(self, outputs: LogitsOutput, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        return cross_entropy(outputs.logits.float(), batch["labels"], reduction="sum")

    def pooled_logits(self, outputs: LogitsOutput) -> torch.Tensor:
        return outputs.logits.float()

    def collect(self, outputs: LogitsOutput) -> dict[str, torch.Tensor]:
        return {"probabilities": outputs.logits.float().softmax(-1)}

    def predict(self, collected: CollectedOutputs[Any]) -> list[Prediction]:
        predictions = []
        for example, row in zip(collected.examples, collected.outputs, strict=True):
            probabilities = dict(zip(collected.labels, map(float, row["probabilities"]), strict=True))
            best = collected.labels[int(row["probabilities"].argmax())]
            predictions.append(
                Prediction(
                    id=example.id,
                    gold=example.label,
                    prediction=best,
                    score=probabilities[best],
                    details={"probabilities": probabilities},
                )
            )
        return predictions


heads: Registry[type[Head[Any, Any]]] = Registry("head", home="claf2.heads")
"""The registered heads."""
register_head = heads.register
