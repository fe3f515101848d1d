"""Instances: how the text of a shard is divided into rows, one registered class per file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from claf2.corpus.rows import Rows
from claf2.registry import Component, Registry

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Instances", "instances", "register_instances"]


class Instances(Component, ABC):
    """A way to divide text into rows; its fields are the block of section `instances` with its name."""

    segments: ClassVar[int]
    """The number of texts in a row: 1, or 2 for pairs."""
    inserts_separators: ClassVar[bool] = False
    """Whether a separator is inserted where a document begins inside a row."""

    @abstractmethod
    def cut(self, flags: np.ndarray, spans: np.ndarray, room: int, rng: np.random.Generator) -> Rows:
        """Divide spans of a shard into rows, in the order of the text. Each token is in one row at most.

        The number of rows must not depend on the run, because a resumed run looks it up.

        Args:
            flags: what begins at each token of the shard, (T,).
            spans: the tokens ``[start, end)`` of K spans in ascending order, (K, 2).
            room: the most tokens of a row, special tokens excluded except separators between documents.
            rng: what to draw from; it depends on the shard alone.
        """

    def arrange(self, rows: Rows, rng: np.random.Generator) -> Rows:
        """Return the shuffled rows of a window as the model is to see them; unchanged by default.

        Args:
            rows: N rows.
            rng: what to draw from.
        """
        return rows


instances: Registry[type[Instances]] = Registry("kind of instances", home="claf2.corpus.instances")
"""The registered kinds of instances."""
register_instances = instances.register
