"""Benchmark of an exported file, from images in memory to detections; only the machine's peak needs torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from varifocal.inference.exported.formats import read_info, runtime_of
from varifocal.inference.exported.info import ExportInfo
from varifocal.inference.exported.model import ExportedModel, load_exported
from varifocal.tools.bench.config import Settings
from varifocal.tools.bench.images import TimedImage, decode, read_images
from varifocal.tools.bench.machine import describe_machine, describe_versions, usable_cores
from varifocal.tools.bench.memory import resident_growth
from varifocal.tools.bench.repeats import rounds
from varifocal.tools.bench.results import (
    BOXES,
    DECODE,
    NETWORK,
    PREPARE,
    SELECT,
    STAGES,
    BatchResult,
    Memory,
    Rates,
    Report,
    Speed,
    batch_result,
    one_pass_notes,
)
from varifocal.types import Detections
from varifocal.utils.errors import ConfigError


@dataclass(frozen=True)
class ExportedWorkload:
    """A model that is ready to be timed, its images, and the (height, width) to which they are resized."""

    model: ExportedModel
    images: Sequence[TimedImage]
    shape: tuple[int, int]

    @property
    def input_size(self) -> tuple[int, int]:
        """The (height, width) of the graph's input."""
        graph = self.model.info.graph
        height, width = (-(-side // graph.multiple) * graph.multiple for side in self.shape)
        return graph.size or (height, width)


def bench_exported(name: str, settings: Settings, trace: Path | None = None) -> Report:
    """Measure the file ``name`` in its own runtime.

    Raises:
        ConfigError, CheckpointError, DataError: the file or the images cannot be used, or the file or its runtime does
            not support a setting.
    """
    info = read_info(Path(name))
    _check(name, info, settings, trace)
    images, source = read_images(settings.images)
    model = load_exported(name, settings.device, settings.precision, settings.threads)
    # one pass over each whole image, without tiles and test-time augmentation
    shape = settings.size or model.fitted_shape(decode(images[0]), info.preprocess)
    job = ExportedWorkload(model, images, shape)
    speeds = _peak(settings)
    rates = Rates({"": info.operations(*job.input_size)}, speeds[0].gflops_per_second if speeds else None)
    batches = tuple(_measure(job, batch, settings, rates) for batch in settings.batches)
    return Report(
        datetime.now().astimezone().isoformat(timespec="seconds"),
        describe_machine(settings.threads or usable_cores()),
        describe_versions(),
        {**asdict(settings), "images": source, "tf32": False},
        _describe(name, job, rates),
        tuple(speeds),
        batches,
        (),
        tuple(_notes(info, speeds)),
    )


def _check(name: str, info: ExportInfo, settings: Settings, trace: Path | None) -> None:
    own = runtime_of(name)
    if settings.runtime != own and own != "torch":  # precisions of torch are refused where files are opened
        raise ConfigError(f"{name}: runs in {own}; leave out --runtime {settings.runtime}.", code="other-runtime")
    if trace is not None:
        raise ConfigError(
            f"{name}: --profile is torch's profiler and cannot profile {own}; leave it out.",
            code="profile-without-torch",
        )
    fixed = info.graph.size
    if settings.size is not None and fixed is not None and settings.size != fixed:
        raise ConfigError(
            f"{name}: --size {settings.size[0]}x{settings.size[1]}: its input is {fixed[0]}x{fixed[1]}; leave out "
            "--size.",
            code="fixed-input-size",
        )


def _peak(settings: Settings) -> list[Speed]:
    """Measure the machine's convolutions; an empty list without torch."""
    try:
        import torch
    except ImportError:
        return []
    from varifocal.tools.bench.run import peak_here, torch_threads

    with torch_threads(settings.threads):
        return peak_here(torch.device(settings.device), settings)


def one_pass(
    job: ExportedWorkload, images: Sequence[TimedImage], lap: Callable[[str], None] = lambda stage: None
) -> list[Detections]:
    """Return the detections in the images as one batch; ``lap`` is called with each of ``STAGES`` when it is done."""
    model, settings = job.model, job.model.info.postprocess
    opened = [decode(image) for image in images]
    lap(DECODE)
    shapes = [job.shape] * len(opened)
    batch = model.batch(opened, shapes)
    lap(PREPARE)
    outputs = model.session.run(batch)
    lap(NETWORK)
    decoded = model.decode(outputs, opened, shapes, batch.shape[2:])
    lap(BOXES)
    found = [model.postprocess([boxes], settings) for boxes in decoded]
    lap(SELECT)
    return found


def _timed(job: ExportedWorkload, images: Sequence[TimedImage]) -> tuple[dict[str, float], int]:
    """Return the milliseconds of each step, and the number of detections."""
    laps: dict[str, float] = {}
    marks = [time.perf_counter()]

    def lap(name: str) -> None:
        marks.append(time.perf_counter())
        laps[name] = (marks[-1] - marks[-2]) * 1e3

    found = one_pass(job, images, lap)
    return laps, sum(len(detections) for detections in found)


def _measure(job: ExportedWorkload, batch: int, settings: Settings, rates: Rates) -> BatchResult:
    images = cycle(job.images)
    stages: dict[str, list[float]] = {name: [] for name in STAGES}
    detections = 0
    for timed in rounds(batch, settings):
        laps, found = _timed(job, list(islice(images, batch)))
        if timed:
            for name, milliseconds in laps.items():
                stages[name].append(milliseconds)
            detections += found
    again = list(islice(images, batch))
    memory = Memory(resident_growth(lambda: one_pass(job, again)) if settings.device == "cpu" else None)
    work = {NETWORK: batch * rates.flops[""]}
    steps = (rates.step(name, 0, taken, work.get(name, 0)) for name, taken in stages.items())
    return batch_result(batch, stages, detections, memory, steps)


def _describe(name: str, job: ExportedWorkload, rates: Rates) -> dict[str, Any]:
    """Return the keys of a checkpoint's description; None for values that a file does not hold."""
    flops = rates.flops[""]
    return {
        "name": name,
        "detector": job.model.info.detector,
        "backbone": None,
        "classes": len(job.model.categories),
        "parameters": None,
        "random_weights": False,
        "resized": list(job.shape),
        "input": list(job.input_size),
        "gflop": flops / 1e9 if flops else None,
        "multiply_adds": flops // 2 if flops else None,
    }


def _notes(info: ExportInfo, speeds: Sequence[Speed]) -> Iterator[str]:
    """Yield notes for readers of the numbers."""
    if info.graph.precision != "fp32":
        peak = "; the peak is that of the precision given above" if speeds else ""
        yield f"the file was exported in {info.graph.precision}{peak}"
    if not speeds:
        yield "the machine's peak is measured with torch, which is not installed"
    if info.graph.nms == "graph":
        yield "the graph decodes boxes and runs NMS, so that the time of the network includes these steps"
    yield from one_pass_notes(info)
