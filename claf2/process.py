"""What a run asks of its process: device, determinism, time, memory, signals, a log file, the versions around it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import platform
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import transformers

from claf2 import ranks

__all__ = [
    "Stopwatch",
    "code_digest",
    "device",
    "interruptible",
    "kernels",
    "log_file",
    "peak_memory_mib",
    "settle",
    "versions",
]

logger = logging.getLogger("claf2")

PACKAGES = ("claf2", "torch", "transformers", "tokenizers", "numpy", "scikit-learn", "scipy", "seqeval", "pyarrow")


def device(name: str) -> torch.device:
    """Return the device called ``name``; ``auto`` is a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda", ranks.local()) if torch.cuda.is_available() else torch.device("cpu")
    return torch.device(name)


def settle(*, deterministic: bool) -> None:
    """Set what is global in the libraries: quiet `transformers`, and PyTorch's deterministic kernels."""
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.use_deterministic_algorithms(deterministic)
    # Nothing here reads memory it has not written, and filling it costs a tenth of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def versions() -> dict[str, str]:
    """Return the version of Python and of each package that can move a score."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def code_digest() -> str:
    """Return the digest of claf2's own sources."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def kernels() -> dict[str, bool | int]:
    """Return what decides how fast and exact PyTorch's kernels are: threads, TF32, the number of compiled graphs."""
    compiler = sys.modules.get("torch._dynamo.utils")  # there only where something was compiled
    graphs = 0 if compiler is None else int(compiler.counters["stats"]["unique_graphs"])
    return {
        "threads": torch.get_num_threads(),
        "tf32": torch.backends.cuda.matmul.allow_tf32,
        "compiled_graphs": graphs,
    }


def peak_memory_mib() -> dict[str, float]:
    """Return the largest memory of this process so far, in MiB: resident, and on a GPU where there is one."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux counts the parent's memory into a child's ru_maxrss
        peak = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"peak_memory_mib": round(peak / (1024 if sys.platform != "darwin" else 1024**2), 1)}
    if torch.cuda.is_available():
        found["peak_gpu_memory_mib"] = round(torch.cuda.max_memory_allocated() / 1024**2, 1)
    return found


class Stopwatch:
    """Adds up the seconds spent inside."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._entered = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.monotonic() - self._entered


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a wish that is granted after the step; the second one ends the process at once."""
    asked: list[int] = []

    def note(signum: int, frame: object) -> None:
        asked.append(signum)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        logger.warning("stopping after this step; press Ctrl-C again to stop at once, without saving")

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Let everything that is said inside be found in ``train.log`` too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
