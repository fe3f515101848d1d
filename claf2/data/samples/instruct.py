"""Instructions whose answer is one of the words in them."""

from __future__ import annotations

import random

from claf2.data.samples import Generator, register_sample
from claf2.data.samples.lexicon import Lexicon
from claf2.readers import ConversationExample, Turn
from claf2.task import Task


@register_sample("instruct")
class InstructionSample(Generator):
    """A question about the name in a sentence, and that name as the answer; sometimes a second one follows."""

    def example(self, task: Task, words: Lexicon, dice: random.Random, identity: str) -> ConversationExample:
        turns: list[Turn] = []
        for _ in range(1 + (dice.random() < 0.2)):
            kind = dice.choice(sorted(set(words.carriers) & set(words.questions)))
            name = dice.choice(words.entities[kind])
            sentence = f"{dice.choice(words.things)} {dice.choice(words.degrees)}: "
            context = sentence + dice.choice(words.carriers[kind]).format(name) + "."
            turns += [Turn("user", dice.choice(words.questions[kind]), context), Turn("assistant", name)]
        return ConversationExample(id=identity, turns=tuple(turns))
