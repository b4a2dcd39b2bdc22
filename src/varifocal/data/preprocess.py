"""From a decoded picture to what the network sees, the same in training, evaluation and prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Preprocess:
    """How a picture is resized and normalised before the network.

    With ``scale`` the picture is resized by that factor whatever its size: right for aerial pictures, where a pixel
    has a fixed size on the ground. Without it, the shorter side becomes ``short`` unless the longer one would pass
    ``long`` (the COCO rule, 800 and 1333). ``max_side`` bounds the longer side of a whole picture, for the sake of
    memory; training crops are not touched by it. ``mean`` and ``std`` are on 0..255 in the order of the channels as
    the network sees them: red, green, blue, or with ``bgr`` blue, green, red, as weights that come from Caffe want it.
    """

    short: int = 800
    long: int = 1333
    scale: float | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    divisor: int = 32
    max_side: int = 4096
    bgr: bool = False


def resized_shape(height: int, width: int, config: Preprocess) -> tuple[int, int]:
    """(height, width) after the resize; never above ``max_side``, never below one pixel."""
    long = max(height, width)
    factor = min(resize_factor(height, width, config), config.max_side / long)
    return max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1)


def resize_factor(height: int, width: int, config: Preprocess) -> float:
    """What a picture of that size is scaled by, before ``max_side`` bounds it."""
    return config.scale or min(config.long / max(height, width), config.short / min(height, width))


def image_to_tensor(image: Image.Image) -> UInt8[Tensor, "3 H W"]:
    """An RGB picture as a channels-last view of its bytes."""
    return torch.from_numpy(np.array(image if image.mode == "RGB" else image.convert("RGB"))).permute(2, 0, 1)


def resize(image: UInt8[Tensor, "3 H W"], height: int, width: int) -> UInt8[Tensor, "3 h w"]:
    """Antialiased bilinear resize of bytes; the same as Pillow's within one grey level and several times faster.

    The result is channels last, like a picture of :func:`image_to_tensor`.
    """
    if tuple(image.shape[1:]) == (height, width):
        return image
    # image[None] has a stride that is not taken for channels last, and would be packed into planes and back
    batch = image.permute(1, 2, 0)[None].permute(0, 3, 1, 2)
    return F.interpolate(batch, (height, width), mode="bilinear", antialias=True)[0]


def pad_together(images: list[UInt8[Tensor, "3 _ _"]], divisor: int) -> UInt8[Tensor, "B 3 H W"]:
    """One batch of bytes, channels last, each picture at the top left, sides a multiple of ``divisor``."""
    height = max(image.shape[1] for image in images)
    width = max(image.shape[2] for image in images)
    height, width = (-(-side // divisor) * divisor for side in (height, width))
    # numpy asks for huge pages and torch does not: a batch is new memory, which then comes three times as fast
    batch = torch.from_numpy(np.zeros((len(images), height, width, 3), np.uint8)).permute(0, 3, 1, 2)
    for place, image in zip(batch, images, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    return batch


def normalise(
    images: UInt8[Tensor, "B 3 H W"], sizes: Sequence[tuple[int, int]], config: Preprocess
) -> Float[Tensor, "B 3 H W"]:
    """(image - mean) / std of each channel, and zeros (the mean colour) beyond each picture's (height, width).

    The pictures are RGB, the result is BGR where the configuration says so, and channels last. It is made on the
    device of the bytes, so that a quarter of the memory has to get there.
    """
    if config.bgr:
        images = images.flip(1)
    width = images.shape[3]
    # by rows: runs of three channels are too short to be fast
    mean, std = (torch.tensor(values, device=images.device).repeat(width) for values in (config.mean, config.std))
    pixels = images.permute(0, 2, 3, 1).flatten(2)
    if images.is_cpu:
        rows = torch.from_numpy(np.empty(pixels.shape, np.float32))  # huge pages, as in pad_together
    else:
        rows = torch.empty_like(pixels, dtype=torch.float32)
    batch = rows.copy_(pixels).sub_(mean).div_(std).unflatten(2, (width, 3)).permute(0, 3, 1, 2)
    for image, (height, width) in zip(batch, sizes, strict=True):
        image[:, height:] = 0
        image[:, :, width:] = 0
    return batch
