"""SQuAD's JSON: articles, paragraphs, questions; SQuAD 1.1 and 2.0, KorQuAD 1.0, KLUE MRC, JSQuAD."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from claf2.errors import DataError
from claf2.readers import Answer, Example, Reader, SpanExample, open_text, read_json, register_reader, text_of

logger = logging.getLogger("claf2")


@register_reader("squad")
class Squad(Reader):
    """Questions on paragraphs, with answers that stand in them word for word."""

    version: Literal["1.1", "2.0"] = "1.1"
    """2.0 has unanswerable questions (`is_impossible`)."""
    id_key: str = "id"
    """What a question's identifier is called."""
    on_malformed: Literal["fail", "skip"] = "fail"
    """What to do with an answer that does not stand where it says: stop, or leave it out, counted and reported."""

    def read(self, path: Path) -> Iterator[Example]:
        document = read_json(path)
        if not isinstance(document, dict) or not isinstance(document.get("data"), list):
            raise DataError(path, "a SQuAD file is a JSON object with a list named 'data'")
        seen: set[str] = set()
        skipped = 0
        for title, context, question in self._questions(path, document["data"]):
            try:
                identity = str(question[self.id_key])
                text = text_of(question, "question")
                answers = _answers(question)
            except KeyError as error:
                raise DataError(path, f"question {question!r:.80} lacks {error}") from error
            except (TypeError, ValueError, OverflowError) as error:
                raise DataError(path, f"question {question!r:.80} is not of SQuAD's form: {error!r}") from error
            if identity in seen:
                raise DataError(path, f"two questions have the id {identity!r}, by which scores are counted")
            seen.add(identity)
            wrong = [
                a
                for a in answers or ()
                if a.start < 0 or not context.startswith(a.text, a.start) or a.start > len(context)
            ]
            if wrong and self.on_malformed == "fail":
                raise DataError(
                    path, f"question {identity!r}: its context has no {wrong[0].text!r} at {wrong[0].start}"
                )
            skipped += len(wrong)
            yield SpanExample(
                id=identity,
                question=text,
                context=context,
                answers=answers if answers is None else tuple(a for a in answers if a not in wrong),
                is_impossible=bool(question.get("is_impossible", False)),
                title=title,
            )
        if skipped:
            logger.warning("%s: %d answers that do not stand where they say left out", path, skipped)

    def _questions(self, path: Path, articles: list[Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        for number, article in enumerate(articles):
            try:
                for paragraph in article["paragraphs"]:
                    for question in paragraph["qas"]:
                        yield str(article.get("title", "")), text_of(paragraph, "context"), question
            except (KeyError, TypeError, AttributeError) as error:
                raise DataError(path, f"article {number} is not of SQuAD's form: {error}") from error

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


def _answers(question: Mapping[str, Any]) -> tuple[Answer, ...] | None:
    if "answers" not in question:
        return () if question.get("is_impossible") else None
    return tuple(Answer(text_of(each, "text"), int(each["answer_start"])) for each in question["answers"])
