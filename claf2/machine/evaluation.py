"""Scores of a machine from end to end, and how much of them is lost by search and by reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from claf2.benchmarking.statistics import ScoreEstimate
from claf2.errors import DataError
from claf2.machine.qa import QaMachine
from claf2.metrics import Prediction, share
from claf2.metrics.span import SquadScore
from claf2.readers import SpanExample
from claf2.retrieval.evaluation import estimate_with_band
from claf2.retrieval.passages import passage_id
from claf2.runs.progress import show_progress

__all__ = ["MachineReport", "evaluate_machine"]

QUESTIONS_AT_ONCE = 16
SEED = 0
"""The seed of the questions that are drawn."""


@dataclass(frozen=True)
class MachineReport:
    """The scores of a machine. All are percentages, with intervals at 95 % over questions."""

    scores: dict[str, ScoreEstimate]
    """``em`` and ``f1`` from end to end; ``gold_em`` and ``gold_f1`` of the reader, given the right passage; and
    ``found``, the share of questions whose passage was among those that were read."""
    losses: dict[str, float]
    """The points missing from an F1 of 100, which add up: ``reading`` with the right passage, ``search`` where it
    was not found, ``choice`` where it was found and the answer of another passage was preferred."""
    predictions: Sequence[Prediction]
    """The answer to each question."""

    @property
    def kept(self) -> float | None:
        """The end-to-end F1 as a share of the F1 that the reader has with the right passage; ``None`` if that is 0."""
        gold = self.scores["gold_f1"].value
        return self.scores["f1"].value / gold if gold else None


def evaluate_machine(machine: QaMachine, questions: Sequence[SpanExample], limit: int | None = None) -> MachineReport:
    """Ask a machine questions with known answers.

    Args:
        machine: the machine.
        questions: questions with their passages and answers.
        limit: how many of them are drawn at random; ``None``: all.

    Raises:
        DataError: if there are fewer than two questions with answers.
    """
    asked = [question for question in questions if question.answers is not None]
    if len(asked) < 2:
        raise DataError("questions", f"{len(asked)} of them have answers", hint="give a file with labelled questions")
    if limit is not None and limit < len(asked):
        chosen = np.random.default_rng(SEED).choice(len(asked), limit, replace=False)
        asked = [asked[place] for place in sorted(chosen.tolist())]
    metric = SquadScore(language=machine.language)
    answers: list[str] = []
    golden: list[str] = []
    was_found: list[bool] = []
    with show_progress("questions", len(asked), " questions") as progress:
        for start in range(0, len(asked), QUESTIONS_AT_ONCE):
            part = asked[start : start + QUESTIONS_AT_ONCE]
            for question, answer in zip(part, machine.ask_all([question.question for question in part]), strict=True):
                answers.append(answer.answer)
                names = {passage_id(hit.passage.text) for hit in answer.passages}
                was_found.append(passage_id(question.context.strip()) in names)
            golden += machine.read([(question.question, question.context) for question in part])
            progress.update(start + len(part))
    predictions, with_gold = _to_predictions(asked, answers), _to_predictions(asked, golden)
    scores = {}
    by_question = {}
    for prefix, answered in (("", predictions), ("gold_", with_gold)):
        exact = [float(metric.is_right(prediction)) for prediction in answered]
        f1 = by_question[prefix] = np.array([metric.compute([prediction], ())["f1"] or 0.0 for prediction in answered])
        scores[f"{prefix}em"] = estimate_with_band(answered, share(exact))
        scores[f"{prefix}f1"] = estimate_with_band(answered, share(f1 / 100))
    is_found = np.array(was_found)
    scores["found"] = estimate_with_band(predictions, share(is_found.astype(float)))
    lost = by_question["gold_"] - by_question[""]
    losses = {
        "reading": float(100 - by_question["gold_"].mean()),
        "search": float(lost[~is_found].sum() / len(asked)),
        "choice": float(lost[is_found].sum() / len(asked)),
    }
    return MachineReport(scores, losses, predictions)


def _to_predictions(questions: Sequence[SpanExample], answers: Sequence[str]) -> list[Prediction]:
    return [
        Prediction(question.id, [answer.text for answer in question.answers or ()], text)
        for question, text in zip(questions, answers, strict=True)
    ]
