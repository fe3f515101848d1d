"""The tensors of `last/`, weights and optimizer state, as safetensors files. Each process writes its own shards, and
any number of processes reads them again, through `torch.distributed.checkpoint`."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from claf2.errors import ModelError
from claf2.models.embeddings import trained_rows
from claf2.models.encoder import EncoderWithHeads
from claf2.runtime import distributed

__all__ = ["load_shards", "save_shards"]

PREFIX = "optimizer."
"""The beginning of the names of optimizer state, which are stored beside the weights."""


def save_shards(folder: Path, model: EncoderWithHeads, optimizer: torch.optim.Optimizer) -> None:
    """Write weights and optimizer state into an existing folder; all processes call this together."""
    from torch.distributed.checkpoint import state_dict_saver
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

    optimizer_state = {
        _state_name(name, key): value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    tensors = {**model.weights(), **optimizer_state}
    restricted = trained_rows(model)
    if restricted is not None:
        # The whole table, so that the run can be resumed with all rows, or sharded.
        prefix, embedding = restricted
        for name in _row_names(prefix, tensors):
            tensors[name] = embedding.expand(tensors[name])
        tensors[f"{prefix}.weight"] = embedding.full_weight()
    tensors = {name: _at_least_1d(tensor) for name, tensor in tensors.items()}
    with _ignore_warnings():
        state_dict_saver.save(tensors, storage_writer=writer, no_dist=distributed.world_size() == 1)
    for path in folder.glob(f"shard-{distributed.rank() + 1:05d}-*.safetensors"):
        _sort_metadata(path)


def _sort_metadata(path: Path) -> None:
    """Sort the metadata in the header of a safetensors file, which the library writes in a random order, so that equal
    tensors give equal files."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        file.seek(8)
        file.write(text.ljust(length))


def load_shards(folder: Path, model: EncoderWithHeads, optimizer: torch.optim.Optimizer) -> None:
    """Copy what ``save`` wrote into model and optimizer.

    Raises:
        ModelError: when the tensors are those of another model.
        SafetensorError: when a file is damaged.
    """
    from torch.distributed.checkpoint import state_dict_loader
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    reader = HuggingFaceStorageReader(str(folder))
    stored: dict[str, Any] = reader.read_metadata().state_dict_metadata
    weights, parameters = model.weights(), dict(model.named_parameters())
    # A fresh optimizer has no state yet, so the stored names say which tensors to make room for.
    states: dict[str, dict[str, torch.Tensor]] = {}
    for stored_name in stored.keys() - weights.keys():
        name, _, key = stored_name.removeprefix(PREFIX).rpartition(".")
        if key == "factor" and f"{name}.weight" in parameters:  # of a run that trained fewer rows
            continue
        if name not in parameters:
            raise ModelError("the checkpoint holds the weights of another model")
        states.setdefault(name, {})[key] = _empty_state(key, parameters[name])
    optimizer_state = {_state_name(name, key): value for name, state in states.items() for key, value in state.items()}
    own = {**weights, **optimizer_state}
    tensors, restricted = dict(own), trained_rows(model)
    if restricted is not None:
        prefix, embedding = restricted
        if f"{prefix}.factor" not in stored:  # of a run that trained all rows
            del tensors[f"{prefix}.factor"]
        tensors |= {name: embedding.expand(own[name]) for name in _row_names(prefix, own)}
    for name in tensors.keys() & weights.keys():
        if name not in stored or stored[name].size != _at_least_1d(tensors[name]).shape:
            raise ModelError("the checkpoint holds the weights of another model")
    flat = {name: _at_least_1d(tensor) for name, tensor in tensors.items()}
    with _ignore_warnings():
        state_dict_loader.load(flat, storage_reader=reader, no_dist=distributed.world_size() == 1)
    if restricted is not None:
        if f"{prefix}.factor" not in tensors:
            embedding.replace_weight(tensors[f"{prefix}.weight"])
        for name in _row_names(prefix, own):
            own[name].copy_(embedding.select(tensors[name]))
    positions = {
        parameter: position
        for position, parameter in enumerate(
            parameter for group in optimizer.param_groups for parameter in group["params"]
        )
    }
    optimizer.load_state_dict({
        "state": {positions[parameters[name]]: state for name, state in states.items()},
        "param_groups": optimizer.state_dict()["param_groups"],
    })  # fmt: skip


def _row_names(prefix: str, tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the names of an embedding's weight and of the optimizer's state that has its shape."""
    weight = tensors[f"{prefix}.weight"]
    names = [f"{prefix}.weight", *(name for name in tensors if name.startswith(_state_name(f"{prefix}.weight", "")))]
    return [name for name in names if tensors[name].shape == weight.shape]


def _state_name(parameter: str, key: str) -> str:
    return f"{PREFIX}{parameter}.{key}"


def _at_least_1d(tensor: torch.Tensor) -> torch.Tensor:
    """Return a view with at least one dimension: a scalar cannot be read by slices."""
    return tensor.detach().view(1) if tensor.ndim == 0 else tensor.detach()


def _empty_state(key: str, parameter: nn.Parameter) -> torch.Tensor:
    """Return a tensor for a part of the optimizer's state: the number of steps, or a tensor like the weights."""
    return torch.zeros(()) if key == "step" else torch.zeros_like(parameter)


@contextmanager
def _ignore_warnings() -> Iterator[None]:
    """Ignore PyTorch's warnings that a user can do nothing about."""
    with warnings.catch_warnings():
        # A run of one process has no process group.
        warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable or uninitialized")
        # PyTorch 2.9 and 2.10 call their own deprecated method when they write a file.
        warnings.filterwarnings("ignore", "TypedStorage is deprecated")
        yield
