"""The first assignment of RepPoints (Yang et al., ICCV 2019): the one point nearest to an object's center."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from varifocal.assign.chunks import chunk_boxes
from varifocal.structures import Assignment, Priors

MIN_SIDE = 1e-6  # pixels


def assign_nearest_point(priors: Priors, boxes: Float[Tensor, "G 4"], *, scale: float = 4) -> Assignment:
    """Assign to each box the nearest point of the one level that fits its size.

    That level's stride is the largest power of two up to sqrt(width * height) / ``scale``, or the nearest existing one.
    Distances to the box's center are measured in widths and heights of the box. Of several boxes at a point the
    nearest wins, of equally near ones the first.

    Args:
        priors: the points of all levels; strides are powers of two.
        boxes: ground truth, xyxy pixels.
        scale: side of a level's typical object, in strides.
    """
    gt = torch.full((len(priors.points),), -1, dtype=torch.long, device=boxes.device)
    if len(boxes) == 0 or len(gt) == 0:
        return Assignment(gt)
    found = [_nearest(priors, boxes[block], scale) for block in chunk_boxes(len(gt), len(boxes))]
    nearest, point = (torch.cat(column) for column in zip(*found, strict=True))
    best = nearest.new_full((len(gt),), torch.inf).scatter_reduce(0, point, nearest, "amin")
    owner = torch.arange(len(boxes), device=boxes.device)
    winner = (nearest == best[point]) & nearest.isfinite()
    first = torch.full_like(gt, len(boxes)).scatter_reduce(0, point[winner], owner[winner], "amin")
    return Assignment(torch.where(first < len(boxes), first, gt))


def _nearest(
    priors: Priors, boxes: Float[Tensor, "G 4"], scale: float
) -> tuple[Float[Tensor, "G"], Int64[Tensor, "G"]]:
    """Return each box's distance to the nearest point of its level, and that point."""
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=MIN_SIDE)
    level = priors.strides.log2()
    # whole steps: the logarithms' mean, cut off
    expected = ((sides / scale).log2().sum(dim=1) / 2).floor().clamp(level.min(), level.max())
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    distance = ((priors.points[:, None] - centers) / sides).norm(dim=-1)
    nearest, point = torch.where(level[:, None] == expected, distance, torch.inf).min(dim=0)
    return nearest, point
