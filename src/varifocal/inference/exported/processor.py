"""The instructions of this processor."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np

CPUINFO = Path("/proc/cpuinfo")
# instructions that add products of bytes in 32 bits
VNNI = {"avx512_vnni", "avx_vnni", "amx_int8"}


def has_vnni() -> bool | None:
    """Return whether this processor adds products of bytes in 32 bits; None if that is unknown.

    x86 without VNNI adds two of them in 16 bits and saturates the sum. Other processors do not. Linux lists the
    instructions; elsewhere NumPy knows some of them.
    """
    if platform.machine().lower() not in ("x86_64", "amd64", "i386", "i686", "x86"):
        return True
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), None)
    if flags is not None:
        return not VNNI.isdisjoint(flags)
    return True if _numpy_features().get("AVX512VNNI") else None


def _numpy_features() -> dict[str, bool]:
    """Return NumPy's list of instructions, which has no public name."""
    core = getattr(np, "_core", None) or getattr(np, "core", None)
    features: dict[str, bool] = getattr(getattr(core, "_multiarray_umath", None), "__cpu_features__", {})
    return features
