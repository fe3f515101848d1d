"""The right one of several answers to a question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from claf2.errors import Claf2Error
from claf2.heads import Feature, Featurizer, OneLabel, register_head
from claf2.readers import ChoiceExample, Example
from claf2.tokenizers import Tokenizer

if TYPE_CHECKING:
    pass


class ChoiceFeaturizer(Featurizer):
    """``[CLS] question [SEP] choice [SEP]`` for each of C choices: ``input_ids`` is a list of C lists."""

    def features(
        self, examples: Sequence[ChoiceExample], tokenizer: Tokenizer, labels: Sequence[str], counts: Counter[str]
    ) -> Iterator[Feature]:
        questions = [example.question for example in examples for _ in example.choices]
        choices = [choice for example in examples for choice in example.choices]
        encodings = iter(tokenizer.encode(questions, choices, max_length=self.max_seq_length))
        for position, example in enumerate(examples):
            if len(example.choices) != len(labels):
                raise Claf2Error(f"example {example.id!r} has {len(example.choices)} choices, not {len(labels)}")
            mine = [next(encodings)[0] for _ in example.choices]
            counts["truncated"] += any(
                each.covered(which) < len(text.rstrip())
                for each, choice in zip(mine, example.choices, strict=True)
                for which, text in enumerate((example.question, choice))
            )
            feature: Feature = {
                "input_ids": [each.ids for each in mine],
                "token_type_ids": [each.type_ids for each in mine],
                "example": position,
            }
            if example.label is not None:
                feature["labels"] = labels.index(example.label)
            yield feature


@register_head("choice")
class Choice(OneLabel):
    """One score a choice, from the summary of question and choice; softmax over the choices, cross-entropy (as BERT
    does SWAG, Devlin et al., 2019, section 4.4)."""

    featurizer: ClassVar[type[Featurizer]] = ChoiceFeaturizer
    auto_class: ClassVar[str] = "AutoModelForMultipleChoice"

    def request(self, values: Mapping[str, Any]) -> Example:
        known = {"id": "0", **values}
        question, choices = known.pop("question", None), known.pop("choices", None)
        if question is None or not choices or set(known) - {"id", "label"}:
            raise Claf2Error(f"a request has question and choices (a list); got: {', '.join(values) or 'nothing'}")
        listed = choices.split("|") if isinstance(choices, str) else choices
        return ChoiceExample(id=str(known["id"]), question=str(question), choices=tuple(map(str, listed)))
