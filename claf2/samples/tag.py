"""Sentences with names in them, each name tagged with its kind."""

from __future__ import annotations

import random

from claf2.readers import Conll, TokenExample
from claf2.samples import Generator, register_sample
from claf2.samples.lexicon import Lexicon
from claf2.task import Task

KINDS = {
    "PS": "person", "PER": "person", "LC": "place", "LOC": "place", "location": "place", "OG": "group", "ORG": "group",
    "corporation": "product", "creative-work": "work", "DT": "date", "TI": "time", "QT": "quantity", "MISC": "work",
}  # fmt: skip
"""Entity type of a tag set → kind of name in the lexicon, where they are not called the same."""


@register_sample("tag")
class TagSample(Generator):
    """Two or three statements, each with a name. Types that the lexicon does not know share out its kinds in turn."""

    def example(self, task: Task, words: Lexicon, dice: random.Random, identity: str) -> TokenExample:
        types = sorted({label[2:] for label in task.labels if label.startswith("B-")})
        kinds = list(words.entities)
        tokens: list[str] = []
        tags: list[str] = []
        for kind in dice.sample(types, min(len(types), dice.choice((2, 3)))):
            name = KINDS.get(kind, kind)
            name = name if name in words.entities else kinds[types.index(kind) % len(kinds)]
            before, after = dice.choice(words.carriers[name]).split("{}")
            entity = dice.choice(words.entities[name]).split()
            tokens += [*before.split(), *entity, *after.split(), "."]
            tags += ["O"] * len(before.split()) + [f"B-{kind}"] + [f"I-{kind}"] * (len(entity) - 1)
            tags += ["O"] * (len(after.split()) + 1)
        reader = task.reader
        if isinstance(reader, Conll) and reader.unit == "character":
            return _spelt(identity, tokens, tags)
        return TokenExample(id=identity, tokens=tuple(tokens), tags=tuple(tags))


def _spelt(identity: str, tokens: list[str], tags: list[str]) -> TokenExample:
    """Take words apart into characters, with the blanks between them."""
    letters: list[str] = []
    letter_tags: list[str] = []
    for token, tag in zip(tokens, tags, strict=True):
        inside = "O" if tag == "O" else f"I-{tag[2:]}"
        if letters:
            letters.append(" ")
            letter_tags.append(tag if tag.startswith("I-") else "O")
        letters += token
        letter_tags += [tag] + [inside] * (len(token) - 1)
    return TokenExample(id=identity, tokens=tuple(letters), tags=tuple(letter_tags), joiner="")
