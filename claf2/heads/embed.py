"""Sentence encoders: one vector for each text of a row, and similar texts have vectors that are close to each other.

The texts of a row are encoded separately by the same encoder. The heads differ in what is learned from their vectors:
a number (`embed`), a label (`embed_softmax`), or which texts of a batch belong together (`embed_in_batch`).
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol, Self, TypeVar

from pydantic import Field, ValidationInfo, field_validator

from claf2.errors import Claf2Error, ConfigError
from claf2.heads import (
    TEXT_FIELDS,
    WIDEST_LAYER,
    CollectedOutputs,
    Feature,
    Featurizer,
    Head,
    HubRow,
    Request,
    SingleLabelHead,
    hub_text_example,
    register_head,
    text_request,
)
from claf2.heads.numbers import predict_numbers, read_number
from claf2.heads.pooling import Pooling
from claf2.metrics import Prediction
from claf2.readers import ChoiceExample, Example, TextExample, TripletExample
from claf2.registry import LARGEST, not_in_recipe
from claf2.task import Task
from claf2.tokenizers import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from transformers import PreTrainedConfig, PreTrainedModel

RANKED = 10
"""How many texts a ranking names, the best first."""

RANKED_AT_ONCE = 256
"""How many rows are ranked at a time: the cosines of all rows would take memory with the square of their number."""

ExampleT = TypeVar("ExampleT", bound=Example)


class SentenceFeaturizer(Featurizer, ABC):
    """``[CLS] text [SEP]`` for each of the C texts of a row: ``input_ids`` is a list of C lists. A text that is missing
    has no ids. A row with a single text has it twice."""

    prefix_a: str = not_in_recipe("")
    """What is put before the first text, as some encoders want: `query: ` for E5. Scores of several models are
    comparable whatever their prefixes are."""
    prefix_b: str = not_in_recipe("")
    """What is put before the others: `query: ` for similar texts, `passage: ` for texts that answer a question."""

    @abstractmethod
    def targets(self, example: Any, texts: Sequence[str], labels: Sequence[str]) -> Feature:
        """Return the fields that the loss compares with; none where the example has no label.

        Raises:
            ValueError: when its label is of another kind.
        """

    def features(
        self, examples: Sequence[Any], tokenizer: Tokenizer, labels: Sequence[str], counts: Counter[str]
    ) -> Iterator[Feature]:
        rows = [_texts(example) for example in examples]
        prefixed = [
            (self.prefix_b if place else self.prefix_a) + text
            for texts in rows
            for place, text in enumerate(texts)
            if text is not None
        ]
        encodings = iter(tokenizer.encode(prefixed, None, max_length=self.max_seq_length, offsets=False))
        for position, (example, texts) in enumerate(zip(examples, rows, strict=True)):
            own = [None if text is None else next(encodings)[0] for text in texts]
            counts["truncated"] += any(encoding.dropped > 0 for encoding in own if encoding is not None)
            feature: Feature = {
                "input_ids": [[] if encoding is None else list(encoding.ids) for encoding in own],
                "token_type_ids": [[] if encoding is None else list(encoding.type_ids) for encoding in own],
                "example": position,
            }
            try:
                feature |= self.targets(example, [text or "" for text in texts], labels)
            except ValueError as error:
                raise Claf2Error(f"example {example.id!r} (row {example.line}): {error}") from error
            yield feature


def _texts(example: Example) -> list[str | None]:
    """Return the texts of a row; all rows of one kind have the same number."""
    texts: list[str | None] = list(example.texts())
    if isinstance(example, TripletExample) and example.negative is None:
        return [*texts, None]
    return texts * 2 if len(texts) == 1 else texts


class SimilarityFeaturizer(SentenceFeaturizer):
    """Two texts and a number: how similar they are."""

    lowest: float = Field(0.0, ge=-LARGEST, le=LARGEST)
    """The number of two texts that have nothing in common: their vectors are to have a cosine of 0."""
    highest: float = Field(5.0, ge=-LARGEST, le=LARGEST, validate_default=True)
    """The number of two texts that say the same: a cosine of 1."""

    @field_validator("highest")
    @classmethod
    def _check_range(cls, highest: float, earlier: ValidationInfo) -> float:
        if highest == earlier.data.get("lowest"):
            raise ValueError(f"lowest and highest are both {highest:g}, which leaves no range; set another one")
        return highest

    def for_task(self, task: Task) -> Self:
        """Return the featurizer itself.

        Raises:
            ConfigError: if the range is reversed, and a score compares the cosines with the numbers of the file. A
                perfect model would have the lowest score.
        """
        # Scores that can be negative are correlations, and those of pairs that belong together know no order.
        if self.highest < self.lowest and any(metric.bounds[0] < 0 for metric in task.metrics):
            problem = f"{self.highest:g} is less than lowest, {self.lowest:g}, and the score is a correlation"
            hint = "give the smaller number as lowest, and write larger numbers for more similar texts into the file"
            raise ConfigError(f"data_reader.{task.name}.highest", problem, hint=hint)
        return self

    def targets(self, example: TextExample, texts: Sequence[str], labels: Sequence[str]) -> Feature:
        _check_pair(example.text_b)
        if example.label is None:
            return {}
        value = read_number(example.label)
        if not min(self.lowest, self.highest) <= value <= max(self.lowest, self.highest):
            raise ValueError(
                f"{example.label} is not a number from {self.lowest:g} to {self.highest:g}; set the options `lowest` "
                "and `highest` to the range of the file's numbers"
            )
        return {"labels": (value - self.lowest) / (self.highest - self.lowest)}


class PairLabelFeaturizer(SentenceFeaturizer):
    """Two texts and the label of the pair."""

    def targets(self, example: TextExample, texts: Sequence[str], labels: Sequence[str]) -> Feature:
        _check_pair(example.text_b)
        return {} if example.label is None else {"labels": labels.index(example.label)}


class GroupFeaturizer(SentenceFeaturizer):
    """A text and the one that belongs to it, and where there is one, a text that does not. ``keys`` tells the texts of
    a batch apart, (C,): equal texts have equal keys, and a missing one has 0."""

    def targets(self, example: Example, texts: Sequence[str], labels: Sequence[str]) -> Feature:
        return {"keys": [_key(text) if text else 0 for text in texts]}


def _check_pair(second: str | None) -> None:
    if second is None:
        raise ValueError("has only one text, but a similarity needs two")


def _key(text: str) -> int:
    """Return a number from 1 to 2³¹ - 1 that other texts hardly ever have."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % (2**31 - 1) + 1


