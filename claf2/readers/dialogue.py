"""Dialogues with the dialogue state after each turn of the user: KLUE DST, which is Wizard of Seoul (WoS)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from claf2.errors import DataError
from claf2.readers import (
    DialogueExample,
    Example,
    Reader,
    check_label_key,
    get_text,
    open_text,
    read_json_rows,
    register_reader,
)


@register_reader("dialogues")
class Dialogues(Reader):
    """A JSON list of dialogues with `guid` and `dialogue`, a list of turns: `role` ("user" or "sys"), `text` and, for
    turns of the user, `state`, a list of strings "domain-slot-value". Every turn of the user becomes one example, which
    holds the turns up to it."""

    takes_rows: ClassVar[bool] = True

    def read(self, path: Path) -> Iterator[Example]:
        for line, row in read_json_rows(path):
            turns: list[str] = []
            number = 0
            try:
                for turn in row["dialogue"]:
                    role, text = turn["role"], get_text(turn, "text")
                    # The model sees turns without their speaker, so it relies on the user having the first one.
                    expected = "sys" if len(turns) % 2 else "user"
                    if role != expected:
                        raise DataError(
                            path, f"{row['guid']}: expected a turn of {expected!r}, got one of {role!r}", line=line
                        )
                    turns.append(text)
                    if role == "user":
                        if "state" not in turn:
                            check_label_key(path, "state", turn, line)
                        state = None if turn.get("state") is None else dict(map(_parse_slot, turn["state"]))
                        yield DialogueExample(
                            id=f"{get_text(row, 'guid')}-{number}", line=line, turns=tuple(turns), state=state
                        )
                        number += 1
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise DataError(path, f"not a dialogue in WoS format: {error!r}", line=line) from error

    def write(self, examples: Iterable[Example], path: Path) -> None:
        # The examples of one dialogue share its guid, and each repeats the turns of the one before it.
        dialogues: dict[str, list[dict[str, Any]]] = {}
        for example in examples:
            assert isinstance(example, DialogueExample)
            turns = dialogues.setdefault(example.id.rsplit("-", 1)[0], [])
            for text in example.turns[len(turns) :]:
                turns.append({"role": "sys" if len(turns) % 2 else "user", "text": text})
                if len(turns) % 2:
                    turns[-1]["state"] = _format_state(example.state)
        rows = [{"guid": guid, "dialogue": turns} for guid, turns in dialogues.items()]
        with open_text(path, "w") as file:
            json.dump(rows, file, ensure_ascii=False, indent=1)


def _parse_slot(text: str) -> tuple[str, str]:
    """Return (domain-slot, value) of "domain-slot-value"; a value may contain further hyphens."""
    text.encode()  # raises for half of a surrogate pair, which cannot be written to UTF-8 later
    domain, slot, value = text.split("-", 2)
    return f"{domain}-{slot}", value


def _format_state(state: Mapping[str, str] | None) -> list[str] | None:
    """Return a state as the file writes it."""
    return None if state is None else [f"{slot}-{value}" for slot, value in state.items()]
