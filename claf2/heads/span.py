"""Extractive question answering: the answer as a span of the context."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

from pydantic import Field

from claf2.heads import (
    LONGEST_INPUT,
    MIN_LENGTH,
    CollectedOutputs,
    Feature,
    Featurizer,
    Head,
    HubRow,
    Request,
    SoftAnswer,
    register_head,
)
from claf2.metrics import Prediction
from claf2.readers import Answer, Example, SpanExample
from claf2.registry import LARGEST
from claf2.tokenizers import Encoding, Tokenizer

if TYPE_CHECKING:
    import numpy as np
    import torch

CHUNK = 1024
"""How many windows are searched at a time."""

OUTSIDE = -1
"""The character index of positions that are not in the context."""


class SpanFeaturizer(Featurizer):
    """``[CLS] question [SEP] context [SEP]`` in windows over the context, as BERT's SQuAD code lays them out. The
    target of a window without the whole answer is its first position."""

    max_seq_length: int = Field(384, ge=MIN_LENGTH, le=LONGEST_INPUT)
    context_stride: int = Field(128, ge=1, le=LONGEST_INPUT)
    """How many tokens after a window the next one starts (BERT's ``doc_stride``)."""
    max_question_length: int = Field(64, ge=1, le=LONGEST_INPUT)
    """Questions are truncated to this many tokens."""

    def features(
        self, examples: Sequence[SpanExample], tokenizer: Tokenizer, labels: Sequence[str], counts: Counter[str]
    ) -> Iterator[Feature]:
        # Leading blanks would take tokens from the question's budget without saying anything.
        windows = tokenizer.encode(
            [example.question.lstrip() for example in examples],
            [example.context for example in examples],
            max_length=self.max_seq_length,
            max_first=self.max_question_length,
            step=self.context_stride,
        )
        for position, (example, encodings) in enumerate(zip(examples, windows, strict=True)):
            answer = example.answers[0] if example.answers else None
            # An answer that no window holds whole is taught as "no answer"; the log counts such answers.
            is_reachable = answer is None
            counts["truncated"] += encodings[0].dropped > 0
            for encoding in encodings:
                starts, ends = _context_characters(encoding)
                feature: Feature = {
                    "input_ids": encoding.ids,
                    "token_type_ids": encoding.type_ids,
                    "starts": starts,
                    "ends": ends,
                    "example": position,
                }
                if example.answers is not None:
                    first, last = _locate(answer, starts, ends)
                    feature["start_positions"], feature["end_positions"] = first, last
                    survives = last > 0 and _survives(answer, example.context, starts[first], ends[last])
                    is_reachable = is_reachable or survives
                yield feature
            counts["lost_spans"] += not is_reachable


def _context_characters(encoding: Encoding) -> tuple[list[int], list[int]]:
    """Return the first and the end character of each position's piece of context, ``OUTSIDE`` elsewhere."""
    inside = [sequence == 1 for sequence in encoding.sequence]
    pairs = list(zip(encoding.offsets, inside, strict=True))
    return [o[0] if i else OUTSIDE for o, i in pairs], [o[1] if i else OUTSIDE for o, i in pairs]


def _locate(answer: Answer | None, starts: Sequence[int], ends: Sequence[int]) -> tuple[int, int]:
    """Return the first and last position of the answer, (0, 0) where the window does not hold all of it."""
    context = [index for index, end in enumerate(ends) if end >= 0]
    if answer is None or not context:
        return 0, 0
    low, high = context[0], context[-1] + 1
    stop = answer.start + len(answer.text)
    first = bisect_right(ends, answer.start, low, high)
    last = bisect_left(starts, stop, low, high) - 1
    if starts[low] > answer.start or ends[high - 1] < stop or not first <= last:
        return 0, 0
    return first, last


def _survives(answer: Answer | None, context: str, start: int, end: int) -> bool:
    return answer is not None and context[start:end].strip() == answer.text.strip()


class SpanOutput(Protocol):
    """The output of `transformers`' heads for question answering, (B, L) each."""

    start_logits: torch.Tensor
    end_logits: torch.Tensor


@register_head("span")
class SpanHead(Head[SpanExample, SpanOutput]):
    """Two logits per position, start and end of the answer; the mean of the cross-entropies (Devlin et al., 2019)."""

    featurizer: ClassVar[type[Featurizer]] = SpanFeaturizer
    auto_class: ClassVar[str] = "AutoModelForQuestionAnswering"
    request_fields: ClassVar[tuple[str, ...]] = ("question", "context")
    targets: ClassVar[Mapping[str, int]] = {"start_positions": 0, "end_positions": 0}

    answer_maxlen: int = Field(30, ge=1, le=LONGEST_INPUT)
    """The maximum length of an answer, in tokens."""
    n_best_size: int = Field(20, ge=1, le=1000)
    """How many of the best starts, and of the best ends, are tried in each window."""
    null_threshold: float | None = Field(None, ge=-LARGEST, le=LARGEST)
    """Answer nothing where "no answer" scores higher than the best span by more than this; `null`: always answer."""

    def weight(self, batch: Mapping[str, np.ndarray]) -> float:
        return float(len(batch["start_positions"]))

    def loss(self, outputs: SpanOutput, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        import torch
        from torch.nn.functional import cross_entropy

        # Padding is masked: a loss must not depend on the length of other rows of the batch.
        absent = batch["attention_mask"] == 0
        start = outputs.start_logits.float().masked_fill(absent, -torch.inf)
        end = outputs.end_logits.float().masked_fill(absent, -torch.inf)
        first = cross_entropy(start, batch["start_positions"], reduction="sum")
        last = cross_entropy(end, batch["end_positions"], reduction="sum")
        return (first + last) / 2

    def soft_answers(
        self, outputs: SpanOutput, batch: Mapping[str, torch.Tensor]
    ) -> Sequence[Mapping[str, SoftAnswer]]:
        present = batch["attention_mask"] != 0
        return [{"start": SoftAnswer(outputs.start_logits, present), "end": SoftAnswer(outputs.end_logits, present)}]

    def collect(self, outputs: SpanOutput) -> dict[str, torch.Tensor]:
        return {"start": outputs.start_logits.float(), "end": outputs.end_logits.float()}

    def predict(self, collected: CollectedOutputs[SpanExample]) -> list[Prediction]:
        examples, features, outputs = collected.examples, collected.features, collected.outputs
        windows: list[list[int]] = [[] for _ in examples]
        for index, feature in enumerate(features):
            windows[feature["example"]].append(index)
        centrals: list[np.ndarray | None] = [None] * len(features)
        for indices in windows:
            # A single window shares no token with another one.
            if len(indices) > 1:
                for index, central in zip(indices, _central([features[i] for i in indices]), strict=True):
                    centrals[index] = central
        spans: list[tuple[float, int, int]] = []
        for start in range(0, len(features), CHUNK):
            chunk = slice(start, start + CHUNK)
            spans += self._search(features[chunk], outputs[chunk], centrals[chunk])
        return [
            self._answer(example, [(spans[i], outputs[i]) for i in indices])
            for example, indices in zip(examples, windows, strict=True)
        ]

    def _answer(
        self, example: SpanExample, windows: Sequence[tuple[tuple[float, int, int], Mapping[str, np.ndarray]]]
    ) -> Prediction:
        best, start, end = max((span for span, _ in windows), key=lambda span: span[0])
        # The lowest over the windows, as in BERT's code: the window that holds the answer speaks against "no answer",
        # and the others cannot outvote it.
        null = min(float(row["start"][0]) + float(row["end"][0]) for _, row in windows)
        text = example.context[start:end]
        # No window has a permitted span, for instance because its context was cut away.
        if best == float("-inf"):
            best, text = null, ""
        answer = text
        if self.null_threshold is not None and null - best > self.null_threshold:
            answer = ""
        gold = None if example.answers is None else [answer.text for answer in example.answers]
        return Prediction(
            id=example.id,
            gold=gold,
            prediction=answer,
            score=best,
            details={"null_score_difference": null - best, "best_answer": text},
        )

    def _search(
        self,
        features: Sequence[Feature],
        outputs: Sequence[Mapping[str, np.ndarray]],
        centrals: Sequence[np.ndarray | None],
    ) -> list[tuple[float, int, int]]:
        """Return the score, first and end character of each window's best span among the best starts × best ends; minus
        infinity where there is none."""
        import numpy as np

        sizes = np.array([len(feature["ends"]) for feature in features])
        begins = np.cumsum(sizes) - sizes
        characters = [np.concatenate([feature[name] for feature in features]) for name in ("starts", "ends")]
        context = characters[1] >= 0
        central = np.concatenate(
            [np.ones(size, bool) if mask is None else mask for size, mask in zip(sizes, centrals, strict=True)]
        )
        present = np.arange(sizes.max())[None, :] < sizes[:, None]
        start, end = (np.full(present.shape, -np.inf, np.float32) for _ in range(2))
        # A token that several windows share starts an answer only where it has most context. Ends need no such rule:
        # the length of the answer ties them to a start.
        for logits, name, allowed in ((start, "start", context & central), (end, "end", context)):
            given = np.concatenate([row[name][:size] for row, size in zip(outputs, sizes, strict=True)])
            logits[present] = np.where(allowed, given, -np.inf)
        starts, ends = _best(start, self.n_best_size), _best(end, self.n_best_size)
        # All windows at once: (windows, best starts, best ends).
        scores = np.take_along_axis(start, starts, 1)[:, :, None] + np.take_along_axis(end, ends, 1)[:, None, :]
        width = ends[:, None, :] - starts[:, :, None]
        scores[(width < 0) | (width >= self.answer_maxlen)] = -np.inf
        flat = scores.reshape(len(features), -1)
        rows, chosen = np.arange(len(features)), flat.argmax(1)
        best = flat[rows, chosen]
        has_span = best > -np.inf
        # Where there is no span, this looks up index 0, and the product below turns the result into 0.
        first = characters[0][has_span * (begins + starts[rows, chosen // ends.shape[1]])]
        last = characters[1][has_span * (begins + ends[rows, chosen % ends.shape[1]])]
        return list(zip(best.tolist(), (first * has_span).tolist(), (last * has_span).tolist(), strict=True))

    def request(self, request: Request) -> Example:
        request.check_fields(("question", "context"), "question and context", ("answers",))
        return SpanExample(id=request.id, question=request.text("question"), context=request.text("context"))

    @classmethod
    def from_hub_row(cls, row: HubRow) -> Example:
        texts, starts = row["answers"]["text"], row["answers"]["answer_start"]
        answers = tuple(Answer(text, start) for text, start in zip(texts, starts, strict=True))
        # Some data sets list plausible answers to unanswerable questions among the answers, so a flag decides.
        flag = row.values.get(row.column("is_impossible"))
        return SpanExample(
            id=row.id,
            question=row["question"],
            context=row["context"],
            answers=() if flag else answers,
            is_impossible=not answers if flag is None else bool(flag),
            title=row.values.get("title", ""),
        )


def _best(values: np.ndarray, count: int) -> np.ndarray:
    """Return the positions of the ``count`` highest values of each row, (M, count), the earlier first among equals."""
    import numpy as np

    count = min(count, values.shape[1])
    # Equals at the edge are told apart by their place: the lowest value kept, and as many of it as there is room for.
    edge = np.partition(values, -count, axis=1)[:, -count, None]
    kept = values >= edge
    if np.count_nonzero(kept) > count * len(values):
        above, equal = values > edge, values == edge
        kept = above | (equal & (equal.cumsum(1) <= count - above.sum(1, keepdims=True)))
    places = np.nonzero(kept)[1].reshape(len(values), count)
    order = np.argsort(-np.take_along_axis(values, places, 1), axis=1, kind="stable")
    best: np.ndarray = np.take_along_axis(places, order, 1)
    return best


def _central(features: Sequence[Feature]) -> list[np.ndarray]:
    """Say for each position of each window whether no other window gives its token more context (Devlin et al., 2019):
    the smaller of the contexts to its left and right, plus a hundredth of the window's length.

    Pieces with the same characters, such as the bytes of a Hangul syllable, count as one token: an answer may begin at
    the first of them and end at the last, so all must be permitted in the same window."""
    import numpy as np

    most: dict[tuple[int, int], float] = {}
    own: list[tuple[list[tuple[int, int]], dict[tuple[int, int], float]]] = []
    for feature in features:
        inside = np.flatnonzero(np.asarray(feature["ends"]) >= 0)
        margin = np.minimum(np.arange(len(inside)), np.arange(len(inside))[::-1]) + 0.01 * len(inside)
        spans = list(zip(feature["starts"], feature["ends"], strict=True))
        highest: dict[tuple[int, int], float] = {}
        for position, value in zip(inside.tolist(), margin.tolist(), strict=True):
            highest[spans[position]] = max(highest.get(spans[position], 0.0), value)
        for span, value in highest.items():
            most[span] = max(most.get(span, 0.0), value)
        own.append((spans, highest))
    return [np.array([span in highest and highest[span] == most[span] for span in spans]) for spans, highest in own]
