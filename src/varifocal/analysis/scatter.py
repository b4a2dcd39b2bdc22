"""Score against IoU: a sample of the detections for a plot, and a histogram of all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from varifocal.analysis.detection_table import DetectionTable

POINTS = 2000
CELLS = 20


@dataclass(frozen=True, eq=False)
class Scatter:
    """Score and IoU of ``shown`` of ``total`` detections.

    ``iou`` is with the best box of the same class; ``right`` marks detections that match at IoU 0.5. ``cells[i, j]``
    counts all detections with IoU in the i-th and score in the j-th of 20 equal parts of 0..1; scores outside are
    counted at the ends.
    """

    score: Float[np.ndarray, "n"]
    iou: Float[np.ndarray, "n"]
    right: Bool[np.ndarray, "n"]
    cells: Int64[np.ndarray, "C C"]
    total: int

    @property
    def shown(self) -> int:
        """The number of points."""
        return len(self.score)


def scatter(table: DetectionTable, right: Bool[np.ndarray, "N"], counted: Bool[np.ndarray, "N"]) -> Scatter:
    """Return evenly spaced ones of the counted detections by score, so that the result is reproducible."""
    which = np.flatnonzero(counted)
    which = which[np.argsort(-table.found.score[which], kind="stable")]
    score, iou = table.found.score[which], table.own.iou[which]
    cells = np.zeros((CELLS, CELLS), np.int64)
    np.add.at(cells, (_cell(iou), _cell(score)), 1)
    shown = which[np.arange(min(POINTS, len(which))) * len(which) // max(min(POINTS, len(which)), 1)]
    return Scatter(table.found.score[shown], table.own.iou[shown], right[shown], cells, len(which))


def _cell(values: Float[np.ndarray, "n"]) -> Int64[np.ndarray, "n"]:
    return np.clip(values * CELLS, 0, CELLS - 1).astype(np.int64)
