"""Sentences with two entities and the relation between them: KLUE RE."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from claf2.errors import DataError
from claf2.readers import (
    Example,
    Reader,
    TextExample,
    check_label_key,
    get_text,
    open_text,
    read_json_rows,
    register_reader,
)

ENTITIES = {"subject_entity": ("<subj>", "</subj>"), "object_entity": ("<obj>", "</obj>")}
"""Key of an entity → the markers around it, those of KLUE-baseline."""


@register_reader("relations")
class Relations(Reader):
    """A JSON list of rows with `guid`, `sentence`, `label`, `subject_entity` and `object_entity`. An entity has `word`,
    `start_idx` and `end_idx`, the positions of its first and its *last* character. An example is the sentence with
    entity markers around both (Baldini Soares et al., 2019)."""

    takes_rows: ClassVar[bool] = True

    @property
    def pairs(self) -> bool:
        return False

    def read(self, path: Path) -> Iterator[Example]:
        for line, row in read_json_rows(path):
            try:
                identity, sentence = get_text(row, "guid"), get_text(row, "sentence")
                spans = sorted((*_span(row[key]), *markers) for key, markers in ENTITIES.items())
                words = {key: get_text(row[key], "word") for key in ENTITIES}
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise DataError(path, f"not a row in KLUE RE format: {error!r}", line=line) from error
            for key, word in words.items():
                start, end = _span(row[key])
                if sentence[start:end] != word:
                    raise DataError(path, f"{identity}: the sentence has no {word!r} at character {start}", line=line)
            # Either entity may come first.
            (first, first_end, *first_markers), (second, second_end, *second_markers) = spans
            if (first, first_end) == (second, second_end):
                problem = f"{identity}: subject and object are the same characters"
                raise DataError(path, problem, line=line, hint="correct start_idx and end_idx of one of them")
            # The characters that two entities share are in the text twice, as in KLUE-baseline.
            text = "".join(
                (
                    sentence[:first], first_markers[0], sentence[first:first_end], first_markers[1],
                    sentence[first_end:second], second_markers[0], sentence[second:second_end], second_markers[1],
                    sentence[second_end:],
                )
            )  # fmt: skip
            if "label" not in row:
                check_label_key(path, "label", row, line)
            label = row.get("label")
            yield TextExample(id=identity, line=line, text_a=text, label=None if label is None else str(label))

    def write(self, examples: Iterable[Example], path: Path) -> None:
        rows = []
        for example in examples:
            assert isinstance(example, TextExample)
            row: dict[str, Any] = {"guid": example.id, "sentence": "", "label": example.label}
            for piece in re.split(r"(</?(?:subj|obj)>)", example.text_a):
                key = next((key for key, markers in ENTITIES.items() if piece in markers), None)
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
    """Return the characters ``[start, end)`` of an entity."""
    start, end = int(entity["start_idx"]), int(entity["end_idx"]) + 1
    if not 0 <= start < end:
        raise ValueError(f"start_idx {start} and end_idx {end - 1} enclose no text")
    return start, end
