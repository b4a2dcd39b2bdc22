"""Suppression by truth: of the boxes that belong to one object one stays, and no object takes another's."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float, Int64

from varifocal.inference.boxes_numpy import elementwise_iou
from varifocal.tools.oracle.positives import Truth
from varifocal.types import Detections

BELONGS = 0.5  # IoU from which a box belongs to an object: the lowest at which COCO counts it as found


def ground_truth_nms(
    candidates: Detections, ordinary: Detections, truth: Truth, best: Literal["overlap", "score"], most: int
) -> Detections:
    """What a suppression that knows the objects leaves, best score first, at most ``most``.

    A box belongs to the object of its class that it overlaps most, if by an IoU of at least 0.5. Of the ``candidates``,
    all boxes that come to suppression, each object keeps one: with ``best`` "overlap" the one of the highest IoU (of
    equal ones the higher score), with "score" the one of the highest score. Both get the highest score of the object's
    boxes, so that it is the choice of the box that is judged and not the rank of the chosen one. Of boxes that belong
    to no object the truth says nothing, so those of them stay that ``ordinary`` suppression left.
    """
    owner, iou = owners(candidates, truth)
    order = np.lexsort((-candidates.scores, -iou) if best == "overlap" else (-iou, -candidates.scores))
    order = order[owner[order] >= 0]
    objects, firsts = np.unique(owner[order], return_index=True)
    chosen = order[firsts]
    highest = np.zeros(len(truth.labels), candidates.scores.dtype)
    np.maximum.at(highest, owner[order], candidates.scores[order])
    nobody = owners(ordinary, truth)[0] < 0
    boxes = np.concatenate([candidates.boxes[chosen], ordinary.boxes[nobody]])
    scores = np.concatenate([highest[objects], ordinary.scores[nobody]])
    labels = np.concatenate([candidates.labels[chosen], ordinary.labels[nobody]])
    first = np.argsort(-scores, kind="stable")[:most]
    return Detections(boxes[first], scores[first], labels[first], candidates.categories)


def owners(found: Detections, truth: Truth) -> tuple[Int64[np.ndarray, "N"], Float[np.ndarray, "N"]]:
    """The object that each box belongs to, or -1, and its IoU with that object."""
    owner, highest = np.full(len(found), -1, np.int64), np.zeros(len(found))
    boxes = found.boxes.astype(np.float64)
    for number, (box, label) in enumerate(zip(truth.boxes.astype(np.float64), truth.labels, strict=True)):
        iou = np.where(found.labels == label, elementwise_iou(boxes, box[None]), 0.0)
        better = (iou >= BELONGS) & (iou > highest)
        owner[better], highest[better] = number, iou[better]
    return owner, highest
