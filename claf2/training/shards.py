"""The tensors of `last/`, weights and optimizer state, as safetensors files. Each process writes its own shards, and
any number of processes reads them again, through `torch.distributed.checkpoint`."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from claf2.errors import ModelError
from claf2.models.embeddings import trained_rows
from claf2.models.encoder import EncoderWithHeads
from claf2.runtime import distributed

__all__ = ["load_shards", "memory_to_save", "save_shards"]

PREFIX = "optimizer."
"""The beginning of the names of optimizer state, which are stored beside the weights."""

FILE_BYTES = 64 * 2**20
"""The size from which another file is begun. The library holds a file in memory twice when it writes it."""


def save_shards(folder: Path, model: EncoderWithHeads, optimizer: torch.optim.Optimizer) -> None:
    """Write weights and optimizer state into an existing folder; all processes call this together."""
    from torch.distributed.checkpoint import state_dict_saver
    from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

    optimizer_state = {
        _state_name(name, key): value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }
    tensors = {name: _at_least_1d(tensor) for name, tensor in {**model.weights(), **optimizer_state}.items()}
    tables: dict[str, Callable[[], torch.Tensor]] = {}
    restricted = trained_rows(model)
    if restricted is not None:
        # The whole table, so that the run can be resumed with all rows, or sharded.
        prefix, embedding = restricted
        tables = {name: partial(embedding.expand, tensors[name]) for name in _row_names(prefix, tensors)}
        tables[f"{prefix}.weight"] = embedding.full_weight
        for name in tables:
            shape = (embedding.num_embeddings, *tensors[name].shape[1:])
            tensors[name] = torch.empty(shape, dtype=tensors[name].dtype, device="meta")
    writer = HuggingFaceStorageWriter(str(folder), _assign_files(tensors), save_distributed=True)

    class TablePlanner(DefaultSavePlanner):
        """Makes each table when it is written, so that there is one at a time."""

        def lookup_object(self, index: Any) -> Any:
            make_table = tables.get(index.fqn)
            return make_table() if make_table else super().lookup_object(index)

    with _ignore_warnings():
        state_dict_saver.save(
            tensors, storage_writer=writer, planner=TablePlanner(), no_dist=distributed.world_size() == 1
        )
    for path in folder.glob(f"shard-{distributed.rank() + 1:05d}-*.safetensors"):
        _sort_metadata(path)


def memory_to_save(model: EncoderWithHeads) -> int:
    """Return about how many bytes ``save_shards`` needs: twice the largest file, and the table that it makes."""
    restricted = trained_rows(model)
    table = restricted[1].table_bytes if restricted else 0
    return 2 * max(FILE_BYTES, table, *(tensor.nbytes for tensor in model.weights().values())) + table


def _assign_files(tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """Return the number of the file, from 1, that each tensor is written to."""
    files: dict[str, int] = {}
    number, size = 1, 0
    for name, tensor in tensors.items():
        if size and size + tensor.nbytes > FILE_BYTES:
            number, size = number + 1, 0
        files[name] = number
        size += tensor.nbytes
    return files


def _sort_metadata(path: Path) -> None:
    """Sort the metadata in the header of a safetensors file, which the library writes in a random order, so that equal
    tensors give equal files."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        metadata = header["__metadata__"]
        if "DCP_SHARDING_INFO" in metadata:  # JSON as text
            metadata["DCP_SHARDING_INFO"] = json.dumps(json.loads(metadata["DCP_SHARDING_INFO"]), sort_keys=True)
        header["__metadata__"] = dict(sorted(metadata.items()))
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
    for stored_name in sorted(stored.keys() - weights.keys()):
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
