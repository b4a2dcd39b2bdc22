"""The images that go wrong most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from varifocal.analysis.detection_table import DetectionTable
from varifocal.analysis.matching import Matches
from varifocal.analysis.tide import IGNORED, KINDS, TideErrors


@dataclass(frozen=True, eq=False)
class DetectionError:
    """A detection of an image: xyxy pixels, ``kind`` is "right", "ignored" or one of TIDE's kinds.

    ``index`` is its index in the image's detections; ``truth`` the index in the sample of the box of its class that
    it overlaps most, by ``iou``, and -1 where it overlaps none.
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
    """A box that nothing found: xyxy pixels."""

    box: Float[np.ndarray, "4"]
    label: int


@dataclass(frozen=True, eq=False)
class ImageErrors:
    """``sample`` is the index in the data; ``cost`` the sum of the scores of ``wrong`` detections plus the number of
    boxes ``missed``, of what is found from one score on. ``objects`` is how many boxes there are, without crowds."""

    sample: int
    cost: float
    wrong: int
    objects: int
    seen: tuple[DetectionError, ...]
    missed: tuple[MissedBox, ...]


def worst_images(
    table: DetectionTable, matches: Matches, errors: TideErrors, score: float, most: int
) -> tuple[Float[np.ndarray, "M"], tuple[ImageErrors, ...]]:
    """The cost of each sample of the data, and the ``most`` costly images, of equal cost the first; none without
    cost. Detections from ``score`` on, matched at the first threshold."""
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
    for i, image in enumerate(order.tolist()):
        if cost[image] <= 0:
            break
        own = np.arange(*truth[:, i])
        listed.append(
            ImageErrors(
                int(table.samples[image]),
                float(cost[image]),
                int(counts[image]),
                int((~table.truth.crowd[own]).sum()),
                look_at(table, matches, errors, image, score),
                tuple(MissedBox(_xyxy(table.truth.boxes[at]), int(table.truth.label[at])) for at in own[free[own]]),
            )
        )
    by_sample = np.empty(images)
    by_sample[table.samples] = cost
    return by_sample, tuple(listed)


def look_at(
    table: DetectionTable, matches: Matches, errors: TideErrors, image: int, score: float
) -> tuple[DetectionError, ...]:
    """What was found from ``score`` on in the image of rank ``image``, best first."""
    detections = np.arange(*np.searchsorted(table.found.image, [image, image + 1]))
    read = detections[table.found.score[detections] >= score]
    return tuple(_seen(table, matches, errors, at) for at in read.tolist())


def _seen(table: DetectionTable, matches: Matches, errors: TideErrors, at: int) -> DetectionError:
    if matches.right[0, at]:
        kind = "right"
    elif not matches.wrong[0, at] or errors.kinds[at] == IGNORED:
        kind = "ignored"
    else:
        kind = KINDS[errors.kinds[at]]
    found, best = table.found, int(table.own.truth[at])
    return DetectionError(
        _xyxy(found.boxes[at]),
        int(found.label[at]),
        float(found.score[at]),
        float(table.own.iou[at]),
        kind,
        int(found.index[at]),
        int(table.truth.index[best]) if best >= 0 else -1,
    )


def _xyxy(box: Float[np.ndarray, "4"]) -> Float[np.ndarray, "4"]:
    return np.concatenate([box[:2], box[:2] + box[2:]])
