"""The assignment of RetinaNet (Lin et al., Focal Loss, ICCV 2017): anchors by their overlap with the objects."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from varifocal.assign.chunks import chunk_boxes
from varifocal.ops.boxes import elementwise_iou
from varifocal.structures import Assignment, Priors


def assign_max_iou(
    priors: Priors,
    boxes: Float[Tensor, "G 4"],
    *,
    positive: float = 0.5,
    negative: float = 0.4,
    match_apart: bool = False,
) -> Assignment:
    """Assign to each anchor the box that it overlaps most, and to each box the anchors that overlap it most.

    An anchor whose best IoU is at least ``positive`` takes that box, one below ``negative`` is background, those
    between are ignored. Then every box takes all anchors that have its own highest IoU, whatever that is; of several
    boxes the last wins, even over a better one. Equal is equal to the bit: a box much smaller than the anchors lies
    inside many, and rounding decides which of them it takes.

    Args:
        priors: with anchors.
        boxes: ground truth, xyxy pixels.
        positive: lowest IoU of a match.
        negative: lowest IoU of an anchor that is not background.
        match_apart: a box that overlaps no anchor takes all that do not overlap it, as in mmdetection; otherwise it
            takes none.
    """
    assert priors.anchors is not None
    gt = torch.full((len(priors.anchors),), -1, dtype=torch.long, device=boxes.device)
    if len(boxes) == 0 or len(gt) == 0:
        return Assignment(gt)
    best, owner = boxes.new_full((len(gt),), -1), gt
    last = torch.zeros_like(gt)
    index = torch.arange(1, len(boxes) + 1, device=boxes.device)
    for block in chunk_boxes(len(gt), len(boxes)):
        iou = elementwise_iou(priors.anchors[:, None], boxes[block])
        highest_iou, index_in_block = iou.max(dim=1)
        owner = torch.where(highest_iou > best, index_in_block + block.start, owner)
        best = torch.maximum(highest_iou, best)
        highest = iou.amax(dim=0)
        match = (iou == highest) & ((highest > 0) | match_apart)
        last = torch.maximum(last, (match * index[block]).amax(dim=1))
    gt = torch.where(last > 0, last - 1, torch.where(best >= positive, owner, gt))
    return Assignment(gt, (best >= negative) & (gt < 0))
