"""Fewer layers and narrower feed-forward networks, as changes of a model before its export."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from claf2.export.build import ExportSource, ModelChange
from claf2.models.pruning import prune

__all__ = ["prune_export"]


def prune_export(*, layers: Sequence[int] | None = None, width: int | None = None) -> ModelChange:
    """Return a change that removes layers and neurons from the encoder; see ``claf2.models.pruning.prune``."""

    def change(source: ExportSource) -> ExportSource:
        prune(source.model, layers=layers, width=width)
        changes = [] if layers is None else [f"layers {', '.join(map(str, layers))}"]
        changes += [] if width is None else [f"feed-forward networks of {width} neurons"]
        return dataclasses.replace(source, changes=(*source.changes, *changes))

    return change
