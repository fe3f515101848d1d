"""The special tokens around one or two texts, and how what is too long is cut or laid out in windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from claf2.errors import Claf2Error
from claf2.tokenizers import Encoding


@dataclass(frozen=True)
class Frame:
    """Where the special tokens stand: pieces between which one text, or two, are put.

    Each piece is (ids, type ids); ``types`` are the type ids of the first and the second text.
    """

    single: tuple[Encoding, Encoding]
    pair: tuple[Encoding, Encoding, Encoding]
    types: tuple[int, int]

    @classmethod
    def of(cls, single: Encoding, pair: Encoding) -> Frame:
        """Read the frame off an encoded text and an encoded pair (of at least one token each)."""
        return cls(
            single=(_specials(single, 0, 0), _specials(single, 0, 1)),
            pair=(_specials(pair, 0, 0), _between(pair), _specials(pair, 1, 1)),
            types=(pair.type_ids[pair.sequence.index(0)], pair.type_ids[pair.sequence.index(1)]),
        )

    def around(self, first: Encoding, second: Encoding | None) -> Encoding:
        """Return the input of one text or a pair, given their bare encodings."""
        parts = [self.single[0], _as(first, 0, self.types[0]), self.single[1]]
        if second is not None:
            parts = [self.pair[0], parts[1], self.pair[1], _as(second, 1, self.types[1]), self.pair[2]]
        return Encoding(
            ids=[each for part in parts for each in part.ids],
            type_ids=[each for part in parts for each in part.type_ids],
            offsets=[each for part in parts for each in part.offsets],
            sequence=[each for part in parts for each in part.sequence],
        )

    def size(self, *, paired: bool) -> int:
        """Return the number of special tokens."""
        return sum(len(part.ids) for part in (self.pair if paired else self.single))


def windows(
    frame: Frame,
    first: Sequence[Encoding],
    second: Sequence[Encoding] | None,
    *,
    max_length: int,
    max_first: int | None,
    step: int | None,
    keep: Literal["start", "end"] = "start",
) -> list[list[Encoding]]:
    """Put bare encodings into their frames, cut or in windows, as ``Tokenizer.encode`` describes it."""
    room = max_length - frame.size(paired=second is not None)
    result = []
    for index, whole in enumerate(first):
        head = whole if max_first is None else _cut(whole, 0, max_first)
        tail = None if second is None else second[index]
        if step is None:
            kept = _longest_first(len(head.ids), 0 if tail is None else len(tail.ids), max(0, room))
            rest = None if tail is None else _cut(tail, 0, kept[1])
            start = len(head.ids) - kept[0] if keep == "end" else 0
            result.append([frame.around(_cut(head, start, start + kept[0]), rest)])
            continue
        space = room if tail is None else room - len(head.ids)
        if space < 1:
            raise Claf2Error(
                f"a window of {max_length} tokens leaves no room for the text behind a first text of {len(head.ids)}: "
                "raise max_seq_length, or lower max_question_length"
            )
        last = head if tail is None else tail
        cuts = [_cut(last, start, start + space) for start in _starts(len(last.ids), space, min(step, space))]
        result.append([frame.around(cut, None) if tail is None else frame.around(head, cut) for cut in cuts])
    return result


def _starts(length: int, space: int, step: int) -> list[int]:
    """Return where windows begin: the last one is the first that reaches the end."""
    starts = [0]
    while starts[-1] + space < length:
        starts.append(starts[-1] + step)
    return starts


def _longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """Return how many tokens of each text stay when the longer one gives first; of an odd room the second gets more,
    as in `tokenizers`."""
    if first + second <= room:
        return first, second
    short, long = min(first, second), max(first, second)
    long = short if short > room else max(short, room - short)
    if short + long > room:
        short, long = room // 2, room // 2 + room % 2
    return (short, long) if first <= second else (long, short)


def _cut(encoding: Encoding, start: int, end: int) -> Encoding:
    part = slice(start, end)
    return Encoding(encoding.ids[part], encoding.type_ids[part], encoding.offsets[part], encoding.sequence[part])


def _as(encoding: Encoding, sequence: int, type_id: int) -> Encoding:
    size = len(encoding.ids)
    return Encoding(encoding.ids, [type_id] * size, encoding.offsets, [sequence] * size)


def _specials(encoding: Encoding, sequence: int, side: int) -> Encoding:
    """Return the special tokens before (side 0) or behind (side 1) a text."""
    places = [index for index, each in enumerate(encoding.sequence) if each == sequence]
    return _cut(encoding, 0, places[0]) if side == 0 else _cut(encoding, places[-1] + 1, len(encoding.ids))


def _between(pair: Encoding) -> Encoding:
    last = max(index for index, each in enumerate(pair.sequence) if each == 0)
    return _cut(pair, last + 1, pair.sequence.index(1))
