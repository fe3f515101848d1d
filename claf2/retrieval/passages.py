"""Passages: the texts of a collection, from text files, JSON Lines, Parquet and files in SQuAD's format.

A passage is named after its content, so one that occurs several times is stored once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256 as sha256_of
from pathlib import Path
from typing import Any

from claf2.corpus.sources import TextSource, format_of, list_files, read_documents
from claf2.errors import DataError
from claf2.readers import get_text, read_json_document
from claf2.readers.text import LONE_SURROGATE, has_lone_surrogate
from claf2.task import report_damage

__all__ = ["Passage", "find_fault", "find_files", "passage_id", "read_passages", "write_passages"]


@dataclass(frozen=True)
class Passage:
    """A text of a collection."""

    text: str
    title: str = ""
    """The title of the article that it comes from; empty if it has none."""

    @cached_property
    def id(self) -> str:
        """The id of the passage, which is computed from its title and text."""
        return passage_id(self.text, self.title)

    @property
    def searched(self) -> str:
        """The text that is searched: the title, if there is one, and the text."""
        return f"{self.title}\n{self.text}" if self.title else self.text


def passage_id(text: str, title: str = "") -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a passage."""
    return sha256_of(f"{title}\0{text}".encode()).hexdigest()[:16]


def find_fault(question: str) -> str | None:
    """Return why a question cannot be searched for; ``None`` if it can."""
    if not question.strip():
        return "is empty"
    return LONE_SURROGATE if has_lone_surrogate(question) else None


def find_files(patterns: Iterable[str]) -> list[Path]:
    """Return the files that patterns such as ``news/*.jsonl`` name; ``.json`` files are in SQuAD's format.

    Raises:
        DataError: if there is none, or one cannot be read.
    """
    squad = [pattern for pattern in patterns if format_of(Path(pattern)) == ".json"]
    others = [TextSource(path=pattern) for pattern in patterns if pattern not in squad]
    for pattern in squad:
        if not Path(pattern).is_file():
            raise DataError(pattern, "no such file", hint="a .json file is named without a pattern")
    return [*map(Path, squad), *(path for paths in list_files(others) for path in paths)]


def read_passages(path: Path, *, text_field: str = "text", with_titles: bool = False) -> Iterator[Passage]:
    """Stream the passages of a file. Empty ones are left out.

    Args:
        path: a text file, whose passages end in a blank line; JSON Lines or Parquet, one passage per row; a ``.json``
            file in SQuAD's format, one passage per paragraph.
        text_field: the key or column of the text in JSON Lines and Parquet.
        with_titles: search the titles of a file in SQuAD's format, too.

    Raises:
        DataError: if the file is damaged.
    """
    if format_of(path) == ".json":
        passages: Iterable[Passage] = _read_squad(path, with_titles)
    else:
        documents = read_documents(path, text_field=text_field)
        passages = (Passage(document.text.strip()) for document in documents)
    with report_damage(path):
        yield from (passage for passage in passages if passage.text)


def _read_squad(path: Path, with_titles: bool) -> Iterator[Passage]:
    document: Any = read_json_document(path)
    if not isinstance(document, dict) or not isinstance(document.get("data"), list):
        raise DataError(path, "expected a JSON object with a list 'data', as in SQuAD", hint="use .jsonl for rows")
    for number, article in enumerate(document["data"]):
        try:
            for paragraph in article["paragraphs"]:
                title = str(article.get("title") or "") if with_titles else ""
                passage = Passage(get_text(paragraph, "context").strip(), title)
                if has_lone_surrogate(passage.searched):
                    raise DataError(path, f"article {number} {LONE_SURROGATE}", hint="write the whole character")
                yield passage
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(path, f"article {number} is not in SQuAD format: {error!r}") from error


def write_passages(path: Path, passages: Iterable[Passage]) -> list[int]:
    """Write passages as JSON Lines, and return the byte at which each line begins, and the size of the file."""
    starts = [0]
    with path.open("wb") as file:
        for passage in passages:
            row = {"id": passage.id, "title": passage.title, "text": passage.text}
            starts.append(starts[-1] + file.write((json.dumps(row, ensure_ascii=False) + "\n").encode()))
    return starts
