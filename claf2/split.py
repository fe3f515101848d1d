"""How the rows of a batch are shared among processes, and cut into micro-batches by length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Costs", "cut", "share"]


@dataclass(frozen=True)
class Costs:
    """What a micro-batch of n rows costs whose longest has L tokens, counted in tokens:
    ``overhead + n * L * (1 + quadratic * L)``.

    The overhead is what a further forward and backward pass costs however little is in it; the quadratic term is
    attention's share.
    """

    overhead: float
    quadratic: float = 0.0
    max_tokens: int | None = None
    """The most tokens, padding included, that a micro-batch may have; a single row may have more."""
    max_rows: int | None = None


def cut(lengths: np.ndarray, costs: Costs) -> list[np.ndarray]:
    """Return the positions of each micro-batch, the longest rows first: the cut of least cost.

    Among rows sorted by length the best micro-batches are runs of neighbours, so a dynamic programme over where the
    last one begins finds the optimum in n² steps.

    Args:
        lengths: the number of tokens of each row, (n,).
    """
    import numpy as np

    order = np.argsort(-lengths, kind="stable")
    longest = lengths[order].astype(np.float64)
    each = longest * (1.0 + costs.quadratic * longest)
    size = len(order)
    best = np.full(size + 1, np.inf)
    best[0] = 0.0
    begins = np.zeros(size + 1, dtype=np.int64)
    for end in range(1, size + 1):
        first = 0 if costs.max_rows is None else max(0, end - costs.max_rows)
        rows = end - np.arange(first, end)
        price = best[first:end] + costs.overhead + rows * each[first:end]
        if costs.max_tokens is not None:
            price[(rows * longest[first:end] > costs.max_tokens) & (rows > 1)] = np.inf
        choice = int(price.argmin())
        best[end], begins[end] = price[choice], first + choice
    parts = []
    end = size
    while end > 0:
        parts.append(order[begins[end] : end])
        end = int(begins[end])
    return parts[::-1]


def share(lengths: np.ndarray, which: int, of: int) -> np.ndarray:
    """Return the positions of one process's rows among those of a batch: dealt out from the longest to the shortest, to
    and fro, so that all processes get about as many tokens; nothing where there are fewer rows than processes.

    Args:
        lengths: the tokens of each row, (n,).
        which: the process.
        of: how many there are.
    """
    import numpy as np

    order = np.argsort(-lengths, kind="stable")
    turns = np.resize([*range(of), *reversed(range(of))], len(order))
    mine: np.ndarray = order[turns == which]
    return mine
