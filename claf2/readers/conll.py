"""One token and its tag per line, a blank line between sentences: CoNLL-2003, WNUT-17, KLUE NER."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from claf2.errors import DataError
from claf2.readers import Example, Reader, TokenExample, open_text, read_blocks, register_reader
from claf2.readers.tags import is_tag, refuse_iob1, to_iob2
from claf2.readers.text import in_one_line

logger = logging.getLogger("claf2")

DOCUMENT = "-DOCSTART-"
"""How CoNLL-2003 marks the beginning of a document; such lines are skipped."""


@register_reader("conll")
class Conll(Reader):
    """Columns of tokens and tags. With ``unit`` "character" a line is one character, and a space is a token as well.
    A file of words without further columns is unlabelled."""

    delimiter: str | None = "\t"
    """The separator of columns; `null`: any run of spaces and tabs."""
    token: int = 0
    """The column of the token."""
    tag: int = -1
    """The column of the tag."""
    unit: Literal["word", "character"] = "word"
    comment: str | None = None
    """The beginning of comment lines. The first word of the last comment before a sentence is the sentence's id. A line
    that begins so and has a tag in its column is a token."""
    scheme: Literal["iob2", "iob1"] = "iob2"
    """The tagging scheme of the file; IOB1, as in the original CoNLL-2003, is converted to IOB2. IOBES, BILOU and their
    relatives are recognized by their prefixes and always converted."""

    def read(self, path: Path) -> Iterator[Example]:
        yield from refuse_iob1(self._sentences(path), path, hint="set scheme of the reader to iob1")

    def _sentences(self, path: Path) -> Iterator[TokenExample]:
        identity, columns = "", 0  # columns: of the lines of a sentence; 0 until one is known
        is_labelled: bool | None = None
        for block in read_blocks(path):
            # A token may begin like a comment. It has as many columns as the last line of its sentence.
            last = block[-1][1]
            columns = columns if self._begins_comment(last) else len(self._cells(last))
            if is_labelled is None and not last.startswith(DOCUMENT):  # the first sentence decides for all
                is_labelled = columns != 1 or self.unit != "word" or self.token != 0
            start, tokens, tags = 0, [], []  # type: tuple[int, list[str], list[str]]
            for line, text in block:
                # A sentence may contain the comment sign as a token, so that only lines before it are comments.
                if not tokens and self._is_comment(text, columns):
                    identity = text[len(self.comment or "") :].strip().split("\t")[0]
                elif not text.startswith(DOCUMENT):
                    token, *tag = self._columns(path, line, text, is_labelled is not False)
                    start = start or line
                    tokens.append(token)
                    tags += tag
            if tokens:  # an id survives blank lines between its comment and the sentence
                yield self._sentence(identity, tokens, None if is_labelled is False else tags, start)
                identity = ""

    @property
    def joiner(self) -> str:
        return " " if self.unit == "word" else ""

    @property
    def _width(self) -> int:
        """The smallest number of columns that holds both token and tag."""
        return max(self.token + 1, -self.token, self.tag + 1, -self.tag, 2)

    def _is_comment(self, text: str, columns: int) -> bool:
        """Say whether a line that begins like a comment is one, and not the token of that form with its tag."""
        if not self._begins_comment(text):
            return False
        cells = self._cells(text)
        if len(cells) < self._width or (columns and len(cells) != columns):
            return True
        return not is_tag(cells[self.tag]) or " " in cells[self.token].strip()

    def _begins_comment(self, text: str) -> bool:
        return self.comment is not None and text.startswith(self.comment)

    def _cells(self, text: str) -> list[str]:
        # str.split() would also split at other separators of Unicode, which occur inside tokens.
        return re.split("[ \t]+", text.strip(" \t")) if self.delimiter is None else text.split(self.delimiter)

    def _columns(self, path: Path, line: int, text: str, is_labelled: bool) -> tuple[str, ...]:
        """Return token and tag of a line, or the token alone."""
        cells = self._cells(text)
        if not is_labelled:
            if len(cells) > 1:
                problem = f"expected 1 column, as in the first sentence, got {len(cells)}"
                raise DataError(path, problem, line=line, hint="give tags to all tokens or to none")
            return (cells[0],)
        if len(cells) < self._width:
            problem = f"expected at least {self._width} columns, got {len(cells)}"
            raise DataError(path, problem, line=line, hint="give each token its tag, or delete the line")
        token, tag = cells[self.token], cells[self.tag]
        if not is_tag(tag):
            problem = f"{tag!r} is not a tag of IOB, IOBES or BILOU (O, B-TYPE, I-TYPE, E-TYPE …)"
            raise DataError(path, problem, line=line)
        return token, tag

    def _sentence(self, identity: str, tokens: list[str], tags: list[str] | None, line: int) -> TokenExample:
        return TokenExample(
            id=identity or str(line),
            line=line,
            tokens=tuple(tokens),
            tags=None if tags is None else tuple(to_iob2(tags, from_iob1=self.scheme == "iob1")),
            joiner=self.joiner,
        )

    def write(self, examples: Iterable[Example], path: Path) -> None:
        changed = 0
        with open_text(path, "w") as file:
            for example in examples:
                assert isinstance(example, TokenExample)
                tokens = example.tokens if example.tokens == (DOCUMENT,) else tuple(map(self._cell, example.tokens))
                changed += tokens != example.tokens
                if self.comment is not None:
                    file.write(f"{self.comment} {in_one_line(example.id)}\t{example.joiner.join(tokens)}\n")
                for token, tag in zip(tokens, example.tags or ("O",) * len(tokens), strict=True):
                    cells = ["_"] * self._width
                    cells[self.token], cells[self.tag] = token, tag
                    file.write((self.delimiter or " ").join(cells) + "\n")
                file.write("\n")
        if changed:
            logger.warning("%s: changed tokens of %d sentences, which the format cannot hold", path, changed)

    def _cell(self, token: str) -> str:
        """Return a token as ``read`` accepts it: without what separates columns or lines, and not as a mark of a new
        document."""
        if self.delimiter is None:
            token = re.sub(r"[ \t\r\n]", "_", token) or "_"
        # Only at the beginning of a line is it a mark.
        return in_one_line(f" {token}" if token.startswith(DOCUMENT) else token)
