"""NMS with access to the ground truth: keep one box per object, and let no object suppress another one's box."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float, Int64

from varifocal.inference.boxes_numpy import elementwise_iou
from varifocal.tools.oracle.positives import Truth
from varifocal.types import Detections

BELONGS = 0.5  # IoU from which a box belongs to an object: the lowest at which COCO counts it as a true positive


def ground_truth_nms(
    candidates: Detections, ordinary: Detections, truth: Truth, best: Literal["overlap", "score"], most: int
) -> Detections:
    """Return the ``most`` best detections that NMS with knowledge of the objects keeps, best score first.

    A box belongs to the object of its class that it overlaps most, if their IoU is at least 0.5. Each object keeps one
    of its ``candidates``: with ``best`` "overlap" the one of the highest IoU (of equal ones the higher score), with
    "score" the one of the highest score. Either gets the highest score of the object's boxes, so that the choice of the
    box is measured and not its rank. The truth says nothing about boxes that belong to no object; of these, the ones
    that ``ordinary`` NMS keeps are kept.

    Args:
        candidates: all boxes before NMS.
        ordinary: the boxes that ordinary NMS keeps.
        truth: the objects of the image.
        best: which box an object keeps.
        most: the number of detections that are returned at most.
    """
    owner, iou = owners(candidates, truth)
    order = np.lexsort((-candidates.scores, -iou) if best == "overlap" else (-iou, -candidates.scores))
    order = order[owner[order] >= 0]
    objects, firsts = np.unique(owner[order], return_index=True)
    chosen = order[firsts]
    highest = np.zeros(len(truth.labels), candidates.scores.dtype)
    np.maximum.at(highest, owner[order], candidates.scores[order])
    background = owners(ordinary, truth)[0] < 0
    boxes = np.concatenate([candidates.boxes[chosen], ordinary.boxes[background]])
    scores = np.concatenate([highest[objects], ordinary.scores[background]])
    labels = np.concatenate([candidates.labels[chosen], ordinary.labels[background]])
    first = np.argsort(-scores, kind="stable")[:most]
    return Detections(boxes[first], scores[first], labels[first], candidates.categories)


def owners(found: Detections, truth: Truth) -> tuple[Int64[np.ndarray, "N"], Float[np.ndarray, "N"]]:
    """Return the index of the object that each box belongs to, -1 for none, and their IoU, 0 for none."""
    iou = elementwise_iou(found.boxes[:, None].astype(np.float64), truth.boxes.astype(np.float64))
    # a column of zeros, so that there is a largest value without objects too
    iou = np.pad(np.where((found.labels[:, None] == truth.labels) & (iou >= BELONGS), iou, 0), ((0, 0), (0, 1)))
    highest = iou.max(axis=1)
    return np.where(highest > 0, iou.argmax(axis=1), -1), highest
