"""Instructions and conversations: the files of Alpaca, Self-Instruct, KULLM and ShareGPT, and tables of questions."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from claf2.errors import DataError
from claf2.readers import (
    ConversationExample,
    Example,
    Reader,
    Turn,
    get_text,
    open_text,
    order_problem,
    read_json_rows,
    register_reader,
)
from claf2.readers.text import read_quoted
from claf2.registry import LARGEST

logger = logging.getLogger("claf2")

ROLES = {
    **dict.fromkeys(("human", "user", "prompter"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bot"), "assistant"),
    "system": "system",
}
"""What files call the sides of a conversation."""

LANGUAGE_LETTERS = {
    "ko": re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]"),
    "ja": re.compile("[\u3041-\u30ff\u4e00-\u9fff]"),
    "en": re.compile("[A-Za-z]"),
}
"""Language → the letters of its script; Chinese characters count as Japanese."""

QUESTION, ANSWER = ("Q", "question", "instruction"), ("A", "answer", "output")
"""The headers of a table of questions and answers."""


@register_reader("instructions")
class Instructions(Reader):
    """Conversations in JSON, as one list or JSON Lines, or pairs in CSV. The keys of a row say what it is:
    `instruction`, `input` and `output` (Alpaca, KULLM); `instruction` and `instances` (Self-Instruct); `conversations`
    with `from` and `value` (ShareGPT); `messages` with `role` and `content`. A table has the columns `Q` and `A`."""

    takes_rows: ClassVar[bool] = True

    languages: tuple[str, ...] = ()
    """Keep the conversations whose answers are mostly written in the letters of these languages: `ko`, `ja`, `en`;
    empty: all."""
    min_characters: int = Field(default=1, ge=0, le=LARGEST)
    """The fewest characters of the answers of a conversation."""
    max_characters: int = Field(default=LARGEST, ge=1, le=LARGEST)
    """The most characters of a conversation."""
    drop_duplicates: bool = True
    """Leave out conversations whose texts are those of an earlier one."""

    @property
    def pairs(self) -> bool:
        return False

    def read(self, path: Path) -> Iterator[Example]:
        dropped: Counter[str] = Counter()
        kept = 0
        seen: set[bytes] = set()
        for line, name, turns in self._conversations(path):
            reason = self._reason_to_drop(turns, seen)
            if reason:
                dropped[reason] += 1
            else:
                kept += 1
                yield ConversationExample(id=name, line=line, turns=turns)
        if dropped:
            counts = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()))
            if not kept:
                raise DataError(
                    path,
                    f"no conversation is left: left out {counts}",
                    hint="check the roles of its turns and the reader's limits",
                )
            logger.info("%s: left out %s", path, counts)

    def _reason_to_drop(self, turns: Sequence[Turn], seen: set[bytes]) -> str:
        """Return why a conversation is left out; an empty text where it is kept."""
        answers = "".join(turn.text for turn in turns if turn.role == "assistant")
        if order_problem(turns):
            return "not in alternation"
        if len(answers.strip()) < self.min_characters or all(turn.role != "assistant" for turn in turns):
            return "without an answer"
        if sum(len(turn.text) + len(turn.context) for turn in turns) > self.max_characters:
            return "too long"
        if self.languages and _language(answers) not in self.languages:
            return "in another language"
        if self.drop_duplicates:
            texts = [f"{turn.role}:{turn.text}:{turn.context}" for turn in turns]
            digest = hashlib.blake2b(json.dumps(texts).encode(), digest_size=16).digest()
            if digest in seen:
                return "duplicates"
            seen.add(digest)
        return ""

    def _conversations(self, path: Path) -> Iterator[tuple[int, str, tuple[Turn, ...]]]:
        """Yield line, id and turns of each conversation."""
        # By the first character, since the endings .json and .csv do not say what is in a generated sample.
        with open_text(path) as file:
            is_json = file.read(4096).lstrip()[:1] in ("[", "{")
        if not is_json:
            yield from self._table(path)
            return
        for line, row in read_json_rows(path):
            if not isinstance(row, dict):
                raise DataError(path, f"expected a JSON object as row, got {type(row).__name__}", line=line)
            name = str(line if row.get("id") is None else row["id"])
            try:
                for index, turns in enumerate(_turns(row)):
                    yield line, f"{name}/{index}" if index else name, turns
            except (KeyError, TypeError, AttributeError) as error:
                raise DataError(path, f"not a conversation: {error}", line=line) from error

    def _table(self, path: Path) -> Iterator[tuple[int, str, tuple[Turn, ...]]]:
        rows = ((line, cells) for line, cells in read_quoted(path, ",") if cells)  # a blank line is no row
        line, header = next(rows, (1, list[str]()))
        question = next((header.index(name) for name in QUESTION if name in header), None)
        answer = next((header.index(name) for name in ANSWER if name in header), None)
        if question is None or answer is None:
            raise DataError(path, f"no columns Q and A, only {', '.join(header)}", line=line)
        for line, cells in rows:
            if len(cells) <= max(question, answer):
                raise DataError(path, "a row has too few columns", line=line)
            yield line, str(line), (Turn("user", cells[question]), Turn("assistant", cells[answer]))

    def write(self, examples: Iterable[Example], path: Path) -> None:
        with open_text(path, "w") as file:
            for example in examples:
                assert isinstance(example, ConversationExample)
                messages = [
                    {"role": turn.role, "content": turn.text, **({"context": turn.context} if turn.context else {})}
                    for turn in example.turns
                ]
                file.write(json.dumps({"id": example.id, "messages": messages}, ensure_ascii=False) + "\n")


def _turns(row: Mapping[str, Any]) -> Iterator[tuple[Turn, ...]]:
    """Yield the conversations of a row: one, or one for each instance of an instruction."""
    if "messages" in row or "conversations" in row:
        yield parse_turns(row.get("messages", row.get("conversations")))
        return
    for instance in row.get("instances", [row]):
        asked = parse_instruction({"instruction": row["instruction"], "input": instance.get("input")})
        yield asked, Turn("assistant", get_text(instance, "output"))


def parse_instruction(row: Mapping[str, Any]) -> Turn:
    """Return the turn of the user in a row with ``instruction``, and ``input`` unless it is missing or ``null``.

    Raises:
        KeyError: if there is no instruction.
        TypeError: if a value is not a string.
    """
    context = get_text(row, "input") if row.get("input") is not None else ""
    return Turn("user", get_text(row, "instruction"), context.strip())


def parse_turns(messages: Iterable[Mapping[str, Any]]) -> tuple[Turn, ...]:
    """Return the turns of some messages: each has ``role`` and ``content``, or ``from`` and ``value``, and may have
    ``context``.

    Raises:
        KeyError: if one of them is missing.
        TypeError: if a value is not a string, or a role is not known.
    """
    return tuple(map(_parse_turn, messages))


def _parse_turn(message: Mapping[str, Any]) -> Turn:
    name = get_text(message, "from" if "from" in message else "role")
    if name not in ROLES:
        raise TypeError(f"{name!r} is not one of {', '.join(ROLES)}")
    text = get_text(message, "value" if "value" in message else "content")
    return Turn(ROLES[name], text, get_text(message, "context") if "context" in message else "")


def _language(text: str) -> str:
    """Return the language that most letters of a text belong to; an empty text where it has none."""
    counts = {language: len(pattern.findall(text)) for language, pattern in LANGUAGE_LETTERS.items()}
    best = max(counts, key=lambda language: counts[language])
    return best if counts[best] else ""
