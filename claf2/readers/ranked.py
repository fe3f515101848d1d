"""Pairs of texts as a choice between them: which of two second texts fits the first one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import SerializeAsAny

from claf2.readers import ChoiceExample, Example, Reader, TextExample, register_reader


@register_reader("ranked")
class Ranked(Reader):
    """Rows of another reader in pairs with the same first text, one row right and one wrong: MT-DNN's pairwise ranking
    (Liu et al., 2019, section 3). Rows without such a counterpart are left out."""

    of: SerializeAsAny[Reader]
    """The format of the rows."""
    right: str
    """The label of a row whose second text fits."""

    def read(self, path: Path) -> Iterator[Example]:
        # First text → the rows that still lack a counterpart. Each row is used once, in the order of the file.
        waiting: dict[str, list[TextExample]] = {}
        for row in self.of.read(path):
            if not isinstance(row, TextExample) or row.label is None or row.text_b is None:
                continue
            candidates = waiting.setdefault(row.text_a, [])
            is_right = row.label == self.right
            partner = next((other for other in candidates if (other.label == self.right) != is_right), None)
            if partner is None:
                candidates.append(row)
                continue
            candidates.remove(partner)
            yield ChoiceExample(
                id=f"{partner.id}+{row.id}",
                line=row.line,
                question=row.text_a,
                choices=(partner.text_b or "", row.text_b),
                label="1" if is_right else "0",
            )

    def write(self, examples: Iterable[Example], path: Path) -> None:
        rows: list[TextExample] = []
        for example in examples:
            if isinstance(example, ChoiceExample):
                for index, choice in enumerate(example.choices[:2]):
                    label = self.right if example.label == str(index) else f"not_{self.right}"
                    rows.append(TextExample(id=str(len(rows)), text_a=example.question, text_b=choice, label=label))
        self.of.write(rows, path)
