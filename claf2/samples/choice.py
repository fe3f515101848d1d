"""A question with names of several kinds to choose from, one of them of the kind that is asked for."""

from __future__ import annotations

import random

from claf2.readers import ChoiceExample
from claf2.samples import Generator, register_sample
from claf2.samples.lexicon import Lexicon
from claf2.task import Task


@register_sample("choice")
class ChoiceSample(Generator):
    """Who, where, when or how many, with a few things in front; each choice is a name of another kind."""

    def example(self, task: Task, words: Lexicon, dice: random.Random, identity: str) -> ChoiceExample:
        asked = dice.choice(list(words.questions))
        others = dice.sample([kind for kind in words.entities if kind != asked], len(task.labels) - 1)
        place = dice.randrange(len(task.labels))
        kinds = [*others[:place], asked, *others[place:]]
        things = " ".join(dice.sample(words.things, 2))
        return ChoiceExample(
            id=identity,
            question=f"{things} . {dice.choice(words.questions[asked])}",
            choices=tuple(dice.choice(words.entities[kind]) for kind in kinds),
            label=task.labels[place],
        )
