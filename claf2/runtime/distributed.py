"""The processes of one run. With one process, each of these functions does nothing or returns its argument.

The processes are started by `torchrun`, `accelerate launch` or SLURM, and communicate through `torch.distributed`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from claf2.errors import RunError

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule

__all__ = [
    "all_gather",
    "all_gather_numbers",
    "all_gather_rows",
    "all_reduce_sum",
    "assert_same",
    "barrier",
    "broadcast",
    "call_on_main",
    "full_tensor",
    "is_main",
    "is_sharded",
    "local_rank",
    "main_process_first",
    "no_sync",
    "process_group",
    "rank",
    "shard_model",
    "world_size",
    "wrap_ddp",
]

logger = logging.getLogger("claf2")

T = TypeVar("T")

SLURM = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_NTASKS", "LOCAL_RANK": "SLURM_LOCALID"}
"""The variable that `torchrun` sets → the one that SLURM sets."""


LAUNCH_HINT = "start them with torchrun, or unset WORLD_SIZE for a single process"

LOST_CONNECTION = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Connection was likely closed",
)
"""What gloo and the store say in a process when another one has ended."""


def rank() -> int:
    """Return the number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes of this run."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_main() -> bool:
    """Say whether this is the process that writes files and logs for all."""
    return rank() == 0


def local_rank() -> int:
    """Return the number of this process on its machine, which is the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def process_group() -> Iterator[None]:
    """Connect to the other processes of the run, where the environment names any, and disconnect at the end. All but
    the main process log warnings only.

    Raises:
        RunError: when the environment names no valid number of processes, they cannot connect, or one has ended.
    """
    # srun has names of its own; those of torchrun take precedence.
    under_slurm = "WORLD_SIZE" not in os.environ and "MASTER_ADDR" in os.environ and SLURM["RANK"] in os.environ
    for variable, slurm_variable in SLURM.items() if under_slurm else ():
        os.environ.setdefault(variable, os.environ.get(slurm_variable, "0"))
    processes = os.environ.get("WORLD_SIZE", "1")
    if not processes.isdecimal():
        raise RunError(f"WORLD_SIZE={processes!r} is not a number of processes; {LAUNCH_HINT}")
    if int(processes) < 2 or distributed.is_initialized():
        yield
        return
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(local_rank())
    try:
        store, own_rank, size = next(distributed.rendezvous("env://"))  # type: ignore[attr-defined]
    except ValueError as error:
        raise RunError(f"WORLD_SIZE names several processes, but they cannot connect: {error}; {LAUNCH_HINT}") from None
    # A job that torchrun restarts connects to the same store, and must not read what the last attempt left there.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = distributed.PrefixStore(attempt, store)  # type: ignore[attr-defined]
    backend = "cpu:gloo,cuda:nccl" if gpu else "gloo"
    distributed.init_process_group(backend, store=store, rank=own_rank, world_size=size)
    if not is_main():
        logger.setLevel(logging.WARNING)
    try:
        yield
    except RuntimeError as error:
        if not any(text in str(error) for text in LOST_CONNECTION):
            raise
        raise RunError(f"process {own_rank} has lost its connection to another process, which has ended") from error
    finally:
        distributed.destroy_process_group()


def all_reduce_sum(numbers: torch.Tensor) -> torch.Tensor:
    """Return the element-wise sum of every process's tensor."""
    if world_size() > 1:
        numbers = numbers.clone()
        distributed.all_reduce(numbers)
    return numbers


def all_gather(value: T) -> list[T]:
    """Return every process's value, in the order of their ranks."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values


def all_gather_numbers(numbers: Sequence[float]) -> np.ndarray:
    """Return every process's numbers, (processes, len(numbers)), as float64. It is much cheaper than ``all_gather``,
    which pickles."""
    # Counts of tokens stay exact in float64, up to 2**53.
    local = torch.tensor(numbers, dtype=torch.float64)
    if world_size() == 1:
        return local[None].numpy()
    gathered = [torch.empty_like(local) for _ in range(world_size())]
    distributed.all_gather(gathered, local)
    return torch.stack(gathered).numpy()


def all_gather_rows(rows: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
    """Return the rows of all processes, (sum of counts, …), in the order of their ranks, without their graph.

    Args:
        rows: those of this process, (n, …).
        counts: how many rows each process has.
    """
    if world_size() == 1:
        return rows.detach()
    # Processes exchange tensors of one shape.
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows.detach()
    gathered = [torch.empty_like(padded) for _ in counts]
    distributed.all_gather(gathered, padded)
    return torch.cat([part[:count] for part, count in zip(gathered, counts, strict=True)])


def broadcast(value: T) -> T:
    """Return the main process's value."""
    if world_size() == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]


