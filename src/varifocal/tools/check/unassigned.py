"""The number of points that the detector's assignment gives each box; training never learns from boxes without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from varifocal.analysis.training_geometry import TrainingGeometry
from varifocal.assign.atss import AtssCandidates, assign_atss, atss_candidates, resolve_conflicts
from varifocal.models.dense import TargetAssigner
from varifocal.structures import Priors
from varifocal.tools.check.training_boxes import TrainingBoxes

MOST_CALLS = 2000  # calls of an assigner, beyond which a random sample of the images is assigned
MOST_BOXES = 2048  # boxes that are assigned together


@dataclass(frozen=True, eq=False)
class PointCounts:
    """The number of points that each box gets; -1 for boxes that were not assigned.

    If ``sampled``, only a random sample of the images was assigned.
    """

    points: Int64[np.ndarray, "N"]
    sampled: bool

    @property
    def unmatched(self) -> Int64[np.ndarray, "K"]:
        """Indices of the boxes without any point."""
        return np.flatnonzero(self.points == 0)

    @property
    def assigned(self) -> int:
        """The number of boxes that were assigned."""
        return int((self.points >= 0).sum())


def count_points(
    training: TrainingBoxes, geometry: TrainingGeometry, progress: Callable[[int], None] = lambda done: None
) -> PointCounts:
    """Assign the points of each image to its boxes, resized as in training, and count those of each box.

    With ATSS, whose boxes compete only in the last step, images with grids of one shape are assigned in one call; other
    assigners need one call per image. Beyond ``MOST_CALLS`` calls a random sample of the images is assigned.
    ``progress`` is called with the number of boxes done.
    """
    boxes = training.boxes * geometry.scale_factors(training.sizes)[training.owner]
    together = geometry.labeling.assign is assign_atss
    grids = geometry.grid_sizes(geometry.resized(training.sizes))
    owned = np.unique(training.owner)
    calls = np.unique(grids[owned], axis=0, return_inverse=True)[1].reshape(-1) if together else np.arange(len(owned))
    chosen = _sample(calls)
    points = np.full(len(boxes), -1, np.int64)
    done = 0
    for image_group in _by_call(owned[chosen], calls[chosen]):
        height, width = grids[image_group[0]].tolist()
        priors = geometry.priors(height, width)
        for blocks in _blocks(training.owner, image_group):
            assign = _points_together if together else _points_alone
            points[blocks] = assign(geometry.labeling, priors, boxes[blocks], training.owner[blocks])
            done += len(blocks)
            progress(done)
    return PointCounts(points, not chosen.all())


def _sample(calls: Int64[np.ndarray, "M"]) -> Bool[np.ndarray, "M"]:
    """Return which images to assign so that there are at most ``MOST_CALLS`` calls."""
    different = np.unique(calls)
    if len(different) <= MOST_CALLS:
        return np.ones(len(calls), bool)
    # images are drawn, not calls, so that frequent shapes are drawn more often
    chosen = np.zeros(len(calls), bool)
    chosen[np.random.default_rng(0).permutation(len(calls))[:MOST_CALLS]] = True
    return chosen


def _by_call(images: Int64[np.ndarray, "M"], calls: Int64[np.ndarray, "M"]) -> Iterator[Int64[np.ndarray, "K"]]:
    order = np.argsort(calls, kind="stable")
    edges = np.flatnonzero(np.diff(calls[order])) + 1
    return iter(np.split(images[order], edges) if len(order) else [])


def _blocks(owner: Int64[np.ndarray, "N"], images: Int64[np.ndarray, "K"]) -> Iterator[Int64[np.ndarray, "B"]]:
    """Yield the indices of the boxes of whole images, about ``MOST_BOXES`` at a time; ``owner`` is sorted."""
    first, last = np.searchsorted(owner, images, "left"), np.searchsorted(owner, images, "right")
    block = (np.cumsum(last - first) - 1) // MOST_BOXES
    for part in np.split(np.arange(len(images)), np.flatnonzero(np.diff(block)) + 1):
        yield np.concatenate([np.arange(first[i], last[i]) for i in part])


def _points_alone(
    labeling: TargetAssigner, priors: Priors, boxes: Float32[np.ndarray, "B 4"], _: Int64[np.ndarray, "B"]
) -> Int64[np.ndarray, "B"]:
    """Return the number of points of each box of one image."""
    owner = labeling.assign(priors, torch.from_numpy(boxes)).gt
    return np.bincount(owner[owner >= 0].numpy(), minlength=len(boxes))


def _points_together(
    labeling: TargetAssigner, priors: Priors, boxes: Float[np.ndarray, "B 4"], owner: Int64[np.ndarray, "B"]
) -> Int64[np.ndarray, "B"]:
    """Return the number of points of each box of images with equal grids, whose points are kept apart by the image.

    Only points that are a candidate of some box are kept, so that memory does not grow with the images.
    """
    candidates = atss_candidates(priors, torch.from_numpy(boxes))
    image: Tensor = torch.from_numpy(np.unique(owner, return_inverse=True)[1].reshape(-1))
    used, point = (candidates.point + image[candidates.owner] * len(priors.points)).unique(return_inverse=True)
    resolved = resolve_conflicts(AtssCandidates(point, candidates.owner, candidates.iou), len(used), len(boxes))
    return np.bincount(resolved[resolved >= 0].numpy(), minlength=len(boxes))
