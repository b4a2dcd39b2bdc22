"""The assignment of FCOS (Tian et al., ICCV 2019): points inside a box, on the level that fits its size."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from varifocal.assign.chunks import chunk_boxes
from varifocal.ops.boxes import bbox2distance, box_area
from varifocal.structures import Assignment, Priors

SIZE_UNIT = 8  # a level takes boxes whose longest distance is up to this many strides


def assign_fcos(priors: Priors, boxes: Float[Tensor, "G 4"], *, radius: float | None = None) -> Assignment:
    """Assign to each point the smallest box that it lies in and that fits its level.

    A level takes a box when max(l, t, r, b) lies between 8 of the next finer level's strides and 8 of its own; the
    first level has no lower and the last no upper bound. With ``radius`` (center sampling, 1.5 in the paper's code)
    the point must lie within that many strides of the box's center, and inside the box. Of boxes of one size the
    first wins.
    """
    gt = torch.full((len(priors.points),), -1, dtype=torch.long, device=boxes.device)
    if len(boxes) == 0:
        return Assignment(gt)
    area = box_area(boxes)
    smallest = area.new_full((len(gt),), torch.inf)
    for block in chunk_boxes(len(gt), len(boxes)):
        fitting = torch.where(_candidates(priors, boxes[block], radius), area[block], torch.inf)
        best, owner = fitting.min(dim=1)
        gt = torch.where(best < smallest, owner + block.start, gt)
        smallest = torch.minimum(best, smallest)
    return Assignment(gt)


def _candidates(priors: Priors, boxes: Float[Tensor, "G 4"], radius: float | None) -> Bool[Tensor, "N G"]:
    """Return which points lie in which box, on a level that fits its size."""
    distances = bbox2distance(priors.points[:, None], boxes.expand(len(priors.points), -1, -1))
    region = distances
    if radius is not None:
        center = (boxes[:, :2] + boxes[:, 2:]) / 2
        reach = (priors.strides * radius)[:, None, None]
        low = torch.maximum(center - reach, boxes[:, :2])
        high = torch.minimum(center + reach, boxes[:, 2:])
        region = bbox2distance(priors.points[:, None], torch.cat([low, high], dim=-1))
    low_size, high_size = _size_ranges(priors)
    longest = distances.amax(dim=-1)
    fits = (longest >= low_size[:, None]) & (longest <= high_size[:, None])
    return (region.amin(dim=-1) > 0) & fits


def _size_ranges(priors: Priors) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
    """Return the lower and the upper bound in pixels of max(l, t, r, b) at each point."""
    levels = [level[0].item() for level in priors.strides.split(list(priors.counts))]
    upper = [SIZE_UNIT * stride for stride in levels[:-1]] + [1e8]
    lower = [-1.0, *upper[:-1]]
    counts = torch.tensor(priors.counts, device=priors.strides.device)
    as_points = [priors.strides.new_tensor(bound).repeat_interleave(counts) for bound in (lower, upper)]
    return as_points[0], as_points[1]
