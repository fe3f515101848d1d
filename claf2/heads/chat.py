"""Layouts of conversations: those of published instruction data, and the chat template of a tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from claf2.errors import Claf2Error
from claf2.readers import Turn
from claf2.tokenizers import Tokenizer

__all__ = ["CHAT_LAYOUTS", "ChatLayout", "Segment", "answer_end", "prompt_text", "segments", "turn_text"]

TURN_SEPARATOR = "\n\n"
"""The text between a system turn or an answer and the next instruction."""


@dataclass(frozen=True)
class ChatLayout:
    """How turns become text, if the tokenizer has no chat template."""

    instruction: str
    """An instruction, ``{text}``, up to where its answer begins."""
    with_context: str
    """The same for an instruction with an input, ``{context}``."""
    introduction: str = ""
    """The text before the first instruction, unless there is a system turn."""
    introduction_with_context: str = ""
    """The same, if that instruction has an input."""


CHAT_LAYOUTS = {
    # Stanford Alpaca (Taori et al., 2023), the prompts of its README.
    "alpaca": ChatLayout(
        instruction="### Instruction:\n{text}\n\n### Response:\n",
        with_context="### Instruction:\n{text}\n\n### Input:\n{context}\n\n### Response:\n",
        introduction="Below is an instruction that describes a task. Write a response that appropriately completes the "
        "request.\n\n",
        introduction_with_context="Below is an instruction that describes a task, paired with an input that provides "
        "further context. Write a response that appropriately completes the request.\n\n",
    ),
    # nlpai-lab/KULLM, templates/kullm.json, commit 7f05977.
    "kullm": ChatLayout(
        instruction="### 명령어:\n{text}\n\n### 응답:\n",
        with_context="### 명령어:\n{text}\n\n### 입력:\n{context}\n\n### 응답:\n",
        introduction="아래는 작업을 설명하는 명령어입니다. 요청을 적절히 완료하는 응답을 작성하세요.\n\n",
        introduction_with_context="아래는 작업을 설명하는 명령어와 추가 컨텍스트를 제공하는 입력이 짝을 이루는 "
        "예제입니다. 요청을 적절히 완료하는 응답을 작성하세요.\n\n",
    ),
    "plain": ChatLayout(instruction="User: {text}\nAssistant:\n", with_context="User: {text}\n{context}\nAssistant:\n"),
}
"""Name → layout."""


@dataclass(frozen=True)
class Segment:
    """A piece of a conversation as text."""

    text: str
    answers: tuple[tuple[int, int], ...] = ()
    """The characters ``[start, end)`` that are learned."""
    ends: bool = False
    """Whether the end token follows, which is learned with the answer before it."""
    is_complete: bool = False
    """Whether the special tokens are part of the text."""


def _fill(layout: ChatLayout, turn: Turn) -> str:
    before, _, after = (layout.with_context if turn.context else layout.instruction).partition("{text}")
    middle, _, rest = after.partition("{context}")
    return before + turn.text + middle + (turn.context + rest if turn.context else "")


def _prompts(layout: ChatLayout, turns: Sequence[Turn]) -> Iterator[tuple[str, str | None]]:
    """Yield (the text before an answer, the answer). The answer is ``None`` if it has yet to be generated."""
    before = ""
    for index, turn in enumerate(turns):
        if turn.role == "assistant":
            yield before, turn.text
            before = TURN_SEPARATOR
        elif turn.role == "system":
            before += turn.text + TURN_SEPARATOR
        else:
            if index == 0:
                before = layout.introduction_with_context if turn.context else layout.introduction
            before += _fill(layout, turn)
    if turns[-1].role != "assistant":
        yield before, None


def turn_text(turn: Turn) -> str:
    """Return what a turn says, with its input."""
    return f"{turn.text}\n\n{turn.context}" if turn.context else turn.text


def _messages(turns: Sequence[Turn]) -> list[Mapping[str, str]]:
    return [{"role": turn.role, "content": turn_text(turn)} for turn in turns]


def _uses_template(name: str, tokenizer: Tokenizer) -> bool:
    return name == "chat" and tokenizer.has_chat_template


def _layout(name: str) -> ChatLayout:
    return CHAT_LAYOUTS["plain" if name == "chat" else name]


def segments(name: str, turns: Sequence[Turn], tokenizer: Tokenizer) -> list[Segment]:
    """Return a conversation as text, with the positions of its answers.

    Args:
        name: a layout, or ``chat`` for the tokenizer's template (``plain`` where it has none).
        turns: the conversation.
        tokenizer: the tokenizer.

    Raises:
        Claf2Error: if the template writes earlier turns anew after later ones, so that answers have no place.
    """
    if not _uses_template(name, tokenizer):
        return [
            Segment(before)
            if answer is None
            else Segment(before + answer, ((len(before), len(before) + len(answer)),), ends=True)
            for before, answer in _prompts(_layout(name), turns)
        ]
    whole = tokenizer.render_chat(_messages(turns))
    ends = turns[-1].role == "assistant" and answer_end(name, tokenizer) is None
    spans = []
    for index, turn in enumerate(turns):
        if turn.role == "assistant":
            before = tokenizer.render_chat(_messages(turns[:index]), opens_answer=True)
            until = tokenizer.render_chat(_messages(turns[: index + 1]))
            if not (whole.startswith(until) and until.startswith(before)):
                raise Claf2Error("the chat template changes what it has written of earlier turns; set layout")
            spans.append((len(before), len(until.rstrip())))  # the end token included, but no line break after it
    return [Segment(whole, tuple(spans), ends=ends, is_complete=True)]


def answer_end(name: str, tokenizer: Tokenizer) -> int | None:
    """Return the id of the special token that a layout writes after an answer, which may be another one than the
    tokenizer's end token; ``None`` if it writes none."""
    if not _uses_template(name, tokenizer):
        return None
    turns = Turn("user", "a"), Turn("assistant", "b")
    before = tokenizer.render_chat(_messages(turns[:1]), opens_answer=True)
    ids = tokenizer.encode_flat([tokenizer.render_chat(_messages(turns)).removeprefix(before)]).ids.tolist()
    return next((token for token in ids if token in tokenizer.special_ids - {tokenizer.unknown_id}), None)


def prompt_text(name: str, turns: Sequence[Turn], tokenizer: Tokenizer) -> list[Segment]:
    """Return a conversation up to where the next answer begins; see ``segments``."""
    if _uses_template(name, tokenizer):
        return [Segment(tokenizer.render_chat(_messages(turns), opens_answer=True), is_complete=True)]
    return segments(name, turns, tokenizer)
