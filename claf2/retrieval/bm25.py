"""BM25 (Robertson & Zaragoza, 2009) as a sparse matrix of scores.

The score of each term in each passage is computed when the index is made (Lù, 2024, BM25S), so that a question is
answered by adding up a few columns. They are mapped into memory, and only those of the question's terms are read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from claf2.retrieval.terms import TERM_BITS, Terms

__all__ = ["K1", "LENGTH_WEIGHT", "Bm25", "best_places", "build_bm25"]

K1 = 1.5
"""How slowly the score of a term grows with its number of occurrences in a passage."""
LENGTH_WEIGHT = 0.75
"""How much the length of a passage counts, from 0 to 1 (``b``)."""

PASSAGES_AT_ONCE = 2 ** (64 - TERM_BITS - 2)
"""How many passages are counted at once. A term and a passage are stored together in one number of 64 bits."""
ARRAYS = ("terms", "starts", "passages", "scores")


def build_bm25(
    folder: Path,
    texts: Sequence[str],
    split: Callable[[Sequence[str]], Terms],
    on_split: Callable[[int], None] | None = None,
) -> None:
    """Write the matrix of some passages.

    Args:
        folder: where it is written; the folder must exist.
        texts: the passages.
        split: splits them into terms.
        on_split: is called with the number of passages that were split.
    """
    parts: list[tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.int32]]] = []
    lengths = np.zeros(len(texts), np.float64)
    for start in range(0, len(texts), PASSAGES_AT_ONCE):
        terms, counts = split(texts[start : start + PASSAGES_AT_ONCE])
        lengths[start : start + len(counts)] = counts
        owners = np.repeat(np.arange(len(counts), dtype=np.uint64), counts)
        bits = np.uint64(64 - TERM_BITS)
        # One sort counts the terms of all passages of the part.
        pairs, frequencies = np.unique((terms << bits) | owners, return_counts=True)
        places = (pairs & np.uint64(2 ** (64 - TERM_BITS) - 1)).astype(np.int32) + np.int32(start)
        parts.append((pairs >> bits, places, frequencies.astype(np.int32)))
        if on_split is not None:
            on_split(start + len(counts))
    arrays: tuple[NDArray[Any], ...] = _score(parts, lengths)
    for name, array in zip(ARRAYS, arrays, strict=True):
        np.save(folder / f"{name}.npy", array)


def _score(
    parts: Sequence[tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.int32]]], lengths: NDArray[np.float64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """Return the terms in ascending order, where the column of each begins, and the passages and scores of all columns
    one after another."""
    from scipy.sparse import coo_array

    vocabulary = np.unique(np.concatenate([np.unique(terms) for terms, _, _ in parts]))
    columns = np.concatenate([np.searchsorted(vocabulary, terms).astype(np.int32) for terms, _, _ in parts])
    rows = np.concatenate([places for _, places, _ in parts])
    frequencies = np.concatenate([counts for _, _, counts in parts]).astype(np.float32)
    shape = (len(lengths), len(vocabulary))
    matrix = coo_array((frequencies, (rows, columns)), shape=shape).tocsc()
    del columns, rows, frequencies
    starts, passages, frequency = matrix.indptr.astype(np.int64), matrix.indices, matrix.data
    holding = np.diff(starts)
    # Lucene's form of the inverse document frequency, which is never negative.
    rarity = np.log1p((len(lengths) - holding + 0.5) / (holding + 0.5)).astype(np.float32)
    mean = lengths.mean() if lengths.any() else 1.0
    weight = (K1 * (1 - LENGTH_WEIGHT + LENGTH_WEIGHT * lengths / mean)).astype(np.float32)
    scores = frequency / (frequency + weight[passages]) * np.repeat(rarity, holding)
    return vocabulary, starts, passages.astype(np.int32), scores.astype(np.float32)


class Bm25:
    """The matrix in a folder, mapped into memory.

    Args:
        folder: where ``build_bm25`` wrote it.
        size: the number of passages.
        split: splits questions into terms, as it did passages.
    """

    def __init__(self, folder: Path, size: int, split: Callable[[Sequence[str]], Terms]) -> None:
        self._terms, self._starts, self._passages, self._scores = (
            np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS
        )
        # Looked up for each term, so in memory: plain arrays are faster than those of a mapped file.
        self._terms, self._starts = np.array(self._terms), np.array(self._starts)
        self._passages, self._scores = np.asarray(self._passages), np.asarray(self._scores)
        self._size, self._split = size, split

    def score(self, question: str) -> NDArray[np.float64]:
        """Return the score of each passage, (N,). A term counts as often as it occurs in the question."""
        terms, _ = self._split([question])
        places = np.searchsorted(self._terms, terms)
        places[places == len(self._terms)] = 0
        known = places[self._terms[places] == terms] if len(self._terms) else places[:0]
        spans = [slice(self._starts[place], self._starts[place + 1]) for place in known.tolist()]
        if not spans:
            return np.zeros(self._size)
        passages = np.concatenate([self._passages[span] for span in spans])
        scores = np.concatenate([self._scores[span] for span in spans])
        sums: NDArray[np.float64] = np.bincount(passages, weights=scores, minlength=self._size).astype(np.float64)
        return sums


def best_places(scores: NDArray[np.floating], k: int) -> NDArray[np.intp]:
    """Return the indices of the ``k`` highest scores, the highest first. Ties are in order of their index."""
    k = min(k, len(scores))
    if k == 0:
        return np.zeros(0, np.intp)
    edge = np.partition(scores, -k)[-k]
    candidates = np.flatnonzero(scores >= edge)
    order: NDArray[np.intp] = candidates[np.argsort(-scores[candidates], kind="stable")][:k]
    return order
