"""Requests that name slots and the values to put into them."""

from __future__ import annotations

import random

from claf2.data.samples import Generator, register_sample
from claf2.data.samples.lexicon import Lexicon
from claf2.readers import DialogueExample
from claf2.task import Task

SLOTS = 6
"""How many slots are asked for; more would take a small encoder longer to learn."""


@register_sample("dialogue")
class DialogueSample(Generator):
    """One turn of the user, with one to three of six slots, which are spread over the task's.

    Each slot has words of its own: every third one a word for yes and one for no, the others the names of one kind,
    copied as they are. Every slot also has a word that means ``dontcare``.
    """

    def example(self, task: Task, words: Lexicon, dice: random.Random, identity: str) -> DialogueExample:
        state: dict[str, str] = {}
        phrases = []
        slots = task.labels[:: max(1, len(task.labels) // SLOTS)][:SLOTS]
        kinds = list(words.entities)
        for index in sorted(dice.sample(range(len(slots)), dice.choice((1, 2, 3)))):
            slot = slots[index]
            if dice.random() < 0.1:
                state[slot], word = "dontcare", words.degrees[index]
            elif index % 3 == 0:
                state[slot] = dice.choice(("yes", "no"))
                word = words.cues[2 * index + (state[slot] == "no")]
            else:
                state[slot] = word = dice.choice(words.entities[kinds[index % len(kinds)]])
            phrases.append(f"{slot.replace('-', ' ')} {word}")
        return DialogueExample(id=f"{identity}-0", turns=(" , ".join(phrases),), state=state)
