"""Approximate nearest neighbors by FAISS, for collections in which comparing with every vector takes too long.

The vectors are divided into clusters, and those of a cluster are stored in 8 bits a number (an inverted file with
scalar quantization). A search reads the clusters whose centers are the nearest. What it finds is only a choice of
candidates: their scores are computed from the stored vectors, so they are those of an exact search.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from claf2.errors import ModelError

__all__ = ["Neighbors", "build_neighbors", "import_faiss"]

NEIGHBORS = "neighbors.faiss"

CLUSTERS_PER_ROOT = 4
"""The clusters of N vectors, as a multiple of the square root of N: then finding the nearest clusters and reading them
take about as long as each other."""
TRAINED_ON = 64
"""The vectors per cluster from which the centers are computed. More hardly change them."""
ROUNDS = 10
"""The iterations of k-means."""
READ = 128
"""How many clusters a search reads: a tenth of those of 100,000 vectors."""


def build_neighbors(folder: Path, vectors: NDArray[np.float32]) -> None:
    """Write the clusters of some vectors. The same vectors on the same machine make the same clusters.

    Args:
        folder: where they are written; the folder must exist.
        vectors: the vectors, (N, H), of length 1.

    Raises:
        ModelError: if FAISS is not installed.
    """
    faiss = import_faiss()
    count, width = vectors.shape
    clusters = max(1, min(round(CLUSTERS_PER_ROOT * count**0.5), count // TRAINED_ON))
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(width), width, clusters, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.max_points_per_centroid, index.cp.niter = TRAINED_ON, ROUNDS
    index.cp.min_points_per_centroid = 1  # a single cluster of a few vectors is no reason for a warning
    index.train(vectors)
    index.add(vectors)
    faiss.write_index(index, str(folder / NEIGHBORS))


class Neighbors:
    """The clusters in a folder. They are mapped into memory.

    Args:
        folder: where ``build_neighbors`` wrote them.

    Raises:
        ModelError: if FAISS is not installed.
        ValueError: if the file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        faiss = import_faiss()
        try:
            self._index = faiss.read_index(str(folder / NEIGHBORS), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise ValueError(f"{NEIGHBORS} cannot be read") from error
        self._index.nprobe = READ

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def find(self, vector: NDArray[np.float32], count: int) -> NDArray[np.intp]:
        """Return the indices of about the ``count`` nearest vectors, in ascending order; fewer if the clusters that are
        read hold fewer."""
        (places,) = self._index.search(vector[None], min(count, len(self)))[1]
        found: NDArray[np.intp] = np.sort(places[places >= 0])
        return found


def import_faiss() -> Any:
    """Return the module.

    Raises:
        ModelError: if it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise ModelError("approximate search needs FAISS: pip install 'claf2[faiss]'") from error
    return faiss
