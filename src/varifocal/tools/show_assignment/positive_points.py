"""The points that training assigns to each object of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64

from varifocal.analysis.training_geometry import TrainingGeometry
from varifocal.models.dense import assign_batch
from varifocal.structures import Targets
from varifocal.types import Category, Sample


@dataclass(frozen=True, eq=False)
class Assigned:
    """The objects and positive points of an image in training; coordinates are pixels of the resized image.

    ``size`` is its (width, height). ``indices`` are those of the G objects without crowd regions in the sample.
    ``level`` is the index in ``strides`` of each of the K positive points (the anchors of a cell count separately), and
    ``owner`` its object.
    """

    sample: Sample
    size: tuple[int, int]
    strides: tuple[int, ...]
    boxes: Float32[np.ndarray, "G 4"]
    indices: Int64[np.ndarray, "G"]
    crowd: Float32[np.ndarray, "R 4"]
    points: Float32[np.ndarray, "K 2"]
    level: Int64[np.ndarray, "K"]
    owner: Int64[np.ndarray, "K"]

    @property
    def counts(self) -> Int64[np.ndarray, "G L"]:
        """The number of points of each object on each level."""
        levels = len(self.strides)
        return np.bincount(self.owner * levels + self.level, minlength=len(self.boxes) * levels).reshape(-1, levels)

    @property
    def unmatched(self) -> Int64[np.ndarray, "U"]:
        """The objects without a point, which training never sees."""
        return np.flatnonzero(self.counts.sum(axis=1) == 0)

    def to_json(self, categories: Sequence[Category]) -> dict[str, Any]:
        """Return plain values; ``box`` is xyxy in pixels of the file, ``seen`` (width, height) after the resize."""
        counts = self.counts
        boxes = [
            {
                "box": self.sample.boxes[index].tolist(),
                "class": categories[self.sample.labels[index]].name,
                "points": counts[number].tolist(),
            }
            for number, index in enumerate(self.indices.tolist())
        ]
        return {
            "file": str(self.sample.file),
            "image_id": self.sample.image_id,
            "size": [self.sample.width, self.sample.height],
            "seen": list(self.size),
            "points": counts.sum(axis=0).tolist(),
            "boxes": boxes,
            "unmatched": self.unmatched.tolist(),
            "crowd": len(self.crowd),
        }


def assign_sample(sample: Sample, geometry: TrainingGeometry) -> Assigned:
    """Assign points to the objects of a sample with the code of training.

    If an assignment depends on predictions (RepPoints), it is the first one, which does not.
    """
    sizes = np.array([[sample.width, sample.height]], np.int64)
    resized = geometry.resized(sizes)
    boxes = (sample.boxes * geometry.scale_factors(sizes)).astype(np.float32)
    priors = geometry.priors(*geometry.grid_sizes(resized)[0].tolist())
    width, height = resized[0].tolist()
    numbers = torch.arange(len(boxes))  # instead of labels, so that the label identifies the object
    targets = Targets(torch.from_numpy(boxes), numbers, torch.from_numpy(sample.crowd), (height, width))
    dense = assign_batch(geometry.labeling.assign, priors, [targets], divisor=geometry.labeling.divisor)
    positive = dense.positive[0]
    indices = np.flatnonzero(~sample.crowd)
    level = torch.arange(len(priors.shapes)).repeat_interleave(torch.tensor(priors.counts))
    return Assigned(
        sample,
        (width, height),
        geometry.labeling.strides,
        boxes[indices],
        indices,
        boxes[sample.crowd],
        priors.points[positive].numpy(),
        level[positive].numpy(),
        np.searchsorted(indices, dense.labels[0][positive].numpy()),
    )
