"""Tagging: one IOB2 tag per token of a text, independent of the tokenizer's pieces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from claf2.errors import Claf2Error
from claf2.heads import (
    CollectedOutputs,
    Feature,
    Featurizer,
    Head,
    HubRow,
    LogitsOutput,
    Request,
    SoftAnswer,
    register_head,
)
from claf2.metrics import Prediction
from claf2.readers import Example, TokenExample
from claf2.tokenizers import Encoding, Tokenizer

if TYPE_CHECKING:
    import numpy as np
    import torch

IGNORED = -100
"""The target of positions that have none, as `torch.nn.functional.cross_entropy` expects it."""


class TagFeaturizer(Featurizer):
    """``[CLS] text [SEP]``. A piece *owns* the tokens that begin inside it and learns the tag of the first one: for
    words this is the first piece of each word, for characters the first character of each piece. A text longer than the
    input is continued in further windows, so no token is lost, and each token counts once."""

    def features(
        self, examples: Sequence[TokenExample], tokenizer: Tokenizer, labels: Sequence[str], counts: Counter[str]
    ) -> Iterator[Feature]:
        texts = [example.joiner.join(example.tokens) for example in examples]
        windows = tokenizer.encode(texts, max_length=self.max_seq_length, step=max(1, self.max_seq_length // 2))
        ids = {label: index for index, label in enumerate(labels)}
        for position, (example, encodings) in enumerate(zip(examples, windows, strict=True)):
            spans = _token_spans(example)
            free = 0
            kept: list[str] = ["O"] * len(example.tokens)
            for encoding in encodings:
                owned, free = _owned(encoding, spans, example.tokens, free)
                feature: Feature = {
                    "input_ids": encoding.ids,
                    "token_type_ids": encoding.type_ids,
                    "first_token": [first for first, _ in owned],
                    "end_token": [end for _, end in owned],
                    "example": position,
                }
                if example.tags is not None:
                    tags = example.tags
                    feature["labels"] = [IGNORED if first < 0 else ids[tags[first]] for first, _ in owned]
                    for first, end in owned:
                        _spread(kept, example.tokens, first, end, tags[first] if first >= 0 else "O")
                yield feature
            if example.tags is not None:
                _bridge(kept, example.tokens)
                counts["lost_spans"] += len(_entities(example.tags, example.tokens) - _entities(kept, example.tokens))


def _token_spans(example: TokenExample) -> list[tuple[int, int]]:
    spans, start = [], 0
    for token in example.tokens:
        spans.append((start, start + len(token)))
        start += len(token) + len(example.joiner)
    return spans


def _owned(
    encoding: Encoding, spans: Sequence[tuple[int, int]], tokens: Sequence[str], free: int
) -> tuple[list[tuple[int, int]], int]:
    """Return the range of tokens that each piece owns, (-1, -1) for none, and the first token without an owner."""
    owned = []
    for (start, end), sequence in zip(encoding.offsets, encoding.sequence, strict=True):
        while sequence >= 0 and free < len(spans) and (spans[free][1] <= start or not tokens[free].strip()):
            free += 1
        first = free
        while sequence >= 0 and free < len(spans) and spans[free][0] < end:
            free += 1
        owned.append((first, free) if free > first else (-1, -1))
    return owned, free


def _spread(tags: list[str], tokens: Sequence[str], first: int, end: int, tag: str) -> None:
    """Give the tokens of one piece its tag; where it begins an entity, the later tokens continue it."""
    for index in range(max(first, 0), end):
        if tokens[index].strip():
            tags[index] = tag
            tag = "I-" + tag[2:] if tag.startswith("B-") else tag


def _bridge(tags: list[str], tokens: Sequence[str]) -> None:
    """Let white space between two tokens of one entity belong to it."""
    for index in range(1, len(tags) - 1):
        if (
            not tokens[index].strip()
            and tags[index + 1].startswith("I-")
            and tags[index - 1][2:] == tags[index + 1][2:]
        ):
            tags[index] = tags[index + 1]


def _entities(tags: Sequence[str], tokens: Sequence[str]) -> set[tuple[int, int, str]]:
    """Return (first token, last token, type) of the IOB2 entities, white space left out."""
    entities: set[tuple[int, int, str]] = set()
    start, last, kind = -1, -1, ""
    for index, tag in enumerate([*tags, "O"]):
        if index < len(tokens) and not tokens[index].strip():
            continue
        if start >= 0 and tag != f"I-{kind}":
            entities.add((start, last, kind))
            start = -1
        if tag.startswith("B-"):
            start, kind = index, tag[2:]
        last = index
    return entities


@register_head("tag")
class TaggingHead(Head[TokenExample, LogitsOutput]):
    """Softmax over the tags at each owning piece; cross-entropy over those."""

    featurizer: ClassVar[type[Featurizer]] = TagFeaturizer
    auto_class: ClassVar[str] = "AutoModelForTokenClassification"
    request_fields: ClassVar[tuple[str, ...]] = ("tokens",)
    targets: ClassVar[Mapping[str, int]] = {"labels": IGNORED}

    def weight(self, batch: Mapping[str, np.ndarray]) -> float:
        return float((batch["labels"] != IGNORED).sum())

    def loss(self, outputs: LogitsOutput, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        logits = outputs.logits.float()
        return cross_entropy(
            logits.reshape(-1, logits.shape[-1]), batch["labels"].reshape(-1), ignore_index=IGNORED, reduction="sum"
        )

    def soft_answers(
        self, outputs: LogitsOutput, batch: Mapping[str, torch.Tensor]
    ) -> Sequence[Mapping[str, SoftAnswer]]:
        return [{"tags": SoftAnswer(outputs.logits, (batch["labels"] != IGNORED)[..., None])}]

    def collect(self, outputs: LogitsOutput) -> dict[str, torch.Tensor]:
        best = outputs.logits.float().softmax(-1).max(-1)
        return {"tag": best.indices, "probability": best.values}

    def predict(self, collected: CollectedOutputs[TokenExample]) -> list[Prediction]:
        examples = collected.examples
        tags = [["O"] * len(example.tokens) for example in examples]
        scores = [1.0] * len(examples)
        for feature, row in zip(collected.features, collected.outputs, strict=True):
            position = feature["example"]
            for piece, (first, end) in enumerate(zip(feature["first_token"], feature["end_token"], strict=True)):
                if first >= 0:
                    tag = collected.labels[int(row["tag"][piece])]
                    _spread(tags[position], examples[position].tokens, first, end, tag)
                    scores[position] = min(scores[position], float(row["probability"][piece]))
        for example, example_tags in zip(examples, tags, strict=True):
            _bridge(example_tags, example.tokens)
        return [
            Prediction(
                id=example.id,
                gold=None if example.tags is None else list(example.tags),
                prediction=example_tags,
                score=score,
                details={"tokens": list(example.tokens)},
            )
            for example, example_tags, score in zip(examples, tags, scores, strict=True)
        ]

    def request(self, request: Request) -> Example:
        joiner, name = request.task.reader.joiner, request.task.name
        cut: Callable[[str], Iterable[str]] = str.split if joiner else tuple
        field = "text" if "text" in request.values else "tokens"
        kind = f"text (cut {'at spaces' if joiner else 'into characters'}) or tokens"
        request.check_fields((field,), kind, ("tags",))
        tokens = tuple(cut(request.text("text"))) if field == "text" else request.texts("tokens", cut)
        longer = next((token for token in tokens if not joiner and len(token) != 1), None)
        if longer is not None:
            raise Claf2Error(f"tokens of task {name!r} are single characters, spaces included; got {longer!r}")
        return TokenExample(id=request.id, tokens=tokens, joiner=joiner)

    @classmethod
    def from_hub_row(cls, row: HubRow) -> Example:
        field = "tags" if "tags" in row.task.hub_columns else "ner_tags"  # the usual name on the hub
        names = row.label_names.get(row.column(field), [])
        tags = tuple(names[tag] if isinstance(tag, int) else tag for tag in row[field])
        return TokenExample(id=row.id, tokens=tuple(row["tokens"]), tags=tags, joiner=row.task.reader.joiner)
