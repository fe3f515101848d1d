"""Losses of whole batches: the same loss and gradients however a batch is divided."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import contrastive_batches as batches
import numpy as np
import pytest
import torch

from claf2.data.batch import Batch
from claf2.training.objectives import Objective, objectives

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def check_equal(
    computed: tuple[float, Mapping[str, torch.Tensor]], expected: tuple[float, Mapping[str, torch.Tensor]]
) -> None:
    """Check that losses and gradients are equal up to 1e-5, relative to the largest gradient of a weight."""
    assert computed[0] == pytest.approx(expected[0], rel=1e-5)
    assert computed[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        # A gradient that is 0 in exact arithmetic, such as that of the keys' biases, is rounding here and there.
        scale = max(float(gradient.abs().max()), 1e-3)
        assert float((computed[1][name] - gradient).abs().max()) <= 1e-5 * scale, name


@pytest.mark.parametrize("pack", [True, False])
def test_with_dropout_the_second_pass_repeats_the_first(model_folder: Callable[..., Path], pack: bool) -> None:
    folder = model_folder(hidden_dropout_prob=0.2)
    divided = batches.divide(batches.dataset(folder), [8] * 8)
    computed = batches.by_loop(batches.build(folder, pack=pack), divided)
    check_equal(computed, batches.by_hand(batches.build(folder, pack=pack), divided))


def test_rows_without_padding_are_dropped_the_same_in_both_passes(model_folder: Callable[..., Path]) -> None:
    """Without padding an evaluation is not packed, but the pass without a graph is none."""
    folder = model_folder(hidden_dropout_prob=0.2)
    divided = []
    for batch in batches.divide(batches.dataset(folder), [8] * 2):
        repeated = {name: np.tile(batch.arrays[name], 16)[..., :64] for name in ("input_ids", "token_type_ids")}
        divided.append(Batch({**batch.arrays, **repeated, "attention_mask": np.ones_like(repeated["input_ids"])}))
    computed = batches.by_loop(batches.build(folder), divided)
    check_equal(computed, batches.by_hand(batches.build(folder), divided))


@pytest.mark.parametrize("sizes", [[8] * 8, [1, 20, 43], [32, 32]])
def test_a_divided_batch_equals_the_whole_one(model_folder: Callable[..., Path], sizes: list[int]) -> None:
    folder = model_folder(**NO_DROPOUT)
    data = batches.dataset(folder)
    whole = batches.by_loop(batches.build(folder), batches.divide(data, [batches.ROWS]))
    check_equal(batches.by_loop(batches.build(folder), batches.divide(data, sizes)), whole)


@pytest.mark.slow
def test_two_processes_compute_the_loss_of_one(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = model_folder(**NO_DROPOUT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    ended = subprocess.run(
        [*torchrun, batches.__file__, str(folder), str(tmp_path / "step.pt")],
        check=False, capture_output=True, text=True, timeout=150,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert not ended.returncode, ended.stderr[-3000:]
    whole = batches.by_loop(batches.build(folder), batches.divide(batches.dataset(folder), [batches.ROWS]))
    check_equal(torch.load(tmp_path / "step.pt"), whole)


def test_objectives_see_the_value_of_the_loss_and_change_the_same_inputs(model_folder: Callable[..., Path]) -> None:
    """An objective that scales the loss by something learned needs its value; one that changes the inputs at random is
    asked once for both passes."""
    folder, asked = model_folder(**NO_DROPOUT), []

    class Noise(Objective):
        def change_inputs(self, model, task, tensors):  # type: ignore[no-untyped-def]
            ids = tensors["input_ids"]
            asked.append(len(ids))
            replaced = torch.rand(ids.shape) < 0.2
            return {**tensors, "input_ids": torch.where(replaced & (ids > 4), ids.flip(-1).clamp(min=5), ids)}

    def step(sizes: list[int]) -> tuple[float, dict[str, torch.Tensor]]:
        model = batches.build(folder)
        uncertainty = objectives.get("uncertainty")()
        model.learned["uncertainty"] = uncertainty.learned(["t"])
        torch.nn.init.constant_(model.learned["uncertainty"]["t"], 0.003)
        return batches.by_loop(model, batches.divide(batches.dataset(folder), sizes), [uncertainty])

    check_equal(step([8] * 8), step([batches.ROWS]))
    divided = batches.divide(batches.dataset(folder), [8] * 8)
    plain, noisy = (batches.by_loop(batches.build(folder), divided, given) for given in ([], [Noise()]))
    assert plain[0] != pytest.approx(noisy[0], rel=1e-3)
    assert asked == [8] * 8
