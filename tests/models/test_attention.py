"""Attention with dropout in blocks: the values and gradients of the plain formula with the same scores dropped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from claf2.heads import heads
from claf2.models import ModelSpec, attention, packing
from claf2.models.attention import attend_with_dropout
from claf2.models.encoder import TaskHead, build_model

ROWS, HEADS, LENGTH, SIZE = 3, 2, 40, 8
SCALE = 0.3


def inputs(dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Return query, key and value."""
    generator = torch.Generator().manual_seed(0)
    shape = (ROWS, HEADS, LENGTH, SIZE)
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for _ in range(3)]


def mask_of(lengths: list[int]) -> torch.Tensor:
    return (torch.arange(LENGTH) < torch.tensor(lengths)[:, None])[:, None, None, :]


def dropped_scores(seed: int, dropout: float, mask: torch.Tensor | None) -> torch.Tensor:
    """Return the softmax after dropout, (rows, heads, L, L): what a value of ones on the diagonal shows."""
    torch.manual_seed(seed)
    query, key, _ = inputs()
    eye = torch.eye(LENGTH).expand(ROWS, HEADS, LENGTH, LENGTH)
    return attend_with_dropout(query, key, eye, mask, dropout=dropout, scale=SCALE).detach()


@pytest.mark.parametrize("lengths", [None, [LENGTH, 7, 1]])
@pytest.mark.parametrize("block", [1, 5_000, 10**9])
def test_it_is_the_formula_with_some_scores_dropped(
    block: int, lengths: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = None if lengths is None else mask_of(lengths)
    monkeypatch.setattr(attention, "SCORES_PER_BLOCK", 5_000)
    kept = dropped_scores(7, 0.25, mask) != 0  # whatever the block
    monkeypatch.setattr(attention, "SCORES_PER_BLOCK", block)
    ours, plain = inputs(), inputs()
    torch.manual_seed(7)
    output = attend_with_dropout(*ours, mask, dropout=0.25, scale=SCALE)
    scores = SCALE * plain[0] @ plain[1].transpose(-1, -2)
    weights = (scores if mask is None else scores.masked_fill(~mask, float("-inf"))).softmax(-1)
    expected = (weights * kept / 0.75) @ plain[2]
    torch.testing.assert_close(output, expected)
    upstream = torch.linspace(-1, 1, output.numel()).view_as(output)
    for gradient, right in zip(
        torch.autograd.grad(output, ours, upstream), torch.autograd.grad(expected, plain, upstream), strict=True
    ):
        torch.testing.assert_close(gradient, right, rtol=1e-4, atol=1e-5)


def test_without_dropout_it_is_that_of_pytorch() -> None:
    query, key, value = inputs()
    mask = mask_of([LENGTH, 20, 3])
    ours = attend_with_dropout(query, key, value, mask, dropout=0.0, scale=SCALE)
    expected = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=SCALE)
    torch.testing.assert_close(ours, expected)


def test_in_bf16_it_is_close_to_fp32() -> None:
    outputs = []
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(3)
        tensors = inputs(dtype)
        output = attend_with_dropout(*tensors, None, dropout=0.1, scale=SCALE)
        output.float().sum().backward()
        assert output.dtype == dtype
        outputs.append((output.float(), tensors[1].grad))
    torch.testing.assert_close(outputs[0][0], outputs[1][0], rtol=0.05, atol=0.05)
    torch.testing.assert_close(outputs[0][1], outputs[1][1].float(), rtol=0.05, atol=0.05)  # type: ignore[union-attr]


def test_the_seed_alone_decides_what_is_dropped() -> None:
    first = dropped_scores(1, 0.5, None)
    assert torch.equal(first, dropped_scores(1, 0.5, None))
    assert not torch.equal(first != 0, dropped_scores(2, 0.5, None) != 0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        assert torch.equal(first != 0, dropped_scores(1, 0.5, None) != 0)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.9])
def test_each_score_is_dropped_with_the_probability(dropout: float) -> None:
    """Over 200 calls: the share of all, of each place and of each pair of neighbours is within five deviations."""
    calls = 200
    dropped = torch.stack([dropped_scores(seed, dropout, None) == 0 for seed in range(calls)]).double()
    places = dropped[0].numel()
    deviation = (dropout * (1 - dropout)) ** 0.5
    assert float(dropped.mean()) == pytest.approx(dropout, abs=5 * deviation / (calls * places) ** 0.5)
    assert float((dropped.mean(0) - dropout).abs().max()) < 5.5 * deviation / calls**0.5
    flat = dropped.flatten(1)
    both = (flat[:, 1:] * flat[:, :-1]).mean()
    assert float(both) == pytest.approx(dropout**2, abs=10 * deviation / (calls * places) ** 0.5)


@pytest.mark.parametrize("model_type", ["bert", "distilbert", "xlm-roberta-xl"])
def test_long_rows_of_a_packed_encoder_attend_in_blocks(
    model_type: str, model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same seed gives the same gradients, also where activations are computed again."""
    lengths = torch.tensor([packing.LONG + 6, packing.LONG + 5, 4])
    ids = torch.randint(5, 90, (3, int(lengths.max())), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    batch = {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": mask * 0, "lengths": lengths}
    rows: list[int] = []

    def recorded(query: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        rows.append(len(query))
        return attend_with_dropout(query, *arguments, **options)

    monkeypatch.setattr(packing, "attend_with_dropout", recorded)
    part = TaskHead(heads.get("tag")(), ["O", "B-PS", "I-PS"])
    gradients = []
    for checkpointed in (False, False, True):
        spec = ModelSpec()
        model = build_model(spec, model_folder(model_type), {"t": part}, vocab_size=100, pad_id=0, seed=1).train()
        assert model.pack()
        if checkpointed:
            head: Any = model.head("t")
            head.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        torch.manual_seed(5)
        model("t", batch).logits.square().sum().backward()
        gradients.append(torch.cat([tensor.grad.flatten() for tensor in model.parameters() if tensor.grad is not None]))
    layers = 2
    assert rows[: 2 * layers] == [2] * (2 * layers)  # the short row is in a group of its own, for PyTorch's attention
    assert torch.equal(gradients[0], gradients[1])
    torch.testing.assert_close(gradients[0], gradients[2])
