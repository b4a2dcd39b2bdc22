"""The results of a benchmark as plain values, without torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

DECODE, PREPARE, NETWORK, BOXES, SELECT = STAGES = (
    "decode file",
    "resize, normalize",
    "network",
    "decode boxes",
    "post-processing",
)


@dataclass(frozen=True)
class Spread:
    """The distribution of milliseconds over ``repeats`` measurements."""

    median: float
    p10: float
    p90: float
    min: float
    repeats: int


def spread(milliseconds: Sequence[float]) -> Spread:
    """Return the distribution of at least one value, with interpolated percentiles."""
    p10, median, p90 = (float(value) for value in np.percentile(milliseconds, (10, 50, 90)))
    return Spread(median, p10, p90, min(milliseconds), len(milliseconds))


@dataclass(frozen=True)
class Memory:
    """The peak memory in MiB of one pass.

    ``extra`` is the growth over the memory in use before (weights, libraries), None if it cannot be measured: on a CPU
    without Linux's counters. ``allocated`` is CUDA's ``max_memory_allocated``, with weights; None on a CPU.
    """

    extra: float | None
    allocated: float | None = None


@dataclass(frozen=True)
class Step:
    """One line of the breakdown; ``level`` 0 is a step of the pass, 1 a part of the network, 2 a part of its head.

    ``gflop`` are 1e9 operations for the batch, two per multiply-add, ``gflops_per_second`` their rate at the median
    time and ``fraction_of_peak`` that rate relative to the machine's peak; None if nothing is counted.
    """

    name: str
    level: int
    milliseconds: Spread
    gflop: float | None = None
    gflops_per_second: float | None = None
    fraction_of_peak: float | None = None


@dataclass(frozen=True)
class BatchResult:
    """The measurements of one batch size; ``detections`` is their mean number per image."""

    batch: int
    milliseconds: Spread
    images_per_second: float
    memory: Memory
    detections: float
    steps: tuple[Step, ...]

    @property
    def network(self) -> Step:
        """The step of the network."""
        return next(step for step in self.steps if step.name == NETWORK)


def batch_result(
    batch: int, stages: Mapping[str, Sequence[float]], detections: int, memory: Memory, steps: Iterable[Step]
) -> BatchResult:
    """Return the result of a batch size from the milliseconds of each stage in each round, and all detections."""
    whole = [sum(stage_times) for stage_times in zip(*stages.values(), strict=True)]
    times = spread(whole)
    return BatchResult(batch, times, batch / times.median * 1e3, memory, detections / len(whole) / batch, tuple(steps))


def one_pass_notes(info: Any) -> Iterator[str]:
    """Yield notes on a model with tiles or several passes, of which one was timed; ``info`` describes the model."""
    if info.tiling.size:
        yield f"the model reads images in tiles of {info.tiling.size} pixels; each image was timed as one tile"
    if info.tta.count > 1:
        yield f"the model makes {info.tta.count} passes over each image; one pass was timed"


@dataclass(frozen=True)
class Rates:
    """The operations for one image by module, and the machine's ``peak`` rate, None if it was not measured."""

    flops: Mapping[str, int]
    peak: float | None

    def step(self, name: str, level: int, milliseconds: Sequence[float], flops: int) -> Step:
        """Return a line; ``flops`` are the operations of the batch, 0 for a step without counted ones."""
        taken = spread(milliseconds)
        if not flops or not taken.median:
            return Step(name, level, taken)
        rate = flops / taken.median / 1e6
        return Step(name, level, taken, flops / 1e9, rate, None if self.peak is None else rate / self.peak)


@dataclass(frozen=True)
class Speed:
    """The best rate of a convolution, in 1e9 operations per second."""

    convolution: str
    batch: int
    gflops_per_second: float


@dataclass(frozen=True)
class Operator:
    """A torch operator in one pass: calls, its own milliseconds (on the GPU if there is one), and their fraction."""

    name: str
    calls: int
    milliseconds: float
    fraction: float


@dataclass(frozen=True)
class Report:
    """All measurements and their conditions; plain values except for ``peak``, ``batches`` and ``operators``.

    ``peak`` holds the machine's convolutions, the fastest first, to which the fraction of peak refers.
    """

    date: str
    machine: dict[str, Any]
    versions: dict[str, str]
    settings: dict[str, Any]
    model: dict[str, Any]
    peak: tuple[Speed, ...]
    batches: tuple[BatchResult, ...]
    operators: tuple[Operator, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)
