"""Answer questions about a collection: search for passages, and read all of them with one model.

A softmax over one passage says nothing about another passage. Answers are compared by raw scores instead, as in
BERTserini (Yang et al., 2019): the logits of start and end, minus those of "no answer" in the same passage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claf2.errors import RunError
from claf2.export import open_answerer
from claf2.heads.span import SpanHead
from claf2.metrics import Prediction
from claf2.metrics.span import LANGUAGES
from claf2.retrieval.index import Hit, PassageIndex, SearchMethod
from claf2.runs.answerer import Answerer, EncodedRequest

__all__ = ["EncodedQuestion", "FoundAnswer", "QaAnswer", "QaMachine"]


@dataclass(frozen=True)
class FoundAnswer:
    """An answer in one or more passages."""

    text: str
    score: float
    """Logits of start and end, minus those of "no answer", in the best of its passages. The score of the search is
    added if it has a weight."""
    passages: tuple[Hit, ...]
    """The passages that give this answer, the best first. Answers are equal if the metric for the task's language
    treats them as equal."""
    truncated: bool
    """Whether the question was truncated to its maximum length for the best passage."""


@dataclass(frozen=True)
class QaAnswer:
    """The reply of a machine to a question."""

    question: str
    answer: str
    """The best answer; empty if there is none."""
    score: float | None
    """Its score; ``None`` if there is none."""
    reason: str
    """Why there is no answer; empty if there is one."""
    answers: tuple[FoundAnswer, ...]
    """All answers, the best first, including those below the threshold."""
    passages: tuple[Hit, ...]
    """The passages that were read."""

    def to_json(self) -> dict[str, Any]:
        """Return the answer as JSON: ``answer``, ``passage`` and ``score`` are null if there is none."""
        best = None if self.reason else self.answers[0].passages[0].passage
        return {
            "question": self.question, "answer": None if best is None else self.answer, "score": self.score,
            "passage": None if best is None else {"id": best.id, "title": best.title, "text": best.text},
            "reason": self.reason,
            "answers": [
                {"text": candidate.text, "score": candidate.score, "truncated": candidate.truncated,
                 "passages": [hit.passage.id for hit in candidate.passages]}
                for candidate in self.answers
            ],
            "passages": [
                {"id": hit.passage.id, "rank": hit.rank, "score": hit.score, "text": hit.passage.text}
                for hit in self.passages
            ],
        }  # fmt: skip


@dataclass(frozen=True)
class EncodedQuestion:
    """A question with the passages that were found, as the reader reads them."""

    question: str
    passages: tuple[Hit, ...]
    encoded: Sequence[EncodedRequest]
    """The question with each passage."""

    @property
    def tokens(self) -> int:
        """The length of all passages with the question, in tokens."""
        return sum(pair.tokens for pair in self.encoded)


class QaMachine:
    """An index and a reader: a run or an export of a model that extracts answers.

    Args:
        index: the index, or its folder.
        reader: the folder of the run or export, or its answerer.
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
        reader: Answerer | str | Path,
        *,
        task: str | None = None,
        k: int = 5,
        method: SearchMethod | None = None,
        threshold: float | None = None,
        search_weight: float = 0.0,
    ) -> None:
        self.index = index if isinstance(index, PassageIndex) else PassageIndex(index)
        self.k, self.method, self.search_weight = k, method, search_weight
        tasks = None if task is None else [task]
        self._answerer = open_answerer(Path(reader), tasks=tasks) if isinstance(reader, str | Path) else reader
        names = self._answerer.tasks if tasks is None else tasks
        spans = [name for name in names if isinstance(self._head(name), SpanHead)]
        if len(spans) != 1:
            problem = "has several tasks that extract answers" if spans else "does not extract answers"
            name = str(reader) if isinstance(reader, str | Path) else "the reader"
            raise RunError(f"{name}: {problem}; give a run of a task such as korquad, or its name with --task")
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
        return self.answer_encoded(self.encode(questions), as_one_batch=len(questions) == 1)

    def encode(self, questions: Sequence[str], k: int | None = None) -> list[EncodedQuestion]:
        """Search for questions, and return them with their passages as the reader reads them, in order.

        Args:
            questions: the questions.
            k: how many passages are read for each; ``None``: as many as usual.

        Raises:
            RunError: if a question is empty.
        """
        if not all(question.strip() for question in questions):
            raise RunError("a question is empty; write one")
        results = self.index.search_all(questions, k or self.k, self.method)
        encoded = self._encode([
            (question, hit.passage.text) for question, hits in zip(questions, results, strict=True) for hit in hits
        ])  # fmt: skip
        pairs = iter(encoded)
        return [
            EncodedQuestion(question, tuple(hits), [next(pairs) for _ in hits])
            for question, hits in zip(questions, results, strict=True)
        ]

    def answer_encoded(self, questions: Sequence[EncodedQuestion], *, as_one_batch: bool) -> list[QaAnswer]:
        """Return the answer to each question, in order.

        Args:
            questions: what ``encode`` returned.
            as_one_batch: read all passages in one batch instead of in batches by length.
        """
        answer = self._answerer.answer if as_one_batch else self._answerer.answer_by_length
        predictions = iter(answer(self.task, [pair for question in questions for pair in question.encoded]))
        return [self._choose(question, [next(predictions) for _ in question.passages]) for question in questions]

    def read(self, pairs: Sequence[tuple[str, str]]) -> list[str]:
        """Return the answer to each (question, passage), without a search."""
        predictions = self._answerer.answer_by_length(self.task, self._encode(pairs))
        return [
            prediction.prediction if self.threshold is None or _score(prediction) >= self.threshold else ""
            for prediction in map(_with_best_answer, predictions)
        ]

    def _head(self, task: str) -> object:
        return self._answerer.model(task).run.experiment.only_task.head

    def _encode(self, pairs: Sequence[tuple[str, str]]) -> list[EncodedRequest]:
        requests = [{"id": str(number), "question": q, "context": text} for number, (q, text) in enumerate(pairs)]
        return self._answerer.encode(self.task, requests) if requests else []

    def _choose(self, question: EncodedQuestion, predictions: Sequence[Prediction]) -> QaAnswer:
        hits = question.passages
        best = max((hit.score for hit in hits), default=0.0)
        by_text: dict[str, list[tuple[float, Hit, str, bool]]] = {}
        for hit, request, prediction in zip(hits, question.encoded, map(_with_best_answer, predictions), strict=True):
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
            question.question,
            best_answer.text if best_answer else "",
            best_answer.score if best_answer else None,
            reason,
            answers,
            hits,
        )


def _with_best_answer(prediction: Prediction) -> Prediction:
    """Return the prediction with its best span, even if the reader predicts that there is no answer."""
    if prediction.details is None:
        return Prediction(prediction.id, prediction.gold, "", None, None)
    best = prediction.details["best_answer"]
    return Prediction(prediction.id, prediction.gold, best, prediction.score, prediction.details)


def _score(prediction: Prediction) -> float:
    if prediction.details is None:
        return float("-inf")
    return -float(prediction.details["null_score_difference"])
