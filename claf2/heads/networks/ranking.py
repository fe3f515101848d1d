"""How language models rank answers: by their log-probabilities, or by their words' logits at a mask."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import log_softmax

from claf2.errors import ModelError

__all__ = ["Ranking", "block_causal_mask", "check_takes_positions", "rank_by_decoder", "rank_by_mask", "rank_by_tree"]


@dataclass
class Ranking:
    """What a language model says about the answers of B rows."""

    logits: torch.Tensor
    """The score of each answer, (B, C): probabilities are their softmax."""
    log_probabilities: torch.Tensor | None = None
    """The sum of the log-probabilities of each answer's tokens, (B, C)."""


def block_causal_mask(segments: torch.Tensor, dtype: torch.dtype, *, shared: int | None = None) -> torch.Tensor:
    """Return an additive attention mask, (B, 1, L, L): a token sees itself and the earlier tokens of its segment.

    Args:
        segments: the segment of each token, (B, L); negative for padding, which sees and is seen by itself alone.
        dtype: of the mask.
        shared: a segment that all others see; ``None``: there is none.
    """
    length = segments.shape[1]
    own, other = segments[:, :, None], segments[:, None, :]
    visible = own == other if shared is None else (own == other) | ((other == shared) & (own >= 0))
    visible = visible & torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    visible = visible & (own >= 0) | torch.eye(length, dtype=torch.bool, device=segments.device)
    mask = torch.zeros(visible.shape, dtype=dtype, device=segments.device)
    return mask.masked_fill(~visible, torch.finfo(dtype).min)[:, None]


def check_takes_positions(module: nn.Module) -> None:
    """Check that a decoder lets several texts share a row.

    Raises:
        ModelError: if it takes no position ids.
    """
    base: Any = module.base_model
    if "position_ids" not in inspect.signature(base.forward).parameters:
        raise ModelError(f"{type(module).__name__} takes no position ids, so several texts cannot share a row")


def _answer_log_probabilities(module: Any, ids: torch.Tensor, segments: torch.Tensor, answers: int) -> torch.Tensor:
    """Return the sum of the log-probabilities of each answer of each row, (B, C).

    All answers are computed in one pass: they follow the prompt in one row, with the positions that each would have
    alone, and do not see each other.
    """
    rows, length = ids.shape
    places = torch.arange(length, device=ids.device).expand(rows, -1)
    prompt = (segments == 0).sum(1, keepdim=True)
    begins = torch.ones_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    starts = torch.where(begins, places, 0).cummax(1).values
    positions = torch.where(segments > 0, prompt + places - starts, torch.where(segments == 0, places, 0))
    dtype = next(module.parameters()).dtype
    hidden = module.base_model(
        input_ids=ids,
        attention_mask=block_causal_mask(segments, dtype, shared=0),
        position_ids=positions,
        use_cache=False,
    )[0]
    row, place = (segments > 0).nonzero(as_tuple=True)
    # What predicts a token is the token before it; the first one of an answer is predicted by the end of the prompt.
    before = torch.where(begins[row, place], prompt[row, 0] - 1, place - 1)
    logits = module.get_output_embeddings()(hidden[row, before]).float()
    own = log_softmax(logits, -1).gather(1, ids[row, place, None])[:, 0]
    sums = own.new_zeros(rows * answers).index_add(0, row * answers + segments[row, place] - 1, own)
    return sums.view(rows, answers)


def rank_by_tree(module: Any) -> Callable[..., Ranking]:
    """Return a pass of a causal language model that ranks the answers of each row.

    It takes ``input_ids`` and ``segments``, (B, L); ``divisors``, (B, C); and where answers are calibrated
    ``free_ids`` and ``free_segments``, (B, M), the same answers behind a prompt without content.
    """
    check_takes_positions(module)

    def rank(
        input_ids: torch.Tensor,
        segments: torch.Tensor,
        divisors: torch.Tensor,
        free_ids: torch.Tensor | None = None,
        free_segments: torch.Tensor | None = None,
        **_: torch.Tensor,
    ) -> Ranking:
        count = divisors.shape[1]
        sums = _answer_log_probabilities(module, input_ids, segments, count)
        scores = sums / divisors
        if free_ids is not None and free_segments is not None:
            # Most rows have the same demonstrations, and so the same prompt without content.
            both, index = torch.cat([free_ids, free_segments], 1).unique(dim=0, return_inverse=True)  # type: ignore[no-untyped-call]
            ids, parts = both.chunk(2, 1)
            scores = scores - _answer_log_probabilities(module, ids, parts, count)[index]
        return Ranking(scores, sums)

    return rank


def rank_by_decoder(module: Any, *, per_token: bool) -> Callable[..., Ranking]:
    """Return a pass of an encoder-decoder that ranks answers: the encoder once, and the decoder once for each answer.

    It takes ``input_ids`` and ``attention_mask``, (B, L), and ``answer_ids``, (B, C, T), padded with negative ids. The
    passes of an answer do not depend on the other answers, so their order changes no score.

    Args:
        module: an encoder-decoder of `transformers`.
        per_token: whether scores are means over tokens, and not sums.
    """

    def rank(
        input_ids: torch.Tensor, attention_mask: torch.Tensor, answer_ids: torch.Tensor, **_: torch.Tensor
    ) -> Ranking:
        encoded = module.get_encoder()(input_ids=input_ids, attention_mask=attention_mask)
        sums, sizes = [], []
        for ids in answer_ids.unbind(1):
            real = ids >= 0
            longest = int(real.sum(1).max())
            targets, real = ids[:, :longest].clamp(min=0), real[:, :longest]
            labels = targets.masked_fill(~real, -100)
            # With labels, the module shifts them to the right as its architecture wants.
            logits = module(
                encoder_outputs=encoded, attention_mask=attention_mask, labels=labels, use_cache=False
            ).logits.float()
            own = log_softmax(logits, -1).gather(2, targets[:, :, None])[:, :, 0]
            sums.append((own * real).sum(1))
            sizes.append(real.sum(1))
        total, count = torch.stack(sums, 1), torch.stack(sizes, 1)
        return Ranking(total / count if per_token else total, total)

    return rank


def rank_by_mask(module: Any) -> Callable[..., Ranking]:
    """Return a pass of a masked language model that compares the logits of words at one masked place of each row.

    It takes the module's own arguments, ``mask_places``, (B,), and ``word_ids``, (B, C).
    """
    chosen: list[torch.Tensor] = []

    def select(_: nn.Module, args: tuple[Any, ...], outputs: Any) -> Any:
        """Pass the hidden state of the masked place alone to the decoder: the logits of a vocabulary are large."""
        if not chosen:
            return None
        hidden = outputs.last_hidden_state
        rows = torch.arange(len(hidden), device=hidden.device)
        outputs.last_hidden_state = hidden[rows, chosen[-1]][:, None]
        return outputs

    module.base_model.register_forward_hook(select)

    def rank(mask_places: torch.Tensor, word_ids: torch.Tensor, **inputs: torch.Tensor) -> Ranking:
        chosen.append(mask_places)
        try:
            logits = module(**inputs).logits[:, 0].float()
        finally:
            chosen.clear()
        return Ranking(logits.gather(1, word_ids))

    return rank
