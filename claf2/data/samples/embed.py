"""Texts that are similar because they name the same things."""

from __future__ import annotations

import random

from claf2.data.samples import Generator, register_sample
from claf2.data.samples.lexicon import Lexicon
from claf2.metrics.correlation import AveragePrecision
from claf2.readers import Answer, Example, SpanExample, Squad, TextExample, TripletExample, Triplets
from claf2.task import Task

MOST_SHARED = 5


@register_sample("embed")
class SimilaritySample(Generator):
    """Two texts of five things each; the number is how many of them both name, 0 to 5. Where pairs only belong together
    or not, they do if they share four or five things."""

    def example(self, task: Task, words: Lexicon, dice: random.Random, identity: str) -> TextExample:
        shared = dice.randrange(MOST_SHARED + 1)
        things = dice.sample(words.things, 2 * MOST_SHARED - shared)
        first, second = things[:MOST_SHARED], things[:shared] + things[MOST_SHARED:]
        dice.shuffle(second)
        label = str(float(shared))
        if isinstance(metric := task.metrics[0], AveragePrecision):
            label = f"{metric.positive if shared >= MOST_SHARED - 1 else 1.0 - metric.positive:g}"
        return TextExample(id=identity, text_a=" ".join(first), text_b=" ".join(second), label=label)


@register_sample("embed_in_batch")
class GroupSample(Generator):
    """Statements of three things and a cue word each, and a text that names the same things in another order. In a
    triplet, the hard negative names one of them. A question names two of them and a cue word; the answer is the third.
    """

    def example(self, task: Task, words: Lexicon, dice: random.Random, identity: str) -> Example:
        things = dice.sample(words.things, 5)
        statements = " , ".join(f"{thing} {dice.choice(words.cues)}" for thing in things[:3])
        if isinstance(task.reader, Squad):
            context = f"{things[0]} {statements}"
            question = f"{things[2]} {things[1]} {dice.choice(words.cues)}"
            answers = (Answer(things[0], 0),)
            return SpanExample(id=identity, question=question, context=context, answers=answers, title=identity)
        if isinstance(task.reader, Triplets):
            positive, negative = (" ".join(reversed(texts)) for texts in (things[:3], things[2:]))
            return TripletExample(id=identity, anchor=statements, positive=positive, negative=negative)
        return TextExample(id=identity, text_a=statements)
