"""Boxes and points: xyxy pixels, width = x2 - x1; distances are left, top, right, bottom from a point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from varifocal.structures import Priors

EPS = 1e-6
MAX_LOG_GROWTH = math.log(1000 / 16)  # a decoded side is at most this power of e longer or shorter than the anchor's


def box_area(boxes: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n"]:
    """Return width times height in square pixels; the area is negative where x2 < x1 or y2 < y1."""
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
    """Return the generalized IoU of pairs, in -1..1 (Rezatofighi et al., CVPR 2019, algorithm 1)."""
    overlap, union = _overlap_and_union(a, b)
    hull = (torch.max(a[..., 2:], b[..., 2:]) - torch.min(a[..., :2], b[..., :2])).clamp(min=0)
    hull_area = (hull[..., 0] * hull[..., 1]).clamp(min=EPS)
    return overlap / union - (hull_area - union) / hull_area


def distance2bbox(points: Float[Tensor, "*n 2"], distances: Float[Tensor, "*m 4"]) -> Float[Tensor, "*m 4"]:
    """Return the box whose sides lie (l, t, r, b) pixels from (x, y)."""
    return torch.cat([points - distances[..., :2], points + distances[..., 2:]], dim=-1)


def bbox2distance(points: Float[Tensor, "*n 2"], boxes: Float[Tensor, "*m 4"]) -> Float[Tensor, "*m 4"]:
    """Return (l, t, r, b) from (x, y) to the sides of the box; a negative number means that the point lies outside."""
    return torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], dim=-1)


def encode_deltas(
    anchors: Float[Tensor, "*#n 4"], boxes: Float[Tensor, "*#n 4"], std: Sequence[float] = (1, 1, 1, 1)
) -> Float[Tensor, "*m 4"]:
    """Return (dx, dy, dw, dh) that turn an anchor into a box (Girshick et al., R-CNN, appendix C), divided by ``std``.

    dx and dy are the distance of the centers in anchor sides, dw and dh the logarithm of the ratio of the sides.
    """
    (center, size), (expected, expected_size) = _center_and_size(anchors), _center_and_size(boxes)
    deltas = torch.cat([(expected - center) / size, (expected_size / size).log()], dim=-1)
    return deltas / deltas.new_tensor(std)


def decode_deltas(
    anchors: Float[Tensor, "*#n 4"], deltas: Float[Tensor, "*#n 4"], std: Sequence[float] = (1, 1, 1, 1)
) -> Float[Tensor, "*m 4"]:
    """Return the xyxy boxes that :func:`encode_deltas` encoded, whose sides are 1/62.5 to 62.5 times the anchor's."""
    center, size = _center_and_size(anchors)
    deltas = deltas * deltas.new_tensor(std)
    middle = center + deltas[..., :2] * size
    half = size * deltas[..., 2:].clamp(-MAX_LOG_GROWTH, MAX_LOG_GROWTH).exp() / 2
    return torch.cat([middle - half, middle + half], dim=-1)


def _center_and_size(boxes: Float[Tensor, "*n 4"]) -> tuple[Float[Tensor, "*n 2"], Float[Tensor, "*n 2"]]:
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]


def clip_boxes(boxes: Float[Tensor, "*n 4"], height: float, width: float) -> Float[Tensor, "*n 4"]:
    """Return the part of each box inside an image of that size in pixels."""
    limit = boxes.new_tensor([width, height, width, height])
    return torch.minimum(boxes.clamp(min=0), limit)


def grid_priors(
    shapes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    *,
    offset: float = 0.0,
    like: Float[Tensor, "..."] | None = None,
) -> Priors:
    """Return one point per cell: ((column + offset) * stride, (row + offset) * stride).

    VFNet and ATSS put the point on the cell's top-left corner, FCOS half a stride further. ``shapes`` are (height,
    width) of each level; device and dtype are those of ``like``.
    """
    device, dtype = (like.device, like.dtype) if like is not None else (None, torch.get_default_dtype())
    points, lengths = [], []
    for (height, width), stride in zip(shapes, strides, strict=True):
        ys = (torch.arange(height, device=device, dtype=dtype) + offset) * stride
        xs = (torch.arange(width, device=device, dtype=dtype) + offset) * stride
        y, x = torch.meshgrid(ys, xs, indexing="ij")
        points.append(torch.stack([x, y], dim=-1).reshape(-1, 2))
        lengths.append(torch.full((height * width,), float(stride), device=device, dtype=dtype))
    return Priors(torch.cat(points), torch.cat(lengths), tuple((height, width) for height, width in shapes))


def square_anchors(priors: Priors, scale: float = 8) -> Float[Tensor, "N 4"]:
    """Return a square of side ``scale * stride`` centered on each point, xyxy pixels; it may leave the image."""
    half = (scale / 2 * priors.strides)[:, None]
    return torch.cat([priors.points - half, priors.points + half], dim=1)


def grid_anchors(priors: Priors, *, scales: Sequence[float], ratios: Sequence[float]) -> Priors:
    """Return anchors of every ratio and scale centered on each point: cell by cell, and in a cell ratio by ratio.

    A ``ratio`` is height over width at equal area; the side of the square one is ``scale * stride``. Anchors may leave
    the image.
    """
    root, scale = priors.points.new_tensor(ratios).sqrt(), priors.points.new_tensor(scales)
    sides = [priors.strides[:, None, None] * shape[:, None] * scale for shape in (1 / root, root)]
    half = torch.stack(sides, dim=-1).flatten(1, 2) / 2
    center = priors.points[:, None]
    anchors = torch.cat([center - half, center + half], dim=-1).flatten(0, 1)
    many = half.shape[1]
    return Priors(
        priors.points.repeat_interleave(many, dim=0),
        priors.strides.repeat_interleave(many),
        priors.shapes,
        anchors,
        many * priors.per_cell,
    )


def crop_priors(priors: Priors, height: int, width: int) -> tuple[Priors, Bool[Tensor, "N"]]:
    """Return the priors inside an image that is smaller than the padded batch, and a mask of them in the list.

    A cell belongs to the image if its row and column are below ceil(side / stride), so that the remaining part of a
    level is the rectangle at its top left, which is a grid again.
    """
    starts = [0, *accumulate(priors.counts[:-1])]
    shapes, inside = [], []
    for (rows, columns), stride in zip(priors.shapes, priors.strides[starts].tolist(), strict=True):
        shape = (min(rows, math.ceil(height / stride)), min(columns, math.ceil(width / stride)))
        cells = torch.zeros(rows, columns, priors.per_cell, dtype=torch.bool, device=priors.points.device)
        cells[: shape[0], : shape[1]] = True
        shapes.append(shape)
        inside.append(cells.flatten())
    mask = torch.cat(inside)
    points, strides = priors.points[mask], priors.strides[mask]
    anchors = None if priors.anchors is None else priors.anchors[mask]
    return Priors(points, strides, tuple(shapes), anchors, priors.per_cell), mask


def clip_boxes_batch(boxes: Float[Tensor, "B N 4"], sizes: Sequence[tuple[int, int]] | None) -> Float[Tensor, "B N 4"]:
    """Return each image's boxes clipped to its own (height, width), or unchanged without sizes."""
    if sizes is None:
        return boxes
    return torch.stack([clip_boxes(box, *size) for box, size in zip(boxes, sizes, strict=True)])
