"""Which class is found where which is labeled, from one score on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from varifocal.analysis.detection_table import DetectionTable
from varifocal.analysis.matching import all_areas, build_queue, match


@dataclass(frozen=True, eq=False)
class Confusion:
    """``counts[i, j]``: boxes of class i found as class j. The last row are detections of nothing, the last column
    boxes that were not found. ``score`` and ``iou`` are the least of both."""

    counts: Int64[np.ndarray, "C C"]
    score: float
    iou: float


def confusion_matrix(table: DetectionTable, allowed: Bool[np.ndarray, "N"], score: float, iou: float) -> Confusion:
    """The section. First each detection, best first, takes the box of its class as in COCO's matching, so that the
    diagonal holds COCO's true positives; what is left then takes, best first again, the free box of another class that
    it overlaps most. Detections in crowd or difficult regions of their class are left out."""
    allowed = allowed & (table.found.score >= score)
    queue = build_queue(table, table.found.score, allowed, iou)
    first = match(table, queue, all_areas(table), np.array([iou]))
    found, truth = table.found.label, table.truth.label
    k = table.classes
    counts = np.zeros((k + 1, k + 1), np.int64)
    right, left = first.right[0], first.wrong[0].copy()
    free = ~table.truth.crowd
    free[first.truth[0][right]] = False
    np.add.at(counts, (found[right], found[right]), 1)
    for i, j in _others(table, left, free, iou):
        counts[truth[j], found[i]] += 1
        left[i] = free[j] = False
    np.add.at(counts, (k, found[left]), 1)
    np.add.at(counts, (truth[free], k), 1)
    return Confusion(counts, score, iou)


def _others(
    table: DetectionTable, left: Bool[np.ndarray, "N"], free: Bool[np.ndarray, "G"], iou: float
) -> list[tuple[int, int]]:
    """Detections and free boxes of other classes that find each other."""
    pairs = table.pairs
    use = np.flatnonzero(left[pairs.found] & free[pairs.truth] & (pairs.iou >= iou))
    found, truth = pairs.found[use], pairs.truth[use]
    order = np.lexsort((truth, -pairs.iou[use], table.found.rank_in_image[found], table.found.image[found]))
    met: list[tuple[int, int]] = []
    used: set[int] = set()
    taken: set[int] = set()
    for i, j in zip(found[order].tolist(), truth[order].tolist(), strict=True):
        if i not in used and j not in taken:
            used.add(i)
            taken.add(j)
            met.append((i, j))
    return met
