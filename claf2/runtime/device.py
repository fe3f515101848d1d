"""The device of a run, the settings of PyTorch's kernels, and the memory that was used."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
import transformers

from claf2.errors import ConfigError
from claf2.runtime import distributed

__all__ = [
    "configure_backends",
    "kernel_settings",
    "peak_memory_mib",
    "preserve_backends",
    "reset_peak_memory",
    "select_device",
]


def select_device(name: str) -> torch.device:
    """Return the device called ``name``; ``auto`` is this process's GPU where there is one, else the CPU.

    Raises:
        ConfigError: when this machine has no such device.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda", distributed.local_rank()) if gpus else torch.device("cpu")
    device = torch.device(name)
    present = {"cpu": True, "cuda": (device.index or 0) < gpus, "mps": torch.backends.mps.is_available()}
    if not present[device.type]:
        problem = f"{name!r} is not a device of this machine, on which PyTorch sees {gpus or 'no'} CUDA devices"
        raise ConfigError("runtime.device", problem, hint="use auto or cpu")
    return device


def configure_backends(*, deterministic: bool) -> None:
    """Set what is global in the libraries: silence `transformers`, and choose PyTorch's deterministic kernels."""
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.use_deterministic_algorithms(deterministic)
    # No code here reads memory before writing it, and filling new memory costs a tenth of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@contextmanager
def preserve_backends() -> Iterator[None]:
    """Leave what ``configure_backends`` sets as it was, whatever happens inside the block."""
    logs = transformers.utils.logging
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    verbosity, bars = logs.get_verbosity(), logs.is_progress_bar_enabled()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
        logs.set_verbosity(verbosity)
        if bars:
            logs.enable_progress_bar()  # type: ignore[no-untyped-call]


def kernel_settings() -> dict[str, bool | int]:
    """Return what PyTorch's speed and precision depend on: threads, TF32, the number of compiled graphs."""
    compiler = sys.modules.get("torch._dynamo.utils")  # imported only where something was compiled
    graphs = 0 if compiler is None else int(compiler.counters["stats"]["unique_graphs"])
    return {
        "threads": torch.get_num_threads(),
        "tf32": torch.backends.cuda.matmul.fp32_precision == "tf32",
        "compiled_graphs": graphs,
    }


def reset_peak_memory() -> None:
    """Let the peak memory of this process start again from what it uses now, where the system can do so."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux: the peak of the resident memory
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory_mib() -> dict[str, float]:
    """Return the peak memory of this process in MiB: resident, and on a GPU where there is one."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux, ru_maxrss of a child process includes its parent's memory
        peak = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory = {"peak_memory_mib": round(peak / (1024 if sys.platform != "darwin" else 1024**2), 1)}
    if torch.cuda.is_available():
        memory["peak_gpu_memory_mib"] = round(torch.cuda.max_memory_allocated() / 1024**2, 1)
    return memory
