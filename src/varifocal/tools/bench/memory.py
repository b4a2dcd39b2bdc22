"""The memory that a call needs, as Linux counts it for the process."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any


def resident_growth(call: Callable[[], Any]) -> float | None:
    """Return the largest growth of the resident memory during the call in MiB; None if Linux does not report it."""
    _trim()
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the highest value to the current one
        before = _highest()
    except OSError:
        return None
    call()
    return (_highest() - before) / 1024


def _highest() -> int:
    """Return the highest resident memory in KiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def _trim() -> None:
    """Return freed memory to the system, which the C library would otherwise reuse without any growth."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # not glibc
        return
    trim(0)
