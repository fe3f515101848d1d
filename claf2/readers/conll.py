"""A token a line with its tag, a blank line between sentences: CoNLL-2003, WNUT-17, KLUE NER."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from claf2.errors import DataError
from claf2.readers import Example, Reader, TokenExample, open_text, register_reader

DOCUMENT = "-DOCSTART-"


@register_reader("conll")
class Conll(Reader):
    """Columns of tokens and tags. With ``unit`` "character" a line is one character, a blank among them."""

    delimiter: str | None = "\t"
    """What stands between columns; `null`: any run of blanks and tabs."""
    token: int = 0
    """The column of the token."""
    tag: int = -1
    """The column of the tag."""
    unit: Literal["word", "character"] = "word"
    comment: str | None = None
    """How a line begins that is no token; the first word of the last one before a sentence is its id."""
    scheme: Literal["iob2", "iob1"] = "iob2"
    """How the file writes tags; IOB1 (CoNLL-2003's original) is turned into IOB2."""

    def read(self, path: Path) -> Iterator[Example]:
        identity, tokens, tags, first = "", [], [], 0  # type: tuple[str, list[str], list[str], int]
        with open_text(path) as file:
            for line, raw in enumerate(file, start=1):
                text = raw.rstrip("\r\n")
                if self._is_comment(text) and not tokens:
                    identity = text[len(self.comment or "") :].strip().split("\t")[0]
                elif not text.strip():
                    if tokens:
                        yield self._sentence(identity, tokens, tags, first)
                    identity, tokens, tags = "" if tokens else identity, [], []
                elif not text.startswith(DOCUMENT):
                    token, tag = self._columns(path, line, text)
                    first = first if tokens else line
                    tokens.append(token)
                    tags.append(tag)
        if tokens:
            yield self._sentence(identity, tokens, tags, first)

    def _is_comment(self, text: str) -> bool:
        # A sentence may hold the comment sign as a token; its line then has a second column after it.
        return self.comment is not None and text.startswith(self.comment)

    def _columns(self, path: Path, line: int, text: str) -> tuple[str, str]:
        # Not str.split's blanks: other separators of Unicode occur inside tokens.
        cells = re.split("[ \t]+", text.strip(" \t")) if self.delimiter is None else text.split(self.delimiter)
        try:
            token, tag = cells[self.token], cells[self.tag]
        except IndexError:
            raise DataError(path, f"{len(cells)} columns are too few", line=line) from None
        if len(cells) < 2 or not (tag == "O" or tag[:2] in ("B-", "I-")):
            raise DataError(path, f"{tag!r} is no tag (O, B-…, I-…)", line=line)
        return token, tag

    def _sentence(self, identity: str, tokens: list[str], tags: list[str], line: int) -> TokenExample:
        return TokenExample(
            id=identity or str(line),
            line=line,
            tokens=tuple(tokens),
            tags=tuple(_iob2(tags) if self.scheme == "iob1" else tags),
            joiner=" " if self.unit == "word" else "",
        )

    def write(self, examples: Iterable[Example], path: Path) -> None:
        width = max(self.token + 1, self.tag + 1, -self.tag, 2)
        with open_text(path, "w") as file:
            for example in examples:
                assert isinstance(example, TokenExample)
                if self.comment is not None:
                    file.write(f"{self.comment} {example.id}\t{example.joiner.join(example.tokens)}\n")
                for token, tag in zip(example.tokens, example.tags or ("O",) * len(example.tokens), strict=True):
                    cells = ["_"] * width
                    cells[self.token], cells[self.tag] = token, tag
                    file.write((self.delimiter or " ").join(cells) + "\n")
                file.write("\n")


def _iob2(tags: list[str]) -> list[str]:
    """Turn IOB1, where B- only parts two neighbours of one type, into IOB2, where each entity begins with B-."""
    result, before = [], "O"
    for tag in tags:
        begins = tag.startswith("I-") and (before == "O" or before[2:] != tag[2:])
        result.append("B-" + tag[2:] if begins else tag)
        before = tag
    return result
