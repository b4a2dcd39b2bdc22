"""``train.batch_size=auto``: the largest number of images per step that the memory of the device allows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from varifocal.data.loader import BatchSampler, TrainExample, collate
from varifocal.structures import Batch
from varifocal.training.loop import TrainJob, build_train_dataset
from varifocal.training.measure import bytes_per_image
from varifocal.training.optim import make_optimizer
from varifocal.training.processes import start_fabric
from varifocal.training.step import Stepper
from varifocal.utils.errors import VarifocalError

MOST = 256  # images per step: more need another schedule
EXAMPLES = 16  # of which the largest is tried
USED = 0.5  # fraction of a CPU's free memory that the feature maps may take
PEAK = 0.85  # fraction of a GPU's memory that a step may take, as other images have more objects or less padding


def largest_batch(fits: Callable[[int], bool], most: int) -> int:
    """Return the largest of 1 to ``most`` for which ``fits`` holds, which is tried on few numbers; at least 1.

    The number is doubled until it does not fit, and then found between the last two to within an eighth.
    """
    good, bad = 1, most + 1
    while 2 * good < bad:
        if not fits(2 * good):
            bad = 2 * good
            break
        good *= 2
    while bad - good > max(good // 8, 1):
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def fitting_batch_size(job: TrainJob) -> int:
    """Return the largest number of images per step for this job, at most 256 and the number of training examples.

    On a GPU steps are tried, which changes the weights of the job; on a CPU the memory of one image is measured.

    Raises:
        DataError: an image cannot be read.
    """
    fabric = start_fabric(job.config)
    most = min(MOST, BatchSampler(build_train_dataset(job), 1).per_epoch)
    example = _largest_example(job)
    if fabric.device.type != "cuda":
        per_image = bytes_per_image(job, _batch_of(example, 1, job))
        return max(min(int(USED * free_memory() / max(per_image, 1)), most), 1)
    job.model.detector.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(job.model.detector, job.config)
    stepper = Stepper(job.model.detector, optimizer, job.model.info.preprocess, job.config, fabric)
    return largest_batch(lambda count: _fits(stepper, _batch_of(example, count, job), fabric.device), most)


def _fits(stepper: Stepper, batch: Batch, device: torch.device) -> bool:
    torch.cuda.reset_peak_memory_stats(device)
    try:
        stepper.step(0, [batch], 1e-9)
        torch.cuda.synchronize(device)
    except torch.OutOfMemoryError:
        return False
    finally:
        torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    return bool(torch.cuda.max_memory_reserved(device) <= PEAK * total)


def _largest_example(job: TrainJob) -> TrainExample:
    """Return the training example with the most pixels among the first ones."""
    data = build_train_dataset(job)
    found: list[TrainExample] = []
    for position, index in enumerate(data.order(0)[:EXAMPLES].tolist()):
        example = data[(0, position, index)]
        if isinstance(example, VarifocalError):
            raise example
        found.append(example)
    return max(found, key=lambda example: example.image[0].numel())


def _batch_of(example: TrainExample, count: int, job: TrainJob) -> Batch:
    batch = collate([example] * count, job.model.info.preprocess.size_divisor)
    assert isinstance(batch, Batch)
    return batch


def free_memory() -> int:
    """Return the free memory of the machine in bytes; 4 GiB where it is not known."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        (kib,) = (line.split()[1] for line in text.splitlines() if line.startswith("MemAvailable:"))
        return int(kib) * 1024
    except (OSError, ValueError):
        return 4 * 2**30
