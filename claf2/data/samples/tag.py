"""Sentences with names in them, each name tagged with its kind."""

from __future__ import annotations

import random

from claf2.data.samples import Generator, register_sample
from claf2.data.samples.lexicon import Lexicon
from claf2.readers import Conll, TokenExample
from claf2.task import Task

KINDS = {
    "PS": "person", "PER": "person", "LC": "place", "LOC": "place", "location": "place", "OG": "group", "ORG": "group",
    "corporation": "group", "creative-work": "work", "DT": "date", "TI": "time", "QT": "quantity", "MISC": "work",
}  # fmt: skip
"""Entity type of a tag set → kind of name in the lexicon, where they are not called the same."""


@register_sample("tag")
class TagSample(Generator):
    """Two or three statements, each with a name of an entity type.

    Types that the lexicon does not have take its kinds in turn. Types of the same kind get different names of it: with
    the same names, nothing in a text would say which of the types is meant.
    """

    def example(self, task: Task, words: Lexicon, dice: random.Random, identity: str) -> TokenExample:
        types = sorted({label[2:] for label in task.labels if label.startswith("B-")})
        kinds = _kinds(types, words)
        tokens: list[str] = []
        tags: list[str] = []
        for entity_type in dice.sample(types, min(len(types), dice.choice((2, 3)))):
            kind = kinds[entity_type]
            before, after = dice.choice(words.carriers[kind]).split("{}")
            sharing = [name for name in types if kinds[name] == kind]
            names = words.entities[kind]
            position = sharing.index(entity_type) % len(names)
            entity = dice.choice(names[position :: len(sharing)]).split()
            tokens += [*before.split(), *entity, *after.split(), "."]
            tags += ["O"] * len(before.split()) + [f"B-{entity_type}"] + [f"I-{entity_type}"] * (len(entity) - 1)
            tags += ["O"] * (len(after.split()) + 1)
        reader = task.reader
        if isinstance(reader, Conll) and reader.unit == "character":
            return _spelt(identity, tokens, tags)
        return TokenExample(id=identity, tokens=tuple(tokens), tags=tuple(tags))


def _kinds(types: list[str], words: Lexicon) -> dict[str, str]:
    """Return the kind of name in the lexicon of each entity type."""
    known = list(words.entities)
    kinds = {name: KINDS.get(name, name) for name in types}
    return {
        name: kind if kind in words.entities else known[index % len(known)]
        for index, (name, kind) in enumerate(kinds.items())
    }


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
