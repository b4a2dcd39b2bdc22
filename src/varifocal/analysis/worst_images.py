"""The images with the costliest errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from varifocal.analysis.detection_table import DetectionTable, xywh_to_xyxy
from varifocal.analysis.matching import Matches
from varifocal.analysis.tide import IGNORED, KINDS, TideErrors


@dataclass(frozen=True, eq=False)
class DetectionError:
    """A detection of an image with its kind: "right", "ignored" or one of TIDE's kinds of error.

    ``box`` is xyxy in pixels and ``index`` the index in the image's detections. ``truth`` is the index in the sample of
    the box of the same class that it overlaps most, by ``iou``; -1 if it overlaps none.
    """

    box: Float[np.ndarray, "4"]
    label: int
    score: float
    iou: float
    kind: str
    index: int
    truth: int


@dataclass(frozen=True, eq=False)
class MissedBox:
    """A labeled box without a detection: xyxy pixels."""

    box: Float[np.ndarray, "4"]
    label: int


@dataclass(frozen=True, eq=False)
class ImageErrors:
    """The errors in an image among the detections from a score on.

    ``sample`` is the index in the data set. ``cost`` is the sum of the scores of the ``wrong`` detections plus the
    number of boxes ``missed``. ``objects`` is the number of labeled boxes without crowds.
    """

    sample: int
    cost: float
    wrong: int
    objects: int
    detections: tuple[DetectionError, ...]
    missed: tuple[MissedBox, ...]


def worst_images(
    table: DetectionTable, matches: Matches, errors: TideErrors, score: float, most: int
) -> tuple[Float[np.ndarray, "M"], tuple[ImageErrors, ...]]:
    """Return the cost of each sample of the data, and the ``most`` costly images, the costliest first.

    Read are detections from ``score`` on, at the first threshold of ``matches``. Images without cost are not listed,
    and of equal ones the first comes first.
    """
    read = table.found.score >= score
    wrong = read & matches.wrong[0]
    free = ~table.truth.crowd
    free[matches.truth[0][read & matches.right[0]]] = False
    images = len(table.samples)
    cost = np.bincount(table.found.image[wrong], np.maximum(table.found.score[wrong], 0), minlength=images)
    cost += np.bincount(table.truth.image[free], minlength=images)
    counts = np.bincount(table.found.image[wrong], minlength=images)
    order = np.argsort(-cost, kind="stable")[:most]
    truth = np.searchsorted(table.truth.image, [order, order + 1])
    listed = []
    for number, image in enumerate(order.tolist()):
        if cost[image] <= 0:
            break
        own = np.arange(*truth[:, number])
        listed.append(
            ImageErrors(
                int(table.samples[image]),
                float(cost[image]),
                int(counts[image]),
                int((~table.truth.crowd[own]).sum()),
                image_detections(table, matches, errors, image, score),
                tuple(MissedBox(xywh_to_xyxy(table.truth.boxes[i]), int(table.truth.label[i])) for i in own[free[own]]),
            )
        )
    by_sample = np.empty(images)
    by_sample[table.samples] = cost
    return by_sample, tuple(listed)


def image_detections(
    table: DetectionTable, matches: Matches, errors: TideErrors, image: int, score: float
) -> tuple[DetectionError, ...]:
    """Return the detections from ``score`` on in the image of rank ``image``, best first."""
    detections = np.arange(*np.searchsorted(table.found.image, [image, image + 1]))
    read = detections[table.found.score[detections] >= score]
    return tuple(_detection(table, matches, errors, i) for i in read.tolist())


def _detection(table: DetectionTable, matches: Matches, errors: TideErrors, i: int) -> DetectionError:
    if matches.right[0, i]:
        kind = "right"
    elif not matches.wrong[0, i] or errors.kinds[i] == IGNORED:
        kind = "ignored"
    else:
        kind = KINDS[errors.kinds[i]]
    found, best = table.found, int(table.own.truth[i])
    return DetectionError(
        xywh_to_xyxy(found.boxes[i]),
        int(found.label[i]),
        float(found.score[i]),
        float(table.own.iou[i]),
        kind,
        int(found.index[i]),
        int(table.truth.index[best]) if best >= 0 else -1,
    )
