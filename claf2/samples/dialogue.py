"""Requests that name slots and what they are to hold."""

from __future__ import annotations

import random

from claf2.readers import DialogueExample
from claf2.samples import Generator, register_sample
from claf2.samples.lexicon import Lexicon
from claf2.task import Task

SLOTS = 10
"""How many slots are asked for; more would take a small encoder longer to learn."""


@register_sample("dialogue")
class DialogueSample(Generator):
    """One turn of the user, with three to five of ten slots, which are spread over the task's. Every third of those
    holds yes or no, told by two words; the others a name, as it stands there; now and then one does not care, told by
    a third word."""

    def example(self, task: Task, words: Lexicon, dice: random.Random, identity: str) -> DialogueExample:
        state: dict[str, str] = {}
        said = []
        slots = task.labels[:: max(1, len(task.labels) // SLOTS)][:SLOTS]
        for index in sorted(dice.sample(range(len(slots)), dice.choice((3, 4, 5)))):
            slot = slots[index]
            if dice.random() < 0.1:
                state[slot], told = "dontcare", words.degrees[0]
            elif index % 3 == 0:
                state[slot] = dice.choice(("yes", "no"))
                told = words.cues[0] if state[slot] == "yes" else words.cues[-1]
            else:
                state[slot] = told = dice.choice(words.entities[dice.choice(("person", "place"))])
            said.append(f"{slot.replace('-', ' ')} {told}")
        return DialogueExample(id=f"{identity}-0", turns=(" , ".join(said),), state=state)
