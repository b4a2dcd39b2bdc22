"""The truth of an image, the points that the assignment gives it to, and what the detector says there."""

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

VISIBLE = 0.5  # least fraction of an object in a window that makes it an object of the window

Labeller = Callable[[Outputs, Sequence[Targets]], DenseTargets]


@dataclass(frozen=True, eq=False)
class Truth:
    """The objects of an image without its crowd regions: xyxy pixels, labels of the model."""

    boxes: Float32[np.ndarray, "G 4"]
    labels: Int64[np.ndarray, "G"]

    @classmethod
    def of(cls, sample: Sample, categories: Sequence[Category], known: Sequence[Category]) -> Truth:
        """``categories`` are those of the data set, ``known`` the model's, which has all of them by name."""
        label_of = {category.name: label for label, category in enumerate(known)}
        labels = np.array([label_of[category.name] for category in categories], np.int64)[sample.labels]
        return cls(sample.boxes[~sample.crowd].astype(np.float32), labels[~sample.crowd])

    def within(self, window: Tile) -> Truth:
        """The objects of which the window shows enough, whole, in pixels of the window."""
        low, high = np.array(window[:2], np.float32), np.array(window[2:], np.float32)
        seen = np.clip(self.boxes.reshape(-1, 2, 2), low, high)
        areas = [(corners[:, 1] - corners[:, 0]).prod(axis=1) for corners in (seen, self.boxes.reshape(-1, 2, 2))]
        enough = areas[0] >= VISIBLE * areas[1]
        return Truth(self.boxes[enough] - np.tile(low, 2), self.labels[enough])

    def targets(self, width: int, height: int, shape: tuple[int, int], *, flip: bool, device: str) -> Targets:
        """Return the objects of an image of ``width`` x ``height`` pixels in pixels of the network's input, in which it
        has the (height, width) ``shape``."""
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
    """The P points of a pass that have an object, in pixels of the network's input.

    ``image`` and ``point`` are their indices in the batch. ``boxes`` are predicted, ``truth`` and ``labels`` are those
    of the objects. ``again`` is what the detector says when its first box is the object's, where it was asked.
    """

    image: Int64[Tensor, "P"]
    point: Int64[Tensor, "P"]
    points: Float[Tensor, "P 2"]
    boxes: Float[Tensor, "P 4"]
    truth: Float[Tensor, "P 4"]
    labels: Int64[Tensor, "P"]
    again: AtPoints | None = None

    def of_image(self, i: int) -> Positives:
        """Return the positives of one image of the batch, as a batch of one."""
        own = self.image == i
        again = None if self.again is None else AtPoints(self.again.boxes[own], self.again.scores[own])
        return Positives(
            torch.zeros_like(self.image[own]),
            self.point[own],
            self.points[own],
            self.boxes[own],
            self.truth[own],
            self.labels[own],
            again,
        )


def atss_labeller(detector: Any, topk: int) -> Labeller:
    """ATSS over the detector's own points, or anchors where it has such, whatever it was trained with."""
    labeling = replace(detector.labeling(detector.config), assign=partial(assign_atss, topk=topk))
    return partial(assign_targets, labeling)


def find_positives(
    detector: Any, forward: ForwardPass, decoded: Candidates, targets: Sequence[Targets], labeller: Labeller
) -> Positives:
    """Where the ``labeller`` puts the targets of a pass, and what was ``decoded`` there."""
    dense = labeller(forward.outputs, targets)
    image, point = dense.positive.nonzero(as_tuple=True)
    priors = detector.labeling(detector.config).grid(forward.outputs.shapes, like=decoded.boxes)
    here = dense.positive
    return Positives(image, point, priors.points[point], decoded.boxes[here], dense.boxes[here], dense.labels[here])
