"""Which boxes the detector's own assignment gives no point to, so that training never learns from them."""

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

MOST_CALLS = 2000  # of an assigner; of more images a random sample is looked at
MOST_BOXES = 2048  # that are assigned together


@dataclass(frozen=True, eq=False)
class Matching:
    """How many points each box gets; -1 of boxes that were not looked at. ``sampled``: not all images were."""

    points: Int64[np.ndarray, "N"]
    sampled: bool

    @property
    def unmatched(self) -> Int64[np.ndarray, "K"]:
        """Indices of the boxes without any point."""
        return np.flatnonzero(self.points == 0)

    @property
    def looked_at(self) -> int:
        return int((self.points >= 0).sum())


def match(scene: TrainingBoxes, eye: TrainingGeometry, progress: Callable[[int], None] = lambda done: None) -> Matching:
    """Give each image's points to its boxes, resized as training would, and count what each box gets.

    Images with grids of one shape are assigned in a call where the assigner is ATSS, whose boxes only meet in the
    last step; others need one call an image. Beyond ``MOST_CALLS`` calls a random sample of images is looked at.
    ``progress`` is called with the number of boxes done.
    """
    sides = eye.resized(scene.sizes)
    boxes = scene.boxes * eye.factors(scene.sizes)[scene.owner]
    together = eye.labeling.assign is assign_atss
    grids = eye.grids(sides)
    owned = np.unique(scene.owner)
    calls = np.unique(grids[owned], axis=0, return_inverse=True)[1].reshape(-1) if together else np.arange(len(owned))
    chosen = _sample(calls)
    points = np.full(len(boxes), -1, np.int64)
    done = 0
    for image_group in _by_call(owned[chosen], calls[chosen]):
        height, width = grids[image_group[0]].tolist()
        priors = eye.priors(height, width)
        for blocks in _blocks(scene.owner, image_group):
            assign = _points_together if together else _points_alone
            points[blocks] = assign(eye.labeling, priors, boxes[blocks], scene.owner[blocks])
            done += len(blocks)
            progress(done)
    return Matching(points, not chosen.all())


def _sample(calls: Int64[np.ndarray, "M"]) -> Bool[np.ndarray, "M"]:
    """Which images to look at, so that there are at most ``MOST_CALLS`` calls; all where there are not more."""
    different = np.unique(calls)
    if len(different) <= MOST_CALLS:
        return np.ones(len(calls), bool)
    # images, not calls, are drawn, so that a shape counts as often as it is there
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
    """Points of each box of one image."""
    given = labeling.assign(priors, torch.from_numpy(boxes)).gt
    return np.bincount(given[given >= 0].numpy(), minlength=len(boxes))


def _points_together(
    labeling: TargetAssigner, priors: Priors, boxes: Float[np.ndarray, "B 4"], owner: Int64[np.ndarray, "B"]
) -> Int64[np.ndarray, "B"]:
    """Points of each box of images that have one grid: every image gets points of its own, then they are settled.

    Only the points that some box asks for are kept, so that memory does not grow with the images.
    """
    claims = atss_candidates(priors, torch.from_numpy(boxes))
    image: Tensor = torch.from_numpy(np.unique(owner, return_inverse=True)[1].reshape(-1))
    own_point = claims.point + image[claims.owner] * len(priors.points)
    asked, point = own_point.unique(return_inverse=True)
    given = resolve_conflicts(AtssCandidates(point, claims.owner, claims.iou), len(asked), len(boxes))
    return np.bincount(given[given >= 0].numpy(), minlength=len(boxes))
