"""Numbers about a data set that decide how to train on it: sizes of images and boxes, and how often classes appear."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int64

from varifocal.data.recommend_size import Advice, recommend_size
from varifocal.types import Dataset, Preprocess

FINEST = 8  # stride of the finest feature map


@dataclass(frozen=True)
class DataSummary:
    """The training split of a data set in numbers.

    ``short_side`` and ``long_side`` are medians in pixels, ``pixels`` is the mean per image. ``size`` is the
    recommended input size, None without boxes. ``most`` is the largest number of boxes in an image. ``rarest`` is the
    class in the smallest fraction of the images, with that fraction; ``empty`` is the fraction of images without
    objects.
    """

    images: int
    boxes: int
    short_side: int
    long_side: int
    pixels: float
    classes: int = 0
    most: int = 0
    empty: float = 0.0
    rarest: tuple[str, float] = ("", 1.0)
    size: Advice | None = field(default=None, compare=False)


def summarize(data: Dataset) -> DataSummary:
    """Return the numbers of a data set that has images; crowd regions do not count as boxes."""
    sizes = np.array([(sample.width, sample.height) for sample in data.samples], np.int64)
    boxes = [sample.boxes[~sample.crowd] for sample in data.samples]
    counts = np.array([len(one) for one in boxes])
    every = np.concatenate([np.zeros((0, 4)), *boxes])
    owner = np.repeat(np.arange(len(boxes)), counts)
    shown = [np.unique(sample.labels[~sample.crowd]) for sample in data.samples]
    images = np.bincount(np.concatenate([np.zeros(0, np.int64), *shown]), minlength=len(data.categories))
    used = np.flatnonzero(images)
    rarest = int(used[images[used].argmin()]) if len(used) else -1
    return replace(
        summarize_sizes(sizes, owner, every),
        classes=len(data.categories),
        most=int(counts.max()),
        empty=float((counts == 0).mean()),
        rarest=(data.categories[rarest].name, float(images[rarest] / len(sizes))) if rarest >= 0 else ("", 1.0),
    )


def summarize_sizes(
    sizes: Int64[np.ndarray, "M 2"], owner: Int64[np.ndarray, "N"], boxes: Float[np.ndarray, "N 4"]
) -> DataSummary:
    """Return the numbers that need no classes, of at least one image.

    Args:
        sizes: (width, height) of the images in pixels.
        owner: the image of each box.
        boxes: xyxy in pixels.
    """
    return DataSummary(
        images=len(sizes),
        boxes=len(boxes),
        short_side=int(np.median(sizes.min(axis=1))),
        long_side=int(np.median(sizes.max(axis=1))),
        pixels=float(sizes.prod(axis=1).mean()),
        size=recommend_size(sizes, owner, boxes, sizes, Preprocess(scale=1.0), FINEST),
    )
