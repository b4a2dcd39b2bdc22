"""Matching of detections with labeled boxes: COCO's greedy matching, of all images, classes and IoU thresholds at once.

This is the only matching of the package beside the one inside COCO's evaluator; what differs from COCO (confusion,
comparison of two models) is an argument here.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int64

from varifocal.analysis.detection_table import DetectionTable, index_in_run, run_starts
from varifocal.inference.boxes_numpy import elementwise_iou
from varifocal.types import Detections


@dataclass(frozen=True, eq=False)
class Matches:
    """The result of a matching at T IoU thresholds.

    ``truth`` is the index of the box that each detection matches, -1 for none; ``right`` marks true positives and
    ``wrong`` false positives. Detections that match a crowd or a box outside the range are neither, nor are unmatched
    detections that are outside the range themselves.
    """

    thresholds: Float[np.ndarray, "T"]
    truth: Int64[np.ndarray, "T N"]
    right: Bool[np.ndarray, "T N"]
    wrong: Bool[np.ndarray, "T N"]


@dataclass(frozen=True, eq=False)
class AreaRange:
    """A part of the boxes, by size or by shape: masks of the detections and of the labeled boxes in it, no crowds."""

    found: Bool[np.ndarray, "N"]
    truth: Bool[np.ndarray, "G"]


@dataclass(frozen=True, eq=False)
class MatchQueue:
    """The P pairs of a detection and a box that may match, in the order in which detections choose.

    ``turn`` counts the detections that compete with each other: those of one image and class, or of one image if they
    match boxes of other classes (``other_class``). ``allowed`` marks all detections that may match.
    """

    found: Int64[np.ndarray, "P"]
    truth: Int64[np.ndarray, "P"]
    iou: Float[np.ndarray, "P"]
    turn: Int64[np.ndarray, "P"]
    allowed: Bool[np.ndarray, "N"]
    other_class: bool = False


def all_areas(table: DetectionTable) -> AreaRange:
    """Return the range of all detections, and of all boxes except crowds."""
    return AreaRange(np.ones(len(table.found), bool), ~table.truth.crowd)


def build_queue(
    table: DetectionTable,
    score: Float[np.ndarray, "N"],
    allowed: Bool[np.ndarray, "N"],
    min_iou: float,
    *,
    boxes: Bool[np.ndarray, "G"] | None = None,
    other_class: bool = False,
) -> MatchQueue:
    """Return the ``allowed`` detections by falling ``score``, with the boxes of their class they may match.

    Args:
        table: the detections and boxes.
        score: what the detections are ordered by.
        allowed: the detections that take part.
        min_iou: the least IoU of a pair, 0.1 or more.
        boxes: the boxes that take part; all if left out.
        other_class: pair detections with boxes of other classes instead of their own.
    """
    pairs = table.pairs
    same = table.found.label[pairs.found] == table.truth.label[pairs.truth]
    use = (same != other_class) & allowed[pairs.found] & (pairs.iou >= min_iou)
    if boxes is not None:
        use &= boxes[pairs.truth]
    index = np.flatnonzero(use)
    starts = run_starts(pairs.found[index])
    detections = pairs.found[index[starts]]
    group = table.found.image[detections]
    if not other_class:
        group = group * table.classes + table.found.label[detections]
    order = np.lexsort((-score[detections], group))
    turn = np.empty(len(detections), np.int64)
    turn[order] = index_in_run(group[order])
    turn = np.repeat(turn, np.diff(np.append(starts, len(index))))
    order = np.argsort(turn, kind="stable")
    index, turn = index[order], turn[order]
    return MatchQueue(pairs.found[index], pairs.truth[index], pairs.iou[index], turn, allowed, other_class)


def match(table: DetectionTable, queue: MatchQueue, within: AreaRange, thresholds: Float[np.ndarray, "T"]) -> Matches:
    """Match as COCO does: in turn each detection takes the free box that it overlaps most, if by the threshold.

    It takes a box outside the range or a crowd only if no other is free; crowds are never used up. Of boxes with equal
    overlap COCO takes the last one; of boxes of other classes it is the first one. Detections that are not allowed are
    neither right nor wrong.

    Args:
        table: the detections and boxes.
        queue: the pairs that may match.
        within: the part of the boxes that counts.
        thresholds: IoU thresholds in rising order, none below the least IoU of the queue.
    """
    # among the free boxes of one detection the last row wins: a box that counts, of the greatest overlap
    preference = -queue.truth if queue.other_class else queue.truth
    order = np.lexsort((preference, queue.iou, within.truth[queue.truth], queue.found, queue.turn))
    found, truth, turn = queue.found[order], queue.truth[order], queue.turn[order]
    reached = np.searchsorted(thresholds, queue.iou[order], side="right")
    matched = _greedy(table, found, truth, turn, reached, len(thresholds))
    unmatched = matched < 0
    right = np.append(within.truth, False)[matched] & ~unmatched
    return Matches(thresholds, matched, right, unmatched & within.found & queue.allowed)


def _greedy(
    table: DetectionTable, found: np.ndarray, truth: np.ndarray, turn: np.ndarray, reached: np.ndarray, thresholds: int
) -> Int64[np.ndarray, "T N"]:
    """Match at each threshold on its own; ``reached`` is the number of thresholds that a pair comes up to."""
    row = np.repeat(np.arange(len(found)), reached)
    level = np.arange(len(row)) - np.repeat(np.cumsum(reached) - reached, reached)
    who, what = level * len(table.found) + found[row], level * len(table.truth) + truth[row]
    matched = np.full(thresholds * len(table.found), -1)
    winner = np.full(thresholds * len(table.found), -1)
    free = np.ones(thresholds * len(table.truth), bool)
    crowd = np.tile(table.truth.crowd, thresholds)
    ends = np.searchsorted(turn[row], np.arange(int(turn.max(initial=-1)) + 2))
    for start, end in pairwise(ends.tolist()):
        open_ = start + np.flatnonzero(free[what[start:end]])
        winner[who[open_]] = open_  # NumPy leaves the last of several
        last = open_[winner[who[open_]] == open_]
        matched[who[last]] = truth[row[last]]
        free[what[last]] = crowd[what[last]]
    return matched.reshape(thresholds, -1)


def count_partners(
    expected: Detections, found: Detections, min_iou: float, max_score_difference: float = np.inf
) -> int:
    """Return how many of the ``expected`` detections of an image have a partner of their class in ``found``.

    In their order, each takes the free detection that it overlaps most among those with an IoU of at least ``min_iou``
    and a score that differs by at most ``max_score_difference``.
    """
    iou = elementwise_iou(expected.boxes[:, None], found.boxes)
    same = (expected.labels[:, None] == found.labels) & (iou >= min_iou)
    same &= np.abs(expected.scores[:, None] - found.scores) <= max_score_difference
    iou = np.where(same, iou, 0)
    count = 0
    for row in iou:
        if row.any():
            iou[:, row.argmax()] = 0
            count += 1
    return count
