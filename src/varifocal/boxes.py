"""Box arithmetic: xyxy pixels, width = x2 - x1; distances are left, top, right, bottom from a point."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

EPS = 1e-6
MAX_LOG_GROWTH = math.log(1000 / 16)  # a decoded side is at most this power of e longer or shorter than the anchor's


def box_area(boxes: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n"]:
    """Width times height in square pixels, as it comes: a box turned inside out along one side is negative."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _overlap_and_union(
    a: Float[Tensor, "*#n 4"], b: Float[Tensor, "*#n 4"]
) -> tuple[Float[Tensor, "*m"], Float[Tensor, "*m"]]:
    size = (torch.min(a[..., 2:], b[..., 2:]) - torch.max(a[..., :2], b[..., :2])).clamp(min=0)
    overlap = size[..., 0] * size[..., 1]
    return overlap, (box_area(a) + box_area(b) - overlap).clamp(min=EPS)


def elementwise_iou(a: Float[Tensor, "*#n 4"], b: Float[Tensor, "*#n 4"]) -> Float[Tensor, "*m"]:
    """Return the IoU of each box of ``a`` with the box at the same index of ``b``; broadcasting gives the matrix."""
    overlap, union = _overlap_and_union(a, b)
    return overlap / union


def elementwise_giou(a: Float[Tensor, "*#n 4"], b: Float[Tensor, "*#n 4"]) -> Float[Tensor, "*m"]:
    """Generalised IoU of pairs, in -1..1 (Rezatofighi et al., CVPR 2019, algorithm 1)."""
    overlap, union = _overlap_and_union(a, b)
    hull = (torch.max(a[..., 2:], b[..., 2:]) - torch.min(a[..., :2], b[..., :2])).clamp(min=0)
    hull_area = (hull[..., 0] * hull[..., 1]).clamp(min=EPS)
    return overlap / union - (hull_area - union) / hull_area


def distance2bbox(points: Float[Tensor, "*n 2"], distances: Float[Tensor, "*m 4"]) -> Float[Tensor, "*m 4"]:
    """The box whose sides lie (l, t, r, b) pixels from (x, y)."""
    return torch.cat([points - distances[..., :2], points + distances[..., 2:]], dim=-1)


def bbox2distance(points: Float[Tensor, "*n 2"], boxes: Float[Tensor, "*m 4"]) -> Float[Tensor, "*m 4"]:
    """(l, t, r, b) from (x, y) to the sides; a negative number means that the point lies outside."""
    return torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], dim=-1)


def encode_deltas(
    anchors: Float[Tensor, "*#n 4"], boxes: Float[Tensor, "*#n 4"], std: Sequence[float] = (1, 1, 1, 1)
) -> Float[Tensor, "*m 4"]:
    """(dx, dy, dw, dh) that turn an anchor into a box (Girshick et al., R-CNN, appendix C), divided by ``std``.

    dx and dy are the way between the centers in anchor sides, dw and dh the logarithm of the ratio of the sides.
    """
    (center, size), (expected, expected_size) = _center_and_size(anchors), _center_and_size(boxes)
    deltas = torch.cat([(expected - center) / size, (expected_size / size).log()], dim=-1)
    return deltas / deltas.new_tensor(std)


def decode_deltas(
    anchors: Float[Tensor, "*#n 4"], deltas: Float[Tensor, "*#n 4"], std: Sequence[float] = (1, 1, 1, 1)
) -> Float[Tensor, "*m 4"]:
    """The xyxy boxes of :func:`encode_deltas`, of sides at most 62.5 times longer or shorter than the anchor's."""
    center, size = _center_and_size(anchors)
    deltas = deltas * deltas.new_tensor(std)
    middle = center + deltas[..., :2] * size
    half = size * deltas[..., 2:].clamp(-MAX_LOG_GROWTH, MAX_LOG_GROWTH).exp() / 2
    return torch.cat([middle - half, middle + half], dim=-1)


def _center_and_size(boxes: Float[Tensor, "*n 4"]) -> tuple[Float[Tensor, "*n 2"], Float[Tensor, "*n 2"]]:
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]


def clip_boxes(boxes: Float[Tensor, "*n 4"], height: float, width: float) -> Float[Tensor, "*n 4"]:
    """The part of each box inside an image of that size in pixels."""
    limit = boxes.new_tensor([width, height, width, height])
    return torch.minimum(boxes.clamp(min=0), limit)
