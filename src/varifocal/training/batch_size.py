"""``train.batch_size=auto``: the largest number of images per step that the memory of the device allows."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from varifocal.data.loader import BatchSampler, TrainExample, collate
from varifocal.structures import Batch
from varifocal.training.loop import TrainJob, build_train_dataset
from varifocal.training.measure import bytes_per_image
from varifocal.training.optim import make_optimizer
from varifocal.training.processes import start_fabric
from varifocal.training.step import Stepper
from varifocal.utils.errors import TrainingError, VarifocalError

CGROUP_FILES = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
MOST = 256  # images per step: more need another schedule
EXAMPLES = 16  # whose largest height, width and number of objects are tried together
USED = 0.5  # fraction of a CPU's free memory that the feature maps may take
PEAK = 0.85  # fraction of a GPU's free memory that a step may take, as other images may be larger or have more objects


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
    config = replace(job.config, max_loss=math.inf)  # the loss of random weights says nothing
    stepper = Stepper(
        job.model.detector, make_optimizer(job.model.detector, config), job.model.info.preprocess, config, fabric
    )
    limit = PEAK * torch.cuda.mem_get_info(fabric.device)[0]
    return largest_batch(lambda count: _fits(stepper, _batch_of(example, count, job), fabric.device, limit), most)


def _fits(stepper: Stepper, batch: Batch, device: torch.device, limit: float) -> bool:
    torch.cuda.reset_peak_memory_stats(device)
    try:
        stepper.step(0, [batch], 1e-9)
        torch.cuda.synchronize(device)
    except torch.OutOfMemoryError:
        return False
    except TrainingError:  # a loss that is not finite, with random weights
        pass
    finally:
        torch.cuda.empty_cache()
    return bool(torch.cuda.max_memory_reserved(device) <= limit)


def _largest_example(job: TrainJob) -> TrainExample:
    """Return an example of the largest height and width and the most objects among the first training examples.

    A batch is padded to the largest of both, which may belong to different images.
    """
    data = build_train_dataset(job)
    found: list[TrainExample] = []
    for position, index in enumerate(data.order(0)[:EXAMPLES].tolist()):
        example = data[(0, position, index)]
        if isinstance(example, VarifocalError):
            raise example
        found.append(example)
    height, width = (max(example.image.shape[side] for example in found) for side in (1, 2))
    most = max(found, key=lambda example: len(example.targets.boxes))
    return most._replace(image=torch.zeros(3, height, width, dtype=most.image.dtype))


def _batch_of(example: TrainExample, count: int, job: TrainJob) -> Batch:
    batch = collate([example] * count, job.model.info.preprocess.size_divisor)
    assert isinstance(batch, Batch)
    return batch


def free_memory() -> int:
    """Return the free memory of the machine, or of its container, in bytes; 4 GiB where it is not known."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        (kib,) = (line.split()[1] for line in text.splitlines() if line.startswith("MemAvailable:"))
        return max(min(int(kib) * 1024, *_free_in_container()), 0)
    except (OSError, ValueError):
        return 4 * 2**30


def _free_in_container() -> list[int]:
    """Return what the memory limits of cgroups leave, of version 2 and 1; the largest number without a limit."""
    left = [sys.maxsize]
    for limit, used in CGROUP_FILES:
        try:
            left.append(int(Path(limit).read_text(encoding="ascii")) - int(Path(used).read_text(encoding="ascii")))
        except (OSError, ValueError):  # there is no such file, or "max"
            continue
    return left
