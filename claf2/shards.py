"""The tensors of a run that stopped, weights and optimizer state, in safetensors files: each process writes what it has
of them, and any number of processes reads them again (`torch.distributed.checkpoint`)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from claf2 import ranks
from claf2.errors import ModelError
from claf2.models.encoder import EncoderWithHeads

__all__ = ["load", "save"]


def save(folder: Path, model: EncoderWithHeads, optimizer: torch.optim.Optimizer) -> None:
    """Write into a folder that is there; a meeting of all processes."""
    from torch.distributed.checkpoint import state_dict_saver
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

    states = {
        _name(name, key): each
        for name, parameter in model.named_parameters()
        for key, each in optimizer.state.get(parameter, {}).items()
    }
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    tensors = {name: _flat(each) for name, each in {**model.weights(), **states}.items()}
    with _quiet():
        state_dict_saver.save(tensors, storage_writer=writer, no_dist=ranks.count() == 1)


def load(folder: Path, model: EncoderWithHeads, optimizer: torch.optim.Optimizer) -> None:
    """Copy what ``save`` wrote into model and optimizer.

    Raises:
        ModelError: when they are not those of this model.
        SafetensorError: when a file is damaged.
    """
    from torch.distributed.checkpoint import state_dict_loader
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    reader = HuggingFaceStorageReader(str(folder))
    stored: dict[str, Any] = reader.read_metadata().state_dict_metadata
    weights, parameters = model.weights(), dict(model.named_parameters())
    states: dict[str, dict[str, torch.Tensor]] = {}
    for full in stored.keys() - weights.keys():
        name, _, key = full.removeprefix(PREFIX).rpartition(".")
        if name not in parameters:
            raise ModelError("the checkpoint holds the weights of another model")
        states.setdefault(name, {})[key] = _empty(key, parameters[name])
    if any(name not in stored or stored[name].size != _flat(each).shape for name, each in weights.items()):
        raise ModelError("the checkpoint holds the weights of another model")
    named = {_name(name, key): each for name, own in states.items() for key, each in own.items()}
    tensors = {name: _flat(each) for name, each in {**weights, **named}.items()}
    with _quiet():
        state_dict_loader.load(tensors, storage_reader=reader, no_dist=ranks.count() == 1)
    numbers = {parameter: number for number, parameter in enumerate(_parameters(optimizer))}
    optimizer.load_state_dict({
        "state": {numbers[parameters[name]]: own for name, own in states.items()},
        "param_groups": optimizer.state_dict()["param_groups"],
    })  # fmt: skip


PREFIX = "optimizer."


def _name(parameter: str, key: str) -> str:
    return f"{PREFIX}{parameter}.{key}"


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor that shares its memory with this one, and is no bare number: such cannot be read by slices."""
    return tensor.detach().view(1) if tensor.ndim == 0 else tensor.detach()


def _empty(key: str, parameter: nn.Parameter) -> torch.Tensor:
    """Return room for a part of the optimizer's state: the number of steps, or something like the weights."""
    return torch.zeros(()) if key == "step" else torch.zeros_like(parameter)


@contextmanager
def _quiet() -> Iterator[None]:
    """Let PyTorch not warn that a single process is one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable or uninitialized")
        yield


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
