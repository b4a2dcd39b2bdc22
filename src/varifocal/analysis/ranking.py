"""How well the scores rank the boxes, and what a perfect ranking of the same boxes would be worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from varifocal.analysis.correlation import kendall, spearman
from varifocal.analysis.detection_table import FLOOR, DetectionTable
from varifocal.analysis.precision import ClassPrecision, by_size, mean_of


@dataclass(frozen=True)
class Correlation:
    """Of score and IoU with the best box of the same class, over ``count`` detections; None where one is constant."""

    spearman: float | None
    kendall: float | None
    count: int


@dataclass(frozen=True)
class APBreakdown:
    """Mean AP over COCO's ten thresholds, and what separates it from 1; None where there is nothing to find.

    ``ideal`` is the AP when each box is scored by its IoU with the best box of its class. ``ceiling`` is the AP when,
    besides, no second box of an object stood above a first one: the highest recall, in hundredths.
    """

    given: float | None
    ideal: float | None
    ceiling: float | None

    @property
    def ranking(self) -> float | None:
        """AP lost to the order of the boxes."""
        return _less(self.ideal, self.given)

    @property
    def duplicates(self) -> float | None:
        """AP lost to second boxes of an object, once the order is right."""
        return _less(self.ceiling, self.ideal)

    @property
    def boxes(self) -> float | None:
        """AP lost because there is no box, or none good enough."""
        return _less(1.0, self.ceiling)


@dataclass(frozen=True)
class Ranking:
    """``near`` are detections with an IoU of 0.1 or more, ``everywhere`` all; those on ignored regions are in neither.

    Per size, by the area of the best box, and per class over near detections; the keys of the classes are labels.
    """

    near: Correlation
    everywhere: Correlation
    by_size: dict[str, Correlation]
    by_class: dict[int, Correlation]
    worth: APBreakdown
    worth_by_size: dict[str, APBreakdown]
    worth_by_class: dict[int, APBreakdown]


def rank_quality(
    table: DetectionTable, given: ClassPrecision, ideal: ClassPrecision, counted: Bool[np.ndarray, "N"]
) -> Ranking:
    """The section; ``ideal`` is the measurement by falling IoU, ``counted`` are the detections that COCO looks at."""
    score, iou = table.found.score, table.own.iou
    near = counted & (iou >= FLOOR)
    sizes = {
        name: near & (table.own.truth >= 0) & np.append(part.truth, False)[table.own.truth]
        for name, part in by_size(table).items()
    }
    classes = np.flatnonzero(table.objects).tolist()
    return Ranking(
        correlation(score, iou, near),
        correlation(score, iou, counted),
        {name: correlation(score, iou, part) for name, part in sizes.items()},
        {k: correlation(score, iou, near & (table.found.label == k)) for k in classes},
        _worth(given.whole.precision, ideal.whole.precision),
        {name: _worth(given.parts[name].precision, ideal.parts[name].precision) for name in sizes},
        {k: _worth(given.whole.precision[..., [k]], ideal.whole.precision[..., [k]]) for k in classes},
    )


def correlation(
    score: Float[np.ndarray, "N"], iou: Float[np.ndarray, "N"], which: Bool[np.ndarray, "N"]
) -> Correlation:
    """Over some of the detections."""
    x, y = score[which], iou[which]
    return Correlation(spearman(x, y), kendall(x, y), len(x))


def _worth(given: Float[np.ndarray, "T R K"], ideal: Float[np.ndarray, "T R K"]) -> APBreakdown:
    # a recall that is reached has some precision there
    ceiling = np.where(ideal > -1, ideal > 0, -1.0)
    return APBreakdown(mean_of(given), mean_of(ideal), mean_of(ceiling))


def _less(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b
