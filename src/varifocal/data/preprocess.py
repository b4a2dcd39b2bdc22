"""From a decoded image to the input of the network, the same in training, evaluation and prediction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from varifocal.types import Preprocess


def pil_to_tensor(image: Image.Image) -> UInt8[Tensor, "3 H W"]:
    """Return an image as the channels-last bytes of its RGB values."""
    return torch.from_numpy(np.array(image if image.mode == "RGB" else image.convert("RGB"))).permute(2, 0, 1)


def resize(image: UInt8[Tensor, "3 H W"], height: int, width: int) -> UInt8[Tensor, "3 h w"]:
    """Resize bytes bilinearly with antialiasing, like Pillow within one gray level, but several times faster.

    The result is channels last, like an image of :func:`pil_to_tensor`.
    """
    if tuple(image.shape[1:]) == (height, width):
        return image
    # image[None] has a stride that torch does not take for channels last, so it would be repacked into planes and back
    batch = image.permute(1, 2, 0)[None].permute(0, 3, 1, 2)
    return F.interpolate(batch, (height, width), mode="bilinear", antialias=True)[0]


def pad_batch(images: list[UInt8[Tensor, "3 _ _"]], divisor: int) -> UInt8[Tensor, "B 3 H W"]:
    """Return one batch of bytes, channels last, each image at the top left, with sides a multiple of ``divisor``."""
    height = max(image.shape[1] for image in images)
    width = max(image.shape[2] for image in images)
    height, width = (-(-side // divisor) * divisor for side in (height, width))
    # numpy requests huge pages and torch does not, which allocates the memory of a batch three times as fast
    batch = torch.from_numpy(np.zeros((len(images), height, width, 3), np.uint8)).permute(0, 3, 1, 2)
    for slot, image in zip(batch, images, strict=True):
        slot[:, : image.shape[1], : image.shape[2]] = image
    return batch


def normalize(
    images: UInt8[Tensor, "B 3 H W"], sizes: Sequence[tuple[int, int]], config: Preprocess
) -> Float[Tensor, "B 3 H W"]:
    """Return (image - mean) / std of each channel, and zeros (the mean color) outside each image's (height, width).

    The images are RGB; the result is BGR if the configuration says so, and channels last. It is computed on the device
    of the bytes, so that only a quarter of the memory is transferred.
    """
    if config.bgr:
        images = images.flip(1)
    width = images.shape[3]
    # by rows, because runs of three channels are too short to be fast
    mean, std = (torch.tensor(values, device=images.device).repeat(width) for values in (config.mean, config.std))
    pixels = images.permute(0, 2, 3, 1).flatten(2)
    if images.is_cpu:
        rows = torch.from_numpy(np.empty(pixels.shape, np.float32))  # huge pages, as in pad_batch
    else:
        rows = torch.empty_like(pixels, dtype=torch.float32)
    batch = rows.copy_(pixels).sub_(mean).div_(std).unflatten(2, (width, 3)).permute(0, 3, 1, 2)
    for image, (height, width) in zip(batch, sizes, strict=True):
        image[:, height:] = 0
        image[:, :, width:] = 0
    return batch
