"""The processes that make one run together, each a rank; mostly one, for which all of this does nothing.

They are started by `torchrun`, `accelerate launch` or SLURM, and find each other through PyTorch's own collectives.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from claf2.errors import RunError

__all__ = [
    "agree",
    "count",
    "first",
    "gathered",
    "in_turn",
    "joined",
    "local",
    "number",
    "spread",
    "told",
    "total",
    "unsent",
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
    if count() > 1 and not first():
        distributed.barrier()
    yield
    if count() > 1 and first():
        distributed.barrier()


def spread(model: nn.Module) -> nn.Module:
    """Return a module whose gradients are averaged over all processes; heads that a step does not use are left out."""
    return DistributedDataParallel(model, find_unused_parameters=True) if count() > 1 else model


def unsent(module: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
    """Return the context of a pass whose gradients are kept here for now, unless it is the last one of a step."""
    return module.no_sync() if isinstance(module, DistributedDataParallel) and not last else nullcontext()
