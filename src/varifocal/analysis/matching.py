"""Which detection takes which box: COCO's greedy matching, of all images, classes and IoU thresholds at once."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int64

from varifocal.analysis.detection_table import DetectionTable


@dataclass(frozen=True, eq=False)
class Matches:
    """At each threshold the box of each detection, -1 for none, and which detections are true and false positives.

    Neither are those on a crowd or on a box outside the range, and those without a box that are outside it themselves.
    """

    thresholds: Float[np.ndarray, "T"]
    truth: Int64[np.ndarray, "T N"]
    right: Bool[np.ndarray, "T N"]
    wrong: Bool[np.ndarray, "T N"]


@dataclass(frozen=True, eq=False)
class AreaRange:
    """A part of the boxes, by size or by shape: which detections and which boxes are in it (crowds never are)."""

    found: Bool[np.ndarray, "N"]
    truth: Bool[np.ndarray, "G"]


@dataclass(frozen=True, eq=False)
class MatchQueue:
    """Detections that wait for boxes of their class: pairs by ``turn``, which is that of the detection among those of
    its image and class that have a pair, and then by detection. ``allowed`` marks all detections that may match."""

    found: Int64[np.ndarray, "P"]
    truth: Int64[np.ndarray, "P"]
    iou: Float[np.ndarray, "P"]
    turn: Int64[np.ndarray, "P"]
    allowed: Bool[np.ndarray, "N"]


def all_areas(table: DetectionTable) -> AreaRange:
    """All detections, and all boxes but crowds."""
    return AreaRange(np.ones(len(table.found), bool), ~table.truth.crowd)


def build_queue(
    table: DetectionTable, score: Float[np.ndarray, "N"], allowed: Bool[np.ndarray, "N"], least: float
) -> MatchQueue:
    """The ``allowed`` detections by falling ``score``, with the boxes that they overlap by ``least``, 0.1 or more."""
    pairs = table.pairs
    own = table.found.label[pairs.found] == table.truth.label[pairs.truth]
    use = np.flatnonzero(own & allowed[pairs.found] & (pairs.iou >= least))
    found = pairs.found[use]
    new = np.append(True, found[1:] != found[:-1])[: len(found)]
    turn = _turns(table, score, found[new])[np.cumsum(new) - 1]
    order = np.argsort(turn, kind="stable")
    use, turn = use[order], turn[order]
    return MatchQueue(pairs.found[use], pairs.truth[use], pairs.iou[use], turn, allowed)


def match(table: DetectionTable, queue: MatchQueue, within: AreaRange, thresholds: Float[np.ndarray, "T"]) -> Matches:
    """COCO's matching: in turn each detection takes the free box that it overlaps most, by the threshold at least; a
    box outside the range or a crowd only where no other is free. Crowds are never used up.

    ``thresholds`` rise from the least overlap of the queue or more. What is not allowed is neither right nor wrong.
    """
    # among the free boxes of one detection the last row wins: of a box that counts, of greatest overlap, the later box
    order = np.lexsort((queue.truth, queue.iou, within.truth[queue.truth], queue.found, queue.turn))
    found, truth, turn = queue.found[order], queue.truth[order], queue.turn[order]
    reached = np.searchsorted(thresholds, queue.iou[order], side="right")
    matched = _greedy(table, found, truth, turn, reached, len(thresholds))
    none = matched < 0
    right = np.append(within.truth, False)[matched] & ~none
    return Matches(thresholds, matched, right, none & within.found & queue.allowed)


def _turns(
    table: DetectionTable, score: Float[np.ndarray, "N"], used: Int64[np.ndarray, "n"]
) -> Int64[np.ndarray, "n"]:
    """The turn of each of the detections ``used``, which rise."""
    group = table.found.image[used] * table.classes + table.found.label[used]
    order = np.lexsort((-score[used], group))
    group = group[order]
    starts = np.flatnonzero(np.append(True, group[1:] != group[:-1])[: len(group)])
    turn = np.empty(len(used), np.int64)
    turn[order] = np.arange(len(used)) - np.repeat(starts, np.diff(np.append(starts, len(used))))
    return turn


def _greedy(
    table: DetectionTable, found: np.ndarray, truth: np.ndarray, turn: np.ndarray, reached: np.ndarray, thresholds: int
) -> Int64[np.ndarray, "T N"]:
    """``reached`` is how many of the thresholds a pair comes up to; each of them is a game of its own."""
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
