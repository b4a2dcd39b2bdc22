"""The peak arithmetic rate of this machine: the convolutions of a VFNet on a COCO image, one at a time.

The fraction of this peak that a network reaches shows how much a better implementation could gain on the same machine.
Operations are counted as for networks, two per multiply-add of the direct algorithm, so that a library that needs fewer
(Winograd) raises both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F

from varifocal.tools.bench.results import Speed
from varifocal.tools.bench.timers import synchronize

SECONDS = 0.3  # for each convolution
ON_CUDA = 20  # calls in a row: after single calls a GPU would wait for Python


class Convolution(NamedTuple):
    """A convolution without bias and with stride 1, which keeps the size of its feature map."""

    inputs: int
    outputs: int
    kernel: int
    height: int
    width: int

    def __str__(self) -> str:
        shape = f"{self.kernel}x{self.kernel} {self.inputs}->{self.outputs}"
        return f"{shape} on {self.height}x{self.width}"

    @property
    def flops(self) -> int:
        """The operations for one image, two per multiply-add."""
        return 2 * self.inputs * self.outputs * self.kernel**2 * self.height * self.width


# At 800 x 1216: the head on its finest level, and the layers of a ResNet-50 from C2 to C5.
CONVOLUTIONS = (
    Convolution(256, 256, 3, 100, 152),
    Convolution(64, 64, 3, 200, 304),
    Convolution(128, 128, 3, 100, 152),
    Convolution(256, 256, 3, 50, 76),
    Convolution(512, 512, 3, 25, 38),
    Convolution(256, 1024, 1, 50, 76),
    Convolution(1024, 256, 1, 50, 76),
)


def measure_peak(
    device: torch.device,
    dtype: torch.dtype,
    batches: Sequence[int],
    convolutions: Sequence[Convolution] = CONVOLUTIONS,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Speed]:
    """Measure every convolution with every batch size, fastest first; ``progress`` is called with the number done."""
    speeds = []
    with torch.inference_mode():
        for convolution in convolutions:
            for batch in batches:
                speeds.append(_measure(convolution, batch, device, dtype))
                progress(len(speeds))
    return sorted(speeds, key=lambda speed: -speed.gflops_per_second)


def _measure(convolution: Convolution, batch: int, device: torch.device, dtype: torch.dtype) -> Speed:
    inputs, outputs, kernel, height, width = convolution
    # not zeros, with which some processors draw less power and run faster
    maps = torch.randn(batch, inputs, height, width, device=device, dtype=dtype)
    weight = torch.randn(outputs, inputs, kernel, kernel, device=device, dtype=dtype)
    maps, weight = (tensor.to(memory_format=torch.channels_last) for tensor in (maps, weight))
    calls = ON_CUDA if device.type == "cuda" else 1

    def seconds() -> float:
        synchronize(device)
        begun = time.perf_counter()
        for _ in range(calls):
            F.conv2d(maps, weight, padding=kernel // 2)
        synchronize(device)
        return (time.perf_counter() - begun) / calls

    seconds()
    end = time.perf_counter() + SECONDS
    best = seconds()
    while time.perf_counter() < end:
        best = min(best, seconds())
    return Speed(str(convolution), batch, batch * convolution.flops / best / 1e9)
