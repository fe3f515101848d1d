"""Compute a causal language model only for the tokens with a target, with several texts in a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from claf2.heads.networks.ranking import block_causal_mask, check_fits_window, check_takes_positions, logits_of_places
from claf2.heads.predicted_tokens import NO_TARGET

__all__ = ["fill_rows", "predict_next"]


def fill_rows(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Return which texts share a row of ``room`` tokens: the longest first, each into the first row that has room.

    Args:
        lengths: the number of tokens of each text, at most ``room``.
        room: the tokens of a row.
    """
    rows: list[list[int]] = []
    free: list[int] = []
    for text in sorted(range(len(lengths)), key=lambda text: -lengths[text]):
        row = next((row for row, left in enumerate(free) if left >= lengths[text]), len(rows))
        if row == len(rows):
            rows.append([])
            free.append(room)
        rows[row].append(text)
        free[row] -= lengths[text]
    return rows


def _pack(lengths: Sequence[int], room: int) -> tuple[list[list[int]], list[list[int]], list[list[int]]]:
    """Return the places of B texts in packed rows: for each row the places among B * L, the texts and the positions."""
    places, texts, positions = [], [], []
    for row in fill_rows(lengths, room):
        padding = room - sum(lengths[text] for text in row)
        places.append([text * room + place for text in row for place in range(lengths[text])] + [0] * padding)
        texts.append([text for text in row for _ in range(lengths[text])] + [-1] * padding)
        positions.append([place for text in row for place in range(lengths[text])] + [0] * padding)
    return places, texts, positions


def predict_next(module: Any, *, packs: bool) -> Callable[..., dict[str, Any]]:
    """Return a pass of a causal language model. It takes ``input_ids`` and ``attention_mask``, (B, L), and ``labels``,
    (B, L): the id that follows each token, or ``NO_TARGET``.

    It returns ``logits``, (1, M, V), of the M tokens with a target; ``target_ids`` and ``target_rows``, both (M,); and
    ``rows``, the number B.

    Args:
        module: a causal language model of `transformers`.
        packs: whether texts of a batch share rows. Each sees itself alone and has the positions that it would have in
            a row of its own, so the outputs are the same.

    Raises:
        ModelError: if the model cannot be packed; and from the pass, if rows are longer than its attention window.
    """
    if packs:
        check_takes_positions(module, "use --pack_texts false")
    logits_of = logits_of_places(module)

    def compute(
        input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor, **_: torch.Tensor
    ) -> dict[str, Any]:
        size, length = input_ids.shape
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        rows = torch.arange(size, device=input_ids.device)[:, None].expand(-1, length)
        targets = labels
        if packs:
            check_fits_window(module, length, "--pack_texts to false")
            parts = _pack(attention_mask.sum(1).tolist(), length)
            places, rows, positions = (torch.tensor(part, device=input_ids.device) for part in parts)
            inputs = {
                "input_ids": input_ids.flatten()[places],
                "attention_mask": block_causal_mask(rows, next(module.parameters()).dtype),
                "position_ids": positions,
            }
            targets = labels.flatten()[places].masked_fill(rows < 0, NO_TARGET)
        with_target = (targets.flatten() != NO_TARGET).nonzero().squeeze(1)
        return {
            "logits": logits_of(with_target, **inputs)[None],
            "target_ids": targets.flatten()[with_target],
            "target_rows": rows.flatten()[with_target],
            "rows": size,
        }

    return compute
