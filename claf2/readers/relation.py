"""Sentences with two marked entities and the relation between them: KLUE RE."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from claf2.errors import DataError
from claf2.readers import Example, Reader, TextExample, json_rows, open_text, register_reader, text_of

ENTITIES = {"subject_entity": ("<subj>", "</subj>"), "object_entity": ("<obj>", "</obj>")}
"""Key of an entity → the marks that are put around it, KLUE-baseline's."""


@register_reader("relations")
class Relations(Reader):
    """A JSON list of sentences, each with `subject_entity` and `object_entity` (`word`, `start_idx`, and `end_idx`, the
    place of its last character) and a `label`. An example is the sentence with marks around both entities."""

    takes_rows: ClassVar[bool] = True

    def read(self, path: Path) -> Iterator[Example]:
        for line, row in json_rows(path):
            try:
                identity, sentence = text_of(row, "guid"), text_of(row, "sentence")
                spans = sorted((*_span(row[key]), *marks) for key, marks in ENTITIES.items())
                words = {key: text_of(row[key], "word") for key in ENTITIES}
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise DataError(path, f"not a row of this form: {error!r}", line=line) from error
            for key, word in words.items():
                start, end = _span(row[key])
                if sentence[start:end] != word:
                    raise DataError(path, f"{identity}: its sentence has no {word!r} at {start}", line=line)
            (first, first_end, *first_marks), (second, second_end, *second_marks) = spans
            if second < first_end:
                raise DataError(path, f"{identity}: its entities overlap", line=line)
            text = "".join(
                (
                    sentence[:first], first_marks[0], sentence[first:first_end], first_marks[1],
                    sentence[first_end:second], second_marks[0], sentence[second:second_end], second_marks[1],
                    sentence[second_end:],
                )
            )  # fmt: skip
            label = row.get("label")
            yield TextExample(id=identity, line=line, text_a=text, label=None if label is None else str(label))

    def write(self, examples: Iterable[Example], path: Path) -> None:
        rows = []
        for example in examples:
            assert isinstance(example, TextExample)
            row: dict[str, Any] = {"guid": example.id, "sentence": "", "label": example.label}
            for piece in re.split(r"(</?(?:subj|obj)>)", example.text_a):
                key = next((key for key, marks in ENTITIES.items() if piece in marks), None)
                if key is None:
                    row["sentence"] += piece
                elif piece == ENTITIES[key][0]:
                    row[key] = {"start_idx": len(row["sentence"])}
                else:
                    start, end = row[key]["start_idx"], len(row["sentence"])
                    row[key] |= {"word": row["sentence"][start:end], "end_idx": end - 1}
            rows.append(row)
        with open_text(path, "w") as file:
            json.dump(rows, file, ensure_ascii=False, indent=1)


def _span(entity: Mapping[str, Any]) -> tuple[int, int]:
    start, end = int(entity["start_idx"]), int(entity["end_idx"]) + 1
    if not 0 <= start < end:
        raise ValueError(f"an entity from {start} to {end - 1}")
    return start, end
