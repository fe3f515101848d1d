"""One seed → named, independent streams of randomness; the global generators, captured and restored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["derive_seed", "generator", "get_rng_state", "preserve_rng", "seeded", "set_rng_state"]


def derive_seed(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed for a named use of ``seed``; other names give independent seeds."""
    text = "\x1f".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """Return a NumPy generator for a named use of ``seed``."""
    import numpy as np

    return np.random.Generator(np.random.PCG64(derive_seed(seed, *names)))


def get_rng_state() -> dict[str, torch.Tensor]:
    """Return the state of PyTorch's global generators (dropout draws from them): ``cpu`` and ``cuda:N``."""
    import torch

    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state |= {f"cuda:{index}": rng_state for index, rng_state in enumerate(torch.cuda.get_rng_state_all())}
    return state


def set_rng_state(state: dict[str, torch.Tensor]) -> None:
    """Put the global generators back to a captured state."""
    import torch

    torch.set_rng_state(state["cpu"])
    for name, rng_state in state.items():
        if name.startswith("cuda:") and torch.cuda.is_available():
            torch.cuda.set_rng_state(rng_state, name)


@contextmanager
def preserve_rng() -> Iterator[None]:
    """Leave PyTorch's global generators as they were, whatever happens inside."""
    state = get_rng_state()
    try:
        yield
    finally:
        set_rng_state(state)


@contextmanager
def seeded(seed: int, *names: str | int) -> Iterator[None]:
    """Draw from a named use of ``seed`` inside, and leave the global generators as they were."""
    import torch

    with preserve_rng():
        torch.manual_seed(derive_seed(seed, *names))
        yield
