"""The errors of TIDE (Bolya et al., ECCV 2020): what each detection is wrong by, and the AP50 that each kind costs.

The numbers are those of tidecv 1.0.1, its order of equal scores included. Two things are COCO's way instead: detections
in crowd or difficult regions are neither errors nor corrected, and classes without a box are not in the mean.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int64

from varifocal.analysis.detection_table import DetectionTable
from varifocal.analysis.matching import Matches
from varifocal.analysis.precision import at_recalls

FOREGROUND, BACKGROUND = 0.5, 0.1
KINDS = ("class", "localization", "both", "duplicate", "background", "missed")
RIGHT, IGNORED = -1, -2
_RECALLS = np.arange(101) / 100  # not COCO's, which differ in the last bit


@dataclass(frozen=True, eq=False)
class TideErrors:
    """Counts and costs by kind; costs are differences of AP50 (0..1) when all errors of the kind are corrected.

    ``false_positives`` is the cost of all wrong detections, ``false_negatives`` that of all boxes not found. ``kinds``
    is for each detection the index in ``KINDS``, ``RIGHT`` or ``IGNORED``; ``missed`` marks boxes that no corrected
    detection would match. Costs are None where there is nothing to find.
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
    """What AP is computed from: for each point its class, its score, whether it is right, and whether it was right as
    found (those come later among equal scores); ``boxes`` to find in each class."""

    label: Int64[np.ndarray, "n"]
    score: Float[np.ndarray, "n"]
    right: Bool[np.ndarray, "n"]
    found_right: Bool[np.ndarray, "n"]
    boxes: Int64[np.ndarray, "K"]


def tide_errors(table: DetectionTable, matches: Matches, limit: int) -> TideErrors:
    """The section, from matches whose first threshold is 0.5; of each image the best ``limit`` are read."""
    read = table.found.rank_in_image < limit
    counted, right = read & (matches.right[0] | matches.wrong[0]), read & matches.right[0]
    kinds = _kinds(table, counted, right)
    lost = ~table.truth.crowd
    lost[matches.truth[0][right]] = False
    target, fixed = _fixes(table, kinds, lost)
    missed = lost.copy()
    missed[target[target >= 0]] = False

    label, boxes = table.found.label, table.objects
    plain = _Points(label[counted], table.found.score[counted], right[counted], right[counted], boxes)
    base = _ap(replace(plain, found_right=np.zeros_like(plain.right)), boxes)
    costs = {
        kind: _gain(_ap(_fixed(table, counted, right, kinds == number, fixed, target), boxes), base)
        for number, kind in enumerate(KINDS[:-1])
    }
    costs["missed"] = _gain(_ap(replace(plain, boxes=boxes - _per_class(table, missed)), boxes), base)
    return TideErrors(
        base,
        _count(kinds, missed),
        costs,
        _less(_ap(replace(plain, score=plain.right.astype(float)), boxes), base),
        _less(_ap(replace(plain, boxes=boxes - _per_class(table, lost)), boxes), base),
        {
            int(k): _count(kinds[label == k], missed[table.truth.label == k])
            for k in np.flatnonzero(boxes + np.bincount(label[counted], minlength=table.classes))
        },
        kinds,
        missed,
    )


def _per_class(table: DetectionTable, which: Bool[np.ndarray, "G"]) -> Int64[np.ndarray, "K"]:
    return np.bincount(table.truth.label[which], minlength=table.classes)


def _fixed(
    table: DetectionTable,
    counted: np.ndarray,
    right: np.ndarray,
    wrong: np.ndarray,
    fixed: np.ndarray,
    target: np.ndarray,
) -> _Points:
    """Return the detections with the ``wrong`` ones corrected, or left out where they cannot be."""
    repaired = np.flatnonzero(wrong & fixed)
    label, now = table.found.label.copy(), right.copy()
    label[repaired], now[repaired] = table.truth.label[target[repaired]], True
    kept = counted & (~wrong | fixed)
    return _Points(label[kept], table.found.score[kept], now[kept], right[kept], table.objects)


def _kinds(table: DetectionTable, counted: np.ndarray, right: np.ndarray) -> Int64[np.ndarray, "N"]:
    """The first kind that fits, in the order in which tidecv asks."""
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


def _fixes(
    table: DetectionTable, kinds: np.ndarray, lost: np.ndarray
) -> tuple[Int64[np.ndarray, "N"], Bool[np.ndarray, "N"]]:
    """The lost box that a class or localization error would have with that one thing right, -1 for none, and which
    errors would get it: of those that would have one box, the one with the highest score."""
    target = np.full(len(kinds), -1)
    for name, best in (("localization", table.own), ("class", table.other)):
        which = kinds == KINDS.index(name)
        target[which] = best.truth[which]
    target[~np.append(lost, False)[target]] = -1
    candidates = np.flatnonzero(target >= 0)  # best first in each image
    _, first = np.unique(target[candidates], return_index=True)
    fixed = np.zeros(len(kinds), bool)
    fixed[candidates[first]] = True
    return target, fixed


def _ap(points: _Points, objects: Int64[np.ndarray, "K"]) -> float | None:
    """Mean over the classes that have boxes; tidecv leaves a class out in which nothing is left."""
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
    return float(np.mean(values)) if values else None


def _gain(new: float | None, base: float | None) -> float | None:
    gain = _less(new, base)
    return None if gain is None else max(gain, 0.0)


def _less(new: float | None, base: float | None) -> float | None:
    return None if new is None or base is None else new - base


def _count(kinds: np.ndarray, missed: np.ndarray) -> dict[str, int]:
    counts = {kind: int((kinds == number).sum()) for number, kind in enumerate(KINDS[:-1])}
    return counts | {"missed": int(missed.sum())}
