"""Boxes and suppression in NumPy, for installations without torch; the numbers are those of torch and torchvision."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64

from varifocal.types import PostProcess

EPS = 1e-6
_ALL_PAIRS = 128  # boxes of a class up to which the overlaps of all pairs at once are faster
NMS_PREFILTER_FACTOR = 8  # boxes for each requested detection, as in varifocal.ops.nms


def box_area(boxes: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n"]:
    """Return width times height in square pixels; it is negative where x2 < x1 or y2 < y1."""
    found: np.ndarray = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    return found


def overlaps(a: Float[np.ndarray, "*#n 4"], b: Float[np.ndarray, "*#n 4"]) -> Float[np.ndarray, "*m"]:
    """Return the intersection of boxes in square pixels, pair by pair; broadcasting gives the matrix."""
    size = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    areas: np.ndarray = np.maximum(size, 0).prod(axis=-1)
    return areas


def elementwise_iou(a: Float[np.ndarray, "*#n 4"], b: Float[np.ndarray, "*#n 4"]) -> Float[np.ndarray, "*m"]:
    """Return the IoU of each box of ``a`` with the box at the same index of ``b``; broadcasting gives the matrix."""
    overlap = overlaps(a, b)
    found: np.ndarray = overlap / np.maximum(box_area(a) + box_area(b) - overlap, EPS)
    return found


def box_iou(a: Float[np.ndarray, "N 4"], b: Float[np.ndarray, "M 4"]) -> Float[np.ndarray, "N M"]:
    """Return the IoU of all pairs, like torchvision: NaN where neither box has an area."""
    overlap = overlaps(a[:, None], b)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: np.ndarray = overlap / (box_area(a)[:, None] + box_area(b) - overlap)
    return found


def batched_nms_numpy(
    boxes: Float[np.ndarray, "n 4"],
    scores: Float[np.ndarray, "n"],
    labels: Int64[np.ndarray, "n"],
    iou: float,
    most: int,
) -> Int64[np.ndarray, "k"]:
    """Return the indices that class-wise suppression keeps, best first; of equal scores the first comes first.

    The result is exact, as in :mod:`varifocal.ops.nms`: float64, and no more of the best are compared than needed.
    """
    order = np.argsort(-scores, kind="stable")
    if len(order) == 0 or iou >= 1:
        return order[:most]
    boxes = boxes.astype(np.float64)
    # classes are separate already; the shift only reproduces the rounding of torch
    apart = boxes + labels[:, None] * (boxes.max() - boxes.min() + 1)
    count = NMS_PREFILTER_FACTOR * most
    while True:
        best = order[:count]
        kept = best[_greedy(apart[best], labels[best], iou)][:most]
        if len(kept) == most or count >= len(order):
            return kept
        count *= 4


def _greedy(boxes: np.ndarray, labels: np.ndarray, iou: float) -> np.ndarray:
    """Return a mask [n] of the boxes, best first, that no better box of their class overlaps by more than ``iou``."""
    kept = np.zeros(len(boxes), bool)
    for label in np.unique(labels):
        left = np.flatnonzero(labels == label)
        if len(left) <= _ALL_PAIRS:
            kept[left] = _greedy_of_pairs(box_iou(boxes[left], boxes[left]) > iou)
            continue
        while len(left):
            kept[left[0]] = True
            left = left[1:][~(box_iou(boxes[left[:1]], boxes[left[1:]])[0] > iou)]
    return kept


def _greedy_of_pairs(overlap: np.ndarray) -> np.ndarray:
    """Return a mask [n] of the boxes, best first, that no better kept box overlaps, from all pairs [n, n]."""
    kept = np.ones(len(overlap), bool)
    for index, row in enumerate(overlap):
        if kept[index]:
            kept[index + 1 :] &= ~row[index + 1 :]
    return kept


def soft_nms(
    boxes: Float[np.ndarray, "n 4"], scores: Float[np.ndarray, "n"], labels: Int64[np.ndarray, "n"], config: PostProcess
) -> tuple[Int64[np.ndarray, "k"], Float[np.ndarray, "k"]]:
    """Return the indices of the boxes that are kept, best decayed score first, and these scores."""
    boxes, left = boxes.astype(np.float64), scores.astype(np.float64)
    keep: list[int] = []
    final: list[float] = []
    while len(keep) < min(config.max_detections, len(boxes)):
        index = int(left.argmax())
        best = float(left[index])
        if best < config.min_score:
            break
        keep.append(index)
        final.append(best)
        left[index] = -np.inf
        rivals = np.flatnonzero((labels == labels[index]) & np.isfinite(left))
        overlap = elementwise_iou(boxes[rivals], boxes[index : index + 1])
        left[rivals] *= np.where(overlap >= config.nms_iou, 1 - overlap, 1)
    return np.array(keep, np.int64), np.array(final, scores.dtype)


def multiclass_nms(
    boxes: Float[np.ndarray, "N 4"],
    scores: Float[np.ndarray, "N C"],
    counts: tuple[int, ...],
    config: PostProcess,
    quality: Float[np.ndarray, "N"] | None = None,
) -> tuple[Float[np.ndarray, "K 4"], Float[np.ndarray, "K"], Int64[np.ndarray, "K"]]:
    """Return the same as :func:`varifocal.ops.nms.multiclass_nms`, except for the order of equal scores."""
    choose = _best_pairs if config.topk_mode == "pairs" else _best_points
    start, points, labels = 0, [], []
    for count in counts:
        level = slice(start, start + count)
        point, label = choose(scores[level], config, None if quality is None else quality[level])
        points.append(point + start)
        labels.append(label)
        start += count
    point, label = np.concatenate(points), np.concatenate(labels)
    box, score = boxes[point], scores[point, label]
    if quality is not None:
        score = score * quality[point]
    if config.topk_mode == "pairs":
        sound = (box[:, 2:] > box[:, :2]).all(axis=1)
        box, score, label = box[sound], score[sound], label[sound]
    if config.nms_type == "soft-nms":
        keep, score = soft_nms(box, score, label, config)
    else:
        keep = batched_nms_numpy(box, score, label, config.nms_iou, config.max_detections)
        score = score[keep]
    return box[keep], score, label[keep]


def _best_pairs(scores: np.ndarray, config: PostProcess, _: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    point, label = (scores > config.score_threshold).nonzero()
    if len(point) > config.nms_pre:
        order = np.argsort(-scores[point, label], kind="stable")[: config.nms_pre]
        point, label = point[order], label[order]
    return point, label


def _best_points(scores: np.ndarray, config: PostProcess, quality: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    kept = np.arange(len(scores))
    if len(scores) > config.nms_pre:
        best = scores.max(axis=1)
        kept = np.argsort(-(best if quality is None else best * quality), kind="stable")[: config.nms_pre]
    row, label = (scores[kept] > config.score_threshold).nonzero()
    return kept[row], label
