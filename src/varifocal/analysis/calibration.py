"""Localization-aware calibration error (LaECE) of Oksuz et al. (CVPR 2023): is a score the IoU that it promises?

The quality of a detection that matches a box at IoU 0.1 or more is that IoU, of any other it is 0. In each of 25 bins
of the score the mean quality, which is precision x mean IoU, is compared with the mean score. The error of a class is
the mean difference weighted by the detections in the bins, and LaECE is the mean over the classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from varifocal.analysis.detection_table import DetectionTable
from varifocal.analysis.matching import Matches
from varifocal.analysis.precision import mean_of

BINS = 25
TAU = 0.1  # IoU from which a detection is a true positive


@dataclass(frozen=True, eq=False)
class Bins:
    """A reliability diagram of B bins: the number of detections, their mean score, precision and mean quality.

    Bin i starts at the score ``i / BINS``, and the last one includes the score 1. The means are 0 in an empty bin.
    """

    count: Int64[np.ndarray, "B"]
    score: Float[np.ndarray, "B"]
    precision: Float[np.ndarray, "B"]
    quality: Float[np.ndarray, "B"]

    @property
    def error(self) -> float | None:
        """The mean difference of quality and score, weighted by the detections; None without detections."""
        total = int(self.count.sum())
        return float((self.count * abs(self.quality - self.score)).sum() / total) if total else None


@dataclass(frozen=True, eq=False)
class Calibration:
    """Calibration errors and reliability diagrams of the classes that have boxes and detections.

    As in the paper, ``laece`` reads only detections from the best threshold of their class on (``thresholds``, that of
    the least LRP error); ``laece_all``, ``bins`` and ``bins_by_class`` read all. The keys of the classes are labels.
    """

    laece: float | None
    laece_all: float | None
    bins: Bins
    bins_by_class: dict[int, Bins]
    thresholds: dict[int, float]
    laece_by_class: dict[int, float]


def calibrate(table: DetectionTable, matches: Matches) -> Calibration | None:
    """Return the calibration, from matches at the threshold ``TAU``; None if a score is below 0 or above 1."""
    counted = matches.right[0] | matches.wrong[0]
    label, score = table.found.label, table.found.score
    if len(score) and not 0 <= score.min() <= score.max() <= 1:
        return None
    quality = np.where(matches.right[0], matched_iou(table, matches.truth[0]), 0.0)
    by_class, thresholds, errors = {}, {}, {}
    objects = table.objects
    for k in np.flatnonzero(objects).tolist():
        which = counted & (label == k)
        if not which.any():
            continue
        by_class[k] = make_bins(score[which], quality[which])
        thresholds[k] = best_threshold(score[which], quality[which], int(objects[k]))
        error = make_bins(*(column[which & (score >= thresholds[k])] for column in (score, quality))).error
        assert error is not None  # the threshold is a score of one of them
        errors[k] = error
    counted &= objects[label] > 0
    return Calibration(
        mean_of(np.array(list(errors.values()))),
        mean_of(np.array([error for bins in by_class.values() if (error := bins.error) is not None])),
        make_bins(score[counted], quality[counted]),
        by_class,
        thresholds,
        errors,
    )


def matched_iou(table: DetectionTable, truth: Int64[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    """Return the IoU of each detection with the box ``truth``: 0 for -1 and for pairs that the table does not have."""
    keys = table.pairs.found * max(len(table.truth), 1) + table.pairs.truth  # in rising order
    expected = np.arange(len(truth)) * max(len(table.truth), 1) + truth
    index = np.minimum(np.searchsorted(keys, expected), max(len(keys) - 1, 0))
    if not len(keys):
        return np.zeros(len(truth))
    return np.where((truth >= 0) & (keys[index] == expected), table.pairs.iou[index], 0.0)


def make_bins(score: Float[np.ndarray, "n"], quality: Float[np.ndarray, "n"]) -> Bins:
    """Return the reliability diagram of these detections."""
    index = np.minimum(np.searchsorted(np.linspace(0, 1, BINS + 1), score, side="right") - 1, BINS - 1)
    count = np.bincount(index, minlength=BINS)
    most = np.maximum(count, 1)
    sums = (np.bincount(index, weights, minlength=BINS) for weights in (score, quality > 0, quality))
    means = [total / most for total in sums]
    return Bins(count, means[0], means[1], means[2])


def best_threshold(score: Float[np.ndarray, "n"], quality: Float[np.ndarray, "n"], boxes: int) -> float:
    """Return the score from which on the detections have the least LRP error (Oksuz et al., PAMI 2021).

    LRP = (sum of (1 - IoU) / (1 - ``TAU``) over true positives + false positives + missed boxes) / (the number of all).
    """
    order = np.argsort(-score, kind="stable")
    score, quality = score[order], quality[order]
    right = np.cumsum(quality > 0)
    loss = np.cumsum(np.where(quality > 0, (1 - quality) / (1 - TAU), 1.0))
    lrp = (loss + boxes - right) / (np.arange(1, len(score) + 1) + boxes - right)
    last = np.append(score[1:] != score[:-1], True)  # equal scores come or go together
    return float(score[np.argmin(np.where(last, lrp, np.inf))])
