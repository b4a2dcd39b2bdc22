"""Precision at 101 recalls and average precision of each class, as pycocotools computes them from matches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from varifocal.analysis.detection_table import DetectionTable
from varifocal.analysis.matching import AreaRange, Matches, all_areas, build_queue, match

RECALLS = np.linspace(0.0, 1.00, 101, endpoint=True)
IOUS = np.linspace(0.5, 0.95, 10, endpoint=True)
SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}  # COCO's, square pixels
# width / height, as TIDE divides them
ASPECTS = {"tall": (0.0, 0.75), "square": (0.75, 1.33), "wide": (1.33, np.inf)}


@dataclass(frozen=True, eq=False)
class Curves:
    """Precision-recall curves of K classes at T IoU thresholds.

    ``precision[t, r, k]`` is the best precision of class k at recall ``RECALLS[r]`` or above, ``recall[t, k]`` its
    highest recall. Both are -1 for a class without boxes.
    """

    precision: Float[np.ndarray, "T R K"]
    recall: Float[np.ndarray, "T K"]

    @property
    def ap(self) -> Float[np.ndarray, "T K"]:
        """The average precision: the mean over the recalls."""
        return np.asarray(self.precision.mean(axis=1))

    @property
    def per_class(self) -> Float[np.ndarray, "K"]:
        """The AP of each class, the mean over the thresholds; empty without thresholds."""
        return np.asarray(self.ap.mean(axis=0)) if len(self.precision) else np.zeros(0)


def mean_of(values: Float[np.ndarray, "*n"]) -> float | None:
    """Return the mean without the -1 of classes that have no box; None if no class has one."""
    known = values[values > -1]
    return float(known.mean()) if known.size else None


def difference(a: float | None, b: float | None) -> float | None:
    """Return ``a`` minus ``b``; None if one of them is None."""
    return None if a is None or b is None else a - b


def make_curves(table: DetectionTable, matches: Matches, order: Int64[np.ndarray, "N"], within: AreaRange) -> Curves:
    """Return the curves of all classes for detections in this ``order``, which goes class by class."""
    ends = np.searchsorted(table.found.label[order], np.arange(table.classes + 1))
    boxes = np.bincount(table.truth.label[within.truth], minlength=table.classes)
    precision = -np.ones((len(matches.thresholds), len(RECALLS), table.classes))
    recall = -np.ones((len(matches.thresholds), table.classes))
    for t in range(len(matches.thresholds)):
        right, false = matches.right[t][order], np.cumsum(matches.wrong[t][order])
        for k in np.flatnonzero(boxes).tolist():
            start, end = ends[k], ends[k + 1]
            hits = start + np.flatnonzero(right[start:end])
            before = false[start - 1] if start else 0
            precision[t, :, k] = at_recalls(false[hits] - before, int(boxes[k]), RECALLS)
            recall[t, k] = len(hits) / boxes[k]
    return Curves(precision, recall)


def at_recalls(
    false: Int64[np.ndarray, "n"], boxes: int, recalls: Float[np.ndarray, "R"], least: float = np.spacing(1)
) -> Float[np.ndarray, "R"]:
    """Return precision at ``recalls``, 0 beyond the highest; ``false[i]`` false positives precede true positive i.

    Precision is highest at a true positive, so that the other detections need no attention. ``least`` is what COCO adds
    to the number of detections.
    """
    hits = np.arange(1, len(false) + 1)
    best = np.maximum.accumulate((hits / (false + hits + least))[::-1])[::-1]
    index = np.searchsorted(hits / boxes, recalls, side="left")
    return np.append(best, 0.0)[np.minimum(index, len(best))]


def by_size(table: DetectionTable) -> dict[str, AreaRange]:
    """Return COCO's three sizes; both ends belong to a size, as in COCO's evaluation."""
    found = table.found.boxes[:, 2:].prod(axis=1)
    return {
        name: AreaRange(_closed(found, *ends), _closed(table.truth.areas, *ends) & ~table.truth.crowd)
        for name, ends in SIZES.items()
    }


def by_aspect(table: DetectionTable) -> dict[str, AreaRange]:
    """Return three shapes by width / height; the upper end belongs to a shape."""
    found, truth = _shapes(table.found.boxes), _shapes(table.truth.boxes)
    return {name: AreaRange(found == i, (truth == i) & ~table.truth.crowd) for i, name in enumerate(ASPECTS)}


def _shapes(boxes: Float[np.ndarray, "n 4"]) -> Int64[np.ndarray, "n"]:
    """Return the index of each box in ``ASPECTS``; by products, because a box without height has no quotient."""
    width, height = boxes[:, 2], boxes[:, 3]
    ends = [high for _, high in ASPECTS.values()][:-1]
    above = np.array([width > end * height for end in ends])
    return np.asarray(above.sum(axis=0))


def _closed(values: np.ndarray, low: float, high: float) -> Bool[np.ndarray, "n"]:
    return np.asarray((values >= low) & (values <= high))


@dataclass(frozen=True, eq=False)
class ClassPrecision:
    """The curves of one order of the detections: of all boxes, and of each size and shape; ``matches`` is of all."""

    matches: Matches
    whole: Curves
    parts: dict[str, Curves]


def measure(table: DetectionTable, score: Float[np.ndarray, "N"], allowed: Bool[np.ndarray, "N"]) -> ClassPrecision:
    """Evaluate the ``allowed`` detections by falling ``score`` at COCO's ten IoU thresholds."""
    queue, order = build_queue(table, score, allowed, IOUS[0]), np.lexsort((-score, table.found.label))
    parts = {
        name: make_curves(table, match(table, queue, part, IOUS), order, part)
        for name, part in {**by_size(table), **by_aspect(table)}.items()
    }
    whole = all_areas(table)
    matches = match(table, queue, whole, IOUS)
    return ClassPrecision(matches, make_curves(table, matches, order, whole), parts)
