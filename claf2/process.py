"""What a run asks of its process: device, determinism, time, memory, signals, a log file; what is around it that moves
scores, and in what two runs differ there."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import logging
import platform
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers

from claf2 import ranks
from claf2.registry import ENTRY_POINTS

__all__ = [
    "KINDS",
    "MOVING",
    "Stopwatch",
    "changes",
    "code_digest",
    "device",
    "interruptible",
    "kernels",
    "log_file",
    "peak_memory_mib",
    "plugin_digests",
    "settle",
    "surroundings",
    "versions",
]

logger = logging.getLogger("claf2")

PACKAGES = ("claf2", "torch", "transformers", "tokenizers", "numpy", "scikit-learn", "scipy", "seqeval", "pyarrow")

MOVING = ("torch", "transformers", "tokenizers", "numpy", "scikit-learn", "scipy", "seqeval", "kiwipiepy", "fugashi")
"""The packages another version of which may move a score, and why: `torch` computes, and draws dropout and fresh
weights; `transformers` is the model; `tokenizers` cuts texts, as `kiwipiepy` and `fugashi` do where a config asks for
them; NumPy's generators order the batches; `scikit-learn`, `scipy` and `seqeval` compute scores. Python and `pyarrow`
only carry numbers from place to place, and claf2's version says less than the digest of its code."""


KINDS: Mapping[str, tuple[str, ...]] = {
    "data": ("data",),
    "tokenizer": ("tokenizer",),
    "weights": ("weights", "commit", "teachers"),
    "code": ("code", "recipe", "experiment", "plugins"),
    "versions": ("versions",),
    "device": ("device", "hardware"),
    "threads": ("threads",),
    "processes": ("processes",),
}
"""What a user may say has changed → the entries of ``run.json`` that say so. All of them move scores: the first four
what is computed, the others its last digits at least. ``code`` is claf2's own, that of plug-ins and the tasks' rows,
and so what they make of the same config."""


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
    for package in dict.fromkeys((*PACKAGES, *MOVING)):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def code_digest(place: Path = Path(__file__).parent) -> str:
    """Return the digest of the Python sources in a folder, claf2's own unless given, or of one file."""
    digest = hashlib.sha256()
    folder, paths = (place.parent, [place]) if place.is_file() else (place, sorted(place.rglob("*.py")))
    for path in paths:
        digest.update(f"{path.relative_to(folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def plugin_digests(plugins: Sequence[str]) -> dict[str, str]:
    """Return the digest of the sources of each plug-in, a file or a module, and the version of each package that brings
    plug-ins of its own."""
    found = {}
    for name in plugins:
        path = Path(name)
        spec = None if path.suffix == ".py" else importlib.util.find_spec(name)
        if spec is not None:
            path = Path(next(iter(spec.submodule_search_locations or ()), spec.origin or ""))
        found[name] = code_digest(path)
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        found[point.value] = "" if point.dist is None else point.dist.version
    return found


def surroundings(device: torch.device) -> dict[str, str | int]:
    """Return what moves the last digits of every sum: the processor that computes, and how many threads and processes
    share the work; and the folder that relative paths are looked for in."""
    gpu = device.type == "cuda"
    processor = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {
        "hardware": torch.cuda.get_device_name(device) if gpu else processor,
        "threads": torch.get_num_threads(),
        "processes": ranks.count(),
        "directory": str(Path.cwd()),
    }


def changes(before: Mapping[str, Any], now: Mapping[str, Any], names: Sequence[str]) -> dict[str, list[Any]]:
    """Return what two locks say differently under some names, then and now, by name and entry (``data train``)."""
    found: dict[str, list[Any]] = {}
    for name in names:
        was, is_now = before.get(name), now.get(name)
        if isinstance(was, Mapping) and isinstance(is_now, Mapping):
            inner = changes(was, is_now, [each for each in {**was, **is_now} if name != "versions" or each in MOVING])
            found |= {f"{name} {each}": pair for each, pair in inner.items()}
        elif was != is_now and not (name == "device" and _kind(was) == _kind(is_now)):
            found[name] = [was, is_now]
    return found


def _kind(device: object) -> str:
    """Return what kind of device a name stands for: any GPU is ``cuda``."""
    return str(device).partition(":")[0]


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
