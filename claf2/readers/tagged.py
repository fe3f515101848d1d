"""One sentence per line: its words, a tab, and their tags: Naver NER."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from claf2.errors import DataError
from claf2.readers import Example, Reader, TokenExample, open_text, read_lines, register_reader
from claf2.readers.tags import is_tag, refuse_iob1, to_iob2


@register_reader("tagged")
class Tagged(Reader):
    """Words separated by single spaces, a tab, and one tag per word: `PER-B` as in the NAVER NLP Challenge, or IOB2's
    `B-PER`. Other prefixes, as in IOBES and BILOU, are converted."""

    def read(self, path: Path) -> Iterator[Example]:
        yield from refuse_iob1(self._sentences(path), path, hint="convert them")

    def _sentences(self, path: Path) -> Iterator[TokenExample]:
        for line, text in read_lines(path):
            cells = text.split("\t")
            if cells == [""]:
                continue
            # Not split(): a text may contain a no-break space, which does not separate words here.
            tokens = tuple(cells[0].split(" "))
            tags = tuple(map(_move_prefix, cells[1].split(" "))) if len(cells) > 1 else None
            if len(cells) > 2:
                raise DataError(path, f"expected 2 columns, got {len(cells)}", line=line)
            if tags is not None and len(tags) != len(tokens):
                raise DataError(path, f"expected {len(tokens)} tags, one per word, got {len(tags)}", line=line)
            # A label that is no tag, e.g. a hidden one, is reported together with the task's labels.
            if tags is not None and all(map(is_tag, tags)):
                tags = tuple(to_iob2(tags))
            yield TokenExample(id=str(line), line=line, tokens=tokens, tags=tags)

    def write(self, examples: Iterable[Example], path: Path) -> None:
        with open_text(path, "w") as file:
            for example in examples:
                assert isinstance(example, TokenExample)
                cells = [" ".join(example.tokens), *([" ".join(example.tags)] if example.tags is not None else [])]
                file.write("\t".join(cells) + "\n")


def _move_prefix(tag: str) -> str:
    """Return a tag with its prefix in front."""
    moved = f"{tag[-1:]}-{tag[:-2]}"
    return moved if tag[-2:-1] == "-" and not is_tag(tag) and is_tag(moved) else tag
