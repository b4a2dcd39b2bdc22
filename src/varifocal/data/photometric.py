"""Augmentation that changes pixels and moves no box: colors, noise, holes.

torchvision is imported only when it is needed, because that takes as long as importing torch and most recipes do
without. Its transforms draw from torch's own generator, which is seeded from ours around each transform and restored.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from varifocal.utils.errors import ConfigError

# (width, height) of the black rectangles (VFNet-X, configs/vfnet/vfnetx_*.py)
SMALL_HOLES = ((4, 4), (4, 8), (8, 4), (8, 8), (16, 8), (8, 16), (16, 16))
HOLES = (*SMALL_HOLES, (16, 32), (32, 16), (32, 32), (32, 48), (48, 32), (48, 48))

# Transforms of torchvision.transforms.v2 that take bytes, move no pixel and return three channels. Transforms that move
# or hide boxes have fields of their own in ``Augmentation``.
BY_NAME = (
    "ColorJitter",
    "GaussianBlur",
    "RandomAdjustSharpness",
    "RandomAutocontrast",
    "RandomChannelPermutation",
    "RandomEqualize",
    "RandomGrayscale",
    "RandomInvert",
    "RandomPhotometricDistort",
    "RandomPosterize",
    "RandomSolarize",
)

ERASED = (0.02, 0.33)  # fraction of the image, and width over height below (Zhong et al., AAAI 2020; torchvision's own)
ERASED_RATIO = (0.3, 3.3)


@contextmanager
def fork_torch_rng(rng: np.random.Generator) -> Iterator[None]:
    """Seed torch's generator from ours while the block runs; afterwards it continues as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(rng.integers(2**62)))
        yield


def cutout(image: UInt8[Tensor, "3 H W"], holes: tuple[int, int], rng: np.random.Generator) -> UInt8[Tensor, "3 H W"]:
    """Return a copy with black rectangles, as many as between the two ``holes``, anywhere (DeVries, Taylor 2017)."""
    image = image.clone()
    for _ in range(int(rng.integers(min(holes), max(holes) + 1))):
        left, top = int(rng.integers(image.shape[2])), int(rng.integers(image.shape[1]))
        width, height = HOLES[int(rng.integers(len(HOLES)))]
        image[:, top : top + height, left : left + width] = 0
    return image


def color_jitter(image: UInt8[Tensor, "3 H W"], strength: float, rng: np.random.Generator) -> UInt8[Tensor, "3 H W"]:
    """Return the image with brightness, contrast and saturation changed by at most that fraction, hue by a tenth."""
    from torchvision.transforms import v2

    jitter = v2.ColorJitter(strength, strength, strength, min(strength / 10, 0.5))
    with fork_torch_rng(rng):
        return jitter(image)


def random_erasing(
    image: UInt8[Tensor, "3 H W"], fill: tuple[int, int, int], rng: np.random.Generator
) -> tuple[UInt8[Tensor, "3 H W"], tuple[int, int, int, int]]:
    """Return a copy with one large rectangle filled (RandomErasing), and that rectangle, xyxy, or four zeros."""
    from torchvision.transforms import v2

    eraser = v2.RandomErasing(p=1.0, scale=ERASED, ratio=ERASED_RATIO, value=list(fill))
    with fork_torch_rng(rng):
        hole = eraser.make_params([image])
    if hole["v"] is None:
        return image, (0, 0, 0, 0)
    top, left = hole["i"], hole["j"]
    return eraser.transform(image, hole), (left, top, left + hole["w"], top + hole["h"])


def build_transforms(transforms: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """Return the transforms of torchvision with these names and arguments; ``p`` is the probability of each, even of
    transforms without that argument.

    Raises:
        ConfigError: an unknown name, or arguments that the transform does not take.
    """
    unknown = [name for name in transforms if name not in BY_NAME]
    if unknown:
        raise ConfigError(
            f"augment: extra_transforms: {unknown[0]!r} is not among the transforms that leave boxes alone: "
            f"{', '.join(BY_NAME)}.",
            code="transform-unknown",
        )
    from torchvision.transforms import v2

    made = []
    for name, values in transforms.items():
        kind, arguments = getattr(v2, name), dict(values)
        own = "p" in inspect.signature(kind).parameters
        chance = 1.0 if own else arguments.pop("p", 1.0)
        try:
            made.append(v2.RandomApply([kind(**arguments)], p=chance) if chance != 1.0 else kind(**arguments))
        except (TypeError, ValueError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise ConfigError(
                f"augment: extra_transforms: {name} does not accept {dict(values)}: {reason}.",
                code="transform-arguments",
            ) from error
    return made


def apply_transforms(
    image: UInt8[Tensor, "3 H W"], transforms: list[Any], rng: np.random.Generator
) -> UInt8[Tensor, "3 H W"]:
    """Apply one transform after the other; all randomness comes from ``rng``."""
    with fork_torch_rng(rng):
        for transform in transforms:
            image = transform(image)
    return image
