"""The processes that make one run together, each a rank; mostly one, for which all of this does nothing.

They are started by `torchrun`, `accelerate launch` or SLURM, and find each other through PyTorch's own collectives.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from claf2.errors import RunError

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule

__all__ = [
    "agree",
    "count",
    "first",
    "gathered",
    "in_turn",
    "joined",
    "local",
    "meet",
    "most",
    "number",
    "shard",
    "sharded",
    "spread",
    "told",
    "total",
    "unsent",
    "whole",
]

logger = logging.getLogger("claf2")

T = TypeVar("T")

SLURM = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_NTASKS", "LOCAL_RANK": "SLURM_LOCALID"}
"""What SLURM calls what `torchrun` sets."""


def number() -> int:
    """Return which process this is, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def count() -> int:
    """Return how many processes make this run."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def first() -> bool:
    """Say whether this is the process that writes and speaks for all."""
    return number() == 0


def local() -> int:
    """Return which process of this machine it is: the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def joined() -> Iterator[None]:
    """Join the other processes, where the environment names any, and part from them at the end. All but the first speak
    of warnings only."""
    under_slurm = "WORLD_SIZE" not in os.environ and "MASTER_ADDR" in os.environ and SLURM["RANK"] in os.environ
    for name, theirs in SLURM.items() if under_slurm else ():
        os.environ.setdefault(name, os.environ.get(theirs, "0"))
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or distributed.is_initialized():
        yield
        return
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(local())
    store, rank, world = next(distributed.rendezvous("env://"))  # type: ignore[attr-defined]
    # A job that torchrun starts anew finds the same store, and must not read what the last one left there.
    fresh = distributed.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)  # type: ignore[attr-defined]
    distributed.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo", store=fresh, rank=rank, world_size=world)
    if not first():
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def total(numbers: torch.Tensor) -> torch.Tensor:
    """Return the sum of every process's numbers."""
    if count() > 1:
        numbers = numbers.clone()
        distributed.all_reduce(numbers)
    return numbers


def most(number: int) -> int:
    """Return the largest of every process's numbers."""
    return max(gathered(number))


def gathered(value: T) -> list[T]:
    """Return every process's value, in their order."""
    if count() == 1:
        return [value]
    values: list[Any] = [None] * count()
    distributed.all_gather_object(values, value)
    return values


def told(value: T) -> T:
    """Return the first process's value."""
    if count() == 1:
        return value
    box = [value]
    distributed.broadcast_object_list(box)
    return box[0]


def meet() -> None:
    """Wait until all processes are here."""
    if count() > 1:
        distributed.barrier()


def agree(mine: Mapping[str, Any]) -> None:
    """Refuse processes that are about to make different runs.

    Raises:
        RunError: naming the first thing that they do not have alike.
    """
    for other, theirs in enumerate(gathered(mine)):
        changed = [key for key in mine if theirs.get(key) != mine[key]]
        if changed:
            raise RunError(f"process {other} has another {changed[0]} than process {number()}: start all alike")


@contextmanager
def in_turn() -> Iterator[None]:
    """Let the first process do what is inside, then the others, who find it done."""
    if not first():
        meet()
    yield
    if first():
        meet()


def shard(model: nn.Module, blocks: Iterable[nn.Module], device: torch.device, *, offload: bool) -> None:
    """Divide a model's weights, gradients and optimizer state among all processes (FSDP2), and move it to its device.

    Args:
        model: on any device; what is outside of the blocks is gathered for a whole pass.
        blocks: its parts that are gathered one after another, when each is needed.
        offload: keep the shares in the host's memory, where the device is another one.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import CPUOffloadPolicy, OffloadPolicy, fully_shard  # a second to import

    mesh = init_device_mesh(device.type, (count(),))
    policy = CPUOffloadPolicy() if offload and device.type != "cpu" else OffloadPolicy()
    for module in (*blocks, model):
        fully_shard(module, mesh=mesh, offload_policy=policy)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of which each process has a share; a meeting of all processes."""
    if count() == 1:
        return tensor
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def spread(module: nn.Module) -> nn.Module:
    """Return a module whose gradients are averaged over all processes; what a pass does not use is left out."""
    if count() == 1 or sharded(module):
        return module
    return DistributedDataParallel(module, find_unused_parameters=True)


def unsent(module: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
    """Return the context of a pass whose gradients are kept here for now, unless it is the last one of a step."""
    for each in _shards(module):
        each.set_requires_gradient_sync(last)
    return module.no_sync() if isinstance(module, DistributedDataParallel) and not last else nullcontext()


def sharded(module: nn.Module) -> bool:
    """Say whether each process has a share of the module only, so that they make every pass together."""
    return bool(_shards(module))


def _shards(module: nn.Module) -> list[FSDPModule]:
    if count() == 1:
        return []
    from torch.distributed.fsdp import FSDPModule

    return [each for each in (module, *module.children()) if isinstance(each, FSDPModule)]
