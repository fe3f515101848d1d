"""Dependency trees with one word per line: KLUE DP."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from claf2.errors import DataError
from claf2.readers import Example, ParseExample, Reader, open_text, read_blocks, register_reader
from claf2.readers.text import in_one_line

COLUMNS = 6
"""INDEX, WORD_FORM, LEMMA, POS, HEAD and DEPREL."""

UNLABELLED = "_"
"""The head and the relation of a word without labels."""


@register_reader("treebank")
class Treebank(Reader):
    """Tab-separated columns INDEX, WORD_FORM, LEMMA, POS, HEAD and DEPREL, a blank line between sentences, and before
    each sentence a comment with its id. A sentence with ``_`` in all of HEAD and DEPREL is unlabelled."""

    comment: str = "##"
    """The beginning of comment lines. The first word of the last comment before a sentence is the sentence's id."""

    def read(self, path: Path) -> Iterator[Example]:
        identity = ""
        for block in read_blocks(path):
            rows: list[list[str]] = []
            for line, text in block:
                if text.startswith(self.comment) and not rows:
                    identity = text[len(self.comment) :].strip().split("\t")[0]
                    continue
                cells = text.split("\t")
                if len(cells) != COLUMNS:
                    raise DataError(path, f"expected {COLUMNS} columns, got {len(cells)}", line=line)
                rows.append(cells)
            if rows:  # an id survives blank lines between its comment and the sentence
                yield self._sentence(path, identity, rows, line - len(rows) + 1)
                identity = ""

    def _sentence(self, path: Path, identity: str, rows: list[list[str]], line: int) -> ParseExample:
        """Return the example of a sentence whose first word is in line ``line``."""
        heads: list[int] = []
        is_labelled = any(cells[4:] != [UNLABELLED, UNLABELLED] for cells in rows)
        for number, cells in enumerate(rows, start=1):
            index, head = cells[0], cells[4]
            if index != str(number):
                raise DataError(path, f"expected word {number}, got word {index:.20}", line=line + number - 1)
            if not is_labelled:
                continue
            # The length is checked first: int() refuses numbers of more than 4,300 digits with an error of its own.
            if not head.isdecimal() or len(head) > len(str(len(rows))) or int(head) > len(rows):
                problem = f"word {number} has the head {head:.20}, expected 0 to {len(rows)}"
                hint = f"correct it; a sentence without labels has {UNLABELLED} in columns 5 and 6 of all words"
                raise DataError(path, problem, line=line + number - 1, hint=hint)
            heads.append(int(head))
        return ParseExample(
            id=identity or str(line),
            line=line,
            words=tuple(cells[1] for cells in rows),
            # Of a compound tag such as NNG+JKS only the last part is used, as in KLUE-baseline.
            pos=tuple(cells[3].rsplit("+", 1)[-1] for cells in rows),
            heads=tuple(heads) if is_labelled else None,
            relations=tuple(cells[5] for cells in rows) if is_labelled else None,
        )

    def write(self, examples: Iterable[Example], path: Path) -> None:
        with open_text(path, "w") as file:
            for example in examples:
                assert isinstance(example, ParseExample)
                words = list(map(in_one_line, example.words))
                file.write(f"{self.comment} {in_one_line(example.id)}\t{' '.join(words)}\n")
                heads = example.heads or (UNLABELLED,) * len(example.words)
                relations = example.relations or (UNLABELLED,) * len(example.words)
                rows = zip(words, example.pos, heads, relations, strict=True)
                for number, (word, pos, head, relation) in enumerate(rows, start=1):
                    file.write(f"{number}\t{word}\t{word}\t{pos}\t{head}\t{relation}\n")
                file.write("\n")
