"""Benchmark of a checkpoint or recipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch

from varifocal.inference.model import Model, build
from varifocal.models.flops import count_flops
from varifocal.tools.bench.config import Settings
from varifocal.tools.bench.images import TimedImage, decode, read_images
from varifocal.tools.bench.machine import describe_machine, describe_versions, lacks_bf16
from varifocal.tools.bench.measure import measure_batch, oom_error
from varifocal.tools.bench.model import RUNTIMES, find_model
from varifocal.tools.bench.peak import CONVOLUTIONS, measure_peak
from varifocal.tools.bench.results import BatchResult, Rates, Report, Speed, one_pass_notes
from varifocal.tools.bench.trace import write_trace
from varifocal.tools.bench.workload import Workload
from varifocal.types import resized_shape
from varifocal.utils.errors import ConfigError
from varifocal.utils.progress import progress_bar

RECIPE_SIZE = (800, 1216)  # a photograph of 3 x 2 at a shorter side of 800, padded to a multiple of 32


def bench(name: str, settings: Settings, trace: Path | None = None) -> Report:
    """Measure the checkpoint or recipe ``name``; with ``trace`` also write torch's profile of one pass to that path.

    Raises:
        ConfigError, CheckpointError, DataError: the model or the images cannot be used, or a batch does not fit
            into memory.
    """
    if settings.runtime != "torch":
        word, suffix = {"onnxruntime": ("onnx", ".onnx"), "openvino": ("openvino", ".xml")}[settings.runtime]
        own = name if name.endswith(".safetensors") else "CHECKPOINT"
        raise ConfigError(
            f"{name}: --runtime {settings.runtime} runs exported files; first run: varifocal export {own} --format "
            f"{word}, then: varifocal bench {Path(own).with_suffix(suffix)}",
            code="runtime-needs-export",
        )
    model, random = find_model(name)
    images, source = read_images(settings.images)
    device = torch.device(settings.device)
    shape = settings.size or (RECIPE_SIZE if random else _own_shape(model, images[0]))
    job = Workload(model, RUNTIMES[settings.runtime](model, settings), images, shape, device)
    with torch_threads(settings.threads):
        flops = _count(model, job.input_size)
        with oom_error(max(settings.batches), job.input_size, device):
            speeds = peak_here(device, settings)
        rates = Rates(flops, speeds[0].gflops_per_second)
        batches = [measure_batch(job, batch, settings, rates) for batch in settings.batches]
        chosen = list(islice(cycle(images), settings.batches[0]))
        operators = write_trace(job, chosen, trace) if trace is not None else ()
        return Report(
            datetime.now().astimezone().isoformat(timespec="seconds"),
            describe_machine(torch.get_num_threads(), _gpu(device)),
            describe_versions(),
            {**asdict(settings), "images": source, "tf32": _tf32(settings)},
            _describe(name, job, flops, random=random),
            tuple(speeds),
            tuple(batches),
            operators,
            tuple(_notes(job, settings, batches, random=random)),
        )


def _own_shape(model: Model, image: TimedImage) -> tuple[int, int]:
    """Return the (height, width) to which the model resizes the image, or one of its tiles."""
    tiling = model.info.tiling.size
    opened = decode(image)
    height, width = (tiling, tiling) if tiling else (opened.height, opened.width)
    return resized_shape(height, width, model.info.preprocess)


def _gpu(device: torch.device) -> str | None:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None


@contextmanager
def torch_threads(number: int | None) -> Iterator[None]:
    """Set the number of threads of torch's operators while the block runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _count(model: Model, size: tuple[int, int]) -> dict[str, int]:
    with torch.device("meta"):
        return count_flops(build(model.info).eval().detector, size)


def peak_here(device: torch.device, settings: Settings) -> list[Speed]:
    """Measure the machine's convolutions in the precision of the settings, fastest first."""
    sizes = sorted({1, max(settings.batches)})
    with progress_bar("the machine's peak", len(sizes) * len(CONVOLUTIONS)) as advance:
        return measure_peak(device, settings.dtype, sizes, CONVOLUTIONS, advance)


def _tf32(settings: Settings) -> bool:
    """Return whether float32 convolutions run in TF32, with 10 bits of mantissa, torch's default on CUDA."""
    cuda = torch.device(settings.device).type == "cuda"
    return cuda and settings.precision == "fp32" and torch.backends.cudnn.allow_tf32


def _describe(name: str, job: Workload, flops: dict[str, int], *, random: bool) -> dict[str, Any]:
    info = job.model.info
    return {
        "name": name,
        "detector": info.name,
        "backbone": info.config.backbone.name,
        "classes": len(info.categories),
        "parameters": sum(parameter.numel() for parameter in job.model.parameters()),
        "random_weights": random,
        "resized": list(job.shape),
        "input": list(job.input_size),
        "gflop": flops[""] / 1e9,
        "multiply_adds": flops[""] // 2,
    }


def _notes(job: Workload, settings: Settings, batches: Sequence[BatchResult], *, random: bool) -> Iterator[str]:
    """Yield notes for readers of the numbers."""
    if random:
        found = max(result.detections for result in batches)
        yield (
            f"random weights detect almost nothing ({found:.0f} boxes per image), so that post-processing takes longer "
            "with a trained checkpoint"
        )
    yield from one_pass_notes(job.model.info)
    if settings.precision == "bf16" and job.device.type == "cpu" and lacks_bf16():
        yield "this CPU has no bf16 arithmetic and emulates it, which is slow; fp32 is faster here"
    if _tf32(settings):
        yield "fp32 convolutions run in TF32, torch's default on CUDA"
