"""Several answers about one text from one forward pass of an encoder, such as its intent and its slots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claf2.errors import Claf2Error, RunError
from claf2.export import open_answerer
from claf2.metrics import Prediction
from claf2.runs.answerer import Answerer, SharedRequest
from claf2.runs.requests import RequestLike

__all__ = ["NluAnswer", "NluMachine", "Slot", "find_slots"]


@dataclass(frozen=True)
class Slot:
    """A named span of a text, such as the value of a slot."""

    name: str
    text: str
    start: int
    """The position of its first token, from 0."""
    end: int
    """The position after its last token."""


@dataclass(frozen=True)
class NluAnswer:
    """The answers of all tasks about a text."""

    predictions: Mapping[str, Prediction]
    """Task → its prediction."""
    slots: Mapping[str, Sequence[Slot]]
    """Tagging task → the spans that its tags mark."""
    truncated: bool
    """Whether a task has truncated the text."""

    def to_json(self) -> dict[str, Any]:
        """Return the answer as JSON: what each task says, and the slots."""
        return {
            "tasks": {
                task: {"prediction": prediction.prediction, "score": prediction.score}
                for task, prediction in self.predictions.items()
            },
            "slots": {task: [vars(slot) for slot in slots] for task, slots in self.slots.items()},
            "truncated": self.truncated,
        }  # fmt: skip


class NluMachine:
    """A run of several tasks that ask about a single text: classification, for intents, and tags, for slots.

    Args:
        run: the folder of the run, or of an export, or its answerer.
        tasks: the tasks that are asked; ``None``: all.

    Raises:
        RunError: if the folder is not finished, or a task asks about more than a text.

    Examples:
        >>> machine = claf2.NluMachine("logs/intent_and_slots")
        >>> machine("내일 서울 날씨 알려줘").predictions["intent"].prediction
        'weather'
    """

    def __init__(self, run: Answerer | str | Path, tasks: Sequence[str] | None = None) -> None:
        self._answerer = open_answerer(Path(run), tasks=tasks) if isinstance(run, str | Path) else run
        self.tasks = list(self._answerer.tasks if tasks is None else tasks)
        """The names of the tasks."""
        for task in self.tasks:
            try:
                self._answerer.encode(task, [{"id": "0", "text": "a"}])
            except Claf2Error as error:
                name = str(run) if isinstance(run, str | Path) else "the model"
                problem = f"task {task!r} asks about more than a text"
                raise RunError(f"{name}: {problem}; name others with --tasks ({error})") from error

    def __call__(self, text: str) -> NluAnswer:
        """Return the answers of all tasks about a text. Heads of one encoder share one forward pass."""
        return self.answer_all([text])[0]

    def answer_all(self, texts: Sequence[str]) -> list[NluAnswer]:
        """Return the answers of all tasks about each of several texts, in order.

        Raises:
            RunError: if a text cannot be read.
        """
        return self.answer_encoded(
            self.encode([{"id": str(number), "text": text} for number, text in enumerate(texts)])
        )

    def encode(self, requests: Sequence[RequestLike], tasks: Sequence[str] | None = None) -> list[SharedRequest]:
        """Turn requests of a ``text`` into what the heads read, in order.

        Args:
            requests: the requests.
            tasks: the tasks that are asked; ``None``: all.

        Raises:
            RunError: if a text cannot be read.
        """
        return self._answerer.encode_all(tasks or self.tasks, requests)

    def answer_encoded(self, requests: Sequence[SharedRequest]) -> list[NluAnswer]:
        """Return what all tasks say about each of the texts that ``encode`` returned, in order."""
        answers = self._answerer.answer_all(requests)
        return [self._collect(request, answer) for request, answer in zip(requests, answers, strict=True)]

    def _collect(self, request: SharedRequest, answers: Mapping[str, Prediction]) -> NluAnswer:
        slots = {
            task: find_slots(
                prediction.details["tokens"], prediction.prediction, self._answerer.task(task).reader.joiner
            )
            for task, prediction in answers.items()
            if prediction.details is not None and "tokens" in prediction.details and prediction.prediction is not None
        }
        return NluAnswer(answers, slots, request.truncated)


def find_slots(tokens: Sequence[str], tags: Sequence[str], joiner: str) -> list[Slot]:
    """Return the spans that tags mark.

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
