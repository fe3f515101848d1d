"""Questions about a collection: passages are found, and one model reads all of them.

A softmax over one passage says nothing about another passage. Answers are compared by raw scores instead, as in
BERTserini (Yang et al., 2019): the logits of start and end, minus those of "no answer" in the same passage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from claf2.errors import RunError
from claf2.export import open_answerer
from claf2.heads.span import SpanHead
from claf2.metrics import Prediction
from claf2.metrics.span import LANGUAGES
from claf2.retrieval.index import Hit, PassageIndex, SearchMethod
from claf2.runs.answerer import Answerer, EncodedRequest

__all__ = ["FoundAnswer", "QaAnswer", "QaMachine"]


@dataclass(frozen=True)
class FoundAnswer:
    """An answer in one or more passages."""

    text: str
    score: float
    """Logits of start and end, minus those of "no answer", in the best of its passages; plus the share of the search,
    if it has a weight."""
    passages: tuple[Hit, ...]
    """The passages that give this answer, the best first. Answers are equal if the metric of the task's language does
    not tell them apart."""
    truncated: bool
    """Whether the question was cut to its longest length in the best passage."""


@dataclass(frozen=True)
class QaAnswer:
    """What a machine answers."""

    question: str
    answer: str
    """The best answer; empty if there is none."""
    score: float | None
    """Its score; ``None`` if there is none."""
    reason: str
    """Why there is no answer; empty if there is one."""
    answers: tuple[FoundAnswer, ...]
    """All answers, the best first, those below the threshold too."""
    passages: tuple[Hit, ...]
    """The passages that were read."""


class QaMachine:
    """An index and a reader: a run or an export of a model that extracts answers.

    Args:
        index: the index, or its folder.
        reader: the folder of the run or export.
        task: one of its tasks; ``None`` where it has only one.
        k: how many passages are read for a question.
        method: how passages are found; ``None``: the best method of the index.
        threshold: answers with a lower score are not given; ``None``: as the reader's ``null_threshold`` says, which by
            default always answers.
        search_weight: what the score of the search adds, from 0 (nothing) on, in units of the reader's score
            (Yang et al., 2019). The search's score is divided by that of the best passage.

    Raises:
        RunError: if the reader does not extract answers.

    Examples:
        >>> machine = claf2.QaMachine("indexes/korquad", "logs/klue/korquad")
        >>> machine.ask("대한민국의 수도는 어디인가?").answer
        '서울'
    """

    def __init__(
        self,
        index: PassageIndex | str | Path,
        reader: str | Path,
        *,
        task: str | None = None,
        k: int = 5,
        method: SearchMethod | None = None,
        threshold: float | None = None,
        search_weight: float = 0.0,
    ) -> None:
        self.index = index if isinstance(index, PassageIndex) else PassageIndex(index)
        self.k, self.method, self.search_weight = k, method, search_weight
        self._answerer: Answerer = open_answerer(Path(reader), tasks=None if task is None else [task])
        spans = [name for name in self._answerer.tasks if isinstance(self._head(name), SpanHead)]
        if len(spans) != 1:
            problem = "has several tasks that extract answers" if spans else "does not extract answers"
            raise RunError(f"{reader}: {problem}; give a run of a task such as korquad, or its name with --task")
        self.task = spans[0]
        head = self._head(self.task)
        assert isinstance(head, SpanHead)
        null_threshold = head.null_threshold
        self.threshold = threshold if threshold is not None or null_threshold is None else -null_threshold
        language = self._answerer.task(self.task).language
        self._normalize = LANGUAGES.get(language, LANGUAGES["en"])[0]

    @property
    def language(self) -> str:
        """The language of the reader's task."""
        return self._answerer.task(self.task).language

    def ask(self, question: str) -> QaAnswer:
        """Answer a question. All passages are one batch of the reader."""
        return self.ask_all([question])[0]

    def ask_all(self, questions: Sequence[str]) -> list[QaAnswer]:
        """Answer questions, in order; the passages of all of them are read in batches by length.

        Raises:
            RunError: if a question is empty.
        """
        if not all(question.strip() for question in questions):
            raise RunError("a question is empty; write one")
        results = self.index.search_all(questions, self.k, self.method)
        pairs = [
            (question, hit.passage.text) for question, hits in zip(questions, results, strict=True) for hit in hits
        ]  # fmt: skip
        encoded, predictions = self._read(pairs, as_one_batch=len(questions) == 1)
        answers, start = [], 0
        for question, hits in zip(questions, results, strict=True):
            span = slice(start, start + len(hits))
            answers.append(self._choose(question, hits, encoded[span], predictions[span]))
            start += len(hits)
        return answers

    def read(self, pairs: Sequence[tuple[str, str]]) -> list[str]:
        """Return the answer to each (question, passage), without a search."""
        _, predictions = self._read(pairs, as_one_batch=False)
        return [
            prediction.prediction if self.threshold is None or _score(prediction) >= self.threshold else ""
            for prediction in map(_with_best_answer, predictions)
        ]

    def _head(self, task: str) -> object:
        return self._answerer.model(task).run.experiment.only_task.head

    def _read(
        self, pairs: Sequence[tuple[str, str]], *, as_one_batch: bool
    ) -> tuple[list[EncodedRequest], list[Prediction]]:
        requests = [{"id": str(number), "question": q, "context": text} for number, (q, text) in enumerate(pairs)]
        encoded = self._answerer.encode(self.task, requests) if requests else []
        answer = self._answerer.answer if as_one_batch else self._answerer.answer_by_length
        return encoded, answer(self.task, encoded)

    def _choose(
        self,
        question: str,
        hits: Sequence[Hit],
        encoded: Sequence[EncodedRequest],
        predictions: Sequence[Prediction],
    ) -> QaAnswer:
        best = max((hit.score for hit in hits), default=0.0)
        by_text: dict[str, list[tuple[float, Hit, str, bool]]] = {}
        for hit, request, prediction in zip(hits, encoded, map(_with_best_answer, predictions), strict=True):
            text = prediction.prediction
            if not text:  # undefined, or a passage without a span
                continue
            score = _score(prediction) + (self.search_weight * hit.score / best if best > 0 else 0.0)
            by_text.setdefault(self._normalize(text) or text, []).append((score, hit, text, request.truncated))
        groups = [sorted(group, key=lambda item: (-item[0], item[1].rank)) for group in by_text.values()]
        groups.sort(key=lambda group: (-group[0][0], group[0][1].rank))
        answers = tuple(
            FoundAnswer(group[0][2], group[0][0], tuple(hit for _, hit, _, _ in group), group[0][3]) for group in groups
        )
        reason = ""
        if not hits:
            reason = "no passage has a term of the question"
        elif not answers:
            reason = "no passage has an answer"
        elif self.threshold is not None and answers[0].score < self.threshold:
            reason = f"the best answer scores {answers[0].score:.2f}, below the threshold of {self.threshold:g}"
        best_answer = None if reason else answers[0]
        return QaAnswer(
            question,
            best_answer.text if best_answer else "",
            best_answer.score if best_answer else None,
            reason,
            answers,
            tuple(hits),
        )


def _with_best_answer(prediction: Prediction) -> Prediction:
    """Return the prediction with its best span, also where the reader by itself answers nothing."""
    if prediction.details is None:
        return Prediction(prediction.id, prediction.gold, "", None, None)
    best = prediction.details["best_answer"]
    return Prediction(prediction.id, prediction.gold, best, prediction.score, prediction.details)


def _score(prediction: Prediction) -> float:
    if prediction.details is None:
        return float("-inf")
    return -float(prediction.details["null_score_difference"])
