"""The cost of training and validation on this machine, measured by a few real steps and images."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from varifocal.data.loader import BatchSampler
from varifocal.inference.pipeline import read_for
from varifocal.inference.tiling import make_tiles
from varifocal.structures import Batch
from varifocal.training.loop import TrainJob, build_train_dataset
from varifocal.training.optim import WeightAverages, make_optimizer
from varifocal.training.processes import start_fabric
from varifocal.training.step import Stepper, outputs_of, to_device
from varifocal.utils.errors import VarifocalError

WARM_UP = 3  # steps that do not count: memory is allocated, and workers have not begun
LEAST = 5  # steps that are measured after them, whatever they take
MOST = 30
IMAGES = 4  # validation images that are measured after the first


@dataclass(frozen=True)
class Costs:
    """Seconds of a step, of a pass over the validation images, and of drawing some of them at the end of a run.

    ``batches`` is the number of batches in an epoch.
    """

    step: float
    validation: float
    batches: int
    drawing: float = 0.0

    def times(self, factor: float) -> Costs:
        """Return the costs of images with ``factor`` times as many pixels."""
        return Costs(self.step * factor, self.validation * factor, self.batches, self.drawing * factor)


def measure_costs(job: TrainJob, seconds: float) -> Costs:
    """Return the costs of a job, measured in about ``seconds``, and at least by :data:`LEAST` steps.

    The weights of its model are changed. Nothing is written.

    Raises:
        DataError: an image cannot be read.
        TrainingError: a loss is not finite or too large.
    """
    config, detector = job.config, job.model.detector
    begun = time.monotonic()
    fabric = start_fabric(config)
    detector.to(memory_format=torch.channels_last)
    detector.train()
    sampler = BatchSampler(build_train_dataset(job), config.images_per_batch)
    stepper = Stepper(detector, make_optimizer(detector, config), job.model.info.preprocess, config, fabric)
    averages = WeightAverages(detector, config.ema, swa=False)
    batches = iter(sampler.loader(0, WARM_UP + MOST, config.num_workers))
    times: list[float] = []
    last = time.monotonic()
    for index, batch in enumerate(islice(batches, WARM_UP + MOST)):
        if isinstance(batch, VarifocalError):
            raise batch
        # a tiny learning rate: what the loss costs depends on the weights, which must stay as they are
        stepper.step(index, [batch], 1e-9)
        averages.update(ends_swa_epoch=False)
        if fabric.device.type == "cuda":
            torch.cuda.synchronize()
        now = time.monotonic()
        times.append(now - last)
        last = now
        if len(times) >= WARM_UP + LEAST and now - begun > seconds:
            break
    return Costs(statistics.median(times[WARM_UP:] or times), _validation_cost(job), sampler.per_epoch)


def _validation_cost(job: TrainJob) -> float:
    """Return the seconds of a pass over the validation images, from a few of them, or from one tile of one image."""
    if job.validation is None or not len(job.validation.samples):
        return 0.0
    samples, info = job.validation.samples, job.model.info
    if not info.tiling.size:
        return len(samples) * _time_of([read_for(info, sample.file) for sample in samples[: IMAGES + 1]], job)
    tiles = sum(len(make_tiles(sample.height, sample.width, info.tiling)) for sample in samples)
    image = read_for(info, samples[0].file)
    return tiles * _time_of([image.crop((0, 0, info.tiling.size, info.tiling.size))] * 3, job)


def _time_of(images: Sequence[Image.Image], job: TrainJob) -> float:
    """Return the mean seconds of an image; the first one is slower and does not count."""
    times = []
    for image in images:
        begun = time.monotonic()
        job.model.predict(image)
        times.append(time.monotonic() - begun)
    own = times[1:] or times
    return sum(own) / len(own)


def bytes_per_image(job: TrainJob, batch: Batch) -> int:
    """Return how many bytes the forward pass keeps for the backward pass, per image of a batch."""
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    detector: Any = job.model.detector
    detector.train()  # a new module does not apply norm_eval before this call
    weights = {parameter.untyped_storage().data_ptr() for parameter in detector.parameters()}
    images, targets = to_device(batch, next(detector.parameters()).device, job.model.info.preprocess)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses = detector.loss(outputs_of(detector, images, 0, batch), targets)
    del losses
    return sum(size for pointer, size in sizes.items() if pointer not in weights) // len(images)
