"""The first assignment of RepPoints (Yang et al., ICCV 2019): the one point nearest to an object's centre."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from varifocal.types import Assignment, Priors

MIN_SIDE = 1e-6  # pixels


def assign_nearest_point(
    priors: Priors, boxes: Float[Tensor, "G 4"], valid: Bool[Tensor, "N"], *, scale: float = 4
) -> Assignment:
    """Give each box the nearest point of the one level that fits its size.

    That level's stride is the largest power of two up to sqrt(width * height) / ``scale``, or the nearest there is.
    Distances to the box's centre are measured in widths and heights of the box. Of several boxes at a point the
    nearest wins, of equally near ones the first.

    Args:
        priors: the points of all levels; strides are powers of two.
        boxes: ground truth, xyxy pixels.
        valid: points that take part.
        scale: side of a level's typical object in strides.
    """
    gt = torch.full((len(valid),), -1, dtype=torch.long, device=boxes.device)
    if len(boxes) == 0 or not valid.any():
        return Assignment(gt)
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=MIN_SIDE)
    level = priors.strides.log2()
    # whole steps: the logarithms' mean, cut off
    wanted = ((sides / scale).log2().sum(dim=1) / 2).floor().clamp(level[valid].min(), level[valid].max())
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    distance = ((priors.points[:, None] - centres) / sides).norm(dim=-1)
    usable = valid[:, None] & (level[:, None] == wanted)
    nearest, point = torch.where(usable, distance, torch.inf).min(dim=0)
    best = distance.new_full((len(gt),), torch.inf).scatter_reduce(0, point, nearest, "amin")
    owner = torch.arange(len(boxes), device=boxes.device)
    winner = (nearest == best[point]) & nearest.isfinite()
    first = torch.full_like(gt, len(boxes)).scatter_reduce(0, point[winner], owner[winner], "amin")
    return Assignment(torch.where(first < len(boxes), first, gt))
