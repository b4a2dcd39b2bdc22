"""One pass under torch's profiler: a Chrome trace, and the most expensive operators."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from varifocal.tools.bench.images import TimedImage
from varifocal.tools.bench.results import Operator
from varifocal.tools.bench.workload import Workload, one_pass
from varifocal.utils.atomic_write import atomic_write

SHOWN = 10


def write_trace(job: Workload, images: Sequence[TimedImage], target: Path) -> tuple[Operator, ...]:
    """Write a Chrome trace of one pass, and return the ``SHOWN`` most expensive operators, the costliest first.

    Raises:
        CheckpointError: the trace cannot be written.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else it reports its own steps, and a missing GPU, on stderr
    cuda = job.device.type == "cuda"
    kinds = [torch.profiler.ProfilerActivity.CPU, *([torch.profiler.ProfilerActivity.CUDA] if cuda else [])]
    with torch.inference_mode():
        one_pass(job, images)
        with torch.profiler.profile(activities=kinds) as profile:
            one_pass(job, images)
    with TemporaryDirectory() as folder:
        trace = (
            Path(folder) / f"trace{''.join(target.suffixes[-1:])}"
        )  # the profiler compresses a trace that ends in .gz
        profile.export_chrome_trace(str(trace))
        atomic_write(target, trace.read_bytes())
    return _costliest(profile.key_averages(), cuda=cuda)


def _costliest(events: Any, *, cuda: bool) -> tuple[Operator, ...]:
    """Return the operators without the kernels, which CUDA's profile lists beside the operators that start them."""
    operators = [event for event in events if event.device_type == torch.autograd.DeviceType.CPU]
    times = [(event.self_device_time_total if cuda else event.self_cpu_time_total) / 1e3 for event in operators]
    total = sum(times) or 1.0
    order = sorted(range(len(times)), key=lambda i: -times[i])[:SHOWN]
    return tuple(Operator(operators[i].key, operators[i].count, times[i], times[i] / total) for i in order)
