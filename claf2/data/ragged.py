"""Arrays of different shapes, one for each feature, in files that are mapped into memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = ["ABSENT", "RaggedColumn", "crop_absent", "list_ragged", "write_ragged"]

ABSENT = float("-inf")
"""The value of what an array does not have."""

SHAPES_FILE = ".shapes.npy"
"""The end of the name of the file that holds the shapes of arrays; that of their values ends in `.npy` alone."""


class RaggedColumn:
    """The arrays of M features, all with the same number of axes, as ``write_ragged`` stores them.

    Args:
        folder: where they are stored.
        name: the name under which they are stored.
    """

    def __init__(self, folder: Path, name: str) -> None:
        import numpy as np

        self.values: np.ndarray = np.load(folder / f"{name}.npy", mmap_mode="r")
        self._shapes: np.ndarray = np.load(folder / f"{name}{SHAPES_FILE}")
        ends = self._shapes.prod(-1).cumsum()
        self._starts = np.concatenate([np.zeros(1, ends.dtype), ends])

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return the arrays at ``rows``, (B,), padded with ``ABSENT`` to the longest of each axis: (B, …)."""
        import numpy as np

        shapes = self._shapes[rows]
        padded = np.full((len(rows), *shapes.max(0)), ABSENT, dtype=np.float32)
        for target, row, shape in zip(padded, rows, shapes, strict=True):
            values = self.values[self._starts[row] : self._starts[row + 1]]
            target[tuple(slice(size) for size in shape)] = values.reshape(shape)
        return padded


def write_ragged(folder: Path, name: str, arrays: Sequence[np.ndarray]) -> None:
    """Store one array of single precision for each feature; all have the same number of axes, at least one."""
    import numpy as np

    shapes = np.array([array.shape for array in arrays], dtype=np.int64)
    np.save(folder / f"{name}{SHAPES_FILE}", shapes)
    flat = np.lib.format.open_memmap(
        folder / f"{name}.npy", mode="w+", dtype=np.float32, shape=(int(shapes.prod(-1).sum()),)
    )
    start = 0
    for array in arrays:
        flat[start : start + array.size] = array.ravel()
        start += array.size
    flat.flush()


def list_ragged(folder: Path) -> list[str]:
    """Return the names under which arrays are stored in a folder."""
    return sorted(path.name.removesuffix(SHAPES_FILE) for path in folder.glob(f"*{SHAPES_FILE}"))


def crop_absent(array: np.ndarray) -> np.ndarray:
    """Return an array without what is ``ABSENT`` at the end of each axis."""
    import numpy as np

    places = np.nonzero(array != ABSENT)
    return array[tuple(slice(int(along.max(initial=-1)) + 1) for along in places)]
