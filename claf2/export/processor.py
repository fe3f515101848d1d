"""What the processor can do, as far as it changes the bits of an answer."""

from __future__ import annotations

import platform
import re
from pathlib import Path

__all__ = ["has_integer_products", "processor_flags"]

CPU_INFO = Path("/proc/cpuinfo")

RELEVANT = (
    "avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp",
    "i8mm", "bf16",
)  # fmt: skip
"""The instruction sets that ONNX Runtime chooses its kernels by."""

INTEGER_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})
"""Those that add up products of 8-bit integers in 32 bits. Older processors add pairs of them in 16 bits, which
overflows."""


def processor_flags(cpu_info: Path = CPU_INFO) -> tuple[str, ...]:
    """Return the architecture of the processor and its relevant instruction sets.

    Args:
        cpu_info: where Linux lists them.
    """
    text = cpu_info.read_text(encoding="utf-8", errors="replace") if cpu_info.is_file() else ""
    line = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    present = set(line[1].split()) if line else set()
    return (platform.machine(), *(name for name in RELEVANT if name in present))


def has_integer_products(flags: tuple[str, ...]) -> bool:
    """Say whether a processor computes products of 8-bit integers without overflow."""
    return bool(INTEGER_PRODUCTS.intersection(flags))
