"""The names under which a model is asked for. They say what it answers; any encoder architecture serves each."""

from __future__ import annotations

from typing import ClassVar

from claf2.models import ModelSpec, register_model


@register_model("encoder")
class AnyHead(ModelSpec):
    """An encoder with the head that the task asks for."""


@register_model("bert_for_multi", "roberta_for_multi")
class ForSeveralTasks(ModelSpec):
    """An encoder shared by several tasks, each with the head that it asks for."""


@register_model("bert_for_seq_cls", "roberta_for_seq_cls")
class ForSequenceClassification(ModelSpec):
    """An encoder that classifies a text or a pair."""

    head: ClassVar[str | None] = "classify"


@register_model("bert_for_san")
class ForStochasticAnswers(ModelSpec):
    """An encoder that classifies a pair by MT-DNN's answer module."""

    head: ClassVar[str | None] = "san"


@register_model("bert_for_reg", "roberta_for_reg")
class ForRegression(ModelSpec):
    """An encoder that scores a text or a pair."""

    head: ClassVar[str | None] = "regress"


@register_model("bert_for_tok_cls", "roberta_for_tok_cls")
class ForTokenClassification(ModelSpec):
    """An encoder that tags tokens."""

    head: ClassVar[str | None] = "tag"


@register_model("bert_for_choice", "roberta_for_choice")
class ForMultipleChoice(ModelSpec):
    """An encoder that chooses among answers."""

    head: ClassVar[str | None] = "choice"


@register_model("bert_for_parse", "roberta_for_parse")
class ForParsing(ModelSpec):
    """An encoder that parses sentences."""

    head: ClassVar[str | None] = "parse"


@register_model("bert_for_dst", "roberta_for_dst")
class ForDialogueStates(ModelSpec):
    """An encoder that tracks the state of a dialogue."""

    head: ClassVar[str | None] = "dialogue"


@register_model("bert_for_qa", "roberta_for_qa")
class ForQuestionAnswering(ModelSpec):
    """An encoder that finds the answer in a text."""

    head: ClassVar[str | None] = "span"
