"""Sentences of small clauses, each of which depends on the next."""

from __future__ import annotations

import random
from itertools import pairwise

from claf2.data.samples import Generator, register_sample
from claf2.data.samples.lexicon import Lexicon
from claf2.readers import ParseExample
from claf2.task import Task


@register_sample("parse")
class ParseSample(Generator):
    """Two to four clauses of a thing, sometimes a degree, and a cue word. Thing and degree depend on the cue word of
    their clause, which depends on the cue word of the next; the last one is the root."""

    def example(self, task: Task, words: Lexicon, dice: random.Random, identity: str) -> ParseExample:
        root, modifier, thing, clause = (task.labels[index % len(task.labels)] for index in (2, 1, 3, 4))
        # Word, part of speech, head and relation. As in Korean, a head follows its dependents.
        rows: list[tuple[str, str, int, str]] = []
        for _ in range(dice.choice((2, 3, 4))):
            dependents = [(dice.choice(words.things), "NNG", thing)]
            if dice.random() < 0.5:
                dependents.append((dice.choice(words.degrees), "MAG", modifier))
            head = len(rows) + len(dependents) + 1
            rows += [(word, pos, head, relation) for word, pos, relation in dependents]
            rows.append((dice.choice(words.cues), "VA", 0, clause))
        cues = [index for index, row in enumerate(rows) if row[2] == 0]
        for cue, following in pairwise(cues):
            rows[cue] = (*rows[cue][:2], following + 1, clause)
        rows[-1] = (*rows[-1][:2], 0, root)
        columns = list(zip(*rows, strict=True))
        return ParseExample(id=identity, words=columns[0], pos=columns[1], heads=columns[2], relations=columns[3])
