"""Code shared by the speed benchmarks: interleaved timing, extra memory, rows with goals, results as JSON.

A script measures a row and its peer in one run, in alternation, so that other load on the machine slows both; medians
are kept. ``speed_table.py`` makes the tables of the documentation from the files that :func:`write` puts in
``results/``.
"""

from __future__ import annotations

import ctypes
import gc
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import torch

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Goal:
    """A limit for a row's ratio to its peer or for its value (``of``): at most or at least ``limit`` (``side``)."""

    limit: float
    of: Literal["ratio", "value"] = "ratio"
    side: Literal["most", "least"] = "most"

    def met(self, ratio: float | None, value: float) -> bool:
        """Return whether the measurement meets the goal."""
        number = ratio if self.of == "ratio" else value
        if number is None:
            return False
        return number <= self.limit if self.side == "most" else number >= self.limit


@dataclass(frozen=True)
class Row:
    """One measurement: ``value`` in ``unit``, and ``peer_value`` of ``peer`` in the same unit."""

    what: str
    value: float
    unit: str
    goal: Goal | None = None
    peer: str = ""
    peer_value: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """The value divided by the peer's value; None without a peer."""
        return None if self.peer_value is None else self.value / self.peer_value


def by_turns(calls: Mapping[str, Callable[[], Any]], rounds: int = 7, warmup: int = 2) -> dict[str, list[float]]:
    """Return the milliseconds of each call in each round; calls alternate, after ``warmup`` untimed rounds."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(warmup + rounds):
        for name, call in calls.items():
            begun = time.perf_counter()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if i >= warmup:
                times[name].append((time.perf_counter() - begun) * 1e3)
    return times


def medians(calls: Mapping[str, Callable[[], Any]], rounds: int = 7, warmup: int = 2) -> dict[str, float]:
    """Return the median milliseconds of each call; see :func:`by_turns`."""
    return {name: statistics.median(values) for name, values in by_turns(calls, rounds, warmup).items()}


def extra_megabytes(call: Callable[[], Any]) -> float:
    """Return the peak rise of resident memory during ``call``, including its result (Linux; MiB).

    A first call fills the libraries' own buffers. Then the allocator returns unused memory to the system, and the
    kernel's record of the peak is reset.
    """
    call()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    start = _status("VmRSS")
    result = call()
    peak = _status("VmHWM")
    del result
    return (peak - start) / 2**10


def _status(key: str) -> int:
    """Return a value of ``/proc/self/status`` in KiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1])


def machine() -> dict[str, Any]:
    """Return the date, hardware and versions of a result."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = f"{names[0] if names else cpu} ({platform.machine()})"
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    for name in ("torchvision", "timm", "varifocal", "onnxruntime", "openvino", "hotcoco", "pycocotools", "PIL"):
        module = sys.modules.get(name)
        if module is not None and hasattr(module, "__version__"):
            versions[name] = module.__version__
    return {
        "date": date.today().isoformat(),
        "cpu": cpu,
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "versions": versions,
    }


def write(name: str, rows: Sequence[Row], folder: Path = RESULTS, **details: Any) -> None:
    """Print the rows and store them, with date, machine and versions, in ``results/<name>.json`` or another folder."""
    for row in rows:
        ratio = "" if row.ratio is None else f"  {row.ratio:.2f}x of {row.peer} ({row.peer_value:.4g} {row.unit})"
        met = "" if row.goal is None else ("  met" if row.goal.met(row.ratio, row.value) else "  MISSED")
        print(f"{row.what}: {row.value:.4g} {row.unit}{ratio}{met}")
    entries = [
        {**asdict(row), "ratio": row.ratio, "met": row.goal.met(row.ratio, row.value) if row.goal else None}
        for row in rows
    ]
    folder.mkdir(exist_ok=True)
    content = {"script": f"benchmarks/{Path(sys.argv[0]).name}", "machine": machine(), "rows": entries, **details}
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