class VectorsOutput(Protocol):
    """The output of a sentence encoder: the ``vectors`` of the texts of each row, (B, C, H)."""

    vectors: torch.Tensor


class EmbeddingHead(Head[ExampleT, VectorsOutput], ABC):
    """Heads without weights of their own."""

    is_untrained: ClassVar[bool] = True

    pooling: Pooling = "mean"
    """How the vectors of tokens become the one of a text: `mean`, `cls` (the first token) or `max`."""
    dimensions: Sequence[Annotated[int, Field(ge=1, le=WIDEST_LAYER)]] = ()
    """Matryoshka (Kusupati et al., 2022, https://arxiv.org/abs/2205.13147): the loss is the sum of those of the first d
    numbers of the vectors, for each d listed; empty: that of the whole vectors."""

    @property
    def trains_all_rows(self) -> bool:
        return False

    def configure(self, config: PreTrainedConfig, labels: Sequence[str]) -> None:
        config.sentence_pooling = self.pooling
        if self.dimensions and max(self.dimensions) > config.hidden_size:
            problem = f"{max(self.dimensions)} exceeds the {config.hidden_size} numbers of a vector"
            raise ConfigError("dimensions", problem, hint="list smaller ones")

    def network(self) -> type[PreTrainedModel]:
        from claf2.heads.networks.sentence import SentenceEncoder

        return SentenceEncoder

    def parts(self, vectors: torch.Tensor) -> list[torch.Tensor]:
        """Return the vectors that the loss is computed for, of length 1: (B, C, d) for each of ``dimensions``."""
        from torch.nn.functional import normalize

        return [normalize(vectors[..., :size], dim=-1) for size in self.dimensions or [vectors.shape[-1]]]

    @classmethod
    def from_hub_row(cls, row: HubRow) -> Example:
        return hub_text_example(row)


