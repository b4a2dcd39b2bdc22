"""Where the points of the feature levels lie in the image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from varifocal.structures import Priors


def grid_priors(
    shapes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    *,
    offset: float = 0.0,
    like: Float[Tensor, "..."] | None = None,
) -> Priors:
    """One point a cell: ((column + offset) * stride, (row + offset) * stride).

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
    """One square of side ``scale * stride`` centered on each point, xyxy pixels; it may leave the image."""
    half = (scale / 2 * priors.strides)[:, None]
    return torch.cat([priors.points - half, priors.points + half], dim=1)


def grid_anchors(priors: Priors, *, scales: Sequence[float], ratios: Sequence[float]) -> Priors:
    """Anchors of every ratio and scale centered on each point: all of a cell in a row, ratio by ratio.

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
    """The priors of an image of that size when the batch is padded beyond it, and which of the list they are.

    A cell belongs to the image when its row and column are below ceil(side / stride), so that what is left of a
    level is the rectangle at its top left: a grid again.
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
