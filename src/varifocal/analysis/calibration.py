"""Whether a score is the IoU it promises: the localization-aware calibration error of Oksuz et al. (CVPR 2023).

A detection that matches a box at IoU 0.1 or more is right to the degree of that IoU, any other to degree 0. In each of
25 bins of the score the mean of that degree, which is precision x mean IoU, is compared with the mean score; a class
has the mean difference weighted by the detections of the bins, and LaECE is the mean over the classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from varifocal.analysis.detection_table import DetectionTable
from varifocal.analysis.matching import Matches

BINS = 25
TAU = 0.1  # IoU from which a detection is right


@dataclass(frozen=True, eq=False)
class Bins:
    """A reliability diagram: for each bin, which starts at ``i / BINS``, the number of detections, their mean score,
    the fraction that is right and their mean degree (0 for an empty bin). The last bin takes the score 1."""

    count: Int64[np.ndarray, "B"]
    score: Float[np.ndarray, "B"]
    precision: Float[np.ndarray, "B"]
    quality: Float[np.ndarray, "B"]

    @property
    def error(self) -> float | None:
        """The weighted mean difference; None without detections."""
        total = int(self.count.sum())
        return float((self.count * abs(self.quality - self.score)).sum() / total) if total else None


@dataclass(frozen=True, eq=False)
class Calibration:
    """``laece`` is of the detections from the best threshold of each class on (``thresholds``, the least LRP error), as
    in the paper; ``laece_all`` of all. Only classes with boxes and detections count. ``bins`` and ``bins_by_class`` are
    over all detections; labels are the keys."""

    laece: float | None
    laece_all: float | None
    bins: Bins
    bins_by_class: dict[int, Bins]
    thresholds: dict[int, float]
    laece_by_class: dict[int, float]


def calibrate(table: DetectionTable, matches: Matches) -> Calibration | None:
    """The section, from matches at ``TAU`` alone; None where a score is no probability, below 0 or above 1."""
    counted = matches.right[0] | matches.wrong[0]
    label, score = table.found.label, table.found.score
    if len(score) and not 0 <= score.min() <= score.max() <= 1:
        return None
    degree = np.where(matches.right[0], matched_iou(table, matches.truth[0]), 0.0)
    by_class, thresholds, cut = {}, {}, {}
    objects = table.objects
    for k in np.flatnonzero(objects).tolist():
        which = counted & (label == k)
        if not which.any():
            continue
        by_class[k] = make_bins(score[which], degree[which])
        thresholds[k] = best_threshold(score[which], degree[which], int(objects[k]))
        error = make_bins(*(column[which & (score >= thresholds[k])] for column in (score, degree))).error
        assert error is not None  # the threshold is a score of one of them
        cut[k] = error
    counted &= objects[label] > 0
    everything = [error for bins in by_class.values() if (error := bins.error) is not None]
    return Calibration(
        _mean(list(cut.values())),
        _mean(everything),
        make_bins(score[counted], degree[counted]),
        by_class,
        thresholds,
        cut,
    )


def matched_iou(table: DetectionTable, truth: Int64[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    """The IoU of each detection with the box of that index, 0 for -1; of pairs that the table has."""
    keys = table.pairs.found * max(len(table.truth), 1) + table.pairs.truth  # they rise
    expected = np.arange(len(truth)) * max(len(table.truth), 1) + truth
    index = np.minimum(np.searchsorted(keys, expected), max(len(keys) - 1, 0))
    if not len(keys):
        return np.zeros(len(truth))
    return np.where((truth >= 0) & (keys[index] == expected), table.pairs.iou[index], 0.0)


def make_bins(score: Float[np.ndarray, "n"], degree: Float[np.ndarray, "n"]) -> Bins:
    """Sorted into bins."""
    index = np.minimum(np.searchsorted(np.linspace(0, 1, BINS + 1), score, side="right") - 1, BINS - 1)
    count = np.bincount(index, minlength=BINS)
    most = np.maximum(count, 1)
    sums = (np.bincount(index, weights, minlength=BINS) for weights in (score, degree > 0, degree))
    means = [total / most for total in sums]
    return Bins(count, means[0], means[1], means[2])


def best_threshold(score: Float[np.ndarray, "n"], degree: Float[np.ndarray, "n"], boxes: int) -> float:
    """The score from which on the detections have the least LRP error (Oksuz et al., PAMI 2021).

    LRP = (sum of (1 - IoU) / (1 - ``TAU``) of the right ones + wrong ones + boxes missed) / (their number together).
    """
    order = np.argsort(-score, kind="stable")
    score, degree = score[order], degree[order]
    right = np.cumsum(degree > 0)
    loss = np.cumsum(np.where(degree > 0, (1 - degree) / (1 - TAU), 1.0))
    lrp = (loss + boxes - right) / (np.arange(1, len(score) + 1) + boxes - right)
    last = np.append(score[1:] != score[:-1], True)  # equal scores come or go together
    return float(score[np.argmin(np.where(last, lrp, np.inf))])


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
