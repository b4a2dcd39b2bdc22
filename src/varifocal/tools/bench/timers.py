"""Timers and memory, correct for devices that run asynchronously to Python, too."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import nn

from varifocal.tools.bench.memory import resident_growth
from varifocal.tools.bench.results import Memory

MIB = 2**20


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class StageClock:
    """Milliseconds of the steps of one pass; :meth:`lap` is called after each and waits for the device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.laps: dict[str, float] = {}
        synchronize(device)
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Assign the time since the last call to ``name``."""
        synchronize(self.device)
        now = time.perf_counter()
        self.laps[name] = (now - self._last) * 1e3
        self._last = now


class PartClock:
    """Milliseconds inside modules of a network while the ``with`` block runs one pass, measured by forward hooks.

    On CUDA they are the device's own times between two events in its queue, so that nothing waits. A module that is
    called several times, such as a tower shared by all levels, has the sum.
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
        """Return the milliseconds of each module by its name; zero if it was not called."""
        synchronize(self._device)
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


def peak_memory(call: Callable[[], Any], device: torch.device) -> Memory:
    """Return the peak memory of a call; an equal call before it should have allocated the buffers of libraries."""
    if device.type == "cuda":
        return _cuda_memory(call, device)
    return Memory(resident_growth(call))


def _cuda_memory(call: Callable[[], Any], device: torch.device) -> Memory:
    synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    synchronize(device)
    most = torch.cuda.max_memory_allocated(device)
    return Memory((most - before) / MIB, most / MIB)
