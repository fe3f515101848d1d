"""The order of shards and windows."""

from __future__ import annotations

import numpy as np
import pytest

from claf2.corpus.order import occurrences, shard_order, unread_spans, window_bounds


@pytest.mark.parametrize("weight", [0.0, 0.25, 0.3, 0.5, 1.0, 1.7, 2.0])
def test_weights_hold_in_every_epoch_and_for_every_shard(weight: float) -> None:
    weights = np.array([weight] * 40 + [1.0] * 10)
    epochs = [occurrences(weights, epoch) for epoch in range(20)]
    assert all((counts[40:] == 1).all() for counts in epochs)
    for counts in epochs:
        assert abs(counts[:40].sum() - 40 * weight) <= 1
    total = np.sum(epochs, 0)[:40]
    assert (np.abs(total - 20 * weight) <= 1).all()


def test_order_is_a_permutation_that_depends_on_seed_and_epoch() -> None:
    weights = np.array([1.0, 2.0, 1.0, 1.0])
    orders = {(seed, epoch): shard_order(weights, seed, epoch).tolist() for seed in range(3) for epoch in range(3)}
    assert all(sorted(order) == [0, 1, 2, 3, 5] for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) > 5
    assert shard_order(weights, 1, 2).tolist() == orders[1, 2]


def test_windows_grow_in_the_first_epoch() -> None:
    assert window_bounds(20, 8, 0) == [(0, 1), (1, 3), (3, 7), (7, 15), (15, 20)]
    assert window_bounds(20, 8, 1) == [(0, 8), (8, 16), (16, 20)]
    assert window_bounds(3, 8, 5) == [(0, 3)]
    assert window_bounds(0, 8, 0) == []


def test_spans_that_touch_become_one() -> None:
    starts, ends = np.array([10, 0, 30, 20]), np.array([20, 5, 40, 25])
    assert unread_spans(starts, ends).tolist() == [[0, 5], [10, 25], [30, 40]]
    assert unread_spans(starts[:0], ends[:0]).tolist() == []
