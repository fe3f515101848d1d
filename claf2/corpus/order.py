"""The order in which a corpus is read, as functions of the seed alone.

An epoch reads every shard once, or as often as the weight of its source says, in a random order. This order is cut into
windows of W shards. The rows of a window are shuffled together, and batches are cut from the rows of one window after
another. In the first epoch the windows grow (1, 2, 4 … W shards), so that a training can begin when the first shard is
made. All functions are pure: a position is found from the numbers of rows, without reading what lies before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from claf2.runtime.seed import generator

if TYPE_CHECKING:
    import numpy as np

__all__ = ["occurrences", "shard_order", "unread_spans", "window_bounds"]


def occurrences(weights: np.ndarray, epoch: int) -> np.ndarray:
    """Return how often each shard is read in an epoch, (M,).

    A weight of 2 reads a shard twice in every epoch. A fraction is spread over the shards and the epochs: with 0.25,
    each shard is read in one epoch of four, and each epoch reads a quarter of the shards of the source. Up to any
    epoch, a shard has been read as often as its weight says, rounded up or down.

    Args:
        weights: the weight of each shard's source, (M,).
        epoch: the number of the epoch, from 0.
    """
    import numpy as np

    # Where the count of each shard begins: evenly spaced over the shards of each weight, so that an epoch reads about
    # the same number of them.
    phases = np.empty(len(weights))
    for weight in np.unique(weights):
        members = np.flatnonzero(weights == weight)
        phases[members] = generator(0, "weights").permutation(len(members)) / len(members)
    read = np.floor(weights * (epoch + 1) + phases) - np.floor(weights * epoch + phases)
    counts: np.ndarray = read.astype(np.int64)
    return counts


def shard_order(weights: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Return the shards of an epoch in the order in which they are read, (K,). The second reading of shard i in the
    same epoch has the number i + M, the third i + 2 * M.

    Args:
        weights: the weight of each shard's source, (M,).
        seed: the seed of the run.
        epoch: the number of the epoch, from 0.
    """
    import numpy as np

    counts = occurrences(weights, epoch)
    shards = np.repeat(np.arange(len(weights)), counts)
    readings = np.arange(len(shards)) - np.repeat(np.cumsum(counts) - counts, counts)
    order: np.ndarray = generator(seed, "shards", epoch).permutation(shards + len(weights) * readings)
    return order


def window_bounds(shards: int, window: int, epoch: int) -> list[tuple[int, int]]:
    """Return the first shard of each window, and the one after its last, as positions in the order of an epoch.

    Args:
        shards: the number of shards of the epoch.
        window: the most shards of a window.
        epoch: the number of the epoch; in the first one, windows grow.
    """
    bounds = []
    start, size = 0, 1 if epoch == 0 else window
    while start < shards:
        bounds.append((start, min(shards, start + size)))
        start, size = start + size, min(window, 2 * size)
    return bounds


def unread_spans(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return the spans of tokens that some segments of a shard cover, in ascending order, (K, 2). Segments that touch
    become one span.

    Args:
        starts: the first token of each segment, (N,); no two segments overlap.
        ends: the token after its last one, (N,).
    """
    import numpy as np

    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], ends[order]
    if not len(starts):
        return np.empty((0, 2), np.int64)
    begins = np.append(True, starts[1:] != ends[:-1])
    firsts = np.flatnonzero(begins)
    return np.stack([starts[firsts], ends[np.append(firsts[1:], len(ends)) - 1]], axis=1).astype(np.int64)
