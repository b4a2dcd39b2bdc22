"""The objects of an image, their positive points, and the predictions at these points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from varifocal.assign.atss import assign_atss
from varifocal.inference.model import ForwardPass
from varifocal.inference.tiling import Tile
from varifocal.models.dense import DenseTargets, assign_targets
from varifocal.structures import Candidates, Outputs, Targets
from varifocal.types import Category, Sample

VISIBLE = 0.5  # fraction of an object inside a tile from which it is an object of the tile

Labeller = Callable[[Outputs, Sequence[Targets]], DenseTargets]


@dataclass(frozen=True, eq=False)
class Truth:
    """The objects of an image without crowd regions: xyxy pixels, and labels of the model."""

    boxes: Float32[np.ndarray, "G 4"]
    labels: Int64[np.ndarray, "G"]

    @classmethod
    def of(cls, sample: Sample, categories: Sequence[Category], known: Sequence[Category]) -> Truth:
        """Return the objects of a sample with ``categories`` that are all ``known`` to the model by name."""
        label_of = {category.name: label for label, category in enumerate(known)}
        labels = np.array([label_of[category.name] for category in categories], np.int64)[sample.labels]
        return cls(sample.boxes[~sample.crowd].astype(np.float32), labels[~sample.crowd])

    def within(self, tile: Tile) -> Truth:
        """Return the whole boxes of objects that are visible enough in the tile, in pixels of the tile."""
        low, high = np.array(tile[:2], np.float32), np.array(tile[2:], np.float32)
        seen = np.clip(self.boxes.reshape(-1, 2, 2), low, high)
        areas = [(corners[:, 1] - corners[:, 0]).prod(axis=1) for corners in (seen, self.boxes.reshape(-1, 2, 2))]
        enough = areas[0] >= VISIBLE * areas[1]
        return Truth(self.boxes[enough] - np.tile(low, 2), self.labels[enough])

    def targets(self, width: int, height: int, shape: tuple[int, int], *, flip: bool, device: str) -> Targets:
        """Return the targets for an image of ``width`` x ``height`` pixels resized to (height, width) ``shape``."""
        boxes = self.boxes * np.tile(np.array([shape[1] / width, shape[0] / height], np.float32), 2)
        if flip:
            boxes[:, [0, 2]] = shape[1] - boxes[:, [2, 0]]
        labels = torch.from_numpy(self.labels).to(device)
        return Targets(torch.from_numpy(boxes).to(device), labels, torch.zeros_like(labels, dtype=torch.bool), shape)


@dataclass(frozen=True, eq=False)
class AtPoints:
    """Boxes and all scores at the P positives."""

    boxes: Float[Tensor, "P 4"]
    scores: Float[Tensor, "P C"]


@dataclass(frozen=True, eq=False)
class Positives:
    """The P positive points of a forward pass, in pixels of the network's input.

    ``image`` and ``point`` are their indices in the batch. ``boxes`` are the predicted boxes, ``truth`` and ``labels``
    those of the objects. ``refined`` are the predictions with the object's box as the first box, if computed.
    """

    image: Int64[Tensor, "P"]
    point: Int64[Tensor, "P"]
    points: Float[Tensor, "P 2"]
    boxes: Float[Tensor, "P 4"]
    truth: Float[Tensor, "P 4"]
    labels: Int64[Tensor, "P"]
    refined: AtPoints | None = None

    def of_image(self, i: int) -> Positives:
        """Return the positives of one image of the batch, as a batch of one."""
        own = self.image == i
        refined = None if self.refined is None else AtPoints(self.refined.boxes[own], self.refined.scores[own])
        return Positives(
            torch.zeros_like(self.image[own]),
            self.point[own],
            self.points[own],
            self.boxes[own],
            self.truth[own],
            self.labels[own],
            refined,
        )


def atss_labeller(detector: Any, topk: int) -> Labeller:
    """Return an assignment by ATSS over the detector's own points or anchors, however it was trained."""
    labeling = replace(detector.labeling(detector.config), assign=partial(assign_atss, topk=topk))
    return partial(assign_targets, labeling)


def find_positives(
    detector: Any, forward: ForwardPass, decoded: Candidates, targets: Sequence[Targets], labeller: Labeller
) -> Positives:
    """Return the points that the ``labeller`` assigns to the targets, with the ``decoded`` predictions there."""
    dense = labeller(forward.outputs, targets)
    image, point = dense.positive.nonzero(as_tuple=True)
    priors = detector.labeling(detector.config).grid(forward.outputs.shapes, like=decoded.boxes)
    mask = dense.positive
    return Positives(image, point, priors.points[point], decoded.boxes[mask], dense.boxes[mask], dense.labels[mask])
