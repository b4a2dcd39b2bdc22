"""Labels that the detections of a model contradict: missing, spurious, of the wrong class, or imprecise.

An IoU-aware score is the overlap with its object that the model expects of a box, so score x IoU is the support that a
detection gives a label. ``ClassBaseline`` has the mean support of the labels of each class, and the median IoU of
labels with the detection that supports them. An issue is a label that falls short of that. All four kinds are in the
same unit and ranked together:

- "missing-label", a confident detection away from all labels: score x (median IoU - IoU with the nearest label);
- "loose-box", a label near a confident detection of its class: score x (median IoU - their IoU);
- "spurious-label", a label without a confident detection: mean support of the class - support of the label;
- "swapped-class", a label with more support from another class than from its own: the difference, and no less than if
  nothing were detected there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from varifocal.inference.boxes_numpy import box_area, box_iou, overlaps

SAME_OBJECT = 0.5  # IoU from which two boxes are surely of one object
NEAR = 0.2  # IoU from which they may be: a label far off its object
CONFIDENT = 0.7  # fraction of the mean score of its class from which a detection is confident
LEAST = 0.1  # rank from which an issue is reported
COVERED = 0.5  # fraction of a detection inside an ignored region from which it is ignored


@dataclass(frozen=True, eq=False)
class Labels:
    """The N labels of an image: xyxy pixels and classes.

    ``regions`` are ignored boxes: crowds, difficult ones, and those of classes that the model does not know.
    """

    boxes: Float[np.ndarray, "N 4"]
    classes: Int64[np.ndarray, "N"]
    regions: Float[np.ndarray, "R 4"]


@dataclass(frozen=True, eq=False)
class ImageDetections:
    """The K detections of a model in an image, best first; the classes have the same numbers as those of the labels."""

    boxes: Float[np.ndarray, "K 4"]
    scores: Float[np.ndarray, "K"]
    classes: Int64[np.ndarray, "K"]


@dataclass(frozen=True)
class LabelIssue:
    """An issue of a label or a detection.

    ``label`` and ``found`` are indices of the image's labels and detections, -1 for none. ``iou`` is that of the two,
    or of a detection without a label with the nearest one.
    """

    kind: str
    rank: float
    label: int = -1
    found: int = -1
    iou: float = 0.0


@dataclass(frozen=True, eq=False)
class ImageComparison:
    """The labels and detections of an image and their IoUs.

    ``support`` is the most that a detection of the same class gives each label, and ``supporter`` that detection. Of
    the detections of its class that are nearer to a label than to any other and overlap it by ``NEAR``, ``nearest`` has
    the highest score. ``rival`` is the detection of another class that supports the label most. -1 stands for none.
    """

    labels: Labels
    found: ImageDetections
    iou: Float[np.ndarray, "K N"]
    support: Float[np.ndarray, "N"]
    supporter: Int64[np.ndarray, "N"]
    nearest: Int64[np.ndarray, "N"]
    rival: Int64[np.ndarray, "N"]


@dataclass(frozen=True, eq=False)
class ClassBaseline:
    """The usual values for the labels of each class: mean support and mean score of the nearest detection.

    ``iou`` is the median IoU of all labels with the detection that supports them.
    """

    support: Float[np.ndarray, "C"]
    score: Float[np.ndarray, "C"]
    iou: float


def compare_image(labels: Labels, found: ImageDetections) -> ImageComparison:
    """Compare the labels of an image with its detections; detections without area are left out."""
    sound = box_area(found.boxes) > 0
    found = ImageDetections(found.boxes[sound], found.scores[sound], found.classes[sound])
    iou = box_iou(found.boxes.astype(np.float64), labels.boxes.astype(np.float64))
    own = found.classes[:, None] == labels.classes
    strength = iou * found.scores[:, None]
    support, supporter = _best(np.where(own, strength, 0))
    near = iou >= np.maximum(iou.max(axis=1, initial=0), NEAR)[:, None]
    _, nearest = _best(np.where(own & near, found.scores[:, None], 0))
    _, rival = _best(np.where(~own & (iou >= SAME_OBJECT), strength, 0))
    return ImageComparison(labels, found, iou, support, supporter, nearest, rival)


def _best(strength: Float[np.ndarray, "K N"]) -> tuple[Float[np.ndarray, "N"], Int64[np.ndarray, "N"]]:
    """Return the highest value of each column and its row; 0 and -1 if no value is above 0."""
    if not len(strength):
        return np.zeros(strength.shape[1]), np.full(strength.shape[1], -1, np.int64)
    best = strength.max(axis=0)
    return best, np.where(best > 0, strength.argmax(axis=0), -1)


def class_baseline(images: Sequence[ImageComparison], classes: int) -> ClassBaseline:
    """Return the baseline over all images; 0 for a class without labels."""
    labels = np.concatenate([np.empty(0, np.int64), *(image.labels.classes for image in images)])
    count = np.maximum(np.bincount(labels, minlength=classes), 1)
    support = np.concatenate([np.empty(0), *(image.support for image in images)])
    # the score that -1 takes is 0
    scores = (np.append(image.found.scores.astype(np.float64), 0)[image.nearest] for image in images)
    score = np.concatenate([np.empty(0), *scores])
    supported = [np.flatnonzero(image.supporter >= 0) for image in images]
    ious = [image.iou[image.supporter[index], index] for image, index in zip(images, supported, strict=True)]
    iou = np.concatenate([np.empty(0), *ious])
    return ClassBaseline(
        np.bincount(labels, support, minlength=classes) / count,
        np.bincount(labels, score, minlength=classes) / count,
        float(np.median(iou)) if len(iou) else 0.0,
    )


def label_issues(image: ImageComparison, baseline: ClassBaseline) -> list[LabelIssue]:
    """Return the issues of an image, at most one for each label and each detection, the highest rank first."""
    issues = [_issue_of_label(image, baseline, label) for label in range(len(image.labels.boxes))]
    used = {issue.found for issue in issues if issue.rank >= LEAST and issue.kind != "spurious-label"}
    listed = [issue for issue in (*issues, *_missing_labels(image, baseline, used)) if issue.rank >= LEAST]
    return sorted(listed, key=lambda issue: -issue.rank)


def _issue_of_label(image: ImageComparison, baseline: ClassBaseline, label: int) -> LabelIssue:
    """Return the issue of a label that has the highest rank."""
    kind = int(image.labels.classes[label])
    nearest, rival = int(image.nearest[label]), int(image.rival[label])
    support = float(image.support[label])
    if nearest >= 0 and image.found.scores[nearest] >= CONFIDENT * baseline.score[kind]:
        iou = float(image.iou[nearest, label])
        rank = float(image.found.scores[nearest]) * (baseline.iou - iou)
        issue = LabelIssue("loose-box", rank, label, nearest, iou)
    else:
        issue = LabelIssue("spurious-label", float(baseline.support[kind]) - support, label)
    if rival < 0:
        return issue
    score, iou = float(image.found.scores[rival]), float(image.iou[rival, label])
    rank = score * iou - support
    confident = score >= CONFIDENT * baseline.score[image.found.classes[rival]]
    if rank > max(issue.rank, 0) or (issue.kind == "spurious-label" and confident and rank > 0):
        return LabelIssue("swapped-class", max(rank, issue.rank), label, rival, iou)
    return issue


def _missing_labels(image: ImageComparison, baseline: ClassBaseline, used: set[int]) -> list[LabelIssue]:
    """Return the confident detections that belong to no label, one at each location, the best first."""
    found = image.found
    nearest = image.iou.max(axis=1, initial=0)
    free = (nearest < SAME_OBJECT) & ~_covered(found.boxes, image.labels.regions)
    free[list(used)] = False
    free &= found.scores >= CONFIDENT * baseline.score[found.classes]
    listed: list[LabelIssue] = []
    for index in np.flatnonzero(free).tolist():
        rank = float(found.scores[index]) * (baseline.iou - float(nearest[index]))
        others = [issue.found for issue in listed]
        if rank < LEAST or (others and box_iou(found.boxes[[index]], found.boxes[others]).max() >= SAME_OBJECT):
            continue
        listed.append(LabelIssue("missing-label", rank, found=index, iou=float(nearest[index])))
    return listed


def _covered(boxes: Float[np.ndarray, "K 4"], regions: Float[np.ndarray, "R 4"]) -> Bool[np.ndarray, "K"]:
    """Return which boxes lie in a region with the fraction ``COVERED`` of their area."""
    boxes = boxes.astype(np.float64)
    shared = overlaps(boxes[:, None], regions.astype(np.float64))
    return np.asarray((shared >= COVERED * box_area(boxes)[:, None]).any(axis=1))
