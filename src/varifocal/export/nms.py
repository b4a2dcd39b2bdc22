"""Selection of detections inside a graph: plain operators around ONNX's ``NonMaxSuppression``."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from varifocal.structures import Candidates
from varifocal.types import PostProcess


def select_in_graph(
    decoded: Candidates, config: PostProcess
) -> tuple[Float[Tensor, "B K 4"], Float[Tensor, "B K"], Int64[Tensor, "B K"]]:
    """Return boxes, scores and labels of each image, best first; of K = ``max_detections``, unused ones have label -1.

    The selection is that of :func:`varifocal.ops.nms.multiclass_nms`, but NMS is in float32 and, since boxes are in
    pixels of the input, before they are scaled to the image.
    """
    boxes, scores = [], []
    start: Any = 0
    for count in decoded.counts:
        box, score = decoded.boxes[:, start : start + count], decoded.scores[:, start : start + count]
        quality = None if decoded.quality is None else decoded.quality[:, start : start + count]
        best = (_best_pairs if config.topk_mode == "pairs" else _best_points)(box, score, quality, config)
        boxes.append(best[0])
        scores.append(best[1])
        start = start + count
    box, score = torch.cat(boxes, dim=1), torch.cat(scores, dim=2)
    if config.topk_mode == "pairs":
        valid = (box[..., 2:] > box[..., :2]).all(dim=2)
        score = score * valid[:, None]
    kept = torch.ops.varifocal.class_nms(box, score, config.nms_iou, config.max_detections)
    # zeros are appended, so that topk always has enough entries
    flat = torch.cat([kept.flatten(1), kept.new_zeros(1, 1).expand(kept.shape[0], config.max_detections)], dim=1)
    final, index = flat.topk(config.max_detections)
    real = final > 0
    index = torch.where(real, index, 0)
    number = box.shape[1]
    box = box.gather(1, (index % number)[..., None].expand(-1, -1, 4)) * real[..., None]
    return box, final, torch.where(real, index // number, -1)


def _best_pairs(boxes: Tensor, scores: Tensor, quality: Tensor | None, config: PostProcess) -> tuple[Tensor, Tensor]:
    """Return boxes [B, M, 4] and scores [B, C, M], zero but at a box's own class, of the best pairs of one level."""
    classes = scores.shape[2]
    strong = torch.where(scores > config.score_threshold, scores, 0.0)
    # as many zeros are appended as topk selects, so that it always has enough entries
    spare = strong.new_zeros(1, 1).expand(strong.shape[0], config.nms_pre)
    best, index = torch.cat([strong.flatten(1), spare], dim=1).topk(config.nms_pre)
    index = torch.where(best > 0, index, 0)
    point, label = index // classes, index % classes
    if quality is not None:
        best = best * quality.gather(1, point)
    own = label[:, None] == torch.arange(classes, device=label.device)[:, None]
    return boxes.gather(1, point[..., None].expand(-1, -1, 4)), best[:, None] * own


def _best_points(boxes: Tensor, scores: Tensor, quality: Tensor | None, config: PostProcess) -> tuple[Tensor, Tensor]:
    """Return boxes [B, M, 4] and scores [B, C, M] above the threshold of the best points of one level."""
    rank = scores.amax(dim=2)
    rank = rank if quality is None else rank * quality
    spare = rank.new_full((1, 1), -1.0).expand(rank.shape[0], config.nms_pre)
    best, point = torch.cat([rank, spare], dim=1).topk(config.nms_pre)
    real = best >= 0
    point = torch.where(real, point, 0)
    score = scores.gather(1, point[..., None].expand(-1, -1, scores.shape[2])) * real[..., None]
    score = torch.where(score > config.score_threshold, score, 0.0)
    if quality is not None:
        score = score * quality.gather(1, point)[..., None]
    return boxes.gather(1, point[..., None].expand(-1, -1, 4)), score.transpose(1, 2)


@torch.library.custom_op(
    "varifocal::class_nms", mutates_args=(), schema="(Tensor boxes, Tensor scores, float iou, int most) -> Tensor"
)
def _class_nms(boxes: Tensor, scores: Tensor, iou: float, most: int) -> Tensor:
    """Return scores [B, C, M], set to zero where a better box of the class has a larger IoU or ``most`` are better."""
    from torchvision.ops import nms

    kept = torch.zeros_like(scores)
    for i in range(scores.shape[0]):
        for label in range(scores.shape[1]):
            candidates = (scores[i, label] > 0).nonzero()[:, 0]
            order = nms(boxes[i][candidates].float(), scores[i, label][candidates].float(), iou)
            keep = candidates[order][:most]
            kept[i, label, keep] = scores[i, label, keep]
    return kept


@_class_nms.register_fake
def _(boxes: Any, scores: Any, iou: Any, most: Any) -> Tensor:
    del boxes, iou, most
    return torch.empty_like(scores)
