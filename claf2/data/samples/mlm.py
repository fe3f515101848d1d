"""Running text, and pairs of consecutive or unrelated sentences."""

from __future__ import annotations

import random

from claf2.data.samples import Generator, register_sample
from claf2.data.samples.lexicon import Lexicon
from claf2.readers import TextExample
from claf2.task import Task

SENTENCES = (3, 8)
"""The fewest and the most sentences of a document."""


def sentence(words: Lexicon, things: list[str], dice: random.Random) -> str:
    """Return a sentence about one of the things of a document, or about a name."""
    if dice.random() < 0.5:
        return f"{dice.choice(things)} {dice.choice(words.degrees)} {dice.choice(words.cues)}."
    kind = dice.choice(sorted(words.carriers))
    return dice.choice(words.carriers[kind]).format(dice.choice(words.entities[kind])) + "."


@register_sample("mlm", "clm", "tsdae")
class DocumentSample(Generator):
    """Documents of a few sentences about two things, one sentence per line."""

    def example(self, task: Task, words: Lexicon, dice: random.Random, identity: str) -> TextExample:
        things = dice.sample(words.things, 2)
        lines = [sentence(words, things, dice) for _ in range(dice.randint(*SENTENCES))]
        return TextExample(id=identity, text_a="\n".join(lines))


@register_sample("mlm_nsp")
class PairSample(Generator):
    """Two sentences, which are about the same thing if the second one follows the first. A task on a corpus gets
    documents instead, and makes the pairs itself."""

    def example(self, task: Task, words: Lexicon, dice: random.Random, identity: str) -> TextExample:
        things = dice.sample(words.things, 2)
        if task.is_corpus:
            lines = [sentence(words, things, dice) for _ in range(dice.randint(*SENTENCES))]
            return TextExample(id=identity, text_a="\n".join(lines))
        label = dice.choice(task.labels)
        first, second = (things[0], things[int(label)])
        texts = [f"{thing} {dice.choice(words.degrees)} {dice.choice(words.cues)}." for thing in (first, second)]
        return TextExample(id=identity, text_a=texts[0], text_b=texts[1], label=label)
