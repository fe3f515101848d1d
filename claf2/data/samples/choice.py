"""A question and names of several kinds as choices, one of them of the kind that the question asks for."""

from __future__ import annotations

import random

from claf2.data.samples import Generator, register_sample
from claf2.data.samples.lexicon import Lexicon
from claf2.readers import ChoiceExample
from claf2.task import Task


@register_sample("choice")
class ChoiceSample(Generator):
    """A question for a person, place, date or quantity after two things; each choice is a name of another kind."""

    def example(self, task: Task, words: Lexicon, dice: random.Random, identity: str) -> ChoiceExample:
        asked = dice.choice(list(words.questions))
        others = dice.sample([kind for kind in words.entities if kind != asked], len(task.labels) - 1)
        index = dice.randrange(len(task.labels))
        kinds = [*others[:index], asked, *others[index:]]
        things = " ".join(dice.sample(words.things, 2))
        return ChoiceExample(
            id=identity,
            question=f"{things} . {dice.choice(words.questions[asked])}",
            choices=tuple(dice.choice(words.entities[kind]) for kind in kinds),
            label=task.labels[index],
        )
