"""Score thresholds: for the best F1, and for a target precision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from varifocal.analysis.detection_table import DetectionTable
from varifocal.analysis.matching import Matches


@dataclass(frozen=True)
class OperatingPoint:
    """Precision, recall and F1 at IoU 0.5 of the detections from ``score`` on."""

    score: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Thresholds:
    """Operating points over all classes and for each class.

    ``f1`` has the best F1. ``target`` has the highest recall of those that reach the target ``precision``, and is None
    if none does. The keys are the labels of classes with boxes; a class without detections has None for both.
    """

    precision: float
    f1: OperatingPoint | None
    target: OperatingPoint | None
    f1_by_class: dict[int, OperatingPoint | None]
    target_by_class: dict[int, OperatingPoint | None]


def operating_points(table: DetectionTable, matches: Matches, precision: float) -> Thresholds:
    """Return the operating points; the first threshold of ``matches`` is IoU 0.5."""
    right, wrong = matches.right[0], matches.wrong[0]
    objects = table.objects
    known = objects[table.found.label] > 0
    f1, target = best_points(table.found.score, right & known, wrong & known, int(objects.sum()), precision)
    both = {
        k: best_points(table.found.score, right & which, wrong & which, int(objects[k]), precision)
        for k in np.flatnonzero(objects).tolist()
        for which in [table.found.label == k]
    }
    return Thresholds(
        precision, f1, target, {k: pair[0] for k, pair in both.items()}, {k: pair[1] for k, pair in both.items()}
    )


def best_points(
    score: Float[np.ndarray, "N"],
    right: Bool[np.ndarray, "N"],
    wrong: Bool[np.ndarray, "N"],
    boxes: int,
    precision: float,
) -> tuple[OperatingPoint | None, OperatingPoint | None]:
    """Return the points of the best F1 and of the target precision, each at a detection's score, or None."""
    which = np.flatnonzero(right | wrong)
    which = which[np.argsort(-score[which], kind="stable")]
    score = score[which]
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True)[: len(score)])  # equal scores come together
    hits, read = np.cumsum(right[which])[last], last + 1
    if not len(last) or not boxes:
        return None, None
    score, precisions, recalls, f1 = score[last], hits / read, hits / boxes, 2 * hits / (read + boxes)

    def at(index: int) -> OperatingPoint:
        return OperatingPoint(float(score[index]), float(precisions[index]), float(recalls[index]), float(f1[index]))

    enough = np.flatnonzero((precisions >= precision) & (hits > 0))
    if not len(enough):
        return at(int(f1.argmax())), None
    # of those with the highest recall, the highest score: below it only false positives are added
    return at(int(f1.argmax())), at(int(enough[recalls[enough].argmax()]))
