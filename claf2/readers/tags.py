"""Schemes that mark entities by the prefixes of tags, converted to IOB2."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from claf2.errors import DataError
from claf2.readers import TokenExample

BEGINNING = "BSUW"
"""Prefixes of tags that begin an entity: B, and for entities of one token S (single), U (unit) or W (whole)."""

CONTINUING = "IMEL"
"""Prefixes of tags inside an entity: I or M (middle), and at its end E or L (last)."""

ENDING = "ELSUW"
"""Prefixes after which an entity does not go on."""

MIN_ENTITIES = 10
"""From this number of entities on, a file whose entities mostly begin with I- is taken for IOB1."""


def is_tag(tag: str) -> bool:
    """Return whether a tag is ``O``, or a prefix, a hyphen and a type."""
    return tag == "O" or (len(tag) > 2 and tag[0] in BEGINNING + CONTINUING and tag[1] == "-")


def to_iob2(tags: Sequence[str], *, from_iob1: bool = False) -> list[str]:
    """Return the tags of a sentence in IOB2, where every entity begins with ``B-`` and goes on with ``I-``.

    IOBES (BIOES, BMES, BMEWO), BILOU and IOE are recognized by their prefixes. IOB1, where ``B-`` only separates
    adjacent entities of one type, has no prefix of its own: in a sentence with ``B-`` and ``I-`` alone, an ``I-`` that
    continues no entity stays as it is, because published files in IOB2 contain such tags and are scored with them.

    Args:
        tags: the tags, each valid according to ``is_tag``.
        from_iob1: whether the file is in IOB1, so that such an ``I-`` begins an entity.
    """
    if not from_iob1 and all(tag[0] in "BIO" for tag in tags):
        return list(tags)
    converted, previous = [], "O"
    for tag in tags:
        begins = tag != "O" and (tag[0] in BEGINNING or previous[0] in "O" + ENDING or previous[2:] != tag[2:])
        converted.append(tag if tag == "O" else f"{'B' if begins else 'I'}-{tag[2:]}")
        previous = tag
    return converted


def refuse_iob1(examples: Iterator[TokenExample], path: Path, hint: str) -> Iterator[TokenExample]:
    """Pass on examples in IOB2; at their end, refuse a file in IOB1, whose entities begin with ``I-``.

    Args:
        examples: the examples of the file.
        path: the file.
        hint: what to do about it.

    Raises:
        DataError: if most entities begin with ``I-``.
    """
    entities = misplaced = line = 0
    for example in examples:
        previous = "O"
        for tag in example.tags or ():
            is_misplaced = tag[:2] == "I-" and (previous == "O" or previous[2:] != tag[2:])
            entities += is_misplaced or tag[:2] == "B-"
            misplaced += is_misplaced
            line = line or (example.line if is_misplaced else 0)
            previous = tag
        yield example
    if entities >= MIN_ENTITIES and 2 * misplaced > entities:
        problem = f"{misplaced} of {entities} entities begin with I-, so the tags are IOB1 instead of IOB2"
        raise DataError(path, problem, line=line or None, hint=hint)
