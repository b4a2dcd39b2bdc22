"""The times of one batch size, of the whole way and of each step and part."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice

import torch

from varifocal.bench.clock import Memory, PartClock, Spread, StageClock, peak_memory, spread
from varifocal.bench.parts import Part, find_parts, flops_of
from varifocal.bench.passes import NETWORK, STAGES, Job, one_pass, prepare
from varifocal.bench.pictures import Picture, decode
from varifocal.bench.settings import Settings
from varifocal.errors import ConfigError
from varifocal.progress import progress_bar

FEWEST, MOST = 3, 1000  # rounds, where their number follows from the time
REST = "rest"


@dataclass(frozen=True)
class Step:
    """One line of the breakdown; ``level`` 0 is a step of the way, 1 a part of the network, 2 a part of its head.

    ``gflop`` are 1e9 operations for the batch, two a multiply-add, ``gflops_per_second`` their rate at the median time
    and ``share_of_peak`` that rate over the machine's best; None where nothing is counted.
    """

    name: str
    level: int
    milliseconds: Spread
    gflop: float | None = None
    gflops_per_second: float | None = None
    share_of_peak: float | None = None


@dataclass(frozen=True)
class BatchResult:
    """What was measured with one batch size; ``detections`` is their number in a picture on average."""

    batch: int
    milliseconds: Spread
    pictures_per_second: float
    memory: Memory
    detections: float
    steps: tuple[Step, ...]

    @property
    def network(self) -> Step:
        """The step that is the network."""
        return next(step for step in self.steps if step.name == NETWORK)


@dataclass(frozen=True)
class Rates:
    """What is known before a batch is timed: operations for one picture, by module, and the machine's best rate."""

    flops: Mapping[str, int]
    peak: float

    def step(self, name: str, level: int, milliseconds: Sequence[float], flops: int) -> Step:
        """A line; ``flops`` are those of the batch, 0 for a step without any that are counted."""
        taken = spread(milliseconds)
        if not flops or not taken.median:
            return Step(name, level, taken)
        rate = flops / taken.median / 1e6
        return Step(name, level, taken, flops / 1e9, rate, rate / self.peak)


@contextmanager
def told_when_full(batch: int, size: tuple[int, int], device: torch.device) -> Iterator[None]:
    """Turn the many ways to run out of memory into one sentence.

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
            f"--batch {batch}: {batch} x {size[0]} x {size[1]} pixels do not fit into the memory of {device}; take "
            "fewer or a smaller --size."
        ) from error


def measure_batch(job: Job, batch: int, settings: Settings, rates: Rates) -> BatchResult:
    """Time a batch size: rounds of one pass of the whole way, and one of the network alone with its parts watched.

    The times of the steps come from the first pass and add up to the whole. Those of the parts come from the second;
    what the watching costs is in them, so that their sum may differ a little from the network's own time.

    Raises:
        ConfigError: it does not fit into memory.
    """
    with told_when_full(batch, job.input_size, job.device), torch.inference_mode():
        return _measure(job, batch, settings, rates)


def _measure(job: Job, batch: int, settings: Settings, rates: Rates) -> BatchResult:
    pictures = cycle(job.pictures)
    parts = [] if job.network.module is None else find_parts(job.network.module)
    watched = prepare(job, [decode(picture) for picture in islice(cycle(job.pictures), batch)])
    stages: dict[str, list[float]] = {name: [] for name in STAGES}
    inside: list[dict[str, float]] = []
    detections = 0
    for timed in _rounds(batch, settings, job.device):
        laps, found = _whole(job, list(islice(pictures, batch)))
        times = _inside(job, parts, watched) if parts else {}
        if timed:
            for name, milliseconds in laps.items():
                stages[name].append(milliseconds)
            inside.append(times)
            detections += found
    whole = [sum(round_) for round_ in zip(*stages.values(), strict=True)]
    again = list(islice(pictures, batch))
    memory = peak_memory(lambda: one_pass(job, again), job.device)
    steps = _steps(stages, parts, inside, rates, batch)
    speed = batch / spread(whole).median * 1e3
    return BatchResult(batch, spread(whole), speed, memory, detections / len(whole) / batch, tuple(steps))


def _rounds(batch: int, settings: Settings, device: torch.device) -> Iterator[bool]:
    """Once for each round: first False, to warm up and to see how long one takes, then True for those that count."""
    warm = 3 if device.type == "cuda" else 1
    took = 0.0
    with progress_bar(f"batch {batch}, warm-up", warm) as advance:
        for i in range(warm):
            begun = time.perf_counter()
            yield False
            took = time.perf_counter() - begun
            advance(i + 1)
    rounds = settings.repeats or min(max(math.ceil(settings.seconds / took), FEWEST), MOST)
    with progress_bar(f"batch {batch}", rounds) as advance:
        for i in range(rounds):
            yield True
            advance(i + 1)


def _whole(job: Job, pictures: Sequence[Picture]) -> tuple[dict[str, float], int]:
    """Milliseconds of each step, and how many boxes were found."""
    clock = StageClock(job.device)
    found = one_pass(job, pictures, clock.lap)
    return clock.laps, sum(len(one) for one in found)


def _inside(job: Job, parts: Sequence[Part], batch: torch.Tensor) -> dict[str, float]:
    """Milliseconds of each watched module; "" is the network."""
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
    """All lines from top to bottom."""
    for name, milliseconds in stages.items():
        yield rates.step(name, 0, milliseconds, batch * rates.flops[""] if name == NETWORK else 0)
        if name == NETWORK and parts:
            yield from _part_steps(parts, inside, rates, batch)


def _part_steps(
    parts: Sequence[Part], inside: Sequence[Mapping[str, float]], rates: Rates, batch: int
) -> Iterator[Step]:
    """Each part, and after those of a module what is left of it."""
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
    """In each round, what the parts do not explain."""
    known = [_taken(part, inside) for part in parts]
    return [time - sum(others) for time, *others in zip(whole, *known, strict=True)]
