"""The boxes of all splits that training sees, in the order of their images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from varifocal.tools.check.split import Split


@dataclass(frozen=True, eq=False)
class TrainingBoxes:
    """M images of known size and N boxes.

    ``sizes`` are (width, height) in pixels. ``owner`` is the image of each box, in rising order; ``boxes`` are xyxy in
    pixels of the image; ``split`` and ``index`` are the number of the split and the index of the box in it.
    """

    sizes: Int64[np.ndarray, "M 2"]
    owner: Int64[np.ndarray, "N"]
    boxes: Float32[np.ndarray, "N 4"]
    split: Int64[np.ndarray, "N"]
    index: Int64[np.ndarray, "N"]

    @cached_property
    def sides(self) -> Float[np.ndarray, "N"]:
        """The root of each box's area, in pixels of the image."""
        spans = (self.boxes[:, 2:] - self.boxes[:, :2]).astype(np.float64)
        return np.sqrt(spans.prod(axis=1))


def collect_training_boxes(splits: Sequence[Split], without: Sequence[Bool[np.ndarray, "_"]]) -> TrainingBoxes:
    """Return the sound boxes of the splits except those marked in ``without``, such as duplicates."""
    sizes = np.concatenate([split.raw.images.sizes for split in splits])
    known = (sizes > 0).all(axis=1)
    index_of = np.cumsum(known) - 1
    owners, boxes, numbers, box_indices = [], [], [], []
    before = 0
    for number, (split, left_out) in enumerate(zip(splits, without, strict=True)):
        kept = np.flatnonzero(split.sound & ~left_out)
        kept = kept[np.argsort(split.raw.boxes.images[kept], kind="stable")]
        owners.append(index_of[before + split.raw.boxes.images[kept]])
        boxes.append(split.verdict.boxes[kept])
        numbers.append(np.full(len(kept), number, np.int64))
        box_indices.append(kept)
        before += len(split.raw.images)
    return TrainingBoxes(sizes[known], *(np.concatenate(column) for column in (owners, boxes, numbers, box_indices)))
