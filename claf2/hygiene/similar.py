"""Near duplicates: rows whose sets of character n-grams overlap (Broder, 1997), found among a million rows in minutes.

MinHash puts similar rows into common buckets, one for each of several bands of hashes (Leskovec et al., 2014, chapter
3). The rows of a bucket are candidates, whose Jaccard index is then computed exactly. All of it is vectorized.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from claf2.corpus.ngrams import letter_table, normalize

__all__ = ["NGRAM", "THRESHOLD", "find_similar", "group_pairs"]

NGRAM = 5
"""The letters or digits of an n-gram. Other characters are left out, so that blanks and punctuation do not count."""
THRESHOLD = 0.8
"""The minimum Jaccard index of near duplicates."""
BANDS, BAND_HASHES = 20, 5
"""The buckets of a row, and the hashes that rows of a bucket share. At a Jaccard index of 0.8, a pair shares no bucket
once in 2,800 times, and at 0.85 once in 120,000 times."""
HASHED_AT_ONCE = 20_000
PAIRS_AT_ONCE = 50_000
LARGEST_BUCKET = 12
"""Up to this size, all pairs of a bucket are compared; in larger ones, each row with the first and with the next."""


def find_similar(rows: Sequence[Sequence[str]], on_rows: Callable[[int], None] | None = None) -> NDArray[np.int64]:
    """Return pairs of near duplicates, (P, 2), each with the smaller number first, in ascending order.

    Rows with several texts are near duplicates if each of their texts is. Equal rows are pairs as well. In groups of
    more than ``LARGEST_BUCKET`` rows, not every pair is returned, but all of them are connected.

    Args:
        rows: the texts of each row, as many in each.
        on_rows: is called with the number of rows that were hashed.
    """
    if not rows or not rows[0]:
        return np.zeros((0, 2), np.int64)
    width = len(rows[0])
    grams: list[list[Any]] = [[] for _ in range(width)]
    buckets = []
    for start in range(0, len(rows), HASHED_AT_ONCE):
        part = rows[start : start + HASHED_AT_ONCE]
        columns = [_hash_grams([row[column] for row in part]) for column in range(width)]
        for column, hashed in enumerate(columns):
            grams[column].append(hashed)
        buckets.append(_find_buckets(columns, len(part)))
        if on_rows is not None:
            on_rows(start + len(part))
    pairs = _candidates(np.concatenate(buckets))
    matrices = [_to_matrix(parts) for parts in grams]
    kept = [
        chunk[np.all([_jaccard(matrix, chunk) >= THRESHOLD for matrix in matrices], axis=0)]
        for chunk in np.array_split(pairs, len(pairs) // PAIRS_AT_ONCE + 1)
    ]
    return np.concatenate(kept)


def group_pairs(pairs: NDArray[np.int64], size: int) -> list[list[int]]:
    """Return the groups of rows that pairs connect, each in ascending order."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(pairs):
        return []
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(size, size))
    _, owners = connected_components(graph, directed=False)
    members = np.unique(pairs)
    order = members[np.argsort(owners[members], kind="stable")]
    edges = np.flatnonzero(np.diff(owners[order])) + 1
    return [group.tolist() for group in np.split(order, edges)]


