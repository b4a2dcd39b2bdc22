"""The assignment of FoveaBox (Kong et al., TIP 2020): the middle of a box, on all levels near its size."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from varifocal.assign.chunks import chunk_boxes
from varifocal.ops.boxes import box_area
from varifocal.structures import Assignment, Priors

LOWER, UPPER = 2, 8  # a level takes boxes with a mean side between these numbers of its strides


def assign_fovea(priors: Priors, boxes: Float[Tensor, "G 4"], *, sigma: float = 0.4) -> Assignment:
    """Assign to each cell the smallest box whose fovea covers its center, among those that fit its level.

    The fovea is the box shrunk to ``sigma`` about its center; where it lies beyond the centers of the last row
    or column of a level, it is moved onto them. The mean side of a box is the root of its area. Neighboring levels
    overlap, so a box may have cells on two or three; the first level has no lower and the last no upper bound. Of boxes
    of one size the last wins.

    Args:
        priors: the points of all levels, half a stride from the cells' corners.
        boxes: ground truth, xyxy pixels.
        sigma: fraction of width and height that is positive.
    """
    last = torch.zeros(len(priors.points), dtype=torch.long, device=boxes.device)
    if len(boxes) == 0:
        return Assignment(last - 1)
    side = box_area(boxes).sqrt()
    order = side.argsort(descending=True, stable=True)
    lower, upper = _size_ranges(priors)
    index = torch.arange(1, len(boxes) + 1, device=boxes.device)
    for block in chunk_boxes(len(last), len(boxes)):
        some = order[block]
        covered = _foveas(priors, boxes[some], sigma) & (side[some] >= lower) & (side[some] <= upper)
        last = torch.maximum(last, (covered * index[block]).amax(dim=1))
    return Assignment(torch.where(last > 0, order[last - 1], -1))


def _foveas(priors: Priors, boxes: Float[Tensor, "G 4"], sigma: float) -> Bool[Tensor, "N G"]:
    """Return which cells lie in the fovea of which box."""
    stride = priors.strides[:, None]
    cells = torch.div(priors.points, stride, rounding_mode="floor")
    limits = _last_cells(priors)[:, None]
    scaled = boxes / stride[:, None]
    corner, half = scaled[..., :2], (scaled[..., 2:] - scaled[..., :2]) / 2
    # the center of cell i is at i + 0.5 strides
    first = (corner + (1 - sigma) * half - 0.5).ceil().clamp(min=0).minimum(limits)
    last = (corner + (1 + sigma) * half - 0.5).floor().clamp(min=0).minimum(limits)
    column_and_row = cells[:, None]
    return ((column_and_row >= first) & (column_and_row <= last)).all(dim=-1)


def _last_cells(priors: Priors) -> Float[Tensor, "N 2"]:
    """Return the last (column, row) of each cell's level."""
    levels = priors.points.new_tensor([(columns - 1, rows - 1) for rows, columns in priors.shapes])
    counts = torch.tensor(priors.counts, device=levels.device)
    return levels.repeat_interleave(counts, dim=0)


def _size_ranges(priors: Priors) -> tuple[Float[Tensor, "N 1"], Float[Tensor, "N 1"]]:
    lower, upper = LOWER * priors.strides, UPPER * priors.strides
    lower[: priors.counts[0]] = 0
    upper[len(upper) - priors.counts[-1] :] = torch.inf
    return lower[:, None], upper[:, None]
