"""Box arithmetic: xyxy pixels, width = x2 - x1; distances are left, top, right, bottom from a point."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

EPS = 1e-6


def areas(boxes: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n"]:
    """Width times height in square pixels, as it comes: a box turned inside out along one side is negative."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _overlap_and_union(
    a: Float[Tensor, "*#n 4"], b: Float[Tensor, "*#n 4"]
) -> tuple[Float[Tensor, "*m"], Float[Tensor, "*m"]]:
    size = (torch.min(a[..., 2:], b[..., 2:]) - torch.max(a[..., :2], b[..., :2])).clamp(min=0)
    overlap = size[..., 0] * size[..., 1]
    return overlap, (areas(a) + areas(b) - overlap).clamp(min=EPS)


def pair_iou(a: Float[Tensor, "*#n 4"], b: Float[Tensor, "*#n 4"]) -> Float[Tensor, "*m"]:
    """IoU of each box of ``a`` with the box at the same place in ``b``; broadcasting gives the matrix."""
    overlap, union = _overlap_and_union(a, b)
    return overlap / union


def pair_giou(a: Float[Tensor, "*#n 4"], b: Float[Tensor, "*#n 4"]) -> Float[Tensor, "*m"]:
    """Generalised IoU of pairs, in -1..1 (Rezatofighi et al., CVPR 2019, algorithm 1)."""
    overlap, union = _overlap_and_union(a, b)
    hull = (torch.max(a[..., 2:], b[..., 2:]) - torch.min(a[..., :2], b[..., :2])).clamp(min=0)
    hull_area = (hull[..., 0] * hull[..., 1]).clamp(min=EPS)
    return overlap / union - (hull_area - union) / hull_area


def distances_to_boxes(points: Float[Tensor, "*n 2"], distances: Float[Tensor, "*m 4"]) -> Float[Tensor, "*m 4"]:
    """The box whose sides lie (l, t, r, b) pixels from (x, y)."""
    return torch.cat([points - distances[..., :2], points + distances[..., 2:]], dim=-1)


def boxes_to_distances(points: Float[Tensor, "*n 2"], boxes: Float[Tensor, "*m 4"]) -> Float[Tensor, "*m 4"]:
    """(l, t, r, b) from (x, y) to the sides; a negative number means that the point lies outside."""
    return torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], dim=-1)


def clip_boxes(boxes: Float[Tensor, "*n 4"], height: float, width: float) -> Float[Tensor, "*n 4"]:
    """The part of each box inside a picture of that size in pixels."""
    limit = boxes.new_tensor([width, height, width, height])
    return torch.minimum(boxes.clamp(min=0), limit)
