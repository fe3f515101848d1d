"""Attention with dropout on a CPU, in blocks that fit into the processor's cache.

For attention with dropout, PyTorch has no fused kernel on a CPU: it writes the scores of all pairs of tokens to memory
several times, and draws one random number of 64 bits for each. For rows of 384 tokens this takes more time than all
other parts of a BERT layer. Here a block of scores stays in the cache from the product to the output, the backward pass
computes it again (Dao et al., 2022, https://arxiv.org/abs/2205.14135), and one random number serves two scores.
"""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["attend_with_dropout"]

SCORES_PER_BLOCK = 100_000
"""The number of scores in a block: 0.4 MB in fp32."""


def attend_with_dropout(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    *,
    dropout: float,
    scale: float,
) -> torch.Tensor:
    """Return softmax(scale * query keyᵀ) value, with dropout of the softmax, (B, heads, L, D).

    Which scores are dropped depends on PyTorch's global generator, which gives one seed for a call, and not on the
    number of threads. The probability is exact to 2⁻³².

    Args:
        query: (B, heads, L, D).
        key: the same, so that there are as many keys as queries.
        value: the same.
        mask: the keys to attend to, (B, 1, 1, L), at least one in each row; all of them unless given.
        dropout: the probability of dropping a score, between 0 and 1.
        scale: the factor of the scores.
    """
    rows, heads, length, _ = query.shape
    bias = None
    if mask is not None:
        bias = torch.zeros(mask.shape).masked_fill_(~mask, float("-inf"))
        bias = bias.expand(rows, heads, 1, length).reshape(rows * heads, 1, length)
    flat = [tensor.flatten(0, 1) for tensor in (query, key, value)]
    attended: torch.Tensor = _BlockAttention.apply(*flat, bias, dropout, scale)  # type: ignore[no-untyped-call]
    return attended.view(rows, heads, length, -1)


class _BlockAttention(torch.autograd.Function):
    """The same for (N, L, D), N being rows times heads; ``bias`` is added to the scores, (N, 1, L)."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        bias: torch.Tensor | None,
        dropout: float,
        scale: float,
    ) -> torch.Tensor:
        count, length, _ = query.shape
        generator = torch.Generator().manual_seed(int(torch.randint(2**63 - 1, ())))
        dropped_of_all = round(dropout * 2**32)
        kept_scale = 1 / (1 - dropped_of_all / 2**32)
        output = torch.empty_like(value)
        log_sums = torch.empty(count, length, 1)
        kept = torch.empty(count, length, length, dtype=torch.bool)
        with torch.autocast("cpu", enabled=False):
            for block in _blocks(count, length):
                scores = _scores(query[block], key[block], bias, block, scale)
                highest = scores.amax(-1, keepdim=True)
                weights = scores.sub_(highest).exp_()
                sums = weights.sum(-1, keepdim=True)
                torch.add(highest, sums.log(), out=log_sums[block])
                # A signed number of 32 bits is below this limit with the probability of dropout.
                torch.ge(_random_numbers(weights.shape, generator), dropped_of_all - 2**31, out=kept[block])
                weights.mul_(kept[block]).mul_(kept_scale / sums)
                torch.bmm(weights.to(value.dtype), value[block], out=output[block])
        ctx.save_for_backward(query, key, value, bias, output, log_sums, kept)
        ctx.scale, ctx.kept_scale = scale, kept_scale
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        query, key, value, bias, output, log_sums, kept = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        count, length, _ = query.shape
        query_gradient, key_gradient, value_gradient = (torch.empty_like(tensor) for tensor in (query, key, value))
        # The gradient of the softmax needs the sum of weights times their gradients, which is that of the outputs.
        common = (gradient.float() * output.float()).sum(-1, keepdim=True)
        with torch.autocast("cpu", enabled=False):
            for block in _blocks(count, length):
                weights = _scores(query[block], key[block], bias, block, ctx.scale).sub_(log_sums[block]).exp_()
                dropped_weights = (weights * kept[block]).mul_(ctx.kept_scale).to(value.dtype)
                torch.bmm(dropped_weights.transpose(1, 2), gradient[block], out=value_gradient[block])
                scores_gradient = _float(torch.bmm(gradient[block], value[block].transpose(1, 2)))
                scores_gradient.mul_(kept[block]).mul_(ctx.kept_scale).sub_(common[block]).mul_(weights)
                scores_gradient = scores_gradient.mul_(ctx.scale).to(value.dtype)
                torch.bmm(scores_gradient, key[block], out=query_gradient[block])
                torch.bmm(scores_gradient.transpose(1, 2), query[block], out=key_gradient[block])
        return query_gradient, key_gradient, value_gradient, None, None, None


def _blocks(count: int, length: int) -> list[slice]:
    """Return consecutive slices of ``count`` matrices of scores, each of about ``SCORES_PER_BLOCK`` scores."""
    size = max(1, SCORES_PER_BLOCK // (length * length))
    return [slice(start, start + size) for start in range(0, count, size)]


def _scores(
    query: torch.Tensor, key: torch.Tensor, bias: torch.Tensor | None, block: slice, scale: float
) -> torch.Tensor:
    scores = _float(torch.bmm(query * scale, key.transpose(1, 2)))
    return scores if bias is None else scores.add_(bias[block])


def _float(tensor: torch.Tensor) -> torch.Tensor:
    """Return half precision as single precision."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def _random_numbers(shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    """Return uniform integers of 32 bits, two from each number of 64 bits that the generator draws."""
    count = shape.numel()
    numbers = torch.empty((count + 1) // 2, dtype=torch.int64).random_(-(2**63), None, generator=generator)
    return numbers.view(torch.int32)[:count].view(shape)
