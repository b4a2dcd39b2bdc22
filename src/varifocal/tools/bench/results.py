"""What a benchmark measures, in plain values; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """Milliseconds over ``repeats`` measurements."""

    median: float
    p10: float
    p90: float
    min: float
    repeats: int


def spread(milliseconds: Sequence[float]) -> Spread:
    """Of at least one value; percentiles lie between neighbors in proportion."""
    p10, median, p90 = (float(value) for value in np.percentile(milliseconds, (10, 50, 90)))
    return Spread(median, p10, p90, min(milliseconds), len(milliseconds))


@dataclass(frozen=True)
class Memory:
    """The most that one pass needs beyond what was in use before it (weights, libraries), in MiB.

    ``extra`` is None where it cannot be measured: on a CPU without Linux's counters. ``allocated`` is CUDA's
    ``max_memory_allocated``, weights included; None on a CPU.
    """

    extra: float | None
    allocated: float | None = None


@dataclass(frozen=True)
class Step:
    """One line of the breakdown; ``level`` 0 is a step of the way, 1 a part of the network, 2 a part of its head.

    ``gflop`` are 1e9 operations for the batch, two a multiply-add, ``gflops_per_second`` their rate at the median time
    and ``fraction_of_peak`` that rate over the machine's best; None where nothing is counted.
    """

    name: str
    level: int
    milliseconds: Spread
    gflop: float | None = None
    gflops_per_second: float | None = None
    fraction_of_peak: float | None = None


@dataclass(frozen=True)
class BatchResult:
    """What was measured with one batch size; ``detections`` is their number in an image on average."""

    batch: int
    milliseconds: Spread
    images_per_second: float
    memory: Memory
    detections: float
    steps: tuple[Step, ...]

    @property
    def network(self) -> Step:
        """The step that is the network."""
        return next(step for step in self.steps if step.name == NETWORK)


@dataclass(frozen=True)
class Rates:
    """What is known before a batch is timed: operations for one image, by module, and the machine's best rate.

    ``peak`` is None where it was not measured.
    """

    flops: Mapping[str, int]
    peak: float | None

    def step(self, name: str, level: int, milliseconds: Sequence[float], flops: int) -> Step:
        """A line; ``flops`` are those of the batch, 0 for a step without any that are counted."""
        taken = spread(milliseconds)
        if not flops or not taken.median:
            return Step(name, level, taken)
        rate = flops / taken.median / 1e6
        return Step(name, level, taken, flops / 1e9, rate, None if self.peak is None else rate / self.peak)


@dataclass(frozen=True)
class Speed:
    """The best rate of a convolution, in 1e9 operations a second."""

    convolution: str
    batch: int
    gflops_per_second: float


@dataclass(frozen=True)
class Operator:
    """An operator of torch in one pass: calls, milliseconds in itself (on a GPU if there is one), and as a fraction."""

    name: str
    calls: int
    milliseconds: float
    fraction: float


@dataclass(frozen=True)
class Report:
    """Everything that was measured, and with what; plain values but for ``peak``, ``batches`` and ``operators``.

    ``peak`` holds the machine's convolutions, the fastest first; the fraction of peak refers to that one.
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
        """Plain dictionaries, lists, numbers and words."""
        return asdict(self)
