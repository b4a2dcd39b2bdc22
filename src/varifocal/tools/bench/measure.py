"""The times of one batch size: of the whole pass, and of each step and part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle, islice

import torch

from varifocal.tools.bench.config import Settings
from varifocal.tools.bench.images import TimedImage, decode
from varifocal.tools.bench.modules import Part, find_parts, flops_of
from varifocal.tools.bench.repeats import rounds
from varifocal.tools.bench.results import NETWORK, STAGES, BatchResult, Rates, Step, batch_result
from varifocal.tools.bench.timers import PartClock, StageClock, peak_memory
from varifocal.tools.bench.workload import Workload, one_pass, prepare
from varifocal.utils.errors import ConfigError

REST = "rest"


@contextmanager
def oom_error(batch: int, size: tuple[int, int], device: torch.device) -> Iterator[None]:
    """Turn errors about memory into one sentence.

    Raises:
        ConfigError: a batch of that (height, width) does not fit into memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        full = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)
        if not full:
            raise
        raise ConfigError(
            f"--batch {batch}: {batch} x {size[0]} x {size[1]} pixels do not fit into the memory of {device}; use a "
            "smaller --batch or --size.",
            code="batch-out-of-memory",
        ) from error


def measure_batch(job: Workload, batch: int, settings: Settings, rates: Rates) -> BatchResult:
    """Time a batch size in rounds of one whole pass and one pass of the network with hooks on its parts.

    The times of the steps come from the first pass and add up to the whole. Those of the parts come from the second and
    include the cost of the hooks, so that their sum may differ a little from the network's own time.

    Raises:
        ConfigError: the batch does not fit into memory.
    """
    with oom_error(batch, job.input_size, job.device), torch.inference_mode():
        return _measure(job, batch, settings, rates)


def _measure(job: Workload, batch: int, settings: Settings, rates: Rates) -> BatchResult:
    images = cycle(job.images)
    parts = [] if job.network.module is None else find_parts(job.network.module)
    watched = prepare(job, [decode(image) for image in islice(cycle(job.images), batch)])
    stages: dict[str, list[float]] = {name: [] for name in STAGES}
    inside: list[dict[str, float]] = []
    detections = 0
    for timed in rounds(batch, settings, warm=3 if job.device.type == "cuda" else 1):
        laps, found = _whole(job, list(islice(images, batch)))
        times = _inside(job, parts, watched) if parts else {}
        if timed:
            for name, milliseconds in laps.items():
                stages[name].append(milliseconds)
            inside.append(times)
            detections += found
    again = list(islice(images, batch))
    memory = peak_memory(lambda: one_pass(job, again), job.device)
    return batch_result(batch, stages, detections, memory, _steps(stages, parts, inside, rates, batch))


def _whole(job: Workload, images: Sequence[TimedImage]) -> tuple[dict[str, float], int]:
    """Return the milliseconds of each step, and the number of detections."""
    clock = StageClock(job.device)
    found = one_pass(job, images, clock.lap)
    return clock.laps, sum(len(detections) for detections in found)


def _inside(job: Workload, parts: Sequence[Part], batch: torch.Tensor) -> dict[str, float]:
    """Return the milliseconds of each module with hooks; "" is the network."""
    assert job.network.module is not None
    names = ["", *(name for part in parts for name in part.modules)]
    with PartClock(job.network.module, names, job.device) as clock:
        job.network.call(batch)
    return clock.times()


def _steps(
    stages: Mapping[str, Sequence[float]],
    parts: Sequence[Part],
    inside: Sequence[Mapping[str, float]],
    rates: Rates,
    batch: int,
) -> Iterator[Step]:
    """Yield all lines from top to bottom."""
    for name, milliseconds in stages.items():
        yield rates.step(name, 0, milliseconds, batch * rates.flops[""] if name == NETWORK else 0)
        if name == NETWORK and parts:
            yield from _part_steps(parts, inside, rates, batch)


def _part_steps(
    parts: Sequence[Part], inside: Sequence[Mapping[str, float]], rates: Rates, batch: int
) -> Iterator[Step]:
    """Yield each part, and after the parts of a module the rest of it."""
    outer = [part for part in parts if not part.within]
    for part in outer:
        taken = _taken(part, inside)
        yield rates.step(part.name, 1, taken, batch * flops_of(part, rates.flops))
        inner = [other for other in parts if other.within == part.name]
        for other in inner:
            yield rates.step(other.name, 2, _taken(other, inside), batch * flops_of(other, rates.flops))
        if inner:
            yield rates.step(REST, 2, _left(taken, inner, inside), 0)
    yield rates.step(REST, 1, _left([times[""] for times in inside], outer, inside), 0)


def _taken(part: Part, inside: Sequence[Mapping[str, float]]) -> list[float]:
    return [sum(times[name] for name in part.modules) for times in inside]


def _left(whole: Sequence[float], parts: Sequence[Part], inside: Sequence[Mapping[str, float]]) -> list[float]:
    """Return the time of each round that the parts do not explain."""
    known = [_taken(part, inside) for part in parts]
    return [time - sum(others) for time, *others in zip(whole, *known, strict=True)]
