"""Where a model doubts the labels: objects without one, labels of nothing, other classes, loose boxes.

An IoU-aware score is the overlap with its object that the model expects of a box, so score x IoU says how strongly a
detection vouches for a label. ``ClassBaseline`` is how strongly the labels of a class are vouched for on average, and
with which IoU in the middle. What falls short of that is the doubt. All four kinds are in the same unit and ranked
together:

- "missing-label", a confident detection away from all labels: score x (usual IoU - IoU with the nearest label);
- "loose-box", a label beside which its class is found with confidence: score x (usual IoU - their IoU);
- "spurious-label", a label beside which nothing is found with confidence: what is usual - how it is vouched for;
- "swapped-class", a label that another class vouches for more strongly than its own: the difference, and no
  less than if nothing were found there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from varifocal.inference.boxes_numpy import box_area, box_iou, overlaps

SAME_OBJECT = 0.5  # IoU from which two boxes are surely of one object
NEAR = 0.2  # IoU from which they may be: a label far off its object
SURE = 0.7  # fraction of its class's mean score from which something is found with confidence
LEAST = 0.1  # doubt from which it is reported
COVERED = 0.5  # fraction of a box inside a region that is not to be judged


@dataclass(frozen=True, eq=False)
class Labels:
    """The boxes of one image, xyxy pixels; ``regions`` are those not to be judged: crowd, difficult, classes that
    the model does not know."""

    boxes: Float[np.ndarray, "N 4"]
    classes: Int64[np.ndarray, "N"]
    regions: Float[np.ndarray, "R 4"]


@dataclass(frozen=True, eq=False)
class FoundLabelErrors:
    """What the model found in one image, best first, with classes of the same numbers."""

    boxes: Float[np.ndarray, "K 4"]
    scores: Float[np.ndarray, "K"]
    classes: Int64[np.ndarray, "K"]


@dataclass(frozen=True)
class LabelIssue:
    """``label`` and ``found`` are indices in the image's labels and detections, -1 for none; ``iou`` of the two, or
    of a missing label with the nearest one."""

    kind: str
    rank: float
    label: int = -1
    found: int = -1
    iou: float = 0.0


@dataclass(frozen=True, eq=False)
class ImageComparison:
    """One image with its labels and detections beside each other.

    ``vouched`` is how strongly each label is vouched for by its own class, ``voucher`` by which detection (-1 for
    none). ``sure`` is the detection of its class with the highest score that is nearer to the label than to any other
    and overlaps it by ``NEAR`` (-1 for none). ``other`` is the detection of another class that vouches most.
    """

    labels: Labels
    found: FoundLabelErrors
    iou: Float[np.ndarray, "K N"]
    vouched: Float[np.ndarray, "N"]
    voucher: Int64[np.ndarray, "N"]
    sure: Int64[np.ndarray, "N"]
    other: Int64[np.ndarray, "N"]


@dataclass(frozen=True, eq=False)
class ClassBaseline:
    """What is usual for the labels of each class: how strongly they are ``vouched`` for, the ``score`` of what is found
    there with most confidence, and the ``iou`` of the middle one of all labels with what vouches for it."""

    vouched: Float[np.ndarray, "C"]
    score: Float[np.ndarray, "C"]
    iou: float


def look(labels: Labels, found: FoundLabelErrors) -> ImageComparison:
    """Labels and detections of one image beside each other."""
    sound = box_area(found.boxes) > 0
    found = FoundLabelErrors(found.boxes[sound], found.scores[sound], found.classes[sound])
    iou = box_iou(found.boxes.astype(np.float64), labels.boxes.astype(np.float64))
    own = found.classes[:, None] == labels.classes
    strength = iou * found.scores[:, None]
    vouched, voucher = _best(np.where(own, strength, 0))
    nearest = iou >= np.maximum(iou.max(axis=1, initial=0), NEAR)[:, None]
    _, sure = _best(np.where(own & nearest, found.scores[:, None], 0))
    _, other = _best(np.where(~own & (iou >= SAME_OBJECT), strength, 0))
    return ImageComparison(labels, found, iou, vouched, voucher, sure, other)


def _best(strength: Float[np.ndarray, "K N"]) -> tuple[Float[np.ndarray, "N"], Int64[np.ndarray, "N"]]:
    """The highest value of each column and its row, 0 and -1 where nothing is above 0."""
    if not len(strength):
        return np.zeros(strength.shape[1]), np.full(strength.shape[1], -1, np.int64)
    best = strength.max(axis=0)
    return best, np.where(best > 0, strength.argmax(axis=0), -1)


def usual(looks: Sequence[ImageComparison], classes: int) -> ClassBaseline:
    """Over all images; 0 for a class without labels."""
    labels = np.concatenate([np.empty(0, np.int64), *(one.labels.classes for one in looks)])
    count = np.maximum(np.bincount(labels, minlength=classes), 1)
    vouched = np.concatenate([np.empty(0), *(one.vouched for one in looks)])
    score = np.concatenate([np.empty(0), *(_at(one.found.scores, one.sure) for one in looks)])
    ious = [one.iou[one.voucher[found], found] for one in looks for found in [np.flatnonzero(one.voucher >= 0)]]
    middle = np.concatenate([np.empty(0), *ious])
    return ClassBaseline(
        np.bincount(labels, vouched, minlength=classes) / count,
        np.bincount(labels, score, minlength=classes) / count,
        float(np.median(middle)) if len(middle) else 0.0,
    )


def _at(scores: Float[np.ndarray, "K"], indices: Int64[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    return np.append(scores.astype(np.float64), 0)[indices]  # the last one is at -1


def doubts(one: ImageComparison, what: ClassBaseline) -> list[LabelIssue]:
    """What the model doubts of one image, of each label and each detection at most one thing, most doubted first."""
    issues = [_of_label(one, what, label) for label in range(len(one.labels.boxes))]
    busy = {doubt.found for doubt in issues if doubt.rank >= LEAST and doubt.kind != "spurious-label"}
    listed = [doubt for doubt in (*issues, *_missing(one, what, busy)) if doubt.rank >= LEAST]
    return sorted(listed, key=lambda doubt: -doubt.rank)


def _of_label(one: ImageComparison, what: ClassBaseline, label: int) -> LabelIssue:
    """What is doubted most of a label."""
    kind = int(one.labels.classes[label])
    sure, other = int(one.sure[label]), int(one.other[label])
    if sure >= 0 and one.found.scores[sure] >= SURE * what.score[kind]:
        iou = float(one.iou[sure, label])
        doubt = LabelIssue("loose-box", float(one.found.scores[sure]) * (what.iou - iou), label, sure, iou)
    else:
        doubt = LabelIssue("spurious-label", float(what.vouched[kind] - one.vouched[label]), label)
    if other < 0:
        return doubt
    score, iou = float(one.found.scores[other]), float(one.iou[other, label])
    rank = score * iou - float(one.vouched[label])
    sure_of_other = score >= SURE * what.score[one.found.classes[other]]
    if rank > max(doubt.rank, 0) or (doubt.kind == "spurious-label" and sure_of_other and rank > 0):
        return LabelIssue("swapped-class", max(rank, doubt.rank), label, other, iou)
    return doubt


def _missing(one: ImageComparison, what: ClassBaseline, busy: set[int]) -> list[LabelIssue]:
    """Return detections that belong to no label, one at each location, the best first."""
    found = one.found
    nearest = one.iou.max(axis=1, initial=0)
    free = (nearest < SAME_OBJECT) & ~_covered(found.boxes, one.labels.regions)
    free[list(busy)] = False
    listed: list[LabelIssue] = []
    for index in np.flatnonzero(free).tolist():
        rank = float(found.scores[index]) * (what.iou - float(nearest[index]))
        seen = [doubt.found for doubt in listed]
        sure = found.scores[index] >= SURE * what.score[found.classes[index]]
        if not sure or rank < LEAST or (seen and box_iou(found.boxes[[index]], found.boxes[seen]).max() >= SAME_OBJECT):
            continue
        listed.append(LabelIssue("missing-label", rank, found=index, iou=float(nearest[index])))
    return listed


def _covered(boxes: Float[np.ndarray, "K 4"], regions: Float[np.ndarray, "R 4"]) -> Bool[np.ndarray, "K"]:
    shared = overlaps(boxes[:, None].astype(np.float64), regions.astype(np.float64))
    return np.asarray((shared >= COVERED * box_area(boxes.astype(np.float64))[:, None]).any(axis=1))
