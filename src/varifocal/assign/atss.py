"""Adaptive training sample selection (Zhang et al., Bridging the Gap, CVPR 2020, algorithm 1)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from varifocal.boxes import boxes_to_distances, pair_iou
from varifocal.priors import square_anchors
from varifocal.types import Assignment, Priors

MIN_INSIDE = 0.01  # pixels by which a positive point must lie inside its box


def assign_atss(
    priors: Priors, boxes: Float[Tensor, "G 4"], valid: Bool[Tensor, "N"], *, topk: int = 9, scale: float = 8
) -> Assignment:
    """Give each point the ground-truth box it should predict.

    For every box the ``topk`` nearest points of each level are candidates. Positive is a candidate whose anchor (a
    square of ``scale`` strides) overlaps the box by at least mean plus (unbiased) standard deviation of all the
    box's candidates, and whose centre lies inside the box. A point claimed twice goes to the box with the higher
    IoU, and of equal ones to the first. A box with a single candidate gets nothing (its deviation is undefined).

    Args:
        priors: the points of all levels.
        boxes: ground truth, xyxy pixels.
        valid: points that take part; the others are negative and not counted as neighbours.
        topk: candidates a level.
        scale: anchor side in strides.
    """
    gt = torch.full((len(priors.points),), -1, dtype=torch.long, device=boxes.device)
    if len(boxes) == 0 or not valid.any():
        return Assignment(gt)
    candidates = _nearest(priors, boxes, valid, topk)
    iou = pair_iou(square_anchors(priors, scale)[candidates], boxes)
    deviation = iou.std(dim=0) if len(iou) > 1 else torch.full_like(iou[0], float("nan"))
    inside = boxes_to_distances(priors.points[candidates], boxes.expand(len(iou), -1, -1)).amin(dim=-1) > MIN_INSIDE
    positive = (iou >= iou.mean(dim=0) + deviation) & inside
    owner = torch.arange(len(boxes), device=boxes.device).expand_as(candidates)
    point, owner, iou = candidates[positive], owner[positive], iou[positive]
    best = iou.new_zeros(len(gt)).scatter_reduce(0, point, iou, "amax")
    winner = iou == best[point]
    first = torch.full_like(gt, len(boxes)).scatter_reduce(0, point[winner], owner[winner], "amin")
    return Assignment(torch.where(first < len(boxes), first, gt))


def _nearest(priors: Priors, boxes: Float[Tensor, "G 4"], valid: Bool[Tensor, "N"], topk: int) -> Tensor:
    """Indices [K, G] of the points nearest to each box's centre, at most ``topk`` of each level."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    start, nearest = 0, []
    for count in priors.counts:
        usable = valid[start : start + count].nonzero()[:, 0] + start
        start += count
        if len(usable) == 0:
            continue
        gap = priors.points[usable][:, None] - centres
        distance = gap.pow(2).sum(dim=-1).sqrt()
        order = distance.topk(min(topk, len(usable)), dim=0, largest=False).indices
        nearest.append(usable[order])
    return torch.cat(nearest)