def _hash_grams(texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Return the distinct n-grams of texts as numbers, one text after another, and how many each text has. A shorter
    text is one n-gram."""
    joined = [normalize(text) for text in texts]
    codes = np.frombuffer("".join(joined).encode("utf-32-le", "surrogatepass"), "<u4")
    owners = np.repeat(np.arange(len(texts)), [len(text) for text in joined])
    kept = letter_table()[codes]
    # Of a text without any letter, such as "♥♥", all characters count: it is not equal to every other one.
    kept |= (np.bincount(owners, weights=kept, minlength=len(texts)) == 0)[owners]
    codes, owners = codes[kept].astype(np.uint64), owners[kept].astype(np.uint64)
    # A text that is too short is filled up with zeros, so that it is one n-gram.
    lengths = np.bincount(owners.astype(np.int64), minlength=len(texts))
    missing = np.maximum(NGRAM - lengths, 0)
    ends = np.cumsum(lengths)
    codes = np.insert(codes, np.repeat(ends, missing), 0)
    owners = np.insert(owners, np.repeat(ends, missing), np.repeat(np.arange(len(texts), dtype=np.uint64), missing))
    count = len(codes) - NGRAM + 1
    hashes = np.zeros(count, np.uint64)
    for offset in range(NGRAM):
        hashes = (hashes + codes[offset : offset + count]) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    inside = owners[:count] == owners[NGRAM - 1 :]
    keys = np.unique((owners[:count][inside] << np.uint64(32)) | (hashes[inside] >> np.uint64(32)))
    counts = np.bincount((keys >> np.uint64(32)).astype(np.int64), minlength=len(texts))
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.uint32), counts


def _find_buckets(columns: Sequence[tuple[NDArray[np.uint32], NDArray[np.int64]]], size: int) -> NDArray[np.uint64]:
    """Return the bucket of each row in each band, (rows, bands)."""
    rng = np.random.default_rng(0)
    buckets = np.zeros((size, BANDS), np.uint64)
    for grams, counts in columns:
        starts, wide = np.cumsum(counts) - counts, grams.astype(np.uint64)
        for band in range(BANDS):
            for _ in range(BAND_HASHES):
                factor, shift = rng.integers(1, 2**63, 2, dtype=np.uint64)
                hashed = (wide * (factor | np.uint64(1)) + shift) >> np.uint64(32)
                smallest = np.minimum.reduceat(hashed, starts)
                mixed = (buckets[:, band] ^ smallest) * np.uint64(0xBF58476D1CE4E5B9)
                buckets[:, band] = mixed ^ (mixed >> np.uint64(31))
    return buckets


def _candidates(buckets: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the pairs of rows that share a bucket, each once."""
    size = len(buckets)
    parts: list[NDArray[np.int64]] = []
    for band in range(BANDS):
        order = np.argsort(buckets[:, band], kind="stable")
        values = buckets[order, band]
        begins = np.concatenate([[True], values[1:] != values[:-1]])
        first = np.flatnonzero(begins)
        group = np.cumsum(begins) - 1
        sizes = np.diff(np.append(first, size))
        place = np.arange(size) - first[group]
        for distance in range(1, LARGEST_BUCKET):
            later = np.flatnonzero((place >= distance) & ((sizes[group] <= LARGEST_BUCKET) | (distance == 1)))
            parts.append(order[later - distance] * size + order[later])
        large = np.flatnonzero((sizes[group] > LARGEST_BUCKET) & (place > 0))
        parts.append(order[first[group[large]]] * size + order[large])
        if sum(map(len, parts)) > 2**24:
            parts = [np.unique(np.concatenate(parts))]
    keys = np.unique(np.concatenate(parts))
    return np.stack([keys // size, keys % size], axis=1)


def _to_matrix(parts: Sequence[tuple[NDArray[np.uint32], NDArray[np.int64]]]) -> Any:
    """Return a sparse matrix with a row for each text and a one for each of its n-grams."""
    from scipy.sparse import csr_array

    grams = np.concatenate([grams for grams, _ in parts])
    ends = np.concatenate([[0], np.cumsum(np.concatenate([counts for _, counts in parts]))])
    # Half of the hash is enough to tell the n-grams of two texts apart, and fits an index of 32 bits.
    columns = (grams >> np.uint32(1)).astype(np.int32)
    return csr_array((np.ones(len(grams), np.int32), columns, ends), shape=(len(ends) - 1, 2**31 - 1))


def _jaccard(matrix: Any, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the Jaccard index of each pair of rows."""
    sizes = np.diff(matrix.indptr)
    first, second = matrix[pairs[:, 0]], matrix[pairs[:, 1]]
    shared = np.asarray(first.minimum(second).sum(axis=1)).ravel()
    index: NDArray[np.float64] = shared / np.maximum(sizes[pairs[:, 0]] + sizes[pairs[:, 1]] - shared, 1)
    return index
