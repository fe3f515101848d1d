"""Several answers about one text from one pass of an encoder, such as its intent and its slots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from claf2.errors import Claf2Error, RunError
from claf2.export import open_answerer
from claf2.metrics import Prediction
from claf2.runs.answerer import Answerer, EncodedRequest

__all__ = ["NluAnswer", "NluMachine", "Slot", "find_slots"]


@dataclass(frozen=True)
class Slot:
    """A part of a text with a name."""

    name: str
    text: str
    start: int
    """The position of its first token, from 0."""
    end: int
    """The position after its last token."""


@dataclass(frozen=True)
class NluAnswer:
    """What a machine says about a text."""

    predictions: Mapping[str, Prediction]
    """Task → its prediction."""
    slots: Mapping[str, Sequence[Slot]]
    """Task with tags → the parts that its tags name."""
    truncated: bool
    """Whether a task has read only the beginning of the text."""


class NluMachine:
    """A run of several tasks that ask about a single text: classification, for intents, and tags, for slots.

    Args:
        run: the folder of the run, or of an export.
        tasks: the tasks that are asked; ``None``: all.

    Raises:
        RunError: if the folder is not finished, or a task asks about more than a text.

    Examples:
        >>> machine = claf2.NluMachine("logs/intent_and_slots")
        >>> machine("내일 서울 날씨 알려줘").predictions["intent"].prediction
        'weather'
    """

    def __init__(self, run: str | Path, tasks: Sequence[str] | None = None) -> None:
        self._answerer: Answerer = open_answerer(Path(run), tasks=tasks)
        for task in self._answerer.tasks:
            try:
                self._answerer.encode(task, [{"text": "a"}])
            except Claf2Error as error:
                problem = f"task {task!r} asks about more than a text"
                raise RunError(f"{run}: {problem}; name others with --tasks ({error})") from error

    @property
    def tasks(self) -> list[str]:
        """The names of the tasks."""
        return self._answerer.tasks

    def __call__(self, text: str) -> NluAnswer:
        """Return what all tasks say about a text. Heads of one encoder share its pass."""
        return self.answer_all([text])[0]

    def answer_all(self, texts: Sequence[str]) -> list[NluAnswer]:
        """Return what all tasks say about each of several texts, in order.

        Raises:
            RunError: if a text cannot be read.
        """
        requests = [{"id": str(number), "text": text} for number, text in enumerate(texts)]
        encoded = {task: self._answerer.encode(task, requests) for task in self.tasks}
        predictions = self._answerer.answer_all(encoded)
        return [self._collect(place, encoded, predictions) for place in range(len(texts))]

    def _collect(
        self,
        place: int,
        encoded: Mapping[str, Sequence[EncodedRequest]],
        predictions: Mapping[str, Sequence[Prediction]],
    ) -> NluAnswer:
        answers = {task: predictions[task][place] for task in self.tasks}
        slots = {
            task: find_slots(
                prediction.details["tokens"], prediction.prediction, self._answerer.task(task).reader.joiner
            )
            for task, prediction in answers.items()
            if prediction.details is not None and "tokens" in prediction.details and prediction.prediction is not None
        }
        return NluAnswer(answers, slots, any(encoded[task][place].truncated for task in self.tasks))


def find_slots(tokens: Sequence[str], tags: Sequence[str], joiner: str) -> list[Slot]:
    """Return the parts that tags name.

    Args:
        tokens: the tokens of a text.
        tags: their tags in IOB2. A part also begins at an ``I-`` whose name is another one than before it.
        joiner: what is between tokens.
    """
    slots: list[Slot] = []
    start, name = 0, ""
    for place, tag in enumerate([*tags, "O"]):
        kind, _, new = tag.partition("-")
        if name and (kind != "I" or new != name):
            slots.append(Slot(name, joiner.join(tokens[start:place]), start, place))
            name = ""
        if kind != "O" and not name:
            start, name = place, new
    return slots
