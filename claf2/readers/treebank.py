"""Dependency trees, a word a line: KLUE DP."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from claf2.errors import DataError
from claf2.readers import Example, ParseExample, Reader, open_text, register_reader

COLUMNS = 6


@register_reader("treebank")
class Treebank(Reader):
    """Lines of INDEX, WORD_FORM, LEMMA, POS, HEAD, DEPREL between tabs, a blank line between sentences, and before each
    a comment with its id. Of a part of speech `A+B` the last counts, as in KLUE-baseline."""

    comment: str = "##"
    """How a line begins that is no word; the first word of the last one before a sentence is its id."""

    def read(self, path: Path) -> Iterator[Example]:
        identity, rows, first = "", [], 0  # type: tuple[str, list[list[str]], int]
        with open_text(path) as file:
            for line, raw in enumerate(file, start=1):
                text = raw.rstrip("\r\n")
                if not text.strip():
                    if rows:
                        yield self._sentence(path, identity, rows, first)
                    rows = []
                elif text.startswith(self.comment) and not rows:
                    identity = text[len(self.comment) :].strip().split("\t")[0]
                else:
                    cells = text.split("\t")
                    if len(cells) != COLUMNS:
                        raise DataError(path, f"{len(cells)} columns where {COLUMNS} are due", line=line)
                    first = first if rows else line
                    rows.append(cells)
        if rows:
            yield self._sentence(path, identity, rows, first)

    def _sentence(self, path: Path, identity: str, rows: list[list[str]], line: int) -> ParseExample:
        heads = []
        for number, cells in enumerate(rows, start=1):
            head = int(cells[4]) if cells[4].isdecimal() and len(cells[4]) < len(str(len(rows))) + 1 else -1
            if cells[0] != str(number) or not 0 <= head <= len(rows):
                raise DataError(
                    path, f"word {cells[0]:.20} with head {cells[4]:.20}: no place in it", line=line + number - 1
                )
            heads.append(head)
        return ParseExample(
            id=identity or str(line),
            line=line,
            words=tuple(cells[1] for cells in rows),
            pos=tuple(cells[3].rsplit("+", 1)[-1] for cells in rows),
            heads=tuple(heads),
            relations=tuple(cells[5] for cells in rows),
        )

    def write(self, examples: Iterable[Example], path: Path) -> None:
        with open_text(path, "w") as file:
            for example in examples:
                assert isinstance(example, ParseExample)
                file.write(f"{self.comment} {example.id}\t{' '.join(example.words)}\n")
                heads = example.heads or (0,) * len(example.words)
                relations = example.relations or ("_",) * len(example.words)
                rows = zip(example.words, example.pos, heads, relations, strict=True)
                for number, (word, pos, head, relation) in enumerate(rows, start=1):
                    file.write(f"{number}\t{word}\t{word}\t{pos}\t{head}\t{relation}\n")
                file.write("\n")
