"""A pair of texts with a number from 0 to 5."""

from __future__ import annotations

import random

from claf2.data.samples import Generator, register_sample
from claf2.data.samples.lexicon import Lexicon
from claf2.readers import TextExample
from claf2.task import Task


@register_sample("regress")
class RegressSample(Generator):
    """Two things, and words that say to which degree, 0 to 5, each applies; the label is the mean degree."""

    def example(self, task: Task, words: Lexicon, dice: random.Random, identity: str) -> TextExample:
        things = dice.sample(words.things, 2)
        levels = [dice.randrange(6), dice.randrange(6)]
        degrees = [words.degrees[3 * level + dice.randrange(3)] for level in levels]
        statements = " , ".join(f"{thing} {degree}" for thing, degree in zip(things, degrees, strict=True))
        return TextExample(id=identity, text_a=" ".join(things), text_b=statements, label=str(sum(levels) / 2))
