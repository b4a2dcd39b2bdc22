"""From scored boxes to detections: threshold, the best of each level, class-wise suppression, the best of all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from varifocal.ops.boxes import elementwise_iou
from varifocal.types import PostProcess

NMS_PREFILTER_FACTOR = 8  # boxes compared per requested detection, which is enough for most images


def multiclass_nms(
    boxes: Float[Tensor, "N 4"],
    scores: Float[Tensor, "N C"],
    counts: Sequence[int],
    config: PostProcess,
    quality: Float[Tensor, "N"] | None = None,
) -> tuple[Float[Tensor, "K 4"], Float[Tensor, "K"], Int64[Tensor, "K"]]:
    """Return boxes, scores and labels of one image, best first.

    ``boxes`` are xyxy, ``scores`` probabilities, ``counts`` the number of points of each level. ``quality`` multiplies
    the scores that pass the threshold; "points" are ranked by the product, "pairs" by the score alone, as in the two
    generations of mmdetection. Suppression is class-wise.
    """
    point, score, label = multiclass_nms_indices(boxes, scores, counts, config, quality)
    return boxes[point], score, label


def multiclass_nms_indices(
    boxes: Float[Tensor, "N 4"],
    scores: Float[Tensor, "N C"],
    counts: Sequence[int],
    config: PostProcess,
    quality: Float[Tensor, "N"] | None = None,
) -> tuple[Int64[Tensor, "K"], Float[Tensor, "K"], Int64[Tensor, "K"]]:
    """Return the results of :func:`multiclass_nms`, with the index of each box among the N instead of the box."""
    start, points, labels = 0, [], []
    for count in counts:
        level = slice(start, start + count)
        if config.topk_mode == "pairs":
            point, label = _best_pairs(scores[level], config)
        else:
            point, label = _best_points(scores[level], config, quality[level] if quality is not None else None)
        points.append(point + start)
        labels.append(label)
        start += count
    point, label = torch.cat(points), torch.cat(labels)
    box, score = boxes[point], scores[point, label]
    if quality is not None:
        score = score * quality[point]
    if config.topk_mode == "pairs":
        sound = (box[:, 2:] > box[:, :2]).all(dim=1)
        point, box, score, label = point[sound], box[sound], score[sound], label[sound]
    suppress = _soft_nms if config.nms_type == "soft-nms" else batched_nms
    keep, score = suppress(box, score, label, config)
    return point[keep], score, label[keep]


def batched_nms(
    boxes: Float[Tensor, "n 4"], scores: Float[Tensor, "n"], labels: Int64[Tensor, "n"], config: PostProcess
) -> tuple[Int64[Tensor, "k"], Float[Tensor, "k"]]:
    """Return the indices of the boxes that are kept, best first, and their scores.

    The result is exact: boxes of different classes are moved apart in float64, where the shift does not round the
    coordinates. Only better boxes decide about a box, so that no more of the best are compared than are needed.
    """
    from torchvision.ops import nms

    order = scores.sort(descending=True, stable=True).indices
    if len(order) == 0 or config.nms_iou >= 1:  # no two boxes overlap by more
        keep = order[: config.max_detections]
        return keep, scores[keep]
    boxes = boxes.double()
    apart = boxes + labels[:, None] * (boxes.max() - boxes.min() + 1)
    count = NMS_PREFILTER_FACTOR * config.max_detections
    while True:
        best = order[:count]
        keep = best[nms(apart[best], scores[best].double(), config.nms_iou)][: config.max_detections]
        if len(keep) == config.max_detections or count >= len(order):
            return keep, scores[keep]
        count *= 4


def _soft_nms(
    boxes: Float[Tensor, "n 4"], scores: Float[Tensor, "n"], labels: Int64[Tensor, "n"], config: PostProcess
) -> tuple[Int64[Tensor, "k"], Float[Tensor, "k"]]:
    """Return the indices of the boxes that are kept, best decayed score first, and these scores.

    A chosen score bounds all later ones, so that the best of all classes are found in as many rounds as detections are
    requested.
    """
    boxes, left = boxes.double(), scores.double()
    keep: list[int] = []
    final: list[float] = []
    while len(keep) < min(config.max_detections, len(boxes)):
        index = int(left.argmax())
        best = float(left[index])
        if best < config.min_score:
            break
        keep.append(index)
        final.append(best)
        left[index] = -torch.inf
        rivals = ((labels == labels[index]) & left.isfinite()).nonzero()[:, 0]
        overlap = elementwise_iou(boxes[rivals], boxes[index])
        left[rivals] *= torch.where(overlap >= config.nms_iou, 1 - overlap, 1)
    return labels.new_tensor(keep), scores.new_tensor(final)


def _best_pairs(scores: Float[Tensor, "n C"], config: PostProcess) -> tuple[Int64[Tensor, "k"], Int64[Tensor, "k"]]:
    point, label = (scores > config.score_threshold).nonzero(as_tuple=True)
    if len(point) > config.nms_pre:
        order = scores[point, label].sort(descending=True, stable=True).indices[: config.nms_pre]
        point, label = point[order], label[order]
    return point, label


def _best_points(
    scores: Float[Tensor, "n C"], config: PostProcess, quality: Float[Tensor, "n"] | None
) -> tuple[Int64[Tensor, "k"], Int64[Tensor, "k"]]:
    kept = torch.arange(len(scores), device=scores.device)
    if len(scores) > config.nms_pre:
        best = scores.amax(dim=1)
        kept = (best if quality is None else best * quality).topk(config.nms_pre).indices
    row, label = (scores[kept] > config.score_threshold).nonzero(as_tuple=True)
    return kept[row], label
