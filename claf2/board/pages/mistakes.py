"""What a run gets wrong: a confusion matrix, the kinds of errors, and the errors of which it is most confident."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from claf2.board.pages.numbers import format_answer
from claf2.metrics import Prediction

__all__ = ["ConfusionMatrix", "ErrorKind", "Mistake", "confusion_matrix", "count_errors", "list_mistakes"]

MOST_LABELS = 40
"""The most labels of a confusion matrix. With more of them, the pairs that are confused most are listed instead."""

MOST_KINDS = 20
"""The most kinds of errors that are listed."""

MOST_ALTERNATIVES = 3
"""The most answers that are shown with their probabilities for a mistake."""

SHADES = 6
"""The number of shades of a confusion matrix, white excluded."""


@dataclass(frozen=True)
class ConfusionMatrix:
    """How often each gold label got each predicted label."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    """A row per gold label, a column per predicted label."""

    def shade(self, row: int, column: int) -> int:
        """Return how dark a cell is, from 0 (never) to ``SHADES``: its share of the gold label's examples."""
        count = self.counts[row][column]
        return max(1, round(SHADES * count / sum(self.counts[row]))) if count else 0


@dataclass(frozen=True)
class ErrorKind:
    """A way of being wrong, and how often it occurs."""

    gold: str
    prediction: str
    count: int


@dataclass(frozen=True)
class Mistake:
    """An example that the run gets wrong."""

    id: str
    gold: str
    prediction: str
    confidence: float | None
    """The score that the run gives its answer, on a scale of the head."""
    alternatives: tuple[tuple[str, float], ...] = ()
    """The most probable labels with their probabilities."""


def confusion_matrix(predictions: Sequence[Prediction], labels: Sequence[str]) -> ConfusionMatrix | None:
    """Return the confusion matrix of labels; ``None`` if the answers are not labels, or there are too many labels.

    Args:
        predictions: the predictions of a run.
        labels: the labels of the task, in their order; labels that occur besides come after them.
    """
    pairs = [(row.gold, row.prediction) for row in predictions if row.prediction is not None]
    if not pairs or not all(isinstance(answer, str) for pair in pairs for answer in pair):
        return None
    names = tuple(dict.fromkeys([*labels, *sorted({answer for pair in pairs for answer in pair})]))
    if not 1 < len(names) <= MOST_LABELS:
        return None
    counts = Counter(pairs)
    return ConfusionMatrix(names, tuple(tuple(counts[gold, answer] for answer in names) for gold in names))


def count_errors(predictions: Sequence[Prediction]) -> tuple[ErrorKind, ...]:
    """Return the most frequent kinds of errors, the most frequent first.

    What a kind is follows from the answers: a pair of labels, tags or relations; a value of a dialogue's state that is
    missing or added; an answer to a question that is missing, added or different. Numbers have no kinds.
    """
    counts = Counter(kind for row in predictions if row.prediction is not None for kind in _error_kinds(row))
    return tuple(ErrorKind(*kind, count) for kind, count in counts.most_common(MOST_KINDS))


def _error_kinds(row: Prediction) -> Iterator[tuple[str, str]]:
    gold, answer = row.gold, row.prediction
    if isinstance(gold, str):
        pairs: Iterable[tuple[Any, Any]] = [(gold, answer)]
    elif isinstance(gold, dict) and isinstance(answer, dict):
        relations = [value if isinstance(value := side.get("relations"), list) else [] for side in (gold, answer)]
        pairs = zip(*relations, strict=False)
    elif isinstance(gold, list) and isinstance(answer, list):
        pairs = zip(gold, answer, strict=True) if _are_tags(gold, answer) else _set_difference(gold, answer)
    elif isinstance(gold, list) and isinstance(answer, str):
        pairs = [] if answer in gold or not (gold or answer) else [_describe_answer(gold, answer)]
    else:
        return
    yield from ((str(expected), str(found)) for expected, found in pairs if expected != found)


def _are_tags(gold: Sequence[object], answer: Sequence[object]) -> bool:
    tags = [*gold, *answer]
    return len(gold) == len(answer) and all(isinstance(tag, str) and (tag == "O" or tag[1:2] == "-") for tag in tags)


def _set_difference(gold: Sequence[object], answer: Sequence[object]) -> Iterator[tuple[str, str]]:
    yield from ((str(value), "(missing)") for value in gold if value not in answer)
    yield from (("(nothing)", str(value)) for value in answer if value not in gold)


def _describe_answer(gold: Sequence[object], answer: str) -> tuple[str, str]:
    if not gold:
        return "no answer", "an answer"
    return "an answer", "another answer" if answer else "no answer"


def list_mistakes(
    predictions: Sequence[Prediction], is_right: Callable[[Prediction], bool], most: int = 20
) -> tuple[Mistake, ...]:
    """Return the examples that a run gets wrong, those of which it is most confident first.

    Where answers are numbers, those that are farthest from gold come first.
    """
    wrong = [row for row in predictions if row.gold is not None and row.prediction is not None and not is_right(row)]
    wrong.sort(key=_severity, reverse=True)
    return tuple(Mistake(row.id, *_format_answers(row), row.score, tuple(_alternatives(row))) for row in wrong[:most])


def _severity(row: Prediction) -> float:
    if row.score is None and isinstance(row.gold, int | float) and isinstance(row.prediction, int | float):
        return abs(row.gold - row.prediction)
    return float("-inf") if row.score is None else row.score


def _alternatives(row: Prediction) -> list[tuple[str, float]]:
    probabilities = (row.details or {}).get("probabilities")
    if not isinstance(probabilities, Mapping):
        return []
    numbers = {str(label): share for label, share in probabilities.items() if isinstance(share, int | float)}
    return sorted(numbers.items(), key=lambda pair: -pair[1])[:MOST_ALTERNATIVES]


def _format_answers(row: Prediction) -> tuple[str, str]:
    """Return the gold answer and the prediction as text. Of lists of tags, the entities that differ are shown."""
    gold, answer = row.gold, row.prediction
    if isinstance(gold, list) and isinstance(answer, list) and _are_tags(gold, answer):
        tokens = (row.details or {}).get("tokens")
        texts = [str(token) for token in tokens] if isinstance(tokens, list) and len(tokens) == len(gold) else None
        gold_entities, found = _entities(gold, texts), _entities(answer, texts)
        gold, answer = (
            "; ".join(text for place, text in own.items() if other.get(place) != text) or "no other entity"
            for own, other in ((gold_entities, found), (found, gold_entities))
        )
    return format_answer(gold), format_answer(answer)


def _entities(tags: Sequence[str], tokens: Sequence[str] | None) -> dict[tuple[int, int], str]:
    """Return the entities of BIO tags as text, by the places of their first token and of the one after the last."""
    entities: dict[tuple[int, int], str] = {}
    first = 0
    for place in range(1, len(tags) + 1):
        if place == len(tags) or not tags[place].startswith("I"):
            if tags[first] != "O":
                words = "".join(tokens[first:place]) if tokens else f"tokens {first + 1} to {place}"
                entities[first, place] = f"{tags[first][2:]} {words}"
            first = place
    return entities
