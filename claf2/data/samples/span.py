"""A question about a few sentences, one of which has the answer."""

from __future__ import annotations

import random

from claf2.data.samples import Generator, register_sample
from claf2.data.samples.lexicon import Lexicon
from claf2.readers import Answer, SpanExample, Squad
from claf2.task import Task


@register_sample("span")
class SpanSample(Generator):
    """A question for a person, place, date or quantity, and sentences that name one of each. In SQuAD 2.0's format, a
    third of the questions ask for a kind that the sentences do not name."""

    def example(self, task: Task, words: Lexicon, dice: random.Random, identity: str) -> SpanExample:
        kinds = list(words.questions)
        asked = dice.choice(kinds)
        reader = task.reader
        impossible = isinstance(reader, Squad) and reader.version == "2.0" and dice.random() < 1 / 3
        named = [kind for kind in dice.sample(kinds, len(kinds)) if not (impossible and kind == asked)]
        context, answer = "", None
        for kind in named:
            before, after = dice.choice(words.carriers[kind]).split("{}")
            name = dice.choice(words.entities[kind])
            if kind == asked:
                answer = Answer(name, len(context) + len(before))
            context += f"{before}{name}{after} . "
        return SpanExample(
            id=identity,
            question=dice.choice(words.questions[asked]),
            context=context.strip(),
            answers=() if answer is None else (answer,),
            is_impossible=impossible,
            title=identity,
        )
