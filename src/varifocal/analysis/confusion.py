"""Confusion matrix: which classes are detected as which, from a score threshold on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from varifocal.analysis.detection_table import DetectionTable
from varifocal.analysis.matching import all_areas, build_queue, match


@dataclass(frozen=True, eq=False)
class Confusion:
    """A confusion matrix: ``counts[i, j]`` is the number of boxes of class i that are detected as class j.

    The last row counts detections that match no box, the last column boxes that no detection matches. ``score`` and
    ``iou`` are the thresholds of both.
    """

    counts: Int64[np.ndarray, "C C"]
    score: float
    iou: float

    @property
    def correct(self) -> int:
        """The number of boxes that are detected as their class."""
        return int(self.counts.diagonal().sum())

    @property
    def confused(self) -> int:
        """The number of boxes that are detected as another class."""
        return int(self.counts[:-1, :-1].sum()) - self.correct

    def grouped(self, most: int) -> tuple[Int64[np.ndarray, "G G"], list[int], int]:
        """Return a smaller matrix, the classes that it lists, and how many further ones it joins.

        It lists the ``most`` frequent classes in rising order, joins the others that occur in one row and column before
        the last, and leaves out classes that do not occur.
        """
        frequency = self.counts.sum(axis=1)[:-1] + self.counts.sum(axis=0)[:-1]
        order = np.argsort(-frequency, kind="stable")
        order = order[frequency[order] > 0]
        listed, others = sorted(order[:most].tolist()), order[most:].tolist()
        groups = [*([k] for k in listed), *([others] if others else []), [len(self.counts) - 1]]
        return np.array([[self.counts[np.ix_(a, b)].sum() for b in groups] for a in groups]), listed, len(others)


def confusion_matrix(table: DetectionTable, allowed: Bool[np.ndarray, "N"], score: float, iou: float) -> Confusion:
    """Return the confusion matrix of the ``allowed`` detections from ``score`` on.

    First each detection takes a box of its class, as in COCO's matching, so that the diagonal holds COCO's true
    positives. Then, best first again, each of the others takes the free box of another class that it overlaps most.
    Detections in crowd or difficult regions of their class are left out.
    """
    allowed = allowed & (table.found.score >= score)
    threshold, everything = np.array([iou]), all_areas(table)
    own = match(table, build_queue(table, table.found.score, allowed, iou), everything, threshold)
    right, left, free = own.right[0], own.wrong[0].copy(), ~table.truth.crowd
    free[own.truth[0][right]] = False
    queue = build_queue(table, table.found.score, left, iou, boxes=free, other_class=True)
    other = match(table, queue, everything, threshold)
    mixed = other.right[0]
    boxes = other.truth[0][mixed]
    left[mixed] = free[boxes] = False

    found, truth, k = table.found.label, table.truth.label, table.classes
    counts = np.zeros((k + 1, k + 1), np.int64)
    np.add.at(counts, (found[right], found[right]), 1)
    np.add.at(counts, (truth[boxes], found[mixed]), 1)
    np.add.at(counts, (k, found[left]), 1)
    np.add.at(counts, (truth[free], k), 1)
    return Confusion(counts, score, iou)