def call_on_main(function: Callable[[], T]) -> T:
    """Call a function in the main process, and return its value in all processes.

    Raises:
        RunError: in the other processes, when the function raises in the main one.
    """
    if not is_main():
        values: tuple[T | None, str | None] = broadcast((None, None))
        value, failure = values
        if failure is not None:
            raise RunError(f"process {rank()} ends with the main process: {failure}")
        return value  # type: ignore[return-value]  # the main process has returned one
    try:
        own_value = function()
    except BaseException as error:
        broadcast((None, str(error) or type(error).__name__))
        raise
    return broadcast((own_value, None))[0]


def barrier() -> None:
    """Wait until all processes have called this."""
    if world_size() > 1:
        distributed.barrier()


def assert_same(values: Mapping[str, Any]) -> None:
    """Check that all processes are about to make the same run.

    Raises:
        RunError: naming the first entry that differs.
    """
    for other_rank, other_values in enumerate(all_gather(values)):
        changed = [key for key in values if other_values.get(key) != values[key]]
        if changed:
            raise RunError(
                f"process {other_rank} differs from process {rank()} in {changed[0]}: start all processes with the "
                "same command, data and packages"
            )


@contextmanager
def main_process_first() -> Iterator[None]:
    """Run the block in the main process, then in the others, which find its results cached.

    Raises:
        RunError: in the other processes, when the block raises in the main one.
    """
    if is_main():
        failure = None
        try:
            yield
        except BaseException as error:
            failure = str(error) or type(error).__name__
            raise
        finally:
            broadcast(failure)
        return
    failure = broadcast(None)
    if failure is not None:
        raise RunError(f"process {rank()} ends with the main process: {failure}")
    yield


def shard_model(model: nn.Module, blocks: Iterable[nn.Module], device: torch.device, *, offload: bool) -> None:
    """Shard a model's weights, gradients and optimizer state over all processes (FSDP2), and move it to its device.

    Args:
        model: on any device; what is outside the blocks is gathered for the whole pass.
        blocks: the modules that are gathered one after another, when each is needed.
        device: the device that the process computes on.
        offload: keep the shards in the host's memory, where the device is another one.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import CPUOffloadPolicy, OffloadPolicy, fully_shard  # a second to import

    mesh = init_device_mesh(device.type, (world_size(),))
    policy = CPUOffloadPolicy() if offload and device.type != "cpu" else OffloadPolicy()
    # The blocks first: what is left over is sharded with the whole model.
    for module in (*blocks, model):
        fully_shard(module, mesh=mesh, offload_policy=policy)


def full_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """Return the whole of a tensor that may be sharded; all processes call this together."""
    if world_size() == 1:
        return tensor
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def wrap_ddp(module: nn.Module) -> nn.Module:
    """Return a module whose gradients are averaged over all processes; parameters that a pass does not use are left
    out. A sharded module averages its gradients itself."""
    if world_size() == 1 or is_sharded(module):
        return module
    # A step uses the head of one task only, so the others have no gradient.
    return DistributedDataParallel(module, find_unused_parameters=True)


def no_sync(module: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
    """Return the context of a pass whose gradients stay in this process, unless it is the ``last`` one of a step."""
    for shard in _shards(module):
        shard.set_requires_gradient_sync(last)
    return module.no_sync() if isinstance(module, DistributedDataParallel) and not last else nullcontext()


def is_sharded(module: nn.Module) -> bool:
    """Say whether each process holds a shard of the module only, so that all make every pass together."""
    return bool(_shards(module))


def _shards(module: nn.Module) -> list[FSDPModule]:
    if world_size() == 1:
        return []
    from torch.distributed.fsdp import FSDPModule

    return [child for child in (module, *module.children()) if isinstance(child, FSDPModule)]
