"""What one call needs of the process's memory, as Linux counts it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any


def resident_growth(call: Callable[[], Any]) -> float | None:
    """By how much the process's resident memory rises at its highest, in MiB; None where Linux does not tell."""
    _give_back()
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the highest is now what is resident now
        before = _highest()
    except OSError:
        return None
    call()
    return (_highest() - before) / 1024


def _highest() -> int:
    """Resident memory at its highest, in KiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def _give_back() -> None:
    """What the C library keeps of memory that was freed would be used again, unseen."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # not glibc
        return
    trim(0)
