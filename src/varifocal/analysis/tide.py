"""TIDE (Bolya et al., ECCV 2020): the kind of error of each detection, and the AP50 that each kind costs.

The numbers are those of tidecv 1.0.1, including its order of equal scores. Two things follow COCO instead: detections
in crowd or difficult regions are neither errors nor corrected, and classes without boxes are not part of the mean.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int64

from varifocal.analysis.detection_table import DetectionTable
from varifocal.analysis.matching import Matches
from varifocal.analysis.precision import at_recalls, difference, mean_of

FOREGROUND, BACKGROUND = 0.5, 0.1
KINDS = ("class", "localization", "both", "duplicate", "background", "missed")
RIGHT, IGNORED = -1, -2
_RECALLS = np.arange(101) / 100  # those of tidecv; COCO's differ in the last bit


@dataclass(frozen=True, eq=False)
class TideErrors:
    """Counts and costs of errors by kind; a cost is the AP50 (0..1) gained if all errors of the kind are corrected.

    ``false_positives`` is the cost of all wrong detections, ``false_negatives`` that of all unmatched boxes. ``kinds``
    has for each detection the index in ``KINDS``, ``RIGHT`` or ``IGNORED``; ``missed`` marks boxes that no corrected
    detection would match. Costs are None if there are no objects.
    """

    ap50: float | None
    counts: dict[str, int]
    costs: dict[str, float | None]
    false_positives: float | None
    false_negatives: float | None
    by_class: dict[int, dict[str, int]]
    kinds: Int64[np.ndarray, "N"]
    missed: Bool[np.ndarray, "G"]


@dataclass(frozen=True, eq=False)
class _Points:
    """The input of AP: class and score of each detection, whether it is right, and the number of boxes of each class.

    ``found_right`` marks detections that were right before a correction; they come later among equal scores.
    """

    label: Int64[np.ndarray, "n"]
    score: Float[np.ndarray, "n"]
    right: Bool[np.ndarray, "n"]
    found_right: Bool[np.ndarray, "n"]
    boxes: Int64[np.ndarray, "K"]


def tide_errors(table: DetectionTable, matches: Matches, limit: int) -> TideErrors:
    """Return the errors of the best ``limit`` detections of each image; ``matches`` begin with IoU 0.5."""
    read = table.found.rank_in_image < limit
    counted, right = read & (matches.right[0] | matches.wrong[0]), read & matches.right[0]
    kinds = _kinds(table, counted, right)
    unmatched = ~table.truth.crowd
    unmatched[matches.truth[0][right]] = False
    target, fixed = _corrections(table, kinds, unmatched)
    missed = unmatched.copy()
    missed[target[target >= 0]] = False

    label, boxes = table.found.label, table.objects
    plain = _Points(label[counted], table.found.score[counted], right[counted], right[counted], boxes)
    base = _ap(replace(plain, found_right=np.zeros_like(plain.right)), boxes)
    costs = {
        kind: _gain(_ap(_corrected(table, counted, right, kinds == number, fixed, target), boxes), base)
        for number, kind in enumerate(KINDS[:-1])
    }
    costs["missed"] = _gain(_ap(replace(plain, boxes=boxes - _per_class(table, missed)), boxes), base)
    return TideErrors(
        base,
        _count(kinds, missed),
        costs,
        difference(_ap(replace(plain, score=plain.right.astype(float)), boxes), base),
        difference(_ap(replace(plain, boxes=boxes - _per_class(table, unmatched)), boxes), base),
        {
            int(k): _count(kinds[label == k], missed[table.truth.label == k])
            for k in np.flatnonzero(boxes + np.bincount(label[counted], minlength=table.classes))
        },
        kinds,
        missed,
    )


def _per_class(table: DetectionTable, which: Bool[np.ndarray, "G"]) -> Int64[np.ndarray, "K"]:
    return np.bincount(table.truth.label[which], minlength=table.classes)


def _corrected(
    table: DetectionTable,
    counted: np.ndarray,
    right: np.ndarray,
    wrong: np.ndarray,
    fixed: np.ndarray,
    target: np.ndarray,
) -> _Points:
    """Return the detections with the ``wrong`` ones corrected if ``fixed`` marks them, and left out otherwise."""
    repaired = np.flatnonzero(wrong & fixed)
    label, now = table.found.label.copy(), right.copy()
    label[repaired], now[repaired] = table.truth.label[target[repaired]], True
    kept = counted & (~wrong | fixed)
    return _Points(label[kept], table.found.score[kept], now[kept], right[kept], table.objects)


def _kinds(table: DetectionTable, counted: np.ndarray, right: np.ndarray) -> Int64[np.ndarray, "N"]:
    """Return the kind of each detection: the first that applies in the order of tidecv's tests."""
    own, other = table.own.iou, table.other.iou
    tests = [
        ~counted,
        right,
        (own >= BACKGROUND) & (own <= FOREGROUND),
        other >= FOREGROUND,
        own > FOREGROUND,
        np.maximum(own, other) <= BACKGROUND,
    ]
    names = [IGNORED, RIGHT, *(KINDS.index(name) for name in ("localization", "class", "duplicate", "background"))]
    return np.asarray(np.select(tests, names, KINDS.index("both")))


def _corrections(
    table: DetectionTable, kinds: np.ndarray, unmatched: np.ndarray
) -> tuple[Int64[np.ndarray, "N"], Bool[np.ndarray, "N"]]:
    """Return the unmatched box that each class or localization error would match if corrected, -1 for none.

    Of several errors with the same box, the second array marks the one with the highest score, which gets it.
    """
    target = np.full(len(kinds), -1)
    for name, best in (("localization", table.own), ("class", table.other)):
        which = kinds == KINDS.index(name)
        target[which] = best.truth[which]
    target[~np.append(unmatched, False)[target]] = -1
    candidates = np.flatnonzero(target >= 0)  # best first in each image
    _, first = np.unique(target[candidates], return_index=True)
    fixed = np.zeros(len(kinds), bool)
    fixed[candidates[first]] = True
    return target, fixed


def _ap(points: _Points, objects: Int64[np.ndarray, "K"]) -> float | None:
    """Return the mean AP over the classes that have boxes; like tidecv, without classes in which nothing is left."""
    order = np.lexsort((points.found_right, -points.score, points.label))
    ends = np.searchsorted(points.label[order], np.arange(len(objects) + 1))
    values = []
    for k in np.flatnonzero(objects).tolist():
        right = points.right[order[ends[k] : ends[k + 1]]]
        boxes = int(points.boxes[k])
        if boxes:
            false = np.cumsum(~right)[right]
            values.append(float(at_recalls(false, boxes, _RECALLS, 0.0).sum() / len(_RECALLS)))
        elif len(right):
            values.append(0.0)
    return mean_of(np.array(values))


def _gain(new: float | None, base: float | None) -> float | None:
    gain = difference(new, base)
    return None if gain is None else max(gain, 0.0)


def _count(kinds: np.ndarray, missed: np.ndarray) -> dict[str, int]:
    counts = {kind: int((kinds == number).sum()) for number, kind in enumerate(KINDS[:-1])}
    return counts | {"missed": int(missed.sum())}
