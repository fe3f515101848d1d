"""A sentence a line, its words between blanks, behind a tab their tags: Naver NER."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from claf2.errors import DataError
from claf2.readers import Example, Reader, TokenExample, open_text, register_reader


@register_reader("tagged")
class Tagged(Reader):
    """Words, a tab, as many IOB2 tags; a tag may be written with its prefix behind the type (`PER-B`)."""

    def read(self, path: Path) -> Iterator[Example]:
        with open_text(path) as file:
            for line, text in enumerate(file, start=1):
                cells = text.rstrip("\r\n").split("\t")
                if cells == [""]:
                    continue
                tokens = tuple(cells[0].split(" "))
                tags = tuple(map(_iob2, cells[1].split(" "))) if len(cells) > 1 else None
                if len(cells) > 2 or (tags is not None and len(tags) != len(tokens)):
                    raise DataError(path, f"{len(tokens)} words and {len(tags or ())} tags", line=line)
                yield TokenExample(id=str(line), line=line, tokens=tokens, tags=tags)

    def write(self, examples: Iterable[Example], path: Path) -> None:
        with open_text(path, "w") as file:
            for example in examples:
                assert isinstance(example, TokenExample)
                cells = [" ".join(example.tokens), *([" ".join(example.tags)] if example.tags is not None else [])]
                file.write("\t".join(cells) + "\n")


def _iob2(tag: str) -> str:
    return f"{tag[-1]}-{tag[:-2]}" if tag[-2:] in ("-B", "-I") else tag
