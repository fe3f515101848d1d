"""One text, or a pair, with a label that most of its cue words indicate."""

from __future__ import annotations

import random

from claf2.data.samples import Generator, register_sample
from claf2.data.samples.lexicon import Lexicon
from claf2.readers import TextExample
from claf2.task import Task

PAIR_COLUMN = "text_b"
"""The field of the second text in a reader's `columns`."""


def is_pair(task: Task) -> bool:
    """Return whether the task's files have a second text."""
    return PAIR_COLUMN in task.reader.model_dump().get("columns", {})


@register_sample("classify")
class ClassifySample(Generator):
    """Three statements of a thing and a cue word each, of which at least two cues belong to the label.

    In a pair, the first text has the things alone, and the second the statements. The markers of a task are around the
    first things.
    """

    def example(self, task: Task, words: Lexicon, dice: random.Random, identity: str) -> TextExample:
        label = dice.choice(task.labels)
        other = dice.choice([name for name in task.labels if name != label])
        cues_of = {name: words.cues[index :: len(task.labels)] for index, name in enumerate(task.labels)}
        cues = [dice.choice(cues_of[name]) for name in (label, label)]
        cues.append(dice.choice(cues_of[dice.choice((label, other))]))
        things = dice.sample(words.things, 3)
        dice.shuffle(cues)
        for index, (opening, closing) in enumerate(task.markers):
            things[index] = f"{opening}{things[index]}{closing}"
        statements = " , ".join(f"{thing} {cue}" for thing, cue in zip(things, cues, strict=True))
        if is_pair(task):
            return TextExample(id=identity, text_a=" ".join(things), text_b=statements, label=label)
        return TextExample(id=identity, text_a=statements, label=label)
