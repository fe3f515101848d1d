"""Causal language models: the next token of any text, or of the answers in a conversation."""

from __future__ import annotations

from abc import ABC
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from claf2.errors import Claf2Error
from claf2.heads import Feature, Featurizer, Request, register_head
from claf2.heads.chat import Segment, answer_end, segments
from claf2.heads.predicted_tokens import NO_TARGET, PredictedTokensHead
from claf2.readers import ConversationExample, Example, TextExample, Turn, order_problem
from claf2.registry import LARGEST, Component, not_in_recipe
from claf2.tokenizers import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def _next_ids(ids: Sequence[int], learned: Sequence[bool]) -> list[int]:
    """Return the id that each token predicts: the next one, if it is learned."""
    following = [token if is_learned else NO_TARGET for token, is_learned in zip(ids[1:], learned[1:], strict=True)]
    return [*following, NO_TARGET]


class ContinuedTextFeaturizer(Featurizer):
    """Running text; every token but the first is predicted. A text that is too long is divided."""

    def features(
        self, examples: Sequence[TextExample], tokenizer: Tokenizer, labels: Sequence[str], counts: Counter[str]
    ) -> Iterator[Feature]:
        texts = [example.text_a for example in examples]
        windows = tokenizer.encode(texts, max_length=self.max_seq_length, step=self.max_seq_length, offsets=False)
        for position, encodings in enumerate(windows):
            for encoding in encodings:
                ids = encoding.ids or [tokenizer.end_id]  # an empty text without special tokens
                yield {
                    "input_ids": ids,
                    "token_type_ids": encoding.type_ids or [0],
                    "labels": _next_ids(ids, [True] * len(ids)),
                    "example": position,
                }


class ConversationFeaturizer(Featurizer):
    """A conversation as one text, of which the tokens of the answers and those that end them are predicted."""

    max_seq_length: int = Field(512, ge=4, le=2**20)
    layout: Literal["chat", "alpaca", "kullm", "plain"] = "chat"
    """How turns become text: by the tokenizer's chat template, or as Alpaca or KULLM wrote them; `plain` takes the
    place of a template that is missing."""
    learns_prompts: bool = False
    """Whether the tokens of instructions are predicted as well."""

    def features(
        self,
        examples: Sequence[ConversationExample],
        tokenizer: Tokenizer,
        labels: Sequence[str],
        counts: Counter[str],
    ) -> Iterator[Feature]:
        for position, example in enumerate(examples):
            try:
                pieces = segments(self.layout, example.turns, tokenizer)
            except Claf2Error as error:
                raise Claf2Error(f"example {example.id!r}: {error}") from error
            ids, learned = encode_segments(pieces, tokenizer)
            if self.learns_prompts:
                learned = [True] * len(ids)
            counts["truncated"] += len(ids) > self.max_seq_length
            ids, learned = ids[: self.max_seq_length], learned[: self.max_seq_length]
            counts["without_answer"] += not any(learned[1:])
            yield {
                "input_ids": ids,
                "token_type_ids": [0] * len(ids),
                "labels": _next_ids(ids, learned),
                "example": position,
            }


def encode_segments(pieces: Sequence[Segment], tokenizer: Tokenizer) -> tuple[list[int], list[bool]]:
    """Return the ids of a conversation, and whether each belongs to an answer: a token that holds any character of one.

    A chat template writes its own special tokens. Otherwise the text begins as any text of the tokenizer does.
    """
    flat = tokenizer.encode_flat([piece.text for piece in pieces])
    ids = [] if any(piece.is_complete for piece in pieces) else list(tokenizer.template.single[0].ids)
    learned = [False] * len(ids)
    place = 0
    for piece, length in zip(pieces, flat.lengths.tolist(), strict=True):
        for token, (start, end) in zip(
            flat.ids[place : place + length].tolist(), flat.offsets[place : place + length].tolist(), strict=True
        ):
            ids.append(token)
            learned.append(any(start < last and end > first for first, last in piece.answers))
        place += length
        if piece.ends:
            ids.append(tokenizer.end_id)
            learned.append(True)
    return ids, learned


