"""Scores of a search: at which rank the paragraph of each question is found, with confidence intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from claf2.benchmarking.runs import ScoredRuns
from claf2.benchmarking.statistics import ScoreEstimate, estimate_score
from claf2.errors import DataError
from claf2.metrics import Prediction, Resampler
from claf2.metrics.retrieval import LONGEST_LIST, RetrievalScore
from claf2.readers import SpanExample
from claf2.readers.squad import squad_reader
from claf2.readers.text import LONE_SURROGATE, has_lone_surrogate
from claf2.retrieval.index import PassageIndex, SearchMethod
from claf2.retrieval.passages import find_fault, passage_id
from claf2.task import report_damage

__all__ = ["SearchReport", "estimate_with_band", "evaluate_search", "read_questions"]


@dataclass(frozen=True)
class SearchReport:
    """The scores of a search, over the questions whose paragraph is in the index."""

    method: SearchMethod
    scores: dict[str, ScoreEstimate]
    """Key of ``RetrievalScore`` → its mean over questions, 0–100, and its interval."""
    predictions: Sequence[Prediction]
    """The ids of the passages that were found for each question."""
    not_indexed: int
    """The questions whose paragraph is not in the index. They are not scored."""


def read_questions(path: Path) -> list[SpanExample]:
    """Read the questions of a file in SQuAD's format, with or without unanswerable ones.

    Raises:
        DataError: if the file is damaged, has no questions, or one that is empty or no text.
    """
    if not path.is_file():
        raise DataError(path, "no such file", hint="give a file in SQuAD's format")
    with report_damage(path):
        examples = [example for example in squad_reader(path).read(path) if isinstance(example, SpanExample)]
    if not examples:
        raise DataError(path, "contains no questions")
    for example in examples:
        fault = find_fault(example.question) or (LONE_SURROGATE if has_lone_surrogate(example.context) else None)
        if fault is not None:
            raise DataError(path, f"question {example.id!r} {fault}", hint="correct or remove it")
    return examples


def evaluate_search(
    index: PassageIndex, questions: Sequence[SpanExample], method: SearchMethod | None = None
) -> SearchReport:
    """Search for questions, and compare the results with the paragraphs that the questions are about.

    Args:
        index: the index.
        questions: questions with their paragraphs.
        method: how to search; ``None``: the best method of the index.

    Raises:
        DataError: if the index has the paragraphs of fewer than two of the questions.
    """
    # Articles with different titles may share a paragraph: each of its passages is right, so they count as one.
    by_text: dict[str, str] = {}
    names = [by_text.setdefault(passage_id(passage.text), passage.id) for passage in index]
    golds = [by_text.get(passage_id(question.context.strip())) for question in questions]
    asked = [(question, gold) for question, gold in zip(questions, golds, strict=True) if gold is not None]
    if len(asked) < 2:
        problem = f"has the paragraphs of {len(asked)} of {len(questions)} questions"
        raise DataError(index.folder, problem, hint="index the file with the questions as well")
    longest = LONGEST_LIST * max(Counter(names).values())
    hits = index.find_places([question.question for question, _ in asked], longest, method)
    predictions = [
        Prediction(question.id, [gold], list(dict.fromkeys(names[place] for place, _ in places))[:LONGEST_LIST])
        for (question, gold), places in zip(asked, hits, strict=True)
    ]
    resamplers = RetrievalScore().resamplers(predictions)
    scores = {key: estimate_with_band(predictions, resampler) for key, resampler in resamplers.items()}
    return SearchReport(method or index.best_method, scores, predictions, len(questions) - len(asked))


def estimate_with_band(predictions: Sequence[Prediction], resampler: Resampler) -> ScoreEstimate:
    """Return a mean over questions with its interval, by a bootstrap over questions."""
    examples = tuple((prediction.id, prediction.gold) for prediction in predictions)
    return estimate_score(ScoredRuns(examples, (resampler,), bounds=(0.0, 100.0)))
