"""One text, or a pair, with a label that most of its telling words point to."""

from __future__ import annotations

import random

from claf2.readers import TextExample
from claf2.samples import Generator, register_sample
from claf2.samples.lexicon import Lexicon
from claf2.task import Task

PAIR_COLUMN = "text_b"


def is_pair(task: Task) -> bool:
    """Say whether the task's files have a second text."""
    return PAIR_COLUMN in task.reader.model_dump().get("columns", {})


@register_sample("classify")
class ClassifySample(Generator):
    """Three statements, each a thing and a telling word; at least two of the words belong to the label. In a pair, the
    first text names the things alone, and the second says something of them. A task's marks stand around the first
    things.
    """

    def example(self, task: Task, words: Lexicon, dice: random.Random, identity: str) -> TextExample:
        label = dice.choice(task.labels)
        other = dice.choice([each for each in task.labels if each != label])
        share = {each: words.cues[index :: len(task.labels)] for index, each in enumerate(task.labels)}
        told = [dice.choice(share[label]), dice.choice(share[label]), dice.choice(share[dice.choice((label, other))])]
        things = dice.sample(words.things, 3)
        dice.shuffle(told)
        for index, (opening, closing) in enumerate(task.markers):
            things[index] = f"{opening}{things[index]}{closing}"
        said = " , ".join(f"{thing} {cue}" for thing, cue in zip(things, told, strict=True))
        if is_pair(task):
            return TextExample(id=identity, text_a=" ".join(things), text_b=said, label=label)
        return TextExample(id=identity, text_a=said, label=label)
