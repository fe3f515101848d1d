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

__all__ = [
    "Ranking",
    "block_causal_mask",
    "check_fits_window",
    "check_takes_positions",
    "logits_of_places",
    "rank_by_decoder",
    "rank_by_mask",
    "rank_by_tree",
]


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
    query, key = segments[:, :, None], segments[:, None, :]
    visible = query == key if shared is None else (query == key) | ((key == shared) & (query >= 0))
    visible = visible & torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    visible = visible & (query >= 0) | torch.eye(length, dtype=torch.bool, device=segments.device)
    mask = torch.zeros(visible.shape, dtype=dtype, device=segments.device)
    return mask.masked_fill(~visible, torch.finfo(dtype).min)[:, None]


def _attention_window(config: Any) -> int | None:
    """Return how many tokens the attention of any layer reaches over, or ``None`` where it reaches over all."""
    settings = config.get_text_config()
    kinds = getattr(settings, "layer_types", None) or getattr(settings, "attention_layers", None)
    if kinds and not set(kinds) & {"sliding_attention", "chunked_attention", "local"}:
        return None
    names = ("sliding_window", "window_size", "attention_chunk_size")
    sizes = [size for name in names if isinstance(size := getattr(settings, name, None), int)]
    return min(sizes, default=None)


def check_takes_positions(module: Any, hint: str) -> None:
    """Check that a decoder lets several texts share a row: each must have the outputs that it has alone.

    Some models ignore the mask, because they have convolutions or states that run over the whole row.

    Args:
        module: a causal language model of `transformers`.
        hint: what to do otherwise.

    Raises:
        ModelError: if it takes no position ids, or mixes the texts of a row.
    """
    base = module.base_model
    if "position_ids" not in inspect.signature(base.forward).parameters:
        name = type(module).__name__
        raise ModelError(f"{name} takes no position ids, so several texts cannot share a row; {hint}")
    device = next(module.parameters()).device
    size = min(8, _attention_window(module.config) or 8)  # longer texts would differ by the window
    draws = torch.Generator().manual_seed(0)
    first, other, text = torch.randint(module.config.get_text_config().vocab_size, (3, size), generator=draws)
    ids = torch.stack([torch.cat([first, text]), torch.cat([other, text])]).to(device)
    segments = torch.arange(2, device=device).repeat_interleave(size).expand(2, -1)
    positions = torch.arange(size, device=device).repeat(2).expand(2, -1)
    mask = block_causal_mask(segments, next(module.parameters()).dtype)
    is_training = base.training
    base.eval()
    with torch.no_grad():
        rows = base(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)[0][:, size:].float()
        alone = base(input_ids=ids[:1, size:], use_cache=False)[0].float()
    base.train(is_training)
    scale = alone.abs().max()
    # Where the texts are not mixed, rows of equal shapes have outputs that are equal up to rounding, whatever the first
    # text is. Those of other shapes differ more.
    if (rows[0] - rows[1]).abs().max() > 1e-5 * scale or (rows - alone).abs().max() > 1e-3 * scale:
        raise ModelError(f"{type(module).__name__} mixes the texts of a row; {hint}")


def check_fits_window(module: Any, length: int, *others: str) -> None:
    """Check that the attention of a decoder reaches over rows: ``block_causal_mask`` takes the place of its own mask,
    and with it of its window.

    Args:
        module: a causal language model of `transformers`.
        length: the tokens of a row.
        others: what else can be done about longer rows.

    Raises:
        ModelError: if rows are longer than the window.
    """
    window = _attention_window(module.config)
    if window is not None and length > window:
        hint = ", or ".join([f"set --max_seq_length to {window} or less", *others])
        raise ModelError(f"rows of {length} tokens exceed the attention window of {window}; {hint}")


def logits_of_places(module: Any) -> Callable[..., torch.Tensor]:
    """Return a pass of a language model that computes logits only for some tokens, since those of all need much memory.

    It takes ``places``, (M,), among the B * L tokens, and the module's own arguments. It returns (M, V).
    """
    chosen: list[torch.Tensor] = []

    def select(_: nn.Module, args: tuple[Any, ...], outputs: Any) -> Any:
        """Pass only the hidden states of the chosen positions to the layer that computes logits."""
        if chosen:
            outputs.last_hidden_state = outputs.last_hidden_state.flatten(0, 1).index_select(0, chosen[-1])[None]
        return outputs

    module.base_model.register_forward_hook(select)

    def compute(places: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        chosen.append(places)
        try:
            logits: torch.Tensor = module(**inputs, use_cache=False).logits
        finally:
            chosen.clear()
        return logits[0]

    return compute


def _answer_log_probabilities(
    logits_of: Callable[..., torch.Tensor], dtype: torch.dtype, ids: torch.Tensor, segments: torch.Tensor, answers: int
) -> torch.Tensor:
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
    row, place = (segments > 0).nonzero(as_tuple=True)
    # What predicts a token is the token before it; the first one of an answer is predicted by the end of the prompt.
    before = torch.where(begins[row, place], prompt[row, 0] - 1, place - 1)
    logits = logits_of(
        row * length + before,
        input_ids=ids,
        attention_mask=block_causal_mask(segments, dtype, shared=0),
        position_ids=positions,
    ).float()
    log_probabilities = log_softmax(logits, -1).gather(1, ids[row, place, None])[:, 0]
    sums = log_probabilities.new_zeros(rows * answers)
    return sums.index_add(0, row * answers + segments[row, place] - 1, log_probabilities).view(rows, answers)


def rank_by_tree(module: Any) -> Callable[..., Ranking]:
    """Return a pass of a causal language model that ranks the answers of each row.

    It takes ``input_ids`` and ``segments``, (B, L); ``divisors``, (B, C); and where answers are calibrated
    ``free_ids`` and ``free_segments``, (B, M), the same answers after a prompt without content.

    Raises:
        ModelError: if several texts cannot share a row of the model.
    """
    check_takes_positions(module, "use a model with attention alone and position ids, such as Llama or GPT-NeoX")
    logits_of = logits_of_places(module)

    def sums_of(ids: torch.Tensor, segments: torch.Tensor, answers: int) -> torch.Tensor:
        check_fits_window(module, ids.shape[1])
        return _answer_log_probabilities(logits_of, next(module.parameters()).dtype, ids, segments, answers)

    def rank(
        input_ids: torch.Tensor,
        segments: torch.Tensor,
        divisors: torch.Tensor,
        free_ids: torch.Tensor | None = None,
        free_segments: torch.Tensor | None = None,
        **_: torch.Tensor,
    ) -> Ranking:
        count = divisors.shape[1]
        sums = sums_of(input_ids, segments, count)
        scores = sums / divisors
        if free_ids is not None and free_segments is not None:
            # Most rows have the same demonstrations, and so the same prompt without content.
            both, index = torch.cat([free_ids, free_segments], 1).unique(dim=0, return_inverse=True)  # type: ignore[no-untyped-call]
            ids, parts = both.chunk(2, 1)
            scores = scores - sums_of(ids, parts, count)[index]
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
            log_probabilities = log_softmax(logits, -1).gather(2, targets[:, :, None])[:, :, 0]
            sums.append((log_probabilities * real).sum(1))
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
        """Pass only the hidden state of the masked position to the decoder, since logits need much memory."""
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
