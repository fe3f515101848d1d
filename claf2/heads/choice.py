"""Multiple choice: the right one of several answers to a question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import ClassVar

from claf2.errors import Claf2Error
from claf2.heads import Feature, Featurizer, Request, SingleLabelHead, choice_request, register_head
from claf2.readers import ChoiceExample, Example
from claf2.tokenizers import Tokenizer


class ChoiceFeaturizer(Featurizer):
    """``[CLS] question [SEP] choice [SEP]`` for each of C choices: ``input_ids`` is a list of C lists."""

    def features(
        self, examples: Sequence[ChoiceExample], tokenizer: Tokenizer, labels: Sequence[str], counts: Counter[str]
    ) -> Iterator[Feature]:
        questions = [example.question for example in examples for _ in example.choices]
        choices = [choice for example in examples for choice in example.choices]
        encodings = iter(tokenizer.encode(questions, choices, max_length=self.max_seq_length, offsets=False))
        for position, example in enumerate(examples):
            if len(example.choices) != len(labels):
                raise Claf2Error(f"example {example.id!r} has {len(example.choices)} choices, not {len(labels)}")
            own_encodings = [next(encodings)[0] for _ in example.choices]
            counts["truncated"] += any(encoding.dropped > 0 for encoding in own_encodings)
            feature: Feature = {
                "input_ids": [encoding.ids for encoding in own_encodings],
                "token_type_ids": [encoding.type_ids for encoding in own_encodings],
                "example": position,
            }
            if example.label is not None:
                feature["labels"] = labels.index(example.label)
            yield feature


@register_head("choice")
class ChoiceHead(SingleLabelHead[ChoiceExample]):
    """One score per choice, from the summary of question and choice; softmax over the choices, cross-entropy (as BERT
    does SWAG, Devlin et al., 2019, section 4.4)."""

    featurizer: ClassVar[type[Featurizer]] = ChoiceFeaturizer
    auto_class: ClassVar[str] = "AutoModelForMultipleChoice"
    request_fields: ClassVar[tuple[str, ...]] = ("question", "choices")

    def request(self, request: Request) -> Example:
        return choice_request(request)