@register_head("embed")
class SimilarityHead(EmbeddingHead[TextExample]):
    """The cosine of two texts' vectors; squared difference to the number of the pair, as in Sentence-BERT for
    similarity (Reimers & Gurevych, 2019, https://arxiv.org/abs/1908.10084, section 3)."""

    substitutes_for: ClassVar[tuple[str, ...]] = ("regress",)
    featurizer: ClassVar[type[Featurizer]] = SimilarityFeaturizer
    request_fields: ClassVar[tuple[str, ...]] = TEXT_FIELDS

    def weight(self, batch: Mapping[str, np.ndarray]) -> float:
        return float(len(batch["labels"]))

    def loss(self, outputs: VectorsOutput, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        from torch.nn.functional import mse_loss

        losses = [
            mse_loss((vectors[:, 0] * vectors[:, 1]).sum(-1), batch["labels"], reduction="sum")
            for vectors in self.parts(outputs.vectors)
        ]
        return sum(losses[1:], losses[0])

    def collect(self, outputs: VectorsOutput) -> dict[str, torch.Tensor]:
        from torch.nn.functional import cosine_similarity

        return {"value": cosine_similarity(outputs.vectors[:, 0], outputs.vectors[:, 1])}

    def predict(self, collected: CollectedOutputs[TextExample]) -> list[Prediction]:
        return predict_numbers(collected)

    def request(self, request: Request) -> Example:
        return text_request(request)


@register_head("embed_softmax")
class PairClassificationHead(SingleLabelHead[TextExample]):
    """One of the labels for two texts, from their vectors u and v: softmax over a linear layer on (u, v, |u - v|);
    cross-entropy, as in Sentence-BERT for inference (Reimers & Gurevych, 2019, section 3). Only the training needs the
    layer."""

    substitutes_for: ClassVar[tuple[str, ...]] = ("classify",)
    featurizer: ClassVar[type[Featurizer]] = PairLabelFeaturizer
    request_fields: ClassVar[tuple[str, ...]] = TEXT_FIELDS

    pooling: Pooling = "mean"
    """How the vectors of tokens become the one of a text: `mean`, `cls` (the first token) or `max`."""

    @property
    def trains_all_rows(self) -> bool:
        return False

    def configure(self, config: PreTrainedConfig, labels: Sequence[str]) -> None:
        super().configure(config, labels)
        config.sentence_pooling = self.pooling

    def network(self) -> type[PreTrainedModel]:
        from claf2.heads.networks.sentence import PairClassifier

        return PairClassifier

    def request(self, request: Request) -> Example:
        return text_request(request)

    @classmethod
    def from_hub_row(cls, row: HubRow) -> Example:
        return hub_text_example(row)


@register_head("embed_in_batch")
class ContrastiveHead(EmbeddingHead[Example]):
    """The text that belongs to each row's first one, among those of the whole batch: softmax over cosines, divided by a
    temperature; cross-entropy. The second and third texts of all rows are the candidates, so that third ones are hard
    negatives (supervised SimCSE; Gao et al., 2021, https://arxiv.org/abs/2104.08821, section 4). A row of one text has
    it twice, and dropout makes the difference (unsupervised SimCSE, section 3). Equal texts are not negatives of each
    other.

    A prediction is the ranking of the second texts of all rows, each once, by their cosine with the row's first one.
    """

    whole_batch: ClassVar[bool] = True
    targets: ClassVar[Mapping[str, int]] = {"keys": 0}
    featurizer: ClassVar[type[Featurizer]] = GroupFeaturizer
    request_fields: ClassVar[tuple[str, ...]] = ("question", "choices")

    temperature: float = Field(0.05, gt=0, le=LARGEST)
    """What cosines are divided by."""

    def weight(self, batch: Mapping[str, np.ndarray]) -> float:
        return float(len(batch["keys"]))

    def loss(self, outputs: VectorsOutput, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        import torch
        from torch.nn.functional import cross_entropy

        keys = batch["keys"]
        rows = torch.arange(len(keys), device=keys.device)
        # The candidates: the second texts of all rows, then the third ones.
        candidates = keys[:, 1:].T.flatten()
        is_left_out = (candidates == 0) | (candidates == keys[:, 1:2])
        is_left_out[rows, rows] = False
        losses = []
        # Half precision would round cosines to hundredths, and the temperature multiplies that.
        with torch.autocast(outputs.vectors.device.type, enabled=False):
            for vectors in self.parts(outputs.vectors):
                cosines = vectors[:, 0] @ vectors[:, 1:].transpose(0, 1).flatten(0, 1).T
                logits = (cosines / self.temperature).masked_fill(is_left_out, float("-inf"))
                losses.append(cross_entropy(logits, rows, reduction="sum"))
        return sum(losses[1:], losses[0])

    def collect(self, outputs: VectorsOutput) -> dict[str, torch.Tensor]:
        from torch.nn.functional import normalize

        return {"vectors": normalize(outputs.vectors, dim=-1)}

    def predict(self, collected: CollectedOutputs[Example]) -> list[Prediction]:
        asked = [isinstance(example, ChoiceExample) for example in collected.examples]
        if all(asked):
            pairs = zip(collected.examples, collected.outputs, strict=True)
            return [_rank_choices(example, row["vectors"]) for example, row in pairs]
        return _rank_all(collected)

    def unread_texts(self, examples: Sequence[Example]) -> np.ndarray | None:
        import numpy as np

        if any(isinstance(example, ChoiceExample) for example in examples):
            return None
        # Each second text is ranked once, and third ones are only trained with.
        unread = np.ones((len(examples), len(_texts(examples[0]))), bool)
        unread[:, 0] = False
        unread[list(_first_rows(examples).values()), 1] = False
        return unread

    def request(self, request: Request) -> Example:
        request.check_fields(("question", "choices"), "question and choices (a list of texts to rank)")
        choices = request.texts("choices", lambda text: text.split("|"))
        if not choices:
            raise Claf2Error("choices is empty; give the texts to rank")
        return ChoiceExample(id=request.id, question=request.text("question"), choices=choices)


def _rank_choices(example: Any, vectors: NDArray[np.float32]) -> Prediction:
    """Return the positions of the choices of a request, the nearest first, with the cosines of all."""
    cosines = vectors[1 : 1 + len(example.choices)] @ vectors[0]
    order = (-cosines).argsort(kind="stable").tolist()
    details = {"cosines": [float(cosine) for cosine in cosines]}
    return Prediction(example.id, None, [str(place) for place in order], float(cosines[order[0]]), details)


def _first_rows(examples: Sequence[Example]) -> dict[str | None, int]:
    """Return the second text of each example, each once → the first row that has it, in ascending order."""
    rows: dict[str | None, int] = {}
    for row, example in enumerate(examples):
        rows.setdefault(_texts(example)[1], row)
    return rows


def _rank_all(collected: CollectedOutputs[Example]) -> list[Prediction]:
    """Rank the second texts of all rows for each row. A text is called by the id of the first row that has it, and by
    the number of that row besides if an earlier text has the same id."""
    import numpy as np

    first_rows = _first_rows(collected.examples)
    names: list[str] = []
    taken: set[str] = set()
    for row in first_rows.values():
        name = collected.examples[row].id
        names.append(f"{name}#{row + 1}" if name in taken else name)
        taken.add(name)
    places = {text: place for place, text in enumerate(first_rows)}
    candidates = np.stack([collected.outputs[row]["vectors"][1] for row in first_rows.values()])
    predictions = []
    for start in range(0, len(collected.examples), RANKED_AT_ONCE):
        rows = range(start, min(start + RANKED_AT_ONCE, len(collected.examples)))
        cosines = np.stack([collected.outputs[row]["vectors"][0] for row in rows]) @ candidates.T
        best = (-cosines).argsort(axis=1, kind="stable")[:, :RANKED]
        for row, own, order in zip(rows, cosines, best, strict=True):
            gold = places[_texts(collected.examples[row])[1]]
            ranking = [names[place] for place in order]
            predictions.append(Prediction(collected.examples[row].id, [names[gold]], ranking, float(own[gold])))
    return predictions
