"""Dividing the rows of a batch: among processes, and into micro-batches of similar length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = ["CostModel", "pack_microbatches", "partition_by_length"]


@dataclass(frozen=True)
class CostModel:
    """The cost of a micro-batch of n rows padded to L tokens, in tokens: ``overhead + n * L * (1 + quadratic * L)``.

    The overhead is the cost of one more forward and backward pass, whatever it computes. The quadratic term is
    attention's share.
    """

    overhead: float
    quadratic: float = 0.0
    max_tokens: int | None = None
    """The most tokens of a micro-batch, padding included; a single row may exceed it."""
    max_rows: int | None = None


def pack_microbatches(lengths: np.ndarray, costs: CostModel) -> list[np.ndarray]:
    """Return the positions of the rows of each micro-batch, the longest rows first, at the least total cost.

    Args:
        lengths: the number of tokens of each row, (n,).
        costs: what a micro-batch costs.
    """
    import numpy as np

    # Sorted by length, the rows of each micro-batch of an optimal packing are neighbours: exchanging two rows of
    # different micro-batches never lowers the sum of maxima. So it is enough to choose where each micro-batch begins,
    # which dynamic programming does in n² steps: `best[end]` is the least cost of the first `end` rows.
    order = np.argsort(-lengths, kind="stable")
    sorted_lengths = lengths[order].astype(np.float64)
    row_costs = sorted_lengths * (1.0 + costs.quadratic * sorted_lengths)
    size = len(order)
    best = np.full(size + 1, np.inf)
    best[0] = 0.0
    begins = np.zeros(size + 1, dtype=np.int64)
    for end in range(1, size + 1):
        first = 0 if costs.max_rows is None else max(0, end - costs.max_rows)
        rows = end - np.arange(first, end)
        # A micro-batch is padded to its longest row, which is its first one.
        total = best[first:end] + costs.overhead + rows * row_costs[first:end]
        if costs.max_tokens is not None:
            total[(rows * sorted_lengths[first:end] > costs.max_tokens) & (rows > 1)] = np.inf
        choice = int(total.argmin())
        best[end], begins[end] = total[choice], first + choice
    microbatches = []
    end = size
    while end > 0:
        microbatches.append(order[begins[end] : end])
        end = int(begins[end])
    return microbatches[::-1]


def partition_by_length(lengths: np.ndarray, rank: int, world_size: int) -> np.ndarray:
    """Return the positions of one process's rows of a batch; none where there are fewer rows than processes.

    Rows are dealt from the longest to the shortest, back and forth (0 1 2 2 1 0 …), so that all processes get about
    the same number of tokens.

    Args:
        lengths: the number of tokens of each row, (n,).
        rank: the process.
        world_size: the number of processes.
    """
    import numpy as np

    order = np.argsort(-lengths, kind="stable")
    owners = np.resize([*range(world_size), *reversed(range(world_size))], len(order))
    own_rows: np.ndarray = order[owners == rank]
    return own_rows
