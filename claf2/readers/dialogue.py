"""Dialogues with the state after each turn of the user: KLUE DST (WoS)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from claf2.errors import DataError
from claf2.readers import DialogueExample, Example, Reader, json_rows, open_text, register_reader, text_of


@register_reader("dialogues")
class Dialogues(Reader):
    """A JSON list of dialogues, each with a `guid` and a list `dialogue` of turns (`role` "user" or "sys", `text`, and
    of the user's turns the `state`: texts "domain-slot-value"). Each turn of the user is an example, with all before
    it."""

    takes_rows: ClassVar[bool] = True

    def read(self, path: Path) -> Iterator[Example]:
        for line, row in json_rows(path):
            turns: list[str] = []
            number = 0
            try:
                for turn in row["dialogue"]:
                    role, text = turn["role"], text_of(turn, "text")
                    if role not in ("user", "sys") or (role == "user") != (len(turns) % 2 == 0):
                        raise DataError(path, f"{row['guid']}: a turn of {role!r} out of turn", line=line)
                    turns.append(text)
                    if role == "user":
                        state = None if turn.get("state") is None else dict(map(_slot, turn["state"]))
                        yield DialogueExample(
                            id=f"{text_of(row, 'guid')}-{number}", line=line, turns=tuple(turns), state=state
                        )
                        number += 1
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise DataError(path, f"not a dialogue of this form: {error!r}", line=line) from error

    def write(self, examples: Iterable[Example], path: Path) -> None:
        dialogues: dict[str, list[dict[str, Any]]] = {}
        for example in examples:
            assert isinstance(example, DialogueExample)
            turns = dialogues.setdefault(example.id.rsplit("-", 1)[0], [])
            for text in example.turns[len(turns) :]:
                turns.append({"role": "sys" if len(turns) % 2 else "user", "text": text})
                if len(turns) % 2:
                    turns[-1]["state"] = _written(example.state)
        rows = [{"guid": guid, "dialogue": turns} for guid, turns in dialogues.items()]
        with open_text(path, "w") as file:
            json.dump(rows, file, ensure_ascii=False, indent=1)


def _slot(text: str) -> tuple[str, str]:
    """Take "domain-slot-value" apart; a value may hold further hyphens."""
    text.encode()  # half a character is refused here
    domain, slot, value = text.split("-", 2)
    return f"{domain}-{slot}", value


def _written(state: Mapping[str, str] | None) -> list[str] | None:
    return None if state is None else [f"{slot}-{value}" for slot, value in state.items()]
