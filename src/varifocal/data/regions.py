"""Regions to be ignored whatever the class, which are crowd boxes at one location of an image for several classes.

VisDrone's ignored regions and KITTI's ``DontCare`` are such. No box has all classes at once, so that each region is a
crowd box of every class; nothing else would keep it in COCO. They say nothing of the classes that are in the image.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int64


def region_numbers(
    images: Int64[np.ndarray, "N"],
    labels: Int64[np.ndarray, "N"],
    xyxy: Float[np.ndarray, "N 4"],
    crowd: Bool[np.ndarray, "N"],
) -> Int64[np.ndarray, "N"]:
    """For each box the number of the region that it is a copy of, counted from 0; -1 for boxes of their own class."""
    numbers = np.full(len(labels), -1, np.int64)
    crowds, numbers_of_crowds = _crowd_regions(images, labels, xyxy, crowd)
    numbers[crowds] = numbers_of_crowds
    return numbers


def each_region_once(
    images: Int64[np.ndarray, "N"],
    labels: Int64[np.ndarray, "N"],
    xyxy: Float[np.ndarray, "N 4"],
    crowd: Bool[np.ndarray, "N"],
) -> Bool[np.ndarray, "N"]:
    """Return which boxes are to be reported: all but the copies of a region after its first."""
    once = np.ones(len(labels), bool)
    crowds, numbers = _crowd_regions(images, labels, xyxy, crowd)
    once[crowds] = numbers < 0
    once[crowds[np.unique(numbers, return_index=True)[1]]] = True
    return once


def _crowd_regions(
    images: Int64[np.ndarray, "N"],
    labels: Int64[np.ndarray, "N"],
    xyxy: Float[np.ndarray, "N 4"],
    crowd: Bool[np.ndarray, "N"],
) -> tuple[Int64[np.ndarray, "K"], Int64[np.ndarray, "K"]]:
    """The crowd boxes, which are few among millions, and the number of the region that each is a copy of, or -1."""
    crowds = np.flatnonzero(crowd)
    crowds = crowds[np.isfinite(xyxy[crowds]).all(axis=1)]
    if len(crowds) < 2:
        return crowds, np.full(len(crowds), -1, np.int64)
    boxes = np.column_stack([images[crowds], xyxy[crowds]])
    _, where = np.unique(boxes, axis=0, return_inverse=True)
    where = where.reshape(-1)  # NumPy 2.0 gives it another shape
    classes = np.unique(np.column_stack([where, labels[crowds]]), axis=0)[:, 0]  # each class of a location once
    several = np.bincount(classes, minlength=where.max() + 1) > 1
    return crowds, np.where(several, np.cumsum(several) - 1, -1)[where]
