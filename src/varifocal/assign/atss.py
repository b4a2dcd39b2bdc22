"""Adaptive training sample selection (Zhang et al., Bridging the Gap, CVPR 2020, algorithm 1)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from varifocal.ops.boxes import bbox2distance, elementwise_iou, square_anchors
from varifocal.structures import Assignment, Priors

MIN_INSIDE = 0.01  # pixels by which a positive point must lie inside its box


def assign_atss(priors: Priors, boxes: Float[Tensor, "G 4"], *, topk: int = 9, scale: float = 8) -> Assignment:
    """Assign to each point the ground-truth box that it should predict.

    For every box the ``topk`` nearest points of each level are candidates, of equally near ones those first in the
    list. A candidate is positive if its anchor (a square of ``scale`` strides) overlaps the box by at least mean plus
    (unbiased) standard deviation of all the box's candidates, and its center lies inside the box. A point claimed
    twice goes to the box with the higher IoU, and of equal ones to the first. A box with a single candidate gets
    nothing (its deviation is undefined).

    Where a detector has anchors of its own, they are used instead of the squares: all those of the nearest cells are
    candidates, each by its own overlap (the paper's RetinaNet with several anchors a location).

    Args:
        priors: the points of all levels.
        boxes: ground truth, xyxy pixels.
        topk: candidates per level.
        scale: anchor side in strides.
    """
    claims = atss_candidates(priors, boxes, topk=topk, scale=scale)
    return Assignment(resolve_conflicts(claims, len(priors.points), len(boxes)))


class AtssCandidates(NamedTuple):
    """Points that are positive for a box, each with the index of the box and its IoU; a point may be listed twice."""

    point: Int64[Tensor, "K"]
    owner: Int64[Tensor, "K"]
    iou: Float[Tensor, "K"]


def atss_candidates(priors: Priors, boxes: Float[Tensor, "G 4"], *, topk: int = 9, scale: float = 8) -> AtssCandidates:
    """Return the positive points of each box as if it were alone; the arguments are those of :func:`assign_atss`."""
    none = torch.empty(0, dtype=torch.long, device=boxes.device)
    if len(boxes) == 0 or len(priors.points) == 0:
        return AtssCandidates(none, none, boxes.new_empty(0))
    candidates = _nearest(priors, boxes, topk)
    anchors = square_anchors(priors, scale) if priors.anchors is None else priors.anchors
    iou = elementwise_iou(anchors[candidates], boxes)
    deviation = iou.std(dim=0) if len(iou) > 1 else torch.full_like(iou[0], float("nan"))
    inside = bbox2distance(priors.points[candidates], boxes.expand(len(iou), -1, -1)).amin(dim=-1) > MIN_INSIDE
    positive = (iou >= iou.mean(dim=0) + deviation) & inside
    owner = torch.arange(len(boxes), device=boxes.device).expand_as(candidates)
    return AtssCandidates(candidates[positive], owner[positive], iou[positive])


def resolve_conflicts(claims: AtssCandidates, points: int, boxes: int) -> Int64[Tensor, "N"]:
    """Return the box of each point: of several boxes the one with the highest IoU, of equal ones the first; or -1."""
    point, owner, iou = claims
    best = iou.new_zeros(points).scatter_reduce(0, point, iou, "amax")
    winner = iou == best[point]
    nobody = torch.full((points,), boxes, dtype=torch.long, device=iou.device)
    first = nobody.scatter_reduce(0, point[winner], owner[winner], "amin")
    return torch.where(first < boxes, first, -1)


def _nearest(priors: Priors, boxes: Float[Tensor, "G 4"], topk: int) -> Int64[Tensor, "K G"]:
    """Return the points of the ``topk`` cells of each level that are nearest to each box's center, nearest first.

    In a grid these lie in the ``topk`` nearest rows and columns, so that only their crossings are compared. Distances
    are squares in float64, so that rounding does not make ties.
    """
    centers = (boxes[:, :2].double() + boxes[:, 2:].double()) / 2
    start, nearest = 0, []
    for (rows, columns), count in zip(priors.shapes, priors.counts, strict=True):
        if count == 0:
            continue
        cell = (centers - priors.points[start].double()) / priors.strides[start].double()
        x, y = _window(cell[:, 0], columns, topk), _window(cell[:, 1], rows, topk)
        across, down = x - cell[:, :1], y - cell[:, 1:]
        distance = (down.square()[:, :, None] + across.square()[:, None]).flatten(1)
        order = distance.sort(dim=1, stable=True).indices[:, :topk]
        cells = (y[:, :, None] * columns + x[:, None]).flatten(1).gather(1, order).T
        anchors = cells[:, None] * priors.per_cell + torch.arange(priors.per_cell, device=boxes.device)[:, None]
        nearest.append(start + anchors.flatten(0, 1))
        start += count
    return torch.cat(nearest)


def _window(cell: Float[Tensor, "G"], count: int, most: int) -> Int64[Tensor, "G w"]:
    """Return the ``most`` integers of 0..count-1 nearest to each position, of equally near ones the lower."""
    width = min(most, count)
    first = (cell - width / 2).ceil().nan_to_num().clamp(0, count - width).long()
    return first[:, None] + torch.arange(width, device=cell.device)
