"""One pass from files in memory to detections, with the steps of ``Model.predict``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from varifocal.data.preprocess import normalize, pad_batch, pil_to_tensor, resize
from varifocal.inference.model import Model
from varifocal.models.layers import at_least_float32
from varifocal.ops.nms import multiclass_nms
from varifocal.structures import Candidates, Outputs
from varifocal.tools.bench.images import TimedImage, decode
from varifocal.tools.bench.model import Network
from varifocal.tools.bench.results import BOXES, DECODE, NETWORK, PREPARE, SELECT
from varifocal.types import Detections


@dataclass(frozen=True)
class Workload:
    """A model that is ready to be timed, with its network, its images, and the (height, width) of the resize."""

    model: Model
    network: Network
    images: Sequence[TimedImage]
    shape: tuple[int, int]
    device: torch.device

    @property
    def input_size(self) -> tuple[int, int]:
        """The (height, width) of the network's input: the shape, padded as by the model."""
        divisor = self.model.info.preprocess.size_divisor
        height, width = (-(-side // divisor) * divisor for side in self.shape)
        return height, width


def one_pass(
    job: Workload, images: Sequence[TimedImage], lap: Callable[[str], None] = lambda stage: None
) -> list[Detections]:
    """Return the detections in the images as one batch; ``lap`` is called with each of ``STAGES`` when it is done.

    There is one pass over each whole image, without tiles and test-time augmentation.
    """
    opened = [decode(image) for image in images]
    lap(DECODE)
    batch = prepare(job, opened)
    lap(PREPARE)
    outputs = job.network.call(batch)
    lap(NETWORK)
    decoded = _boxes(job, outputs, opened)
    lap(BOXES)
    found = [_select(job, candidates) for candidates in decoded]
    lap(SELECT)
    return found


def prepare(job: Workload, images: Sequence[Image.Image]) -> Float[Tensor, "B 3 H W"]:
    """Return the normalized batch on the device."""
    preprocess = job.model.info.preprocess
    tensors = [resize(pil_to_tensor(image), *job.shape) for image in images]
    batch = pad_batch(tensors, preprocess.size_divisor).to(job.device)
    return normalize(batch, [job.shape] * len(images), preprocess)


def _boxes(job: Workload, outputs: Outputs, images: Sequence[Image.Image]) -> list[Candidates]:
    """Return the candidates of each image as a batch of one, in pixels of the image."""
    decoded: Candidates = job.model.detector.decode(outputs, [job.shape] * len(images))  # type: ignore[operator]
    height, width = job.shape
    result = []
    for i, image in enumerate(images):
        boxes = at_least_float32(decoded.boxes[i])
        boxes = boxes * boxes.new_tensor([image.width / width, image.height / height] * 2)
        quality = None if decoded.quality is None else at_least_float32(decoded.quality[i])[None]
        result.append(Candidates(boxes[None], at_least_float32(decoded.scores[i])[None], decoded.counts, quality))
    return result


def _select(job: Workload, decoded: Candidates) -> Detections:
    quality = None if decoded.quality is None else decoded.quality[0]
    box, score, label = multiclass_nms(
        decoded.boxes[0], decoded.scores[0], decoded.counts, job.model.info.postprocess, quality
    )
    return Detections(box.cpu().numpy(), score.cpu().numpy(), label.cpu().numpy(), job.model.categories)
