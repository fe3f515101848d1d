"""Exports: a finished model as a folder that another runtime computes, and that answers as it was scored."""

from __future__ import annotations

from claf2.export.opening import open_answerer, open_model_folder

__all__ = ["open_answerer", "open_model_folder"]
