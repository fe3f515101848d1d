"""The special tokens around one or two texts, and how texts that are too long are truncated or split into windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from claf2.errors import Claf2Error
from claf2.tokenizers import BareEncoding, Encoding


@dataclass(frozen=True)
class InputTemplate:
    """The special tokens of a model input, as pieces between which one text, or two, are inserted.

    The pieces are read off encoded probes instead of being built from ``cls_token`` and ``sep_token``, because models
    differ: BERT writes ``[CLS] A [SEP] B [SEP]``, RoBERTa ``<s> A </s></s> B </s>``.
    """

    single: tuple[Encoding, Encoding]
    """What comes before and after a single text."""
    pair: tuple[Encoding, Encoding, Encoding]
    """What comes before, between and after a pair of texts."""
    type_ids: tuple[int, int]
    """The type ids (segments) of the first and of the second text."""

    @classmethod
    def from_probes(cls, single: Encoding, pair: Encoding) -> InputTemplate:
        """Read the template off an encoded text and an encoded pair, each text of at least one token."""
        return cls(
            single=(_before(single, 0), _after(single, 0)),
            pair=(_before(pair, 0), _between(pair), _after(pair, 1)),
            type_ids=(pair.type_ids[pair.sequence.index(0)], pair.type_ids[pair.sequence.index(1)]),
        )

    def assemble(self, first: BareEncoding, second: BareEncoding | None, dropped: int = 0) -> Encoding:
        """Return the model input for one text or a pair, of which ``dropped`` tokens were left out."""
        texts, (begin, *rest) = ([first], self.single) if second is None else ([first, second], self.pair)
        ids, type_ids, offsets, sequence = [*begin.ids], [*begin.type_ids], [*begin.offsets], [*begin.sequence]
        # Lists are extended as a whole: a loop over tokens would take as long as the tokenizer.
        for number, (text, special) in enumerate(zip(texts, rest, strict=True)):
            size = len(text.ids)
            ids += text.ids
            ids += special.ids
            type_ids += [self.type_ids[number]] * size
            type_ids += special.type_ids
            sequence += [number] * size
            sequence += special.sequence
            offsets += text.offsets
            offsets += special.offsets
        return Encoding(ids, type_ids, offsets if len(offsets) == len(ids) else [], sequence, dropped)

    def num_special_tokens(self, *, pair: bool) -> int:
        """Return the number of special tokens in an input."""
        return sum(len(part.ids) for part in (self.pair if pair else self.single))


def build_inputs(
    template: InputTemplate,
    first: Sequence[BareEncoding],
    second: Sequence[BareEncoding] | None,
    *,
    max_length: int,
    max_first: int | None,
    step: int | None,
    keep: Literal["start", "end"] = "start",
) -> list[list[Encoding]]:
    """Insert N bare encodings, or N pairs, into their template, truncated or in windows.

    See ``Tokenizer.encode`` for the arguments and the result.

    Raises:
        Claf2Error: if a first text is so long that a window has no room for the second.
    """
    room = max_length - template.num_special_tokens(pair=second is not None)
    inputs = []
    for index, bare in enumerate(first):
        head = bare if max_first is None else _slice_bare(bare, 0, max_first)
        tail = None if second is None else second[index]
        if step is None:
            inputs.append([_truncate(template, head, tail, max(0, room), keep)])
            continue
        space = room if tail is None else room - len(head.ids)
        if space < 1:
            raise Claf2Error(
                f"a window of {max_length} tokens has no room for the context after a question of {len(head.ids)} "
                "tokens; raise max_seq_length, or lower max_question_length"
            )
        text = head if tail is None else tail
        # A step beyond the space would leave tokens out between two windows.
        starts = _window_starts(len(text.ids), space, min(step, space))
        windows = [_slice_bare(text, start, start + space) for start in starts]
        dropped = len(bare.ids) - len(head.ids)
        inputs.append(
            [
                template.assemble(window, None) if tail is None else template.assemble(head, window, dropped)
                for window in windows
            ]
        )
    return inputs


def _truncate(
    template: InputTemplate, head: BareEncoding, tail: BareEncoding | None, room: int, keep: Literal["start", "end"]
) -> Encoding:
    """Return the one input of a text or a pair, of which ``room`` tokens stay."""
    dropped = len(head.ids) + (0 if tail is None else len(tail.ids)) - room
    if dropped <= 0:
        return template.assemble(head, tail)
    head_size, tail_size = _longest_first(len(head.ids), 0 if tail is None else len(tail.ids), room)
    start = len(head.ids) - head_size if keep == "end" else 0
    return template.assemble(
        _slice_bare(head, start, start + head_size), None if tail is None else _slice_bare(tail, 0, tail_size), dropped
    )


def _window_starts(length: int, space: int, step: int) -> list[int]:
    """Return the first token of each window; the last window is the first that reaches the end of the text."""
    starts = [0]
    while starts[-1] + space < length:
        starts.append(starts[-1] + step)
    return starts


def _longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """Return how many tokens of two texts that are too long stay if tokens are removed from the longer one, like
    `longest_first` of `tokenizers`. If both are longer than half of an odd room, the longer one (or the second of two
    equals) gets one more."""
    short, long = min(first, second), max(first, second)
    # The longer text is reduced first, at most to the length of the shorter one.
    long = short if short > room else max(short, room - short)
    # Then both give tokens in turn, which ends at one half each.
    if short + long > room:
        short, long = room // 2, room // 2 + room % 2
    return (short, long) if first <= second else (long, short)


def _slice(encoding: Encoding, start: int, end: int) -> Encoding:
    part = slice(start, end)
    return Encoding(encoding.ids[part], encoding.type_ids[part], encoding.offsets[part], encoding.sequence[part])


def _slice_bare(text: BareEncoding, start: int, end: int) -> BareEncoding:
    return BareEncoding(text.ids[start:end], text.offsets[start:end])


def _before(encoding: Encoding, number: int) -> Encoding:
    return _slice(encoding, 0, encoding.sequence.index(number))


def _after(encoding: Encoding, number: int) -> Encoding:
    return _slice(encoding, _last_index(encoding, number) + 1, len(encoding.ids))


def _between(pair: Encoding) -> Encoding:
    return _slice(pair, _last_index(pair, 0) + 1, pair.sequence.index(1))


def _last_index(encoding: Encoding, number: int) -> int:
    """Return the position of the last token of the first (0) or second (1) text."""
    return max(index for index, sequence in enumerate(encoding.sequence) if sequence == number)
