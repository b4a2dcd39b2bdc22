"""The machine and the versions with which a number was measured."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("varifocal", "torch", "torchvision", "timm", "onnxruntime", "openvino", "numpy", "pillow")


def describe_machine(threads: int, gpu: str | None = None) -> dict[str, Any]:
    """Return the processor, the cores that this process may use, its threads, and the CUDA device or None."""
    return {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "threads": threads,
        "gpu": gpu,
        "system": f"{platform.system()} {platform.machine()}",
    }


def cpu_name() -> str:
    """Return the model name of the processor, or else its architecture."""
    names = [value for key, value in _cpu_lines() if key == "model name"]
    return names[0] if names else platform.processor() or platform.machine()


def usable_cores() -> int:
    """Return the number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def lacks_bf16() -> bool:
    """Return whether the CPU is known to lack bfloat16 arithmetic; False if unknown (not Linux)."""
    flags = [set(value.split()) for key, value in _cpu_lines() if key in ("flags", "Features")]
    return bool(flags) and not flags[0] & {"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"}


def _cpu_lines() -> list[tuple[str, str]]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    pairs = (line.partition(":") for line in text.splitlines())
    return [(key.strip(), value.strip()) for key, _, value in pairs]


def describe_versions() -> dict[str, str]:
    """Return the versions of Python and the packages that are used."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from the source, or packaged under another name
            continue
    return found
