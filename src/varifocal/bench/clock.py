"""Times and memory, right also where the device works on while Python has gone ahead."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import nn

MIB = 2**20


@dataclass(frozen=True)
class Spread:
    """Milliseconds over ``repeats`` measurements."""

    median: float
    p10: float
    p90: float
    min: float
    repeats: int


def spread(milliseconds: Sequence[float]) -> Spread:
    """Of at least one value; percentiles lie between neighbours in proportion."""
    p10, median, p90 = (float(value) for value in np.percentile(milliseconds, (10, 50, 90)))
    return Spread(median, p10, p90, min(milliseconds), len(milliseconds))


def synchronise(device: torch.device) -> None:
    """Wait until the device has done everything that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class StageClock:
    """Milliseconds of the steps of one pass: call :meth:`lap` after each; the device is waited for every time."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.laps: dict[str, float] = {}
        synchronise(device)
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """What went by since the last call belongs to ``name``."""
        synchronise(self.device)
        now = time.perf_counter()
        self.laps[name] = (now - self._last) * 1e3
        self._last = now


class PartClock:
    """Milliseconds inside some modules of a network while the ``with`` block runs one pass, by forward hooks.

    On CUDA they are the device's own times between two events in its queue, so nothing waits in between. A module
    that is called several times, such as a tower shared by all levels, has the sum.
    """

    def __init__(self, network: nn.Module, names: Sequence[str], device: torch.device) -> None:
        self._modules = {name: network.get_submodule(name) for name in names}
        self._cuda, self._device = device.type == "cuda", device
        self._marks: dict[str, list[tuple[Any, Any]]] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> PartClock:
        self._marks = {name: [] for name in self._modules}
        for name, module in self._modules.items():
            begun: list[Any] = []
            self._handles.append(module.register_forward_pre_hook(self._begin(begun)))
            self._handles.append(module.register_forward_hook(self._end(name, begun)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def times(self) -> dict[str, float]:
        """Of each module, by its name; zero where it was not called."""
        synchronise(self._device)
        return {name: sum(self._between(*pair) for pair in pairs) for name, pairs in self._marks.items()}

    def _begin(self, begun: list[Any]) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            begun.append(self._mark())

        return hook

    def _end(self, name: str, begun: list[Any]) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            self._marks[name].append((begun.pop(), self._mark()))

        return hook

    def _mark(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _between(self, begun: Any, ended: Any) -> float:
        return float(begun.elapsed_time(ended)) if self._cuda else (ended - begun) * 1e3


@dataclass(frozen=True)
class Memory:
    """The most that one pass needs beyond what was in use before it (weights, libraries), in MiB.

    ``extra`` is None where it cannot be measured: on a CPU without Linux's counters. ``allocated`` is CUDA's
    ``max_memory_allocated``, weights included; None on a CPU.
    """

    extra: float | None
    allocated: float | None = None


def peak_memory(call: Callable[[], Any], device: torch.device) -> Memory:
    """Of one call, which another like it should have gone before so that the libraries have their own buffers."""
    if device.type == "cuda":
        return _cuda_memory(call, device)
    return Memory(_resident_growth(call))


def _cuda_memory(call: Callable[[], Any], device: torch.device) -> Memory:
    synchronise(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    synchronise(device)
    most = torch.cuda.max_memory_allocated(device)
    return Memory((most - before) / MIB, most / MIB)


def _resident_growth(call: Callable[[], Any]) -> float | None:
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
