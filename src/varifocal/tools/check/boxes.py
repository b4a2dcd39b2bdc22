"""Suspicious boxes that are valid: duplicates, two classes at one location, unusual sizes and shapes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64

from varifocal.inference.boxes_numpy import box_area, elementwise_iou

SAME = 0.01  # pixels by which the sides of a box and its copy may differ
NEARLY = 0.9  # IoU from which two boxes are nearly identical
TINY_SIDE = 2.0  # pixels
TINY_FRACTION = 1 / 16  # of the class's median side
HUGE_FRACTION = 0.9  # of the image's area
USUALLY = 0.25  # fraction of the image below which the median of a class makes it a small one
ENOUGH = 20  # boxes from which a class has a usual size
THIN = 20.0  # one side over the other


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of boxes of one image with their IoU; ``later`` comes after ``first`` in the source."""

    first: Int64[np.ndarray, "K"]
    later: Int64[np.ndarray, "K"]
    iou: Float[np.ndarray, "K"]

    def __getitem__(self, which: np.ndarray) -> Pairs:
        return Pairs(self.first[which], self.later[which], self.iou[which])

    def __len__(self) -> int:
        return len(self.first)


def overlapping(images: Int64[np.ndarray, "N"], boxes: Float[np.ndarray, "N 4"]) -> Pairs:
    """Return all pairs of boxes of one image with an IoU of at least ``NEARLY``, in the order of the later box.

    Boxes are compared in the order of their left sides: if the IoU of two is t, their horizontal spans overlap by t
    too, so that the right one begins at most (1 - t) / t of the left one's width after it.
    """
    order = np.lexsort((boxes[:, 0], images))
    image, sides = images[order], boxes[order].astype(np.float64)
    reach = sides[:, 0] + (sides[:, 2] - sides[:, 0]) * (1 - NEARLY) / NEARLY + SAME
    found = [
        (order[left], order[right], iou)
        for left, right, iou in _sweep(image, sides, reach)  # the left box is not always the first in the source
    ]
    if not found:
        return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    a, b, iou = (np.concatenate(column) for column in zip(*found, strict=True))
    first, later = np.minimum(a, b), np.maximum(a, b)
    in_order = np.lexsort((first, later))
    return Pairs(first[in_order], later[in_order], iou[in_order])


def _sweep(
    image: Int64[np.ndarray, "N"], sides: Float[np.ndarray, "N 4"], reach: Float[np.ndarray, "N"]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield each box with the next one along the image, then with the one after it, while any is within reach."""
    left, step = np.arange(len(image)), 0
    while len(left):
        step += 1
        left = left[left + step < len(image)]
        right = left + step
        left = left[(image[left] == image[right]) & (sides[right, 0] <= reach[left])]
        iou = elementwise_iou(sides[left], sides[left + step])
        near = iou >= NEARLY
        yield left[near], left[near] + step, iou[near]


class Copies(NamedTuple):
    """Pairs of boxes at one location: identical or nearly identical boxes of one class, and boxes of two classes."""

    same: Pairs
    nearly: Pairs
    two_classes: Pairs


def find_copies(
    images: Int64[np.ndarray, "N"], labels: Int64[np.ndarray, "N"], boxes: Float[np.ndarray, "N 4"]
) -> Copies:
    """Return the pairs among sound boxes; each box is a copy of the first one that it equals, and of no other."""
    pairs = overlapping(images, boxes)
    one_class = labels[pairs.first] == labels[pairs.later]
    equal = np.abs(boxes[pairs.first].astype(np.float64) - boxes[pairs.later]).max(axis=1, initial=0) <= SAME
    same = _first_partner(pairs[one_class & equal])
    copy = np.zeros(len(boxes), bool)
    copy[same.later] = True
    fresh = ~copy[pairs.first] & ~copy[pairs.later]  # a finding on a box holds for its copies
    return Copies(same, _first_partner(pairs[one_class & fresh]), _first_partner(pairs[~one_class & fresh]))


def _first_partner(pairs: Pairs) -> Pairs:
    """Return for each later box the pair with the earliest first one."""
    return pairs[np.unique(pairs.later, return_index=True)[1]]


def find_unusual_sizes(
    labels: Int64[np.ndarray, "N"], boxes: Float[np.ndarray, "N 4"], image_areas: Float[np.ndarray, "N"], classes: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the indices of sound boxes of unusual size and how unusual each is (larger is worse), worst first.

    "tiny-box": a side below ``TINY_SIDE``, or the mean side (the root of the area) below ``TINY_FRACTION`` of the
    median of the class. "huge-box": over ``HUGE_FRACTION`` of the image, in a class whose median is below ``USUALLY``.
    "thin-box": one side over ``THIN`` times the other. A class of fewer than ``ENOUGH`` boxes has no usual size.
    ``image_areas`` are those of each box's image, in square pixels.
    """
    width, height = (boxes[:, 2] - boxes[:, 0]).astype(np.float64), (boxes[:, 3] - boxes[:, 1]).astype(np.float64)
    area = box_area(boxes.astype(np.float64))
    fraction = area / np.maximum(image_areas, 1)
    usual_side = class_medians(np.sqrt(area), labels, classes)[labels]
    usual_fraction = class_medians(fraction, labels, classes)[labels]
    short, long = np.minimum(width, height), np.maximum(width, height)
    with np.errstate(invalid="ignore"):  # NaN for a class without a usual size
        below = np.fmax(TINY_SIDE / short, TINY_FRACTION * usual_side / np.sqrt(area))
        huge = (fraction > HUGE_FRACTION) & (usual_fraction < USUALLY)
    return {
        "tiny-box": _worst_first(below > 1, below),
        "huge-box": _worst_first(huge, fraction / np.where(huge, usual_fraction, 1)),
        "thin-box": _worst_first(long / short > THIN, long / short),
    }


def class_medians(
    values: Float[np.ndarray, "N"], labels: Int64[np.ndarray, "N"], classes: int
) -> Float[np.ndarray, "C"]:
    """Return the median of each class's values; NaN for classes with fewer than ``ENOUGH``."""
    order = np.lexsort((values, labels))
    counts = np.bincount(labels, minlength=classes)
    starts = np.cumsum(counts) - counts
    medians = np.full(classes, np.nan)
    for label in np.flatnonzero(counts >= ENOUGH):
        medians[label] = np.median(values[order[starts[label] : starts[label] + counts[label]]])
    return medians


def _worst_first(which: Bool[np.ndarray, "N"], degree: Float[np.ndarray, "N"]) -> tuple[np.ndarray, np.ndarray]:
    indices = np.flatnonzero(which)
    order = np.argsort(-degree[indices], kind="stable")
    return indices[order], degree[indices][order]
