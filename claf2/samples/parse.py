"""Sentences of small clauses, each hanging on the next."""

from __future__ import annotations

import random
from itertools import pairwise

from claf2.readers import ParseExample
from claf2.samples import Generator, register_sample
from claf2.samples.lexicon import Lexicon
from claf2.task import Task


@register_sample("parse")
class ParseSample(Generator):
    """Two to four clauses of a thing, perhaps a degree, and a telling word. Thing and degree hang on the telling word
    of their clause, and that on the next clause's; the last one is the root."""

    def example(self, task: Task, words: Lexicon, dice: random.Random, identity: str) -> ParseExample:
        root, modifier, thing, clause = (task.labels[index % len(task.labels)] for index in (2, 1, 3, 4))
        said: list[tuple[str, str, int, str]] = []
        for _ in range(dice.choice((2, 3, 4))):
            parts = [(dice.choice(words.things), "NNG", thing)]
            if dice.random() < 0.5:
                parts.append((dice.choice(words.degrees), "MAG", modifier))
            last = len(said) + len(parts) + 1
            said += [(word, pos, last, relation) for word, pos, relation in parts]
            said.append((dice.choice(words.cues), "VA", 0, clause))
        ends = [index for index, each in enumerate(said) if each[2] == 0]
        for here, following in pairwise(ends):
            said[here] = (*said[here][:2], following + 1, clause)
        said[-1] = (*said[-1][:2], 0, root)
        columns = list(zip(*said, strict=True))
        return ParseExample(id=identity, words=columns[0], pos=columns[1], heads=columns[2], relations=columns[3])
