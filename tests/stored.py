"""Reads what a run stored, whoever wrote which share of it."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.state_dict_loader import load


def last(folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a run's ``last/`` by name: weights, and behind ``optimizer.`` the optimizer's state."""
    reader = HuggingFaceStorageReader(str(folder / "last"))
    stored = reader.read_metadata().state_dict_metadata
    tensors = {name: torch.zeros(tensor.size, dtype=tensor.properties.dtype) for name, tensor in stored.items()}  # type: ignore[union-attr]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load(tensors, storage_reader=reader, no_dist=True)
    return tensors


def last_bytes(folder: Path) -> dict[str, bytes]:
    """Return the same as bytes, to compare them whole."""
    return {name: tensor.numpy().tobytes() for name, tensor in last(folder).items()}
