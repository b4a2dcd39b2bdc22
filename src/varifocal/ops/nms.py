"""From scored boxes to detections: threshold, the best of each level, class-wise suppression, the best of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class PostProcess:
    """How many boxes are looked at and which are kept.

    ``select`` says what is counted against ``per_level``: "pairs" of box and class over the threshold (mmdetection
    from 2.13 on) or "points" by their best class, each with all its classes (the VFNet authors). Pairs are the
    default because no box is lost to the weak classes of another. Published numbers differ by less than 0.1 AP.
    """

    score_threshold: float = 0.05
    per_level: int = 1000
    iou: float = 0.6
    max_detections: int = 100
    select: Literal["pairs", "points"] = "pairs"


def select_detections(
    boxes: Float[Tensor, "N 4"],
    scores: Float[Tensor, "N C"],
    counts: Sequence[int],
    config: PostProcess,
    quality: Float[Tensor, "N"] | None = None,
) -> tuple[Float[Tensor, "K 4"], Float[Tensor, "K"], Int64[Tensor, "K"]]:
    """Boxes, scores and labels of one picture, best first.

    ``boxes`` are xyxy, ``scores`` probabilities, ``counts`` the number of points of each level. ``quality`` multiplies
    the scores that pass the threshold; "points" are ranked by the product, "pairs" by the score alone, as the two
    generations of mmdetection do. Suppression is
    class-wise and exact: the boxes of different classes are kept apart in float64, where the shift that does it
    leaves the coordinates as they are. A box goes when its IoU with a better one of its class is above ``iou``.
    """
    from torchvision.ops import batched_nms

    start, points, labels = 0, [], []
    for count in counts:
        level = slice(start, start + count)
        if config.select == "pairs":
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
    if config.select == "pairs":
        sound = (box[:, 2:] > box[:, :2]).all(dim=1)
        box, score, label = box[sound], score[sound], label[sound]
    keep = batched_nms(box.double(), score.double(), label, config.iou)[: config.max_detections]
    return box[keep], score[keep], label[keep]


def _best_pairs(scores: Float[Tensor, "n C"], config: PostProcess) -> tuple[Int64[Tensor, "k"], Int64[Tensor, "k"]]:
    point, label = (scores > config.score_threshold).nonzero(as_tuple=True)
    if len(point) > config.per_level:
        order = scores[point, label].sort(descending=True, stable=True).indices[: config.per_level]
        point, label = point[order], label[order]
    return point, label


def _best_points(
    scores: Float[Tensor, "n C"], config: PostProcess, quality: Float[Tensor, "n"] | None
) -> tuple[Int64[Tensor, "k"], Int64[Tensor, "k"]]:
    kept = torch.arange(len(scores), device=scores.device)
    if len(scores) > config.per_level:
        best = scores.amax(dim=1)
        kept = (best if quality is None else best * quality).topk(config.per_level).indices
    row, label = (scores[kept] > config.score_threshold).nonzero(as_tuple=True)
    return kept[row], label
