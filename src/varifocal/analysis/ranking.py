"""How well the scores rank the boxes, and the AP that a perfect ranking of the same boxes would gain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from varifocal.analysis.correlation import kendall, spearman
from varifocal.analysis.detection_table import FLOOR, DetectionTable
from varifocal.analysis.precision import ClassPrecision, by_size, difference, mean_of


@dataclass(frozen=True)
class Correlation:
    """Rank correlations of the score with the IoU of the best box of the same class, over ``count`` detections.

    They are None if one of the two is constant.
    """

    spearman: float | None
    kendall: float | None
    count: int


@dataclass(frozen=True)
class APBreakdown:
    """Mean AP over COCO's ten thresholds, and what separates it from 1; None if there are no objects.

    ``ideal`` is the AP if each box is scored by its IoU with the best box of its class. ``ceiling`` is the AP if, in
    addition, no duplicate precedes the first box of an object: the highest recall, in hundredths.
    """

    given: float | None
    ideal: float | None
    ceiling: float | None

    @property
    def ranking(self) -> float | None:
        """AP lost to the ranking of the boxes."""
        return difference(self.ideal, self.given)

    @property
    def duplicates(self) -> float | None:
        """AP lost to duplicate boxes of an object, once the ranking is right."""
        return difference(self.ceiling, self.ideal)

    @property
    def boxes(self) -> float | None:
        """AP lost to objects that have no box, or none that overlaps them enough."""
        return difference(1.0, self.ceiling)


@dataclass(frozen=True)
class Ranking:
    """Correlations of score and IoU, and AP breakdowns.

    ``near`` reads detections with an IoU of 0.1 or more, ``everywhere`` all; neither reads those on ignored regions.
    ``by_size``, which goes by the area of the best box, and ``by_class`` read near detections. The keys of the classes
    are labels.
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
    """Return the ranking; ``given`` is measured by score, ``ideal`` by IoU, ``counted`` marks what COCO evaluates."""
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
        _breakdown(given.whole.precision, ideal.whole.precision),
        {name: _breakdown(given.parts[name].precision, ideal.parts[name].precision) for name in sizes},
        {k: _breakdown(given.whole.precision[..., [k]], ideal.whole.precision[..., [k]]) for k in classes},
    )


def correlation(
    score: Float[np.ndarray, "N"], iou: Float[np.ndarray, "N"], which: Bool[np.ndarray, "N"]
) -> Correlation:
    """Return the correlation of score and IoU over the detections ``which``."""
    x, y = score[which], iou[which]
    return Correlation(spearman(x, y), kendall(x, y), len(x))


def _breakdown(given: Float[np.ndarray, "T R K"], ideal: Float[np.ndarray, "T R K"]) -> APBreakdown:
    # precision is above 0 at each recall that is reached
    ceiling = np.where(ideal > -1, ideal > 0, -1.0)
    return APBreakdown(mean_of(given), mean_of(ideal), mean_of(ceiling))
