"""Rows → the arrays of a batch: tokens from shards, special tokens around them, masks and labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from claf2.corpus.encoding import BEGINS_DOCUMENT, BEGINS_EOJEOL, BEGINS_SENTENCE, BEGINS_WORD, IS_SPECIAL
from claf2.corpus.instances import Instances
from claf2.corpus.masks import DRAWS, Masks, TokenGrid
from claf2.corpus.rows import Rows
from claf2.corpus.shards import Shard
from claf2.errors import ModelError
from claf2.heads.predicted_tokens import NO_TARGET
from claf2.runtime.seed import generator
from claf2.tokenizers import Tokenizer

if TYPE_CHECKING:
    import numpy as np

__all__ = ["InputLayout", "MaskDraws"]

MASK_BELOW, RANDOM_BELOW = int(0.8 * 2**32), int(0.9 * 2**32)
"""Of 32-bit random numbers, 80 % are below the first, which stand for the mask token, and 10 % between the two, which
stand for a random token."""
SEGMENT_START = BEGINS_WORD | BEGINS_EOJEOL | BEGINS_SENTENCE | BEGINS_DOCUMENT
"""What the first token of a segment begins, wherever the text was divided."""
IS_TEXT = 128
"""Marks a place of a row that holds a token of text, beside the flags of shards."""


@dataclass(frozen=True)
class MaskDraws:
    """The random numbers of one step, for all N rows of the batch, so that they do not depend on who reads them."""

    draws: np.ndarray
    """(``DRAWS``, N, L), uint32"""
    order: np.ndarray
    """A random order of the rows: (N,), in [0, 1), evenly spaced."""

    @classmethod
    def of_step(cls, seed: int, step: int | str, rows: int, length: int) -> MaskDraws:
        """Draw the numbers of a step.

        Args:
            seed: the seed of the run.
            step: the optimizer step, or the name of what is drawn once.
            rows: N, the rows of the whole batch.
            length: L, the length of its rows in tokens.
        """
        raw = generator(seed, "mask", step).bit_generator.random_raw(DRAWS * rows * length // 2 + 1)
        draws = raw.astype("<u8", copy=False).view("<u4")[: DRAWS * rows * length].reshape(DRAWS, rows, length)
        order = generator(seed, "mask", "order", step)
        return cls(draws, (order.permutation(rows) + order.random()) / max(1, rows))


class InputLayout:
    """How the segments of a row and the special tokens of a tokenizer become a model input.

    Args:
        tokenizer: the tokenizer that the shards were made with.
        kind: how the rows were made.
        hides: whether tokens will be masked.

    Raises:
        ModelError: if the tokenizer has no mask token.
    """

    def __init__(self, tokenizer: Tokenizer, kind: Instances, *, hides: bool) -> None:
        import numpy as np

        template = tokenizer.template
        parts = template.single if kind.segments == 1 else template.pair
        self._before, self._after = parts[0].ids, parts[-1].ids
        self._gap = template.pair[1].ids if kind.segments == 2 else [tokenizer.separator_id]
        self._separates_documents = kind.inserts_separators
        self._second_type = template.type_ids[1] if kind.segments == 2 else template.type_ids[0]
        self._first_type = template.type_ids[0]
        self._pad_id = tokenizer.pad_id
        if tokenizer.mask_id is None and hides:
            raise ModelError("the tokenizer has no mask token; masked language modeling needs one, such as [MASK]")
        self._mask_id = tokenizer.pad_id if tokenizer.mask_id is None else tokenizer.mask_id
        # What random tokens are drawn from. A vocabulary may have gaps.
        self._ordinary_ids = np.array(sorted({*tokenizer.entries.values()} - tokenizer.special_ids), np.int32)
        self.special_tokens = sum(len(part.ids) for part in parts)
        """The number of special tokens of a row, separators between documents excluded."""

    def arrays(
        self, rows: Rows, shard: Callable[[int], Shard], length: int, masks: Masks, draws: MaskDraws, step: int
    ) -> dict[str, np.ndarray]:
        """Return ``input_ids``, ``attention_mask``, ``token_type_ids`` and ``labels``, each (B, L), int32; and for
        pairs ``next_sentence_label``, (B,): 1 where the second text does not follow the first one. Where tokens are
        deleted, the inputs are what is left, and the labels are the tokens of the whole text that follow each other.

        Args:
            rows: B rows.
            shard: returns the shard with a number.
            length: L.
            masks: which tokens are chosen.
            draws: the random numbers of the same B rows.
            step: the optimizer step.
        """
        import numpy as np

        ids, flags, types, lengths = self.tokens(rows, shard, length)
        is_token = np.arange(length) < lengths[:, None]
        if masks.effect == "predict_next":
            return {
                "input_ids": ids,
                "attention_mask": is_token.astype(np.int32),
                "token_type_ids": types,
                "labels": _next_ids(ids, is_token),
            }
        selected = self.select(flags, masks, draws, step)
        if masks.effect == "delete":
            return self._delete(ids, types, is_token, selected) | {"labels": _next_ids(ids, is_token)}
        arrays = {
            "input_ids": self._hide(ids, selected, draws.draws),
            "attention_mask": is_token.astype(np.int32),
            "token_type_ids": types,
            "labels": np.where(selected, ids, np.int32(NO_TARGET)),
        }
        if rows.starts.shape[1] == 2:
            arrays["next_sentence_label"] = rows.random_next.astype(np.int32)
        return arrays

    def select(self, flags: np.ndarray, masks: Masks, draws: MaskDraws, step: int) -> np.ndarray:
        """Return which tokens of rows with these flags are chosen, (B, L); see ``tokens`` and ``arrays``."""
        maskable = (flags & (IS_TEXT | IS_SPECIAL)) == IS_TEXT
        return masks.select(TokenGrid(flags, maskable, draws.draws, draws.order), step)

    def tokens(
        self, rows: Rows, shard: Callable[[int], Shard], length: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return the ids, flags and type ids of B rows, (B, L), and their lengths in tokens, (B,), before anything is
        masked. Flags are those of shards, with ``IS_TEXT`` at tokens of text and 0 at special tokens and padding."""
        import numpy as np

        size, segments = rows.starts.shape
        text_ids, text_flags = [], []
        segments_of_shards = zip(
            rows.shards.ravel().tolist(), rows.starts.ravel().tolist(), rows.ends.ravel().tolist(), strict=True
        )
        opened = {number: shard(number) for number in np.unique(rows.shards).tolist()}
        for number, start, end in segments_of_shards:
            source = opened[number]
            text_ids.append(source.ids[start:end])
            text_flags.append(source.flags[start:end])
        ids, flags = np.concatenate(text_ids), np.concatenate(text_flags) | np.uint8(IS_TEXT)
        counts = rows.lengths()
        firsts = np.cumsum(counts.ravel()) - counts.ravel()
        flags[firsts[counts.ravel() > 0]] |= SEGMENT_START

        # Special tokens inside a row move what follows them. A row begins `row_firsts` tokens into the text.
        row_firsts, row_counts = firsts[::segments], counts.sum(1)
        gap_before = np.zeros(len(ids), bool)
        if segments == 2:
            gap_before[firsts[1::2]] = True
        elif self._separates_documents:
            gap_before |= (flags & BEGINS_DOCUMENT) != 0
            gap_before[row_firsts] = False
        gaps = np.cumsum(gap_before) * len(self._gap)
        gaps_of_rows = gaps[row_firsts]
        row_of_token = np.repeat(np.arange(size), row_counts)
        # The place of a token in the flat array of B * L places.
        shifts = np.arange(size) * length + len(self._before) - row_firsts - gaps_of_rows
        places = np.arange(len(ids)) + gaps + shifts[row_of_token]
        lengths = len(self._before) + row_counts + gaps[row_firsts + row_counts - 1] - gaps_of_rows + len(self._after)

        out_ids = np.full(size * length, self._pad_id, np.int32)
        out_flags = np.zeros(size * length, np.uint8)
        out_ids[places] = ids
        out_flags[places] = flags
        starts = np.arange(size) * length
        for offset, special in enumerate(self._before):
            out_ids[starts + offset] = special
        for offset, special in enumerate(self._after):
            out_ids[starts + lengths - len(self._after) + offset] = special
        for offset, special in enumerate(self._gap):
            out_ids[places[gap_before] - len(self._gap) + offset] = special
        types = np.zeros((size, length), np.int32)
        if (self._first_type, self._second_type) != (0, 0):
            columns = np.arange(length)
            second = columns >= (len(self._before) + counts[:, 0] + len(self._gap))[:, None]
            types[:] = np.where(second, self._second_type, self._first_type)
            types[columns >= lengths[:, None]] = 0
        return out_ids.reshape(size, length), out_flags.reshape(size, length), types, lengths

    def _delete(
        self, ids: np.ndarray, types: np.ndarray, is_token: np.ndarray, selected: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return the inputs without the selected tokens; what follows them moves to the left."""
        import numpy as np

        kept = is_token & ~selected
        rows, columns = np.nonzero(kept)
        places = (np.cumsum(kept, axis=1) - 1)[rows, columns]
        left_ids, left_types = np.full_like(ids, self._pad_id), np.zeros_like(types)
        left_ids[rows, places], left_types[rows, places] = ids[rows, columns], types[rows, columns]
        mask = np.arange(ids.shape[1]) < kept.sum(1, keepdims=True)
        return {"input_ids": left_ids, "attention_mask": mask.astype(np.int32), "token_type_ids": left_types}

    def _hide(self, ids: np.ndarray, selected: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """Return the ids with the selected ones replaced, (B, L)."""
        import numpy as np

        hidden = ids.copy()
        rows, places = np.nonzero(selected)
        chance = draws[1][rows, places]
        hidden[rows, places] = np.where(chance < MASK_BELOW, np.int32(self._mask_id), ids[rows, places])
        is_random = (chance >= MASK_BELOW) & (chance < RANDOM_BELOW)
        rows, places = rows[is_random], places[is_random]
        # A product of two 32-bit numbers: the high half of the 64 bits is an index into the ordinary ids.
        index = (draws[2][rows, places].astype(np.uint64) * np.uint64(len(self._ordinary_ids))) >> np.uint64(32)
        hidden[rows, places] = self._ordinary_ids[index.astype(np.int64)]
        return hidden


def _next_ids(ids: np.ndarray, is_token: np.ndarray) -> np.ndarray:
    """Return the id that follows each token, (B, L), or ``NO_TARGET``."""
    import numpy as np

    following = np.full_like(ids, NO_TARGET)
    following[:, :-1] = np.where(is_token[:, 1:], ids[:, 1:], NO_TARGET)
    return following
