"""Rankings of passages by the scores of their terms, by the cosines of their vectors, or by both."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from claf2.retrieval.bm25 import best_places

__all__ = ["rank_by_terms", "rank_by_vector"]

VECTOR_WEIGHT = 0.8
"""The weight of the vectors in a hybrid score; the terms have the rest. Cosines differ much less between passages
than the scores of terms do."""


def rank_by_terms(terms: NDArray[np.float64], k: int) -> list[tuple[int, float]]:
    """Return the indices and scores of the ``k`` best passages; fewer if no others have a term of the question.

    Args:
        terms: the score of each passage, (N,).
        k: how many passages.
    """
    return [(place, score) for place, score in _list_best(terms, k) if score > 0]


def rank_by_vector(
    vector: NDArray[np.float32],
    vectors: NDArray[np.float32],
    k: int,
    terms: NDArray[np.float64] | None = None,
    candidates: NDArray[np.intp] | None = None,
) -> list[tuple[int, float]]:
    """Return the indices and scores of the ``k`` best passages, the best first.

    Args:
        vector: that of the question, (H,).
        vectors: those of all passages, (N, H).
        k: how many passages.
        terms: the score of each passage by its terms, (N,), for a hybrid score; ``None``: the cosine alone.
        candidates: the indices of the passages that are compared; ``None``: all.
    """
    scores = (vectors if candidates is None else vectors[candidates]) @ vector
    if terms is not None:
        scores = _combine(terms if candidates is None else terms[candidates], scores)
    ranked = _list_best(scores, k)
    return ranked if candidates is None else [(int(candidates[place]), score) for place, score in ranked]


def _list_best(scores: NDArray[np.floating], k: int) -> list[tuple[int, float]]:
    places = best_places(scores, k)
    return list(zip(places.tolist(), scores[places].tolist(), strict=True))


def _combine(terms: NDArray[np.float64], cosines: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the convex combination of two scores (Bruch et al., 2023), each from 0, its lowest possible value, to 1,
    its highest one for this question.

    Reciprocal rank fusion, which sees only ranks, loses what the distances between scores say.
    """
    by_terms = terms / max(terms.max(), 1e-9)
    by_vectors = (cosines.astype(np.float64) + 1.0) / max(float(cosines.max()) + 1.0, 1e-9)
    combined: NDArray[np.float64] = (1 - VECTOR_WEIGHT) * by_terms + VECTOR_WEIGHT * by_vectors
    return combined