class Decoding(Component):
    """How a text is generated; see ``GenerationConfig`` of `transformers`."""

    max_new_tokens: int = Field(default=128, ge=1, le=2**20)
    do_sample: bool = False
    temperature: float | None = Field(default=None, gt=0, le=100)
    top_k: int | None = Field(default=None, ge=1, le=LARGEST)
    top_p: float | None = Field(default=None, gt=0, le=1)
    num_beams: int = Field(default=1, ge=1, le=1024)
    repetition_penalty: float | None = Field(default=None, gt=0, le=100)

    def inert(self) -> list[str]:
        """Return the settings that are given but have no effect, such as those of sampling without sampling."""
        names = ("temperature", "top_k", "top_p")
        return [] if self.do_sample else [name for name in names if getattr(self, name) is not None]

    def settings(self) -> dict[str, Any]:
        """Return the settings that have an effect, as ``generate`` of `transformers` takes them."""
        inert = self.inert()
        return {name: value for name, value in self.model_dump().items() if value is not None and name not in inert}


class ContinuationHead(PredictedTokensHead, ABC):
    """Heads that predict the next token, by a causal language model that is stored as it is: `best/` is loaded by
    ``AutoModelForCausalLM`` and by a pipeline for text generation."""

    auto_class: ClassVar[str] = "AutoModelForCausalLM"
    teacher_forced: ClassVar[tuple[str, ...]] = ("labels",)

    pack_texts: bool = not_in_recipe(True)
    """Let the texts of a batch share rows, without attention across them. This changes only the speed."""

    def configure(self, config: PreTrainedConfig, labels: Sequence[str]) -> None:
        """Leave the configuration as it is: there are no labels."""

    def bind(self, module: PreTrainedModel) -> Callable[..., dict[str, Any]]:
        from claf2.heads.networks.continuation import predict_next

        return predict_next(module, packs=self.pack_texts)

    def prepare_generation(self, module: Any, featurizer: Featurizer, tokenizer: Tokenizer) -> None:
        layout = featurizer.layout if isinstance(featurizer, ConversationFeaturizer) else "plain"
        learned, known = answer_end(layout, tokenizer), end_ids(module)
        if learned is not None and learned not in known:
            module.generation_config.eos_token_id = [learned, *known]


def end_ids(module: Any) -> list[int]:
    """Return the ids that end the texts of a model, by its configuration."""
    ends = module.generation_config.eos_token_id
    return ends if isinstance(ends, list) else [] if ends is None else [ends]


@register_head("clm")
class CausalLanguageModelHead(ContinuationHead):
    """The next token of running text (Radford et al., 2018)."""

    featurizer: ClassVar[type[Featurizer]] = ContinuedTextFeaturizer


@register_head("instruct")
class InstructionHead(ContinuationHead):
    """The tokens of answers, given the conversation before them (instruction tuning)."""

    featurizer: ClassVar[type[Featurizer]] = ConversationFeaturizer
    request_fields: ClassVar[tuple[str, ...]] = ("turns",)

    decoding: Decoding = not_in_recipe(Decoding())
    """How `claf2 generate` answers."""

    def request(self, request: Request) -> Example:
        if "turns" in request.values:
            form = "turns: a list of objects with role, text and, if any, context"
            request.check_fields(("turns",), form)
            try:
                turns = tuple(Turn(**turn) for turn in request.values["turns"])
            except TypeError as error:
                raise Claf2Error(f"the fields of a turn are wrong; give {form}") from error
            if not all(isinstance(text, str) for turn in turns for text in (turn.text, turn.context)):
                raise Claf2Error(f"a text of a turn is not a string; give {form}")
            if problem := order_problem(turns):
                raise Claf2Error(problem)
            return ConversationExample(id=request.id, turns=turns)
        request.check_fields(("instruction", "output"), "instruction and output, or turns")
        pair = Turn("user", request.text("instruction")), Turn("assistant", request.text("output"))
        return ConversationExample(id=request.id, turns=pair)
