"""Triplets made from pairs of texts with labels, such as those of natural language inference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import SerializeAsAny

from claf2.errors import DataError
from claf2.readers import Example, Reader, TextExample, TripletExample, register_reader


@register_reader("triplets")
class Triplets(Reader):
    """The pairs of another format, grouped by their first text: each text that has the label ``positive`` with it
    becomes a row, with a text that has the label ``negative`` as hard negative, as SimCSE reads NLI (Gao et al., 2021,
    section 4). Several positives of a text take its negatives in turn. Texts without a positive are left out."""

    of: SerializeAsAny[Reader]
    """The format of the file."""
    positive: str = "entailment"
    negative: str = "contradiction"

    @property
    def pairs(self) -> bool:
        return True

    def read(self, path: Path) -> Iterator[Example]:
        positives: dict[str, list[TextExample]] = {}
        negatives: dict[str, list[str]] = {}
        for example in self.of.read(path):
            if not isinstance(example, TextExample) or example.text_b is None:
                raise DataError(path, f"row {example.id!r} is not a pair of texts", line=example.line or None)
            if example.label == self.positive:
                positives.setdefault(example.text_a, []).append(example)
            elif example.label == self.negative:
                negatives.setdefault(example.text_a, []).append(example.text_b)
        if not positives:
            raise DataError(path, f"no row has the label {self.positive!r}, which makes a pair a positive one")
        for anchor, examples in positives.items():
            others: list[Any] = negatives.get(anchor) or [None]
            for index, example in enumerate(examples):
                yield TripletExample(
                    id=example.id,
                    line=example.line,
                    anchor=anchor,
                    positive=example.text_b or "",
                    negative=others[index % len(others)],
                )

    def write(self, examples: Iterable[Example], path: Path) -> None:
        rows = []
        for example in examples:
            assert isinstance(example, TripletExample)
            texts = {self.positive: example.positive, self.negative: example.negative}
            rows += [
                TextExample(id=f"{example.id}-{label}", text_a=example.anchor, text_b=text, label=label)
                for label, text in texts.items()
                if text is not None
            ]
        self.of.write(rows, path)
