"""Plain text in which a blank line ends a document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

from claf2.readers import Example, Reader, TextExample, open_text, read_blocks, register_reader


@register_reader("documents")
class Documents(Reader):
    """Running text without labels: one document after another, with a blank line between two."""

    @property
    def pairs(self) -> bool:
        return False

    def read(self, path: Path) -> Iterator[Example]:
        for block in read_blocks(path):
            first = block[0][0]
            yield TextExample(id=str(first), line=first, text_a="\n".join(text for _, text in block))

    def write(self, examples: Iterable[Example], path: Path) -> None:
        with open_text(path, "w") as file:
            for number, example in enumerate(examples):
                file.write(("\n" if number else "") + cast(TextExample, example).text_a + "\n")
