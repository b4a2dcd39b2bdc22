"""One pass from files in memory to detections, step by step as ``Model.predict`` goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from varifocal.bench.model import Network
from varifocal.bench.pictures import Picture, decode
from varifocal.bench.results import BOXES, DECODE, NETWORK, PREPARE, SELECT
from varifocal.data.preprocess import image_to_tensor, normalise, pad_together, resize
from varifocal.models.dense import wide
from varifocal.ops.nms import select_detections
from varifocal.predict import Model
from varifocal.types import Decoded, Detections, Outputs


@dataclass(frozen=True)
class Job:
    """A model that is ready to be timed: its network, its pictures, and the (height, width) they are resized to."""

    model: Model
    network: Network
    pictures: Sequence[Picture]
    shape: tuple[int, int]
    device: torch.device

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) that the network sees: the shape, padded as the model does it."""
        divisor = self.model.info.preprocess.divisor
        height, width = (-(-side // divisor) * divisor for side in self.shape)
        return height, width


def one_pass(
    job: Job, pictures: Sequence[Picture], lap: Callable[[str], None] = lambda stage: None
) -> list[Detections]:
    """The detections in the pictures, taken as one batch; ``lap`` is called with each of ``STAGES`` when it is done.

    One look at each whole picture: windows and several views are not gone through.
    """
    images = [decode(picture) for picture in pictures]
    lap(DECODE)
    batch = prepare(job, images)
    lap(PREPARE)
    outputs = job.network.call(batch)
    lap(NETWORK)
    decoded = _boxes(job, outputs, images)
    lap(BOXES)
    found = [_select(job, one) for one in decoded]
    lap(SELECT)
    return found


def prepare(job: Job, images: Sequence[Image.Image]) -> Float[Tensor, "B 3 H W"]:
    """The normalised batch on the device."""
    preprocess = job.model.info.preprocess
    tensors = [resize(image_to_tensor(image), *job.shape) for image in images]
    batch = pad_together(tensors, preprocess.divisor).to(job.device)
    return normalise(batch, [job.shape] * len(images), preprocess)


def _boxes(job: Job, outputs: Outputs, images: Sequence[Image.Image]) -> list[Decoded]:
    """Of each picture, a batch of one, in its own pixels."""
    decoded: Decoded = job.model.detector.decode(outputs, [job.shape] * len(images))  # type: ignore[operator]
    height, width = job.shape
    result = []
    for i, image in enumerate(images):
        boxes = wide(decoded.boxes[i])
        boxes = boxes * boxes.new_tensor([image.width / width, image.height / height] * 2)
        quality = None if decoded.quality is None else wide(decoded.quality[i])[None]
        result.append(Decoded(boxes[None], wide(decoded.scores[i])[None], decoded.counts, quality))
    return result


def _select(job: Job, decoded: Decoded) -> Detections:
    quality = None if decoded.quality is None else decoded.quality[0]
    box, score, label = select_detections(
        decoded.boxes[0], decoded.scores[0], decoded.counts, job.model.info.postprocess, quality
    )
    return Detections(box.cpu().numpy(), score.cpu().numpy(), label.cpu().numpy(), job.model.categories)
