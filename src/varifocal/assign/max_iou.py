"""The assignment of RetinaNet (Lin et al., Focal Loss, ICCV 2017): anchors by their overlap with the objects."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from varifocal.boxes import pair_iou
from varifocal.types import Assignment, Priors


def assign_max_iou(
    priors: Priors,
    boxes: Float[Tensor, "G 4"],
    valid: Bool[Tensor, "N"],
    *,
    positive: float = 0.5,
    negative: float = 0.4,
    match_apart: bool = False,
) -> Assignment:
    """Give each anchor the box that it overlaps most, and each box the anchors that overlap it most.

    An anchor whose best IoU is at least ``positive`` takes that box, one below ``negative`` is background, those
    between are ignored. Then every box takes all anchors that share its own highest IoU, whatever that is; of several
    boxes the last wins, even over a better one. Equal is equal to the bit: a box much smaller than the anchors lies
    inside many, and rounding decides which of them it takes.

    Args:
        priors: with anchors.
        boxes: ground truth, xyxy pixels.
        valid: anchors that take part; the others are neither positive nor ignored.
        positive: lowest IoU of a match.
        negative: IoU from which an anchor is no background any more.
        match_apart: a box that overlaps no anchor takes all that do not overlap it, as mmdetection has it; otherwise
            it takes none.
    """
    assert priors.anchors is not None
    gt = torch.full((len(valid),), -1, dtype=torch.long, device=boxes.device)
    if len(boxes) == 0:
        return Assignment(gt)
    iou = torch.where(valid[:, None], pair_iou(priors.anchors[:, None], boxes), -1.0)
    best, owner = iou.max(dim=1)
    gt = torch.where(best >= positive, owner, gt)
    highest = iou.amax(dim=0)
    match = (iou == highest) & (highest >= 0 if match_apart else highest > 0)
    place = torch.arange(1, len(boxes) + 1, device=boxes.device)
    last = (match * place).amax(dim=1)
    gt = torch.where(last > 0, last - 1, gt)
    return Assignment(gt, (best >= negative) & (gt < 0))
