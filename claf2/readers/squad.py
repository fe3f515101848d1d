"""SQuAD's JSON format of articles, paragraphs and questions: SQuAD, KorQuAD 1.0, KLUE MRC, JSQuAD."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from claf2.errors import DataError
from claf2.readers import (
    Answer,
    Example,
    Reader,
    SpanExample,
    check_label_key,
    get_text,
    open_text,
    read_json_document,
    register_reader,
)

logger = logging.getLogger("claf2")


@register_reader("squad")
class Squad(Reader):
    """Questions about paragraphs (Rajpurkar et al., 2016 and 2018); an answer is a span of its paragraph.

    Where a question has `is_impossible`, this flag decides whether it has an answer: if it is true, `answers` are
    ignored, because some publishers list plausible answers there, as the hub's KLUE MRC does. A question without
    answers and without the flag is unanswerable in 2.0, and unlabelled in 1.1, where every question has an answer.
    """

    version: Literal["1.1", "2.0"] = "1.1"
    """2.0 has unanswerable questions (`is_impossible`)."""
    id_key: str = "id"
    """The key of a question's id; `guid` in KLUE MRC."""
    on_malformed: Literal["fail", "skip"] = "fail"
    """What to do with an answer that is not at its `answer_start`: stop, or leave it out, and the question with it if
    that has no other, and report how many answers there were."""

    def read(self, path: Path) -> Iterator[Example]:
        document = read_json_document(path)
        if not isinstance(document, dict) or not isinstance(document.get("data"), list):
            raise DataError(path, "expected a JSON object with a list 'data', as in SQuAD")
        seen: set[str] = set()
        first_id: dict[bool, str] = {}  # of a question with answers, and of one without
        skipped = 0
        for title, context, question in self._questions(path, document["data"]):
            try:
                identity = str(question[self.id_key])
                question_text = get_text(question, "question")
                for key in ("answers", "is_impossible"):
                    if key not in question:
                        check_label_key(path, key, question)
                answers = self._answers(question)
            except KeyError as error:
                raise DataError(path, f"question {question!r:.80} lacks {error}") from error
            except (TypeError, ValueError, OverflowError) as error:
                raise DataError(path, f"question {question!r:.80} is not in SQuAD format: {error!r}") from error
            if identity in seen:
                raise DataError(path, f"two questions have the id {identity!r}; ids must be unique")
            seen.add(identity)
            first_id.setdefault(answers is not None, identity)
            if len(first_id) == 2:
                hint = "give all questions answers or none; mark unanswerable ones by is_impossible: true"
                raise DataError(
                    path, f"question {first_id[False]!r} has no answer, but {first_id[True]!r} has", hint=hint
                )
            misplaced = [answer for answer in answers or () if not _occurs(answer, context)]
            if misplaced and self.on_malformed == "fail":
                text, start = misplaced[0].text, misplaced[0].start
                problem = f"question {identity!r}: the context has no {text!r} at character {start}"
                raise DataError(path, problem, hint="correct its answer_start, which counts characters from 0")
            skipped += len(misplaced)
            if misplaced and len(misplaced) == len(answers or ()):
                continue
            yield SpanExample(
                id=identity,
                question=question_text,
                context=context,
                answers=answers if answers is None else tuple(a for a in answers if a not in misplaced),
                is_impossible=answers == (),
                title=title,
            )
        if skipped:
            logger.warning("%s: skipped %d answers that are not at their answer_start", path, skipped)

    def _questions(self, path: Path, articles: list[Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        """Yield title, context and question of each question."""
        for number, article in enumerate(articles):
            try:
                for paragraph in article["paragraphs"]:
                    for question in paragraph["qas"]:
                        yield str(article.get("title", "")), get_text(paragraph, "context"), question
            except (KeyError, TypeError, AttributeError) as error:
                raise DataError(path, f"article {number} is not in SQuAD format: {error!r}") from error

    def _answers(self, question: Mapping[str, Any]) -> tuple[Answer, ...] | None:
        """Return the answers of a question, none if it is unanswerable; ``None`` if it is unlabelled."""
        is_impossible = question.get("is_impossible")
        if not isinstance(is_impossible, bool | None):
            raise TypeError(f"is_impossible is {json.dumps(is_impossible)[:80]}, not true or false")
        if is_impossible:
            return ()
        answers = question.get("answers")
        if not answers and (answers is None or is_impossible is False or self.version == "1.1"):
            return None
        return tuple(Answer(get_text(answer, "text"), int(answer["answer_start"])) for answer in answers)

    def write(self, examples: Iterable[Example], path: Path) -> None:
        articles: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for example in examples:
            assert isinstance(example, SpanExample)
            question: dict[str, Any] = {self.id_key: example.id, "question": example.question}
            if example.answers is not None:
                question["answers"] = [{"text": a.text, "answer_start": a.start} for a in example.answers]
            if self.version == "2.0":
                question["is_impossible"] = example.is_impossible
            articles.setdefault(example.title, {}).setdefault(example.context, []).append(question)
        data = [
            {"title": title, "paragraphs": [{"context": c, "qas": questions} for c, questions in paragraphs.items()]}
            for title, paragraphs in articles.items()
        ]
        with open_text(path, "w") as file:
            json.dump({"version": self.version, "data": data}, file, ensure_ascii=False)


def _occurs(answer: Answer, context: str) -> bool:
    # A negative position would count from the end; the empty answer is a prefix of everything, also beyond the end.
    return 0 <= answer.start <= len(context) and context.startswith(answer.text, answer.start)


def squad_reader(path: Path) -> Squad:
    """Return the reader of a file in SQuAD's format, with or without unanswerable questions, whose ids have the key
    `id`, or `guid` as in KLUE MRC.

    Raises:
        DataError: if the file is not valid JSON.
    """
    document: Any = read_json_document(path)
    key = "id"
    with suppress(KeyError, TypeError):  # the reader says what is wrong
        questions = (q for article in document["data"] for paragraph in article["paragraphs"] for q in paragraph["qas"])
        first: Any = next(questions, ())
        key = "guid" if "guid" in first and "id" not in first else "id"
    return Squad(version="2.0", id_key=key)
